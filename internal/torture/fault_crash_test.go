package torture_test

import (
	"context"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/embeddedpg"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/torture"
)

// Kill the bridge at any instant: nothing that committed is missing, nothing is
// there twice, and the order holds.
func TestKillBridgeAtRandomPoints(t *testing.T) {
	t.Parallel()
	kills := sized(20, 200)
	s := seed(t)
	rand := torture.Rand(s, 1)
	r := sharedRig(t)
	r.extra = "batch: {max_items: 300}"
	r.setup(t)
	b := r.start(t)
	l := r.startLoad(t, torture.Config{Seed: s, Rate: 150, LargeRows: 2000})
	for range kills {
		moment(t, rand, 400*time.Millisecond)
		require.NoError(t, b.Kill())
		<-b.Done()
		b = r.run(t) // the next kill may come before it streams
	}
	counts := l.stop(t)
	r.record(t, "kill-bridge", s, r.prove(t), counts, "kills", kills)
}

// Kill the bridge in the middle of a transaction that is larger than many batches:
// it goes on inside it, where it was.
func TestKillBridgeInLargeTransaction(t *testing.T) {
	t.Parallel()
	const kills = 6
	rows := sized(40_000, 1_000_000)
	r := ownRig(t)
	r.slowSink(t)
	r.extra = "batch: {max_items: " + strconv.Itoa(rows/40) + "}"
	r.setup(t)
	b := r.start(t)
	r.insertItems(t, rows)
	at := ""
	for range kills {
		pgtest.Eventually(t, startWithin(), func() bool { return r.inside(t) > at }, "the position moves on inside the transaction, beyond %q", at)
		require.NoError(t, b.Kill())
		<-b.Done()
		now := r.inside(t)
		require.GreaterOrEqual(t, now, at, "the position inside the transaction moved back")
		at = now
		b = r.run(t)
	}
	require.NotEmpty(t, at, "the last kill came after the transaction")
	proven := r.prove(t)
	require.EqualValues(t, rows+1, proven.Items)
	r.record(t, "kill-bridge-in-large-transaction", seed(t), proven, torture.Counts{Rows: int64(rows)}, "kills", kills)
}

// slowSink puts a long line before the sink, so that a large transaction takes a
// while.
func (r *rig) slowSink(t *testing.T) {
	t.Helper()
	p := pgtest.NewProxy(t, r.sink.DSN())
	p.Delay(2 * time.Millisecond)
	r.sinkDSN = p.DSN(r.sink.DSN())
}

// inside is how far the position lies inside a transaction, as text that sorts;
// empty when it does not.
func (r *rig) inside(t *testing.T) string {
	t.Helper()
	return r.sink.One(t, "SELECT coalesce(max(lpad(tx_seq::text, 12, '0')), '') FROM walbridge.progress WHERE source = $1 AND commit_lsn IS NOT NULL", r.name)
}

// Kill the bridge when the sink has committed and the server has not been told:
// the server sends it all again, and nothing is stored twice.
func TestKillBridgeBetweenCommitAndReport(t *testing.T) {
	t.Parallel()
	r := sharedRig(t)
	proxy := pgtest.NewProxy(t, r.source.DSN())
	r.replicationDSN = proxy.DSN(r.source.DSN())
	r.setup(t)
	b := r.start(t)
	r.drain(t)
	proxy.MuteClient(true) // the server hears nothing from here on
	r.source.Exec(t, "INSERT INTO load.item (id) SELECT generate_series(1, 500)")
	r.drain(t)
	require.Less(t, r.slotConfirmed(t), mustLSN(t, r.progress(t, "end_lsn")), "the server was told")
	require.NoError(t, b.Kill())
	<-b.Done()
	proxy.Heal()
	r.start(t)
	require.EqualValues(t, 503, r.prove(t).Items)
}

func mustLSN(t *testing.T, text string) lsn.LSN {
	t.Helper()
	l, err := lsn.Parse(text)
	require.NoError(t, err)
	return l
}

// slotConfirmed is what the server believes to be stored.
func (r *rig) slotConfirmed(t *testing.T) lsn.LSN {
	t.Helper()
	return mustLSN(t, r.source.One(t, "SELECT confirmed_flush_lsn::text FROM pg_replication_slots WHERE slot_name = $1", r.slot()))
}

// The commit record of a transaction begins exactly where that of the one before
// ended, and the bridge is killed in between: its position equals the commit LSN of
// what it does not have.
func TestKillBridgeBetweenAdjacentCommits(t *testing.T) {
	t.Parallel()
	r := newRig(t, pgtest.New(t).DB(t), pgtest.Shared(t).DB(t)) // a source where nobody else writes WAL
	r.setup(t)
	b := r.start(t)
	adjacent := 0
	for id := 1; id <= 5 && adjacent == 0; id++ { // the server's own records may come in between
		first, second := r.source.Conn(t), r.source.Conn(t)
		for i, conn := range []*pgx.Conn{first, second} {
			_, err := conn.Exec(t.Context(), "BEGIN; INSERT INTO load.reading (sensor) VALUES ('adjacent "+strconv.Itoa(2*id+i)+"')")
			require.NoError(t, err)
		}
		before := r.progress(t, "last_tx_end")
		_, err := first.Exec(t.Context(), "COMMIT")
		require.NoError(t, err)
		pgtest.Eventually(t, startWithin(), func() bool { return r.progress(t, "last_tx_end") != before }, "the first is delivered")
		require.NoError(t, b.Kill())
		<-b.Done()
		at := r.progress(t, "end_lsn")
		_, err = second.Exec(t.Context(), "COMMIT")
		require.NoError(t, err)
		b = r.start(t)
		r.drain(t)
		commit := r.sink.One(t, "SELECT commit_lsn::text FROM walbridge.log WHERE payload::text LIKE '%adjacent "+strconv.Itoa(2*id+1)+"\"%'")
		if commit == at {
			adjacent++
		}
	}
	require.Positive(t, adjacent, "no two commit records were neighbours")
	r.prove(t)
}

