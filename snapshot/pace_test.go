package snapshot

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/internal/lsn"
)

// Chunks that were delivered count as under way until they are durable: a destination
// that takes long has few of them before it.
func TestChunksThatAreNotDurableAreUnderWay(t *testing.T) {
	b := newBench(t)
	w := &worker{s: b.Session, t: b.t, gen: b.t.gen}
	reads := func() bool {
		next, _ := w.decide()
		return next != nil
	}
	deliver := func(key string, end lsn.LSN) {
		nonce := b.chunk("9:9:", false, key)
		c := b.pending[nonce]
		c.sent = time.Now()
		require.Equal(t, []string{key}, b.arrive(nonce, 1))
		b.Delivered(c, end)
	}
	for i := range alone.depth {
		require.True(t, reads(), i)
		deliver("1", lsn.LSN(10*(i+1)))
	}
	require.False(t, reads())
	b.Durable(9)
	require.False(t, reads(), "that was something else")
	b.Durable(20)
	require.True(t, reads())
	require.Equal(t, alone.depth-2, b.t.waiting)
	require.NotZero(t, b.t.took)

	b.t.forget() // what is on its way then counts for nothing
	require.Zero(t, b.t.waiting)
	b.Durable(100)
	require.Zero(t, b.t.waiting)
	require.Zero(t, b.t.took)
}

func TestPace(t *testing.T) {
	for name, c := range map[string]struct {
		took       time.Duration
		rows, want int
	}{
		"nothing is known":      {0, 500, 500},
		"fast":                  {alone.aim / 10, 500, 1000},
		"as it should be":       {alone.aim, 5000, 5000},
		"a little slow":         {alone.aim * 5 / 4, 5000, 4000},
		"slow":                  {alone.aim * 20, 8000, 4000},
		"not fewer than a few":  {alone.aim * 20, 3000, alone.few},
		"fewer for their bytes": {alone.aim * 20, 100, 100},
	} {
		table := &table{took: c.took}
		require.Equal(t, c.want, table.pace(c.rows, alone), name)
		require.Equal(t, c.rows, table.pace(c.rows, alone), "%s: it counts once", name)
	}
}

// Beside a stream chunks are small and come one after the other, until it has been quiet
// for a while.
func TestTempo(t *testing.T) {
	b := newBench(t)
	require.Equal(t, alone, b.tempo())
	b.stream(11, decoder.OpInsert, nil, tuple("1", "new", "x"))
	require.Equal(t, beside, b.tempo())
	require.Equal(t, beside, b.tempo())
	b.lastStreamed = b.lastStreamed.Add(-calmAfter)
	require.Equal(t, alone, b.tempo())
	b.stream(12, decoder.OpDelete, tuple("1", "", ""), nil)
	require.Equal(t, beside, b.tempo())
}
