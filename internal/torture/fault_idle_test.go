package torture_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// watchFor is how long a bridge is watched that should do nothing.
func watchFor() time.Duration { return time.Duration(sized(6, 60)) * time.Second }

// watch waits that long and returns how many rows of batch were written meanwhile.
func (r *rig) watch(t *testing.T) int {
	t.Helper()
	before := r.writes(t)
	timer := time.NewTimer(watchFor())
	defer timer.Stop()
	<-timer.C
	return r.writes(t) - before
}

func (r *rig) writes(t *testing.T) int {
	t.Helper()
	n, err := strconv.Atoi(r.progress(t, "n"))
	require.NoError(t, err)
	return n
}

// An idle database does not keep the WAL of a busy sibling: the slot moves on,
// though nothing is there to deliver, and few positions are written for it.
func TestIdleDatabaseWithBusySibling(t *testing.T) {
	t.Parallel()
	source := pgtest.New(t)
	r := newRig(t, source.DB(t), pgtest.Shared(t).DB(t))
	sibling := source.DB(t)
	r.setup(t)
	r.start(t)
	r.drain(t)
	began, before := time.Now(), r.writes(t)
	sibling.Exec(t, "CREATE TABLE busy (v text)")
	goal := ""
	pgtest.Eventually(t, 2*time.Minute, func() bool {
		if goal == "" || time.Since(began) < watchFor() {
			sibling.Exec(t, "INSERT INTO busy SELECT repeat('x', 1000) FROM generate_series(1, 3000)")
			goal = sibling.One(t, "SELECT pg_current_wal_insert_lsn()::text")
		}
		sibling.Exec(t, "CHECKPOINT") // logs the running transactions, without which restart_lsn cannot move
		return r.source.One(t, "SELECT (restart_lsn >= $2::text::pg_lsn)::text FROM pg_replication_slots WHERE slot_name = $1", r.slot(), goal) == "true"
	}, "restart_lsn passes the sibling's WAL")
	perMinute := float64(r.writes(t)-before) / max(time.Since(began).Minutes(), 1)
	require.Less(t, perMinute, 10.0, "positions written per minute")
}

// With the sink in the source's database, what the bridge writes gives it nothing
// to do: not on 14 either, which streams Begin and Commit of every transaction of the
// database, the bridge's own among them.
func TestSinkInTheSourceDatabaseFeedsNothing(t *testing.T) {
	t.Parallel()
	pgtest.Matrix(t, func(t *testing.T, c *pgtest.Cluster) {
		db := c.DB(t)
		r := newRig(t, db, db)
		r.setup(t)
		r.start(t)
		r.drain(t)
		require.LessOrEqual(t, r.watch(t), 2, "positions written while nothing happens")
		db.Exec(t, "INSERT INTO load.item (id) VALUES (1)")
		require.LessOrEqual(t, r.watch(t), 2, "positions written after one row")
		require.EqualValues(t, 3, r.prove(t).Items)
	})
}

// An idle bridge keeps four connections: the replication session and the one that
// samples the source; the writer's and the one with the lock.
func TestIdleBridgeHasFourSessions(t *testing.T) {
	t.Parallel()
	r := sharedRig(t)
	r.setup(t)
	b := r.start(t)
	r.drain(t)
	pgtest.Eventually(t, startWithin(), func() bool { return r.sessions(t) == r.wholeSessions() }, "2 and 2 sessions")
	pgtest.Eventually(t, startWithin(), func() bool { s, ok := b.status(); return ok && s.Consumers != nil }, "known to be none")
	r.sink.Exec(t, "SELECT walbridge.subscribe('idle', '{absent}')")
	pgtest.Eventually(t, startWithin(), func() bool {
		s, ok := b.status()
		return ok && s.Consumers != nil && len(s.Consumers.Subscriptions) == 1
	}, "the subscription is shown")
	r.sink.Exec(t, "SELECT walbridge.drop_subscription('idle')")
	pgtest.Eventually(t, startWithin(), func() bool { return r.sessions(t) == r.wholeSessions() }, "2 and 2 sessions again")
}

// sessions says how many sessions of bridges each of the two databases has.
func (r *rig) sessions(t *testing.T) string {
	t.Helper()
	return r.source.One(t, `SELECT string_agg(datname || ' ' || n, ', ' ORDER BY datname <> $1) FROM (
		SELECT datname, count(*) AS n FROM pg_stat_activity WHERE datname IN ($1, $2) AND application_name LIKE 'walbridge%' GROUP BY datname) a`, r.source.Name(), r.sink.Name())
}

// wholeSessions is what sessions says of a bridge that misses none.
func (r *rig) wholeSessions() string { return r.source.Name() + " 2, " + r.sink.Name() + " 2" }