// The source crashes again and again under load.
func TestCrashSource(t *testing.T) {
	t.Parallel()
	crashes := sized(3, 20)
	s := seed(t)
	rand := torture.Rand(s, 4)
	source := pgtest.New(t)
	r := newRig(t, source.DB(t), pgtest.Shared(t).DB(t))
	r.setup(t)
	r.start(t)
	l := r.startLoad(t, torture.Config{Seed: s, Rate: 150})
	for range crashes {
		moment(t, rand, time.Second)
		stopServer(t, source.Server(), embeddedpg.Immediate)
		require.NoError(t, source.Server().Restart(t.Context()))
		l.awaitCommits(t, 20)
	}
	counts := l.stop(t)
	r.record(t, "crash-source", s, r.prove(t), counts, "crashes", crashes)
}

func stopServer(t *testing.T, s *embeddedpg.Server, mode embeddedpg.StopMode) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), startWithin())
	defer cancel()
	require.NoError(t, s.Stop(ctx, mode))
}

// A stuck sink does not keep the source from shutting down.
func TestFastShutdownOfSourceWithStuckSink(t *testing.T) {
	t.Parallel()
	s := seed(t)
	source := pgtest.New(t)
	r := newRig(t, source.DB(t), pgtest.Shared(t).DB(t))
	r.setup(t)
	b := r.start(t)
	lock := r.lockLog(t)
	l := r.startLoad(t, torture.Config{Seed: s, Kinds: []torture.Kind{torture.Mixed}})
	pgtest.Eventually(t, startWithin(), func() bool {
		st, ok := b.status()
		return ok && st.LSN.Written != st.LSN.Confirmed && st.Lag.ReceivedBytes != nil && *st.Lag.ReceivedBytes >= 0
	}, "the sink is stuck with a batch")
	l.awaitCommits(t, int64(sized(300, 20000)))
	l.stop(t)
	ctx, cancel := context.WithTimeout(t.Context(), startWithin()) // less than wal_sender_timeout
	defer cancel()
	began := time.Now()
	require.NoError(t, source.Server().Stop(ctx, embeddedpg.Fast), "a fast shutdown with a stuck sink")
	t.Logf("the source shut down in %v", time.Since(began))
	require.NoError(t, source.Server().Restart(t.Context()))
	lock()
	r.prove(t)
}

// lockLog keeps the bridge from writing, and returns what lets it.
func (r *rig) lockLog(t *testing.T) (unlock func()) {
	t.Helper()
	conn := r.sink.Conn(t)
	_, err := conn.Exec(t.Context(), "BEGIN; LOCK TABLE walbridge.log IN ACCESS EXCLUSIVE MODE")
	require.NoError(t, err)
	return func() {
		_, err := conn.Exec(t.Context(), "ROLLBACK")
		require.NoError(t, err)
	}
}

// The sink's server is killed with commits in flight, in a database whose sessions
// do not wait for the disk by default.
func TestKillSink(t *testing.T) {
	t.Parallel()
	kills := sized(3, 20)
	s := seed(t)
	rand := torture.Rand(s, 6)
	sink := pgtest.New(t)
	r := newRig(t, pgtest.Shared(t).DB(t), sink.DB(t))
	r.sink.Exec(t, "ALTER DATABASE "+r.sink.Name()+" SET synchronous_commit = off")
	r.setup(t)
	b := r.start(t)
	l := r.startLoad(t, torture.Config{Seed: s, Rate: 200})
	for range kills {
		before := r.progress(t, "n")
		pgtest.Eventually(t, startWithin(), func() bool { return r.progress(t, "n") != before }, "the bridge writes again")
		moment(t, rand, 300*time.Millisecond)
		require.NoError(t, sink.Server().Kill())
		require.NoError(t, sink.Server().Restart(t.Context()))
	}
	counts := l.stop(t)
	r.record(t, "kill-sink", s, r.prove(t), counts, "kills", kills)
	require.True(t, b.Running(), "the bridge outlives its sink")
}

// SIGTERM under load: what was taken is delivered, and the slot knows.
func TestTerminateUnderLoad(t *testing.T) {
	t.Parallel()
	stops := sized(3, 20)
	s := seed(t)
	rand := torture.Rand(s, 8)
	r := sharedRig(t)
	r.setup(t)
	b := r.start(t) // the slot first: what commits before it is in no stream
	l := r.startLoad(t, torture.Config{Seed: s, Rate: 150})
	for range stops {
		moment(t, rand, 500*time.Millisecond)
		require.NoError(t, b.Signal(syscall.SIGTERM))
		require.Zero(t, b.WaitExit(t, 25*time.Second))
		require.Equal(t, mustLSN(t, r.progress(t, "end_lsn")), r.slotConfirmed(t), "the slot does not know what is stored")
		require.Empty(t, r.inside(t), "it stopped inside a transaction")
		b = r.start(t)
	}
	counts := l.stop(t)
	r.record(t, "terminate", s, r.prove(t), counts, "stops", stops)
}
