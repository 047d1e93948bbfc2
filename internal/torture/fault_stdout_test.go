package torture_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/torture"
)

// Lines on standard output, at least once: after kills at random points nothing is
// missing, and what comes again comes with its id.
func TestKillBridgeToStdout(t *testing.T) {
	t.Parallel()
	kills := sized(8, 100)
	s := seed(t)
	rand := torture.Rand(s, 50)
	db := pgtest.Shared(t).DB(t)
	r := newRig(t, db, db)
	r.toStdout = true
	r.setup(t)
	var out bytes.Buffer
	b := r.start(t)
	l := r.startLoad(t, torture.Config{Seed: s, Rate: 150})
	for range kills {
		moment(t, rand, 400*time.Millisecond)
		require.NoError(t, b.Kill())
		<-b.Done()
		out.WriteString(b.Stdout())
		b = r.run(t)
	}
	counts := l.stop(t)
	before := db.One(t, "SELECT pg_current_wal_insert_lsn()::text")
	db.Exec(t, "INSERT INTO load.reading (sensor) VALUES ('drained')")
	pgtest.Eventually(t, drainWithin(), func() bool {
		return db.One(t, "SELECT (confirmed_flush_lsn > $2::text::pg_lsn)::text FROM pg_replication_slots WHERE slot_name = $1", r.slot(), before) == "true"
	}, "all that has committed is confirmed")
	require.Zero(t, b.Terminate(t, startWithin()))
	out.WriteString(b.Stdout())

	c := torture.NewChecker(torture.Rules{Repeats: true})
	lines := &torture.LineReader{Source: r.name}
	require.NoError(t, lines.Read(&out, c.Add))
	require.NoError(t, c.End())
	require.NoError(t, c.Compare(t.Context(), db.DSN(), r.name, r.publication()))
	t.Logf("%d lines, %d repeated, %d torn", lines.After, c.Repeated, lines.Torn)
	r.record(t, "kill-bridge-stdout", s, torture.Proven{Items: c.Items, Rows: c.Rows(r.name), Events: c.Events(r.name)}, counts, "kills", kills)
}
