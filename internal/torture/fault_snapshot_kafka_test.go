package torture_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/kafkatest"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/torture"
)

// snapshotFaultsToKafka is what may go wrong while tables are read into a cluster, one
// after the other: commits that are not visible, the right to read gone when all is read, a
// table that is published under an open writer, and the slot lost.
func snapshotFaultsToKafka(t *testing.T, broker *kafkatest.Broker) {
	s := seed(t)
	c := pgtest.New(t)
	db := c.DB(t)
	db.Exec(t, snapshotTables)
	w := &snapshotWriter{conn: db.Conn(t), r: torture.Rand(s, 1)}
	require.NoError(t, w.fill(t.Context(), sized(300, 5000)))
	db.Exec(t, "CREATE ROLE reader LOGIN REPLICATION; GRANT USAGE ON SCHEMA snap TO reader; GRANT SELECT ON ALL TABLES IN SCHEMA snap TO reader")
	r := bareRig(t, db, db)
	r.routes, r.toKafka, r.delivery = snapshotRoutes, broker.Addr(), "exactly_once"
	r.extra = "batch: {max_items: 40}\nsnapshot: {rows_per_second: 1000}"
	r.setup(t)
	r.sourceDSN = strings.Replace(db.DSN(), "postgres://postgres", "postgres://reader", 1)

	stop, stall := snapshotWriters(t, db, s, 2, 300), stallCommits(t, c)
	b := r.start(t)
	b.awaitRead(t)
	stall()
	stop()
	requireSame(t, r.rebuildFromKafka(t, broker), db)

	require.Zero(t, b.Terminate(t, startWithin()))
	db.Exec(t, "REVOKE SELECT ON ALL TABLES IN SCHEMA snap FROM reader")
	b = r.start(t)
	requireSame(t, r.rebuildFromKafka(t, broker), db)

	db.Exec(t, "CREATE TABLE snap.late (id int PRIMARY KEY, v text); GRANT SELECT ON snap.late, snap.plain TO reader")
	writer := db.Conn(t)
	_, err := writer.Exec(t.Context(), "BEGIN; INSERT INTO snap.late VALUES (1, 'before')")
	require.NoError(t, err)
	db.Exec(t, "ALTER PUBLICATION "+r.publication()+" ADD TABLE snap.late")
	_, err = writer.Exec(t.Context(), "INSERT INTO snap.late VALUES (2, 'after')")
	require.NoError(t, err)
	asking := r.cli(t, b, "snapshot", "--tables", "snap.late")
	asking.WaitLine(t, drainWithin(), "0 rows")
	_, err = writer.Exec(t.Context(), "COMMIT")
	require.NoError(t, err)
	require.Zero(t, asking.WaitExit(t, drainWithin()), asking.Output())
	require.Len(t, r.rebuildFromKafka(t, broker).tables["snap.late"], 2)

	r.extra = "snapshot: {rows_per_second: 5}"
	require.Zero(t, b.Terminate(t, startWithin()))
	b = r.start(t)
	r.mustCLI(t, b, "snapshot", "--tables", "snap.plain", "--detach")
	pgtest.Eventually(t, drainWithin(), func() bool { // until the walsender that is ended leaves it free for a moment
		_, err := db.Conn(t).Exec(t.Context(), "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1 AND active", r.slot())
		if err != nil {
			return false
		}
		_, err = db.Conn(t).Exec(t.Context(), "SELECT pg_drop_replication_slot($1)", r.slot())
		return err == nil
	}, "the slot is dropped")
	b.awaitHalt(t, startWithin(), "slot-missing")
	require.Contains(t, r.mustCLI(t, b, "snapshot", "status"), "snap.plain")
}

// awaitRead waits until the bridge has no table to read.
func (b *bridge) awaitRead(t *testing.T) {
	t.Helper()
	pgtest.Eventually(t, drainWithin(), func() bool {
		s, ok := b.status()
		return ok && s.Snapshot != nil && len(s.Snapshot.Tables) == 0
	}, "all tables are read")
}
