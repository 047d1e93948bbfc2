package main

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// marker is in every password of these tests, among characters that URLs and
// keyword/value pairs quote.
const (
	marker   = "Mark3r"
	password = "x@" + marker + "/ #'y"
)

// A password of either connection string, and one that a command prints, appears
// nowhere: not in logs of the most verbose level, not on a page, not in an answer of a
// command, whether the connections succeed or fail.
func TestPasswordsAppearNowhere(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, pgtest.HBA("host all keeper 127.0.0.1/32 scram-sha-256")).DB(t)
	db.Exec(t, shop)
	keeper(t, db, strings.ReplaceAll(password, "'", "''"))
	right, keywords := db.DSNAs("keeper", password), keywordDSN(db)
	file := folder(t, "password")
	require.NoError(t, os.WriteFile(file, []byte(password), 0o600))
	bare := strings.Replace(db.DSN(), "postgres@", "keeper@", 1)
	for name, text := range map[string]string{
		"url":      config("url", right, worktableAt(right)),
		"keywords": config("keywords", keywords, worktableAt(keywords)),
		"command": strings.Replace(config("command", bare, worktableAt(right)), "source: {",
			fmt.Sprintf("source: {password_command: [cat, %q], ", file), 1),
	} {
		t.Run(name, func(t *testing.T) { unseenWhileItRuns(t, newSite(t, db, text+"log: {level: debug}\n")) })
	}
	wrong := db.DSNAs("keeper", password+"2")
	for name, text := range map[string]string{
		"wrong password":   config("f", wrong, worktableAt(right)),
		"of the sink":      config("f", right, worktableAt(wrong)),
		"unknown database": config("f", elsewhere(t, right, "nosuch"), worktableAt(right)),
		"no server":        config("f", "host=127.0.0.1 port=1 user=u password='"+marker+" x' dbname=d sslmode=disable", worktableAt(right)),
		"no URL":           config("f", "postgres://u:"+marker+"@host:port/d", worktableAt("postgres://u:"+marker+"%zz@h/d")),
		"wrong key":        config("f", right, worktableAt(right)) + fmt.Sprintf("dsn: %q\n", right),
		"command that fails": strings.Replace(config("f", bare, worktableAt(right)), "source: {",
			fmt.Sprintf("source: {password_command: [sh, -c, \"cat %s; cat %[1]s >&2; exit 1\"], ", file), 1),
	} {
		t.Run(name, func(t *testing.T) { unseenWhileItFails(t, newSite(t, db, text+"log: {level: debug}\n")) })
	}
}

// keywordDSN is the database for the role keeper, as keyword/value pairs.
func keywordDSN(db *pgtest.DB) string {
	quoted := strings.ReplaceAll(password, "'", `\'`)
	return fmt.Sprintf("host=127.0.0.1 port=%d user=keeper password='%s' dbname=%s sslmode=disable", db.Cluster().Server().Port(), quoted, db.Name())
}

// unseen fails when the marker is in a text.
func unseen(t *testing.T, where, text string) {
	t.Helper()
	require.NotContains(t, text, marker, where)
}

// unseenWhileItRuns looks at all that a running bridge shows, with an inbox so that
// setup connects in each of its ways.
func unseenWhileItRuns(t *testing.T, s *site) {
	t.Helper()
	s.change(t, "routes: [", "routes: [{tables: [walbridge.inbox], inbox: {}}, ")
	setup := s.do(t, exitOK, "setup")
	unseen(t, "setup", setup.stdout+setup.stderr)
	r := s.run(t)
	s.db.Exec(t, "INSERT INTO public.orders VALUES ((SELECT count(*) FROM public.orders), 'paid')")
	pgtest.Eventually(t, within, func() bool { return strings.Contains(s.page(t, "/metrics"), "walbridge_batch_items_count") }, "something is delivered")
	for _, path := range []string{"/", "/status", "/metrics", "/healthz", "/readyz"} {
		text := s.page(t, path)
		require.NotEmpty(t, text, path)
		unseen(t, path, text)
	}
	for _, line := range []string{"config show", "config validate --json", "status", "status --json", "doctor", "doctor --json", "explain", "dlq list", "migrate status", "setup --print"} {
		r := s.invoke(t, strings.Fields(line)...)
		require.Contains(t, []int{exitOK, exitFailure}, r.code, "%s: %s", line, r.stderr)
		unseen(t, line, r.stdout+r.stderr)
	}
	require.Equal(t, exitOK, r.stopped(t), r.errs.String())
	unseen(t, "log", r.errs.String()+r.out.String())
	unseen(t, "status of one that stopped", s.invoke(t, "status", "--json").stdout)
	unseen(t, "teardown", s.do(t, exitOK, "teardown", "--yes").stdout)
}

// unseenWhileItFails runs the commands against a server that refuses them.
func unseenWhileItFails(t *testing.T, s *site) {
	t.Helper()
	for _, line := range []string{"doctor", "doctor --json", "status --json", "setup", "explain", "dlq list", "config validate"} {
		r := s.invoke(t, strings.Fields(line)...)
		unseen(t, line, r.stdout+r.stderr)
	}
	r := s.start(t, "run", "--exit-on-halt")
	pgtest.Eventually(t, within, func() bool {
		return len(r.code) > 0 || strings.Contains(r.errs.String(), "trying again")
	}, "the bridge fails")
	r.stop()
	require.NotEmpty(t, r.errs.String())
	unseen(t, "run", r.errs.String()+r.out.String())
}

// page is what the running bridge answers.
func (s *site) page(t *testing.T, path string) string {
	t.Helper()
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}}
	resp, err := client.Get("http://" + s.env["WALBRIDGE_HTTP_LISTEN"] + path)
	require.NoError(t, err)
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(body)
}

// The inbox is made with the password of password_command.
func TestSetupOfAnInboxAsksThePasswordCommand(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, pgtest.HBA("host all keeper 127.0.0.1/32 scram-sha-256")).DB(t)
	keeper(t, db, "right")
	bare := strings.Replace(db.DSN(), "postgres@", "keeper@", 1)
	s := newSite(t, db, fmt.Sprintf("name: i\nsource: {dsn: %q, password_command: [echo, right]}\nroutes: [{tables: [walbridge.inbox], inbox: {}}]\nsink: {stdout: {}}\n", bare))
	r := s.do(t, exitOK, "setup")
	require.Contains(t, r.stdout, "made, with walbridge.inbox")
	require.Equal(t, "1", db.One(t, "SELECT count(*) FROM pg_class WHERE oid = 'walbridge.inbox'::regclass"))
}
