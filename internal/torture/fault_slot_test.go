package torture_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/embeddedpg"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/status"
)

// Whatever happens to the slot behind the bridge's back: it halts, names it, and
// leaves the slot alone.
func TestSlotMovedBehindOurBack(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ sql, rule string }{
		"dropped":   {"SELECT pg_drop_replication_slot($1)", "slot-missing"},
		"recreated": {"SELECT pg_drop_replication_slot($1); SELECT pg_create_logical_replication_slot($1, 'pgoutput')", "slot-ahead"},
		"advanced":  {"SELECT pg_replication_slot_advance($1, pg_current_wal_insert_lsn())", "slot-ahead"},
		"replaced":  {"SELECT pg_drop_replication_slot($1); SELECT pg_create_logical_replication_slot($1, 'test_decoding')", "slot-unusable"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			r := sharedRig(t)
			r.setup(t)
			b := r.start(t)
			r.drain(t)
			require.NoError(t, b.Kill())
			<-b.Done()
			r.source.Exec(t, "INSERT INTO load.item (id) VALUES (1)")
			pgtest.Eventually(t, startWithin(), func() bool {
				return r.source.One(t, "SELECT active::text FROM pg_replication_slots WHERE slot_name = $1", r.slot()) == "false"
			}, "the walsender of the killed bridge ends")
			for sql := range strings.SplitSeq(c.sql, "; ") {
				r.source.Exec(t, sql, r.slot())
			}
			const slots = "SELECT slot_name, plugin, confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1"
			before := r.source.Query(t, slots, r.slot())
			b = r.run(t)
			b.awaitHalt(t, startWithin(), c.rule)
			require.Equal(t, before, r.source.Query(t, slots, r.slot()), "the bridge touched the slot")
		})
	}
}

// A slot that the server gave up, since it held more WAL than it may, is a halt;
// also when that happens while the bridge is connected.
func TestSlotInvalidated(t *testing.T) {
	t.Parallel()
	source := pgtest.New(t, pgtest.Setting("max_slot_wal_keep_size", "2MB"), pgtest.Setting("min_wal_size", "2MB"),
		pgtest.Setting("max_wal_size", "4MB"), pgtest.InitArgs("--wal-segsize=1"))
	r := newRig(t, source.DB(t), pgtest.Shared(t).DB(t))
	r.setup(t)
	b := r.start(t)
	r.drain(t)
	unlock := r.lockLog(t)
	pgtest.Eventually(t, time.Minute, func() bool {
		r.source.Exec(t, "INSERT INTO load.blob (id, big) SELECT (SELECT coalesce(max(id), 0) FROM load.blob) + g, repeat(md5(g::text), 300) FROM generate_series(1, 300) g")
		r.source.Exec(t, "CHECKPOINT")
		return r.source.One(t, "SELECT wal_status FROM pg_replication_slots WHERE slot_name = $1", r.slot()) == "lost"
	}, "the server gives the slot up")
	unlock()
	b.awaitHalt(t, startWithin(), "slot-lost")
}

// A slot that nobody used for longer than the server allows is given up at the next
// checkpoint (18: idle_replication_slot_timeout); the bridge that comes back halts.
func TestSlotIdleForTooLong(t *testing.T) {
	t.Parallel()
	source := pgtest.New(t, pgtest.Major(18), pgtest.Setting("idle_replication_slot_timeout", "1s"))
	r := newRig(t, source.DB(t), pgtest.Shared(t).DB(t))
	r.setup(t)
	b := r.start(t)
	r.drain(t)
	require.Zero(t, b.Terminate(t, startWithin()))
	r.source.Exec(t, "INSERT INTO load.item (id) VALUES (1)")
	pgtest.Eventually(t, time.Minute, func() bool {
		r.source.Exec(t, "CHECKPOINT")
		return r.source.One(t, "SELECT coalesce(invalidation_reason, '') FROM pg_replication_slots WHERE slot_name = $1", r.slot()) == "idle_timeout"
	}, "the server gives the slot up")
	r.run(t).awaitHalt(t, startWithin(), "slot-lost")
}

