package pipeline

import (
	"context"
	"time"

	"github.com/walbridge/walbridge/internal/lsn"
)

// How often an idle position is stored. Storing it makes WAL where the sink is in
// the source's cluster, and that WAL moves the next keepalive: a write for each
// would go on for ever (13,953 writes in three seconds were seen after one row).
const (
	idleEvery    = 10 * time.Second // and only when at least idleBytes have passed, or are retained
	idleBytes    = 16 << 20         // a WAL segment
	idleAtLatest = 5 * time.Minute
	// A server that shuts down waits until it is told that all it sent is flushed, and
	// asks for that (walsender.c, WalSndDone).
	idleOnRequest = time.Second
	// Of those who wait for a position each asks anew until it is there.
	idleOnAsk = 100 * time.Millisecond
)

// mark takes note that the stream has nothing for us up to end: a keepalive, or a
// transaction without items. It queues behind everything read before it, so that
// storing it can never skip a change. Inside a transaction, also one that an earlier
// process has stored a part of, it waits for the commit.
func (c *chain) mark(ctx context.Context, end lsn.LSN, replyRequested bool) error {
	if c.txItems > 0 || c.at.Position.Inside() || end < c.at.Position.End {
		return nil
	}
	c.at.Position.End = end
	if c.cur == nil {
		c.cur = c.handoff.reclaim()
	}
	if c.cur != nil {
		c.cur.to = c.at // rides along with the items
		return nil
	}
	if !c.handoff.idle() || !c.worthStoring(end, replyRequested) {
		return nil
	}
	p, err := c.handoff.get(ctx)
	if err != nil {
		return err
	}
	p.to = c.at
	c.asked.Store(false)
	c.put(p)
	return nil
}

func (c *chain) worthStoring(end lsn.LSN, replyRequested bool) bool {
	ahead := end.Sub(c.confirmed())
	since := c.now().Sub(c.lastPut)
	switch {
	case ahead <= 0:
		return false
	case c.asked.Load():
		return since >= idleOnAsk
	case replyRequested:
		return since >= idleOnRequest
	case ahead >= idleBytes, c.retained() >= idleBytes:
		// The server keeps WAL from a place that lags one acknowledgement behind: it moves
		// to the one before last that it has offered (logical.c,
		// LogicalIncreaseRestartDecodingForSlot). So a single mark does not let it go.
		return since >= idleEvery
	}
	return since >= idleAtLatest
}
