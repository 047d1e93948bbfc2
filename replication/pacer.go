package replication

import "time"

// pacer decides how to read the network in catch-up: how long to wait before the
// next read, and how large a receive window to offer. It is for one goroutine.
//
// A walsender makes one small send for each row. A reader that comes back at once
// keeps the window open and itself asleep in between, so that each row costs the
// walsender a packet and a wake-up; one that comes back a little later finds many
// rows, which the kernel had only to append to a buffer that was queued already. On
// a TCP loopback the difference is a factor of two and more, in rows a second and
// in the walsender's processor time alike. For it, the window must be full when the
// pause ends, and not so small that it limits. Which pause and window that is
// depends on the rows, the link and the machine, so the pacer tries: it goes
// through a few ways of reading, keeps the one that brings the most bytes a second,
// and looks at one of the others now and then.
//
// All of that is for catch-up, when bytes come fast and the server never gets to the
// end of what it has. Else each read follows the last at once, and no latency is
// added.
type pacer struct {
	ways  []way
	clamp func(bytes int) // offers a window; 0: the kernel's own. nil: cannot
	rtt   func() time.Duration
	now   func() time.Time
	sleep func(time.Duration)

	current int  // index in ways; 0 is eager
	lazy    bool // in catch-up
	// The epoch under way: bytes since start, but for its first part, in which the
	// window of the way before still shows.
	start   time.Time
	counted time.Time
	bytes   int64
	last    int // bytes of the last read

	rates   []float64 // bytes a second of each way, as last seen; 0: not tried
	next    int       // the way to look at next
	settled time.Time // when the best was last left for a look at another
	fast    int       // epochs in a row that were fast
}

// way is one way of reading.
type way struct {
	window int // bytes; 0: the kernel's own
	pause  time.Duration
}

const (
	epoch       = 40 * time.Millisecond
	transition  = 10 * time.Millisecond // of an epoch, not counted
	lookEvery   = 2 * time.Second       // at a way that was not the best
	catchUpRate = 4 << 20               // bytes a second, above which reads are paced
	calmRate    = 1 << 20               // and below which they are not any more
	largeRead   = 192 << 10             // after which a pause would find nothing to gain
	noClamp     = 1 << 30
)

// tcpWays and otherWays are what is tried; the first is eager.
func tcpWays() []way {
	return []way{
		{0, 0}, {32 << 10, 200 * time.Microsecond}, {64 << 10, 200 * time.Microsecond}, {64 << 10, 500 * time.Microsecond},
		{128 << 10, 500 * time.Microsecond}, {0, 10 * time.Millisecond},
	}
}

func otherWays() []way {
	return []way{{0, 0}, {0, 100 * time.Microsecond}, {0, 200 * time.Microsecond}, {0, 500 * time.Microsecond}}
}

// newPacer makes the pacer of a connection. A nil clamp is for what has no window.
func newPacer(ways []way, clamp func(int), rtt func() time.Duration, now func() time.Time, sleep func(time.Duration)) *pacer {
	return &pacer{ways: ways, clamp: clamp, rtt: rtt, now: now, sleep: sleep, rates: make([]float64, len(ways))}
}

// rest is called before each read.
func (p *pacer) rest() {
	if !p.lazy || p.last >= largeRead {
		return
	}
	if pause := p.ways[p.current].pause; pause > 0 {
		p.sleep(pause)
	}
}

// found is called after each read, with the number of bytes it brought.
func (p *pacer) found(n int) {
	now := p.now()
	p.last = n
	if p.counted.IsZero() {
		if p.start.IsZero() {
			p.start = now
		}
		if now.Sub(p.start) >= transition {
			p.counted, p.bytes = now, 0
		}
		return
	}
	p.bytes += int64(n)
	if now.Sub(p.start) >= epoch {
		p.judge(float64(p.bytes)/now.Sub(p.counted).Seconds(), now)
	}
}

// judge takes the rate of the epoch that has ended and chooses the way of the next.
func (p *pacer) judge(rate float64, now time.Time) {
	p.start, p.counted = now, time.Time{}
	switch {
	case !p.lazy && rate < catchUpRate, p.lazy && rate < calmRate:
		p.calm()
		return
	case !p.lazy:
		if p.fast++; p.fast < 2 {
			return
		}
		p.lazy, p.next, p.settled = true, 1, now
	}
	if old := p.rates[p.current]; old > 0 {
		rate = (old + rate) / 2 // one epoch alone says little
	}
	p.rates[p.current] = rate
	p.choose(now)
}

// caughtUp is told of each keepalive: a walsender sends one when it has sent all
// that there is (walsender.c, WalSndWaitForWal). What comes now is news, however
// much of it there is.
func (p *pacer) caughtUp() {
	p.start, p.counted = p.now(), time.Time{}
	p.calm()
}

// calm goes back to reading at once.
func (p *pacer) calm() {
	p.fast = 0
	if p.lazy {
		p.lazy = false
		clear(p.rates)
		p.use(0)
	}
}

// choose tries what was not tried, looks at another now and then, and else takes
// the best.
func (p *pacer) choose(now time.Time) {
	for i := range p.ways {
		if p.rates[i] == 0 && p.allowed(i) {
			p.use(i)
			return
		}
	}
	if now.Sub(p.settled) >= lookEvery {
		p.settled = now
		for range p.ways {
			p.next = (p.next + 1) % len(p.ways)
			if p.allowed(p.next) {
				p.use(p.next)
				return
			}
		}
	}
	best := 0
	for i := range p.ways {
		if p.rates[i] > p.rates[best] && p.allowed(i) {
			best = i
		}
	}
	p.use(best)
}

// allowed keeps small windows away from long links: what is in flight for a round
// trip must fit in twice.
func (p *pacer) allowed(i int) bool {
	w := p.ways[i]
	if w.window == 0 {
		return true
	}
	return p.clamp != nil && float64(w.window) >= 2*p.rates[0]*p.rtt().Seconds()
}

func (p *pacer) use(i int) {
	if p.clamp != nil && p.ways[i].window != p.ways[p.current].window {
		p.clamp(p.ways[i].window)
	}
	p.current = i
}
