package replication

import (
	"fmt"
	"net"
	"sync/atomic"
	"time"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
)

// reporter sends status updates. While run runs, in a goroutine of its own, it is
// the only writer to the connection; nothing that the reader or the sink do holds
// it up.
type reporter struct {
	conn      net.Conn
	confirmed func() lsn.LSN
	received  func() lsn.LSN
	period    time.Duration // of the timer
	within    time.Duration // of one write

	wake chan struct{} // of capacity 1: the confirmed position moved
	ask  chan struct{} // of capacity 1: the server wants a status, or we want a reply
	quit chan struct{} // closed by stop
	done chan struct{} // closed by run

	reported atomic.Uint64 // flush position of the last status that was sent
	owed     atomic.Uint64 // a server that asked waits for this position to be flushed
	probing  atomic.Bool   // the next status asks for a reply

	// of run, and after it of stop's caller
	last      time.Time // of the last status
	lastReply time.Time // of the last one that asked for a reply
	buf       [statusLength]byte
}

func newReporter(conn net.Conn, from lsn.LSN, confirmed, received func() lsn.LSN, senderTimeout time.Duration) *reporter {
	r := &reporter{
		conn: conn, confirmed: confirmed, received: received,
		period: min(10*time.Second, senderTimeout/3), within: senderTimeout,
		wake: make(chan struct{}, 1), ask: make(chan struct{}, 1),
		quit: make(chan struct{}), done: make(chan struct{}),
	}
	r.reported.Store(uint64(from))
	return r
}

// run sends a status at once, then by the timer and on demand, until stop. It
// returns the first error.
func (r *reporter) run() error {
	defer close(r.done)
	timer := time.NewTimer(0)
	defer timer.Stop()
	due := time.Now()
	for {
		select {
		case <-r.quit:
			return nil
		case <-r.wake:
			due = earlier(due, r.last.Add(r.spacing()))
		case <-r.ask:
			due = earlier(due, r.last.Add(replySpacing))
		case <-timer.C:
			if err := r.send(); err != nil {
				return err
			}
			due = r.last.Add(r.period)
		}
		timer.Reset(time.Until(due))
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

// spacing of updates because the position moved: short while a server that asked
// still waits for it.
func (r *reporter) spacing() time.Duration {
	if r.reported.Load() < r.owed.Load() {
		return replySpacing
	}
	return wakeSpacing
}

// send writes one status. Its asserts guard the master invariant: the server has
// no upper bound for what it is told (a flush position of the future is accepted
// and every later row skipped), so a wrong one must never leave this process.
func (r *reporter) send() error {
	flush := r.confirmed() // before received, which only grows and is never behind it
	received := r.received()
	reported := lsn.LSN(r.reported.Load())
	if flush > received || flush < reported {
		return positionHalt(reported, flush, received)
	}
	now := time.Now()
	reply := r.probing.Swap(false) || now.Sub(r.lastReply) >= 2*r.period-r.period/4
	encodeStatus(&r.buf, received, flush, lsn.MicrosOf(now), reply)
	if err := r.conn.SetWriteDeadline(now.Add(r.within)); err != nil {
		return fmt.Errorf("send status update: %w", err)
	}
	if _, err := r.conn.Write(r.buf[:]); err != nil {
		return fmt.Errorf("send status update: %w", err)
	}
	r.last = now
	if reply {
		r.lastReply = now
	}
	r.reported.Store(uint64(flush))
	return nil
}

func positionHalt(reported, confirmed, received lsn.LSN) error {
	return &fault.Halt{
		Rule: "position-invariant",
		What: "the positions of this process contradict each other, so none was reported to the server",
		Why:  "a wrong position makes the server forget changes that the destination has not stored",
		Facts: []fault.Fact{
			{Name: "reported", Value: reported.String()},
			{Name: "confirmed", Value: confirmed.String()},
			{Name: "received", Value: received.String()},
		},
		Ways: []fault.Way{{
			Text:     "this is a defect of walbridge: please report it with these positions. Restarting is safe: the next start begins at the stored position, and nothing beyond it was reported",
			Commands: []string{"walbridge run"},
		}},
	}
}

// nudge fills a channel of capacity 1; a signal that waits there already is enough.
func nudge(c chan struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// asked notes that the server wants a status, and up to where it would like to
// hear that all is flushed.
func (r *reporter) asked(end lsn.LSN) {
	r.owed.Store(uint64(end))
	nudge(r.ask)
}

// probe asks the server for a sign of life, now.
func (r *reporter) probe() {
	r.probing.Store(true)
	nudge(r.ask)
}

// stop ends run and waits for it. Safe to call twice, from one goroutine.
func (r *reporter) stop() {
	select {
	case <-r.quit:
	default:
		close(r.quit)
	}
	<-r.done
}
