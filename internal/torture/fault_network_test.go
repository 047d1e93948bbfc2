package torture_test

import (
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/internal/torture"
)

// proxied puts a proxy before both sides of a rig.
func proxied(t *testing.T, r *rig) (source, sink *pgtest.Proxy) {
	t.Helper()
	source, sink = pgtest.NewProxy(t, r.source.DSN()), pgtest.NewProxy(t, r.sink.DSN())
	r.sourceDSN, r.sinkDSN = source.DSN(r.source.DSN()), sink.DSN(r.sink.DSN())
	return source, sink
}

// Connections of both sides are reset, cut in the middle of a frame, slow, and
// trickle.
func TestBrokenNetwork(t *testing.T) {
	t.Parallel()
	cuts := sized(12, 200)
	s := seed(t)
	rand := torture.Rand(s, 10)
	r := sharedRig(t)
	r.extra = "batch: {max_items: 300}"
	source, sink := proxied(t, r)
	r.setup(t)
	b := r.start(t)
	l := r.startLoad(t, torture.Config{Seed: s, Rate: 150})
	for range cuts {
		p := []*pgtest.Proxy{source, sink}[rand.IntN(2)]
		switch rand.IntN(4) {
		case 0:
			p.Cut()
		case 1:
			p.CutAfter(rand.Int64N(64 << 10))
		case 2:
			p.Delay(time.Duration(rand.IntN(30)) * time.Millisecond)
		case 3:
			p.Trickle(1+rand.IntN(200), time.Millisecond)
		}
		moment(t, rand, 500*time.Millisecond)
		p.Heal()
	}
	counts := l.stop(t)
	source.Heal()
	sink.Heal()
	r.record(t, "broken-network", s, r.prove(t), counts, "cuts", cuts)
	require.True(t, b.Running())
}

// A connection that neither speaks nor ends is noticed and replaced, on either
// side. Nothing but the time-out can notice it.
func TestBlackHole(t *testing.T) {
	for _, side := range []string{"source", "sink"} {
		t.Run(side, func(t *testing.T) {
			t.Parallel()
			r := sharedRig(t)
			r.extra = "takeover_after: 5s"
			source, sink := proxied(t, r)
			r.setup(t)
			b := r.start(t)
			r.drain(t)
			p := map[string]*pgtest.Proxy{"source": source, "sink": sink}[side]
			before := p.Accepted()
			p.BlackHole(true)
			r.source.Exec(t, "INSERT INTO load.item (id) VALUES (1)")
			pgtest.Eventually(t, time.Minute, func() bool { return p.Accepted() > before }, "the bridge gives the dead connection up")
			p.Cut()
			p.Heal()
			r.prove(t)
			require.True(t, b.Running())
		})
	}
}

// A stalled sink does not cost the connection to the source: nothing is decoded
// twice.
func TestStalledSinkKeepsTheConnection(t *testing.T) {
	t.Parallel()
	const senderTimeout = 20 * time.Second // the bridge's own wal_sender_timeout
	s := seed(t)
	r := sharedRig(t)
	r.setup(t)
	b := r.start(t)
	r.drain(t)
	before := r.source.One(t, "SELECT active_pid::text FROM pg_replication_slots WHERE slot_name = $1", r.slot())
	unlock := r.lockLog(t)
	l := r.startLoad(t, torture.Config{Seed: s, Rate: 200, Kinds: []torture.Kind{torture.Mixed, torture.Event}})
	stalled := time.NewTimer(time.Duration(sized(11, 30)) * senderTimeout / 10)
	defer stalled.Stop()
	<-stalled.C
	require.LessOrEqual(t, r.slotConfirmed(t), mustLSN(t, r.progress(t, "end_lsn")), "the server was told of what is not stored")
	unlock()
	counts := l.stop(t)
	proven := r.prove(t)
	require.Equal(t, before, r.source.One(t, "SELECT active_pid::text FROM pg_replication_slots WHERE slot_name = $1", r.slot()), "the connection was replaced")
	st, ok := b.status()
	require.True(t, ok)
	if !full() { // a stall longer than sink.write_timeout opens the sink anew
		require.Zero(t, st.Totals.Reconnects)
	}
	r.record(t, "stalled-sink", s, proven, counts, "timeouts", sized(1, 3))
}

// The walsender is ended again and again while a large transaction is sent: each
// time it goes on, and in the end it is through.
func TestKillWalsenderInLargeTransaction(t *testing.T) {
	t.Parallel()
	rows, kills := sized(60_000, 2_000_000), sized(5, 20)
	r := ownRig(t)
	r.slowSink(t)
	r.extra = "batch: {max_items: " + strconv.Itoa(rows/60) + "}"
	r.setup(t)
	b := r.start(t)
	r.insertItems(t, rows)
	at, killed := "", 0
	for range kills {
		pgtest.Eventually(t, startWithin(), func() bool { return r.inside(t) > at }, "the position moves on inside the transaction, beyond %q", at)
		at = r.inside(t)
		killed += len(r.source.Query(t, "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1 AND active", r.slot()))
	}
	require.Positive(t, killed)
	proven := r.prove(t)
	require.EqualValues(t, rows+1, proven.Items)
	st, ok := b.status()
	require.True(t, ok)
	require.Equal(t, status.StateStreaming, st.State)
	require.LessOrEqual(t, st.Totals.Reconnects, int64(2*killed+2), "more restarts than kills explain")
	r.record(t, "kill-walsender-in-large-transaction", seed(t), proven, torture.Counts{Rows: int64(rows)}, "kills", killed)
}