// A position that lies beyond the server's WAL would make the server skip what is
// to come.
func TestPositionFromTheFuture(t *testing.T) {
	t.Parallel()
	r := sharedRig(t)
	r.setup(t)
	b := r.start(t)
	r.drain(t)
	require.Zero(t, b.Terminate(t, startWithin()))
	r.sink.Exec(t, `INSERT INTO walbridge.batch (source, n, end_lsn, last_tx_end, timeline)
		SELECT source, n + 1, end_lsn + 1099511627776, last_tx_end, timeline FROM walbridge.progress WHERE source = $1`, r.name)
	r.run(t).awaitHalt(t, startWithin(), "server-lost-wal")
}

// The connection reaches another cluster that has the same slot.
func TestPositionOfAnotherCluster(t *testing.T) {
	t.Parallel()
	r := sharedRig(t)
	r.setup(t)
	b := r.start(t)
	r.drain(t)
	require.Zero(t, b.Terminate(t, startWithin()))
	other := pgtest.New(t).DB(t)
	elsewhere := newRig(t, other, r.sink)
	elsewhere.name = r.name
	elsewhere.source.Exec(t, "CREATE PUBLICATION "+r.publication()+" FOR TABLE load.item")
	elsewhere.source.Exec(t, "SELECT pg_create_logical_replication_slot($1, 'pgoutput')", r.slot())
	elsewhere.run(t).awaitHalt(t, startWithin(), "other-cluster")
}

// The connection reaches a copy of the server from before the position.
func TestPositionAgainstAnOlderClone(t *testing.T) {
	t.Parallel()
	source := pgtest.New(t)
	r := newRig(t, source.DB(t), pgtest.Shared(t).DB(t))
	r.setup(t)
	b := r.start(t)
	r.drain(t)
	stopServer(t, source.Server(), embeddedpg.Fast)
	clone := cloneOf(t, source.Server())
	require.NoError(t, source.Server().Restart(t.Context()))
	r.source.Exec(t, "INSERT INTO load.item (id) SELECT generate_series(1, 20000)")
	r.prove(t)
	require.Zero(t, b.Terminate(t, startWithin()))
	r.sourceDSN = clone.DSN(r.source.Name())
	r.run(t).awaitHalt(t, startWithin(), "server-lost-wal")
}

// cloneOf starts a copy of a server that does not run.
func cloneOf(t *testing.T, s *embeddedpg.Server) *embeddedpg.Server {
	t.Helper()
	dir, err := os.MkdirTemp("", "walbridge-clone-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	out, err := exec.Command("cp", "-a", filepath.Join(s.Dir(), "data"), filepath.Join(dir, "data")).CombinedOutput()
	require.NoError(t, err, "%s", out)
	clone, err := embeddedpg.Start(t.Context(), embeddedpg.Config{Install: s.Install(), Dir: dir, Settings: map[string]string{"wal_level": "logical"}})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, clone.Kill()) })
	return clone
}

// The creation of a slot waits for every open transaction of the cluster: the
// bridge says for whom.
func TestSlotCreationWaitsForATransaction(t *testing.T) {
	t.Parallel()
	source := pgtest.New(t)
	r := newRig(t, source.DB(t), pgtest.Shared(t).DB(t))
	r.setup(t)
	conn := r.source.Conn(t)
	_, err := conn.Exec(t.Context(), "BEGIN; SELECT pg_current_xact_id()")
	require.NoError(t, err)
	pid := r.source.One(t, "SELECT pid::text FROM pg_stat_activity WHERE state = 'idle in transaction'")
	b := r.run(t)
	b.WaitLine(t, startWithin(), pid)
	_, err = conn.Exec(t.Context(), "ROLLBACK")
	require.NoError(t, err)
	b.await(t, startWithin(), status.StateStreaming)
	r.prove(t)
}
