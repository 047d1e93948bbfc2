package main

import (
	"bufio"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// Tests that need the built program: signals and exit codes of its own.

// The reader of the standard output goes away: the bridge ends and says so, and the
// next run delivers what could not be written.
func TestReaderOfStandardOutputGoesAway(t *testing.T) {
	t.Parallel()
	db := shopDB(t)
	s := newSite(t, db, config(bridgeName(db.Name()), db.DSN(), "stdout: {state: "+folder(t, "state")+"}"))
	s.do(t, exitOK, "setup")
	in, out, err := os.Pipe()
	require.NoError(t, err)
	defer in.Close()
	var errs shared
	cmd := exec.CommandContext(t.Context(), pgtest.Binary(t), "run", "--config", s.path)
	cmd.Env = append(os.Environ(), "WALBRIDGE_HTTP_LISTEN="+s.env["WALBRIDGE_HTTP_LISTEN"])
	cmd.Stdout, cmd.Stderr = out, &errs
	require.NoError(t, cmd.Start())
	require.NoError(t, out.Close())
	pgtest.Eventually(t, within, func() bool { return strings.Contains(errs.String(), "streaming") }, "it streams")
	db.Exec(t, "INSERT INTO public.orders VALUES (9181, 'read')")
	line, err := bufio.NewReader(in).ReadString('\n')
	require.NoError(t, err)
	require.Contains(t, line, "9181")
	require.NoError(t, in.Close())
	db.Exec(t, "INSERT INTO public.orders VALUES (9182, 'unread')")
	var exit *exec.ExitError
	require.ErrorAs(t, cmd.Wait(), &exit)
	require.Equal(t, exitFailure, exit.ExitCode(), errs.String())
	require.Contains(t, errs.String(), "walbridge: the reader of the standard output has gone; the next run goes on with what could not be written: output closed\n")

	again := s.start(t, "run")
	pgtest.Eventually(t, within, func() bool { return strings.Contains(again.out.String(), "9182") }, "the next run delivers it")
	require.NotContains(t, again.out.String(), "9181", "what was read is not repeated after an orderly end")
	require.Equal(t, exitOK, again.stopped(t), again.errs.String())
}

var demoDatabase = regexp.MustCompile(`postgres://\S+`)

// A work table that somebody has meddled with fails the demonstration.
func TestDemoFailsOnATamperedDestination(t *testing.T) {
	t.Parallel()
	p := pgtest.Run(t, "demo", "--for", "3s")
	conn, err := pgx.Connect(t.Context(), demoDatabase.FindString(p.WaitLine(t, 3*time.Minute, "database ")))
	require.NoError(t, err)
	pgtest.Eventually(t, within, func() bool {
		var n int
		return conn.QueryRow(t.Context(), "SELECT count(*) FROM walbridge.log WHERE kind = 'event'").Scan(&n) == nil && n > 10
	}, "some events have arrived")
	_, err = conn.Exec(t.Context(), `INSERT INTO walbridge.log SELECT * FROM walbridge.log WHERE seq = (SELECT min(seq) FROM walbridge.log WHERE kind = 'change');
		DELETE FROM walbridge.log WHERE seq = (SELECT min(seq) FROM walbridge.log WHERE kind = 'event')`)
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
	require.Equal(t, exitFailure, p.WaitExit(t, within), p.Output())
	require.Contains(t, p.Stdout(), "SOMETHING IS OFF")
	require.Regexp(t, `events missing +1\n`, p.Stdout())
	require.Regexp(t, `duplicates +1\n`, p.Stdout())
	require.NotContains(t, p.Stdout(), "lost nothing")
}
