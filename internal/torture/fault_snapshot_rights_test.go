package torture_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// The slot is lost while tables are read: a halt by name, as ever. Nothing of the
// snapshot is taken for done.
func TestSlotLostDuringTheSnapshot(t *testing.T) {
	t.Parallel()
	r := snapshotRig(t, pgtest.Shared(t).DB(t), seed(t), 50)
	r.extra = "snapshot: {rows_per_second: 5}"
	b := r.start(t)
	pgtest.Eventually(t, drainWithin(), func() bool { return r.sink.One(t, "SELECT count(*) FROM walbridge.log WHERE type = 'read'") != "0" }, "rows are read")
	pgtest.Eventually(t, drainWithin(), func() bool { // until the walsender that is ended leaves it free for a moment
		_, err := r.source.Conn(t).Exec(t.Context(), "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1 AND active", r.slot())
		if err != nil {
			return false
		}
		_, err = r.source.Conn(t).Exec(t.Context(), "SELECT pg_drop_replication_slot($1)", r.slot())
		return err == nil
	}, "the slot is dropped")
	b.awaitHalt(t, startWithin(), "slot-missing")
	n, ok := r.unfinished(t)
	require.True(t, ok)
	require.NotZero(t, n)
}

// A table is published while a transaction that wrote to it is open: its rows are in no
// stream, and a snapshot waits for it to end.
func TestTablePublishedUnderAnOpenWriter(t *testing.T) {
	t.Parallel()
	pgtest.Matrix(t, func(t *testing.T, c *pgtest.Cluster) {
		db := c.DB(t)
		db.Exec(t, "CREATE SCHEMA snap; CREATE TABLE snap.early (id int PRIMARY KEY); CREATE TABLE snap.late (id int PRIMARY KEY, v text)")
		r := bareRig(t, db, pgtest.Shared(t).DB(t))
		r.routes = strings.Replace(snapshotRoutes, "initial", "never", 1)
		r.setup(t)
		db.Exec(t, "ALTER PUBLICATION "+r.publication()+" DROP TABLE snap.late")
		writer := db.Conn(t)
		exec := func(sql string) {
			t.Helper()
			_, err := writer.Exec(t.Context(), sql)
			require.NoError(t, err)
		}
		db.Exec(t, "CREATE SEQUENCE snap.unused") // somebody else's
		b := r.run(t)
		b.WaitLine(t, startWithin(), "route") // the preflight refuses: published it must be
		<-b.Done()
		db.Exec(t, "ALTER PUBLICATION "+r.publication()+" ADD TABLE snap.late")
		b = r.start(t)
		db.Exec(t, "ALTER PUBLICATION "+r.publication()+" DROP TABLE snap.late")
		exec("BEGIN")
		exec("INSERT INTO snap.late VALUES (1, 'before')")
		// ALTER PUBLICATION waits for no writer
		db.Exec(t, "ALTER PUBLICATION "+r.publication()+" ADD TABLE snap.late")
		exec("INSERT INTO snap.late VALUES (2, 'after')")
		asking := r.cli(t, b, "snapshot", "--tables", "snap.late")
		asking.WaitLine(t, drainWithin(), "0 rows")
		pgtest.Eventually(t, drainWithin(), func() bool {
			s, ok := b.status()
			return ok && s.Snapshot != nil && len(s.Snapshot.Tables) == 1 && strings.Contains(s.Snapshot.Tables[0].Detail, "waiting for transactions")
		}, "the snapshot waits for the writer")
		exec("COMMIT")
		require.Zero(t, asking.WaitExit(t, drainWithin()), asking.Output())
		rep := rebuild(t, r.sink)
		require.Len(t, rep.tables["snap.late"], 2, "%v", rep.tables)
	})
}

