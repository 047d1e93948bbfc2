package replication

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// link simulates a connection: how many bytes a second each way of reading brings.
type link struct {
	now    time.Time
	window int
	pauses time.Duration
	rtt    time.Duration
	rate   func(window int, pause time.Duration) float64
	slept  time.Duration
}

func newLink(rate func(window int, pause time.Duration) float64) (*link, *pacer) {
	l := &link{now: time.Unix(0, 0), rate: rate}
	p := newPacer(tcpWays(), func(bytes int) { l.window = bytes }, func() time.Duration { return l.rtt },
		func() time.Time { return l.now }, func(d time.Duration) { l.pauses = d; l.slept += d })
	return l, p
}

// read lets the link run for d, a read each millisecond.
func (l *link) read(p *pacer, d time.Duration) {
	for end := l.now.Add(d); l.now.Before(end); {
		l.pauses = 0
		p.rest()
		l.now = l.now.Add(time.Millisecond)
		p.found(int(l.rate(l.window, l.pauses) / 1000))
	}
}

const mega = 1e6

// lazyIsBest is what a loopback shows: 64 KiB and a short pause win.
func lazyIsBest(window int, pause time.Duration) float64 {
	switch {
	case window == 64<<10 && pause == 200*time.Microsecond:
		return 60 * mega
	case window == 32<<10:
		return 30 * mega
	}
	return 25 * mega
}

func TestPacerFindsTheBestWay(t *testing.T) {
	l, p := newLink(lazyIsBest)
	l.read(p, time.Second)
	require.Equal(t, way{64 << 10, 200 * time.Microsecond}, p.ways[p.current])
	require.Equal(t, 64<<10, l.window)
	// and keeps it, but for looks at the others
	best := 0
	for range 1000 {
		l.read(p, 10*time.Millisecond)
		if p.ways[p.current].window == 64<<10 {
			best++
		}
	}
	require.Greater(t, best, 950)
}

func TestPacerFollowsAChange(t *testing.T) {
	l, p := newLink(lazyIsBest)
	l.read(p, time.Second)
	l.rate = func(window int, pause time.Duration) float64 {
		if window == 32<<10 {
			return 60 * mega
		}
		return 25 * mega
	}
	l.read(p, 30*time.Second)
	require.Equal(t, 32<<10, p.ways[p.current].window)
}

func TestPacerIsEagerWhenCalm(t *testing.T) {
	l, p := newLink(func(int, time.Duration) float64 { return 0.5 * mega })
	l.read(p, 5*time.Second)
	require.False(t, p.lazy)
	require.Zero(t, l.slept, "no latency is added to a quiet stream")

	l.rate = lazyIsBest
	l.read(p, time.Second)
	require.True(t, p.lazy)
	l.rate = func(int, time.Duration) float64 { return 0.1 * mega }
	l.read(p, time.Second)
	require.False(t, p.lazy)
	require.Zero(t, l.window, "the window is the kernel's own again")
	slept := l.slept
	l.read(p, time.Second)
	require.Equal(t, slept, l.slept)
}

// However fast bytes come: a server that keeps getting to the end of what it has is
// not being caught up with.
func TestPacerIsEagerWhenCaughtUp(t *testing.T) {
	l, p := newLink(func(int, time.Duration) float64 { return 50 * mega })
	for range 200 {
		l.read(p, 10*time.Millisecond)
		p.caughtUp()
	}
	require.Zero(t, l.slept)

	l.rate = lazyIsBest
	l.read(p, time.Second)
	require.True(t, p.lazy)
	p.caughtUp()
	require.False(t, p.lazy)
	require.Zero(t, l.window, "the window is the kernel's own again")
}

// A window smaller than twice what is in flight caps the rate of a long link: it is
// not even tried.
func TestPacerKeepsSmallWindowsFromLongLinks(t *testing.T) {
	small := false
	l, p := newLink(nil)
	l.rtt = 20 * time.Millisecond
	l.rate = func(window int, _ time.Duration) float64 {
		small = small || window != 0
		return 25 * mega
	}
	l.read(p, 20*time.Second)
	require.False(t, small)
}

func TestPacerWithoutAWindow(t *testing.T) {
	now := time.Unix(0, 0)
	p := newPacer(otherWays(), nil, nil, func() time.Time { return now }, func(time.Duration) {})
	for range 20_000 {
		p.rest()
		now = now.Add(time.Millisecond)
		n := 20_000
		if p.ways[p.current].pause == 200*time.Microsecond {
			n = 40_000
		}
		p.found(n)
	}
	require.Equal(t, 200*time.Microsecond, p.rates2pause())
}

// rates2pause is the pause of the way with the highest rate.
func (p *pacer) rates2pause() time.Duration {
	best := 0
	for i, r := range p.rates {
		if r > p.rates[best] {
			best = i
		}
	}
	return p.ways[best].pause
}

func BenchmarkPacer(b *testing.B) {
	p := newPacer(tcpWays(), func(int) {}, func() time.Duration { return 0 }, time.Now, func(time.Duration) {})
	for b.Loop() {
		p.rest()
		p.found(1000)
	}
}
