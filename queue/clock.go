package queue

import (
	"sync"
	"time"
)

// leaseClock is a worker's idea of its lease. It counts on the monotonic clock of
// this process alone, and from before the renewal was sent: the database began to
// count later, so this lease ends before that one, whatever any wall clock says.
type leaseClock struct {
	now    func() time.Time // with a monotonic reading
	lease  time.Duration
	margin time.Duration // handlers end so long before the lease does

	mu    sync.Mutex
	until time.Time // guarded by mu
}

func newLeaseClock(now func() time.Time, lease time.Duration) *leaseClock {
	return &leaseClock{now: now, lease: lease, margin: lease / 6}
}

// renewed notes a renewal that was sent at a time and has been confirmed.
func (c *leaseClock) renewed(sent time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if until := sent.Add(c.lease); until.After(c.until) {
		c.until = until
	}
}

// left is the time for which handlers may run and results may be written; zero or
// negative when it is over.
func (c *leaseClock) left() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.until.Add(-c.margin).Sub(c.now())
}