// The right to read is needed until the reading is done, and named when it lacks; then
// it may go, and the bridge starts without it.
func TestNoRightToReadAfterTheSnapshot(t *testing.T) {
	t.Parallel()
	db := pgtest.Shared(t).DB(t)
	role := "reader_" + strings.ReplaceAll(db.Name(), "-", "_")
	db.Exec(t, fmt.Sprintf("CREATE ROLE %s LOGIN REPLICATION", role))
	t.Cleanup(func() { // the test's own connections are closed by then
		conn, err := pgx.Connect(context.Background(), db.DSN())
		require.NoError(t, err)
		defer conn.Close(context.Background())
		_, err = conn.Exec(context.Background(), fmt.Sprintf("DROP OWNED BY %s; DROP ROLE %[1]s", role))
		require.NoError(t, err)
	})
	r := snapshotRig(t, db, seed(t), 20)
	r.sourceDSN = strings.Replace(db.DSN(), "postgres://postgres", "postgres://"+role, 1)
	refused := r.run(t)
	require.Equal(t, 2, refused.WaitExit(t, startWithin()), refused.Output())
	require.Contains(t, refused.Output(), "may not read the rows")
	db.Exec(t, fmt.Sprintf("GRANT USAGE ON SCHEMA snap TO %s; GRANT SELECT ON ALL TABLES IN SCHEMA snap TO %[1]s", role))
	b := r.start(t)
	r.awaitSnapshot(t)
	require.Zero(t, b.Terminate(t, startWithin()))
	db.Exec(t, fmt.Sprintf("REVOKE SELECT ON ALL TABLES IN SCHEMA snap FROM %s", role))
	r.start(t)
	r.drainSnapshot(t)
	requireSame(t, rebuild(t, r.sink), db)
}

// A row above memory.max_row is named as a dead letter, and the others are read: one
// that just fits the memory, and one that does not.
func TestSnapshotOfRowsAboveTheLimit(t *testing.T) {
	t.Parallel()
	db := pgtest.Shared(t).DB(t)
	db.Exec(t, `CREATE SCHEMA snap; CREATE TABLE snap.docs (id int PRIMARY KEY, n int, body text, more text);
		INSERT INTO snap.docs SELECT i, i, CASE i WHEN 3 THEN repeat('x', 200000) WHEN 5 THEN repeat('y', 5000000) ELSE 'z' END, CASE i WHEN 5 THEN repeat('m', 100000) END FROM generate_series(1, 8) i`)
	r := bareRig(t, db, db)
	r.routes = snapshotRoutes
	r.extra = "memory: {limit: 32MiB, max_row: 64KiB}"
	r.setup(t)
	r.start(t)
	r.awaitSnapshot(t)
	rep := rebuild(t, r.sink)
	require.Len(t, rep.tables["snap.docs"], 6)
	letters := r.sink.Query(t, "SELECT reason, (raw::json->'new'->>0), raw::json->>'cut_size' FROM walbridge.dead_letter ORDER BY 2")
	require.Equal(t, [][]string{{"row_too_large", "3", "200000"}, {"row_too_large", "5", "5100000"}}, letters)
}

// An outbox that is not empty is a question, and setup asks it.
func TestSetupAsksAboutRowsOfAnOutbox(t *testing.T) {
	t.Parallel()
	db := pgtest.Shared(t).DB(t)
	db.Exec(t, `CREATE TABLE outbox (id int PRIMARY KEY, aggregatetype text, aggregateid text, type text, payload json, created_at timestamptz);
		INSERT INTO outbox VALUES (1, 'order', '1', 'Paid', '{}', '2020-01-02 03:04:05Z'), (2, 'order', '1', 'Paid', '{}', '2021-01-01')`)
	r := bareRig(t, db, db)
	r.routes = "\n  - tables: [public.outbox]\n    outbox: {}\n"
	p := pgtest.Run(t, "setup", "--config", r.config(t, pgtest.FreePort(t)))
	require.Equal(t, 2, p.WaitExit(t, startWithin()))
	require.Contains(t, p.Output(), "has 2 rows already, the oldest: 2020-01-02")
	r.routes += "    snapshot: never\n"
	r.setup(t)
}
