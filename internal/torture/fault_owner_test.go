package torture_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/internal/torture"
)

// A process that was stopped for long and wakes up has lost the name: another has
// taken over, and what the first had in hand changes nothing.
func TestStoppedOwnerIsFenced(t *testing.T) {
	t.Parallel()
	s := seed(t)
	r := sharedRig(t)
	r.extra = "takeover_after: 5s"
	r.setup(t)
	a := r.start(t)
	l := r.startLoad(t, torture.Config{Seed: s, Rate: 100})
	for range sized(1, 5) {
		l.awaitCommits(t, 50)
		require.NoError(t, a.Pause())
		paused := time.Now()
		b := r.start(t)
		require.GreaterOrEqual(t, time.Since(paused), 5*time.Second, "it took over from an owner that had just been alive")
		epoch := r.sink.One(t, "SELECT epoch::text FROM walbridge.source WHERE name = $1", r.name)
		require.NoError(t, a.Resume())
		a.await(t, startWithin(), status.StateWaiting)
		l.awaitCommits(t, 50)
		st, ok := b.status()
		require.True(t, ok)
		require.Equal(t, status.StateStreaming, st.State)
		require.Equal(t, epoch, r.sink.One(t, "SELECT epoch::text FROM walbridge.source WHERE name = $1", r.name), "the fenced process opened the source again")
		require.Zero(t, b.Terminate(t, startWithin()))
		a.await(t, startWithin(), status.StateStreaming)
	}
	counts := l.stop(t)
	r.record(t, "stopped-owner", s, r.prove(t), counts, "pauses", sized(1, 5))
}

// A standby takes over at once when the owner lets go or is killed.
func TestStandbyTakesOver(t *testing.T) {
	t.Parallel()
	r := sharedRig(t)
	r.setup(t)
	a := r.start(t)
	b := r.run(t)
	b.await(t, startWithin(), status.StateWaiting)
	require.True(t, b.ready(), "a standby is ready, so that a rollout goes on")
	require.NoError(t, a.Kill())
	b.await(t, 12*time.Second, status.StateStreaming)
	c := r.run(t)
	c.await(t, startWithin(), status.StateWaiting)
	require.Zero(t, b.Terminate(t, startWithin()))
	c.await(t, 3*time.Second, status.StateStreaming)
	r.prove(t)
}

// The server does not notice that its client is gone and keeps the slot for it.
func TestZombieWalsenderHoldsTheSlot(t *testing.T) {
	t.Parallel()
	r := sharedRig(t)
	proxy := pgtest.NewProxy(t, r.source.DSN())
	r.replicationDSN = proxy.DSN(r.source.DSN())
	r.setup(t)
	a := r.start(t)
	r.drain(t)
	proxy.BlackHole(true) // nor does the proxy pass on the end of the connection
	require.NoError(t, a.Kill())
	<-a.Done()
	active := "SELECT active::text FROM pg_replication_slots WHERE slot_name = $1"
	require.Equal(t, "true", r.source.One(t, active, r.slot()), "the zombie let go by itself")
	r.replicationDSN = ""
	r.source.Exec(t, "INSERT INTO load.item (id) VALUES (1)")
	r.start(t)
	r.prove(t)
}
