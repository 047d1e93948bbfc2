package pipeline

import (
	"context"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/internal/lsn"
)

// outside takes a message that belongs to no transaction. Where a route takes its prefix
// it is a dead letter, and like a transaction of its own: durable once the position's End
// has reached it. It bears no time; that of its coming is taken, for a destination that
// removes what is old would lose a letter of the year 2000 at once.
func (c *chain) outside(ctx context.Context, ch *decoder.Change) error {
	items, err := c.mapper.Map(ch)
	if err != nil || len(items) == 0 {
		return err
	}
	if err := c.letters.mapped(items); err != nil {
		return err
	}
	c.quiet.Store(false)
	if err := c.fill(ctx); err != nil {
		return err
	}
	now := lsn.MicrosOf(c.now())
	for i := range items {
		items[i].CommittedAt, items[i].Time = now, now
	}
	c.cur.batch.Append(items)
	c.tally.items(items)
	c.at.Position = lsn.Position{End: max(c.at.Position.End, ch.LSN), LastTxEnd: c.at.Position.LastTxEnd}
	c.cur.batch.EndTx()
	c.cur.to = c.at
	c.handOver()
	return c.stopIfWhole()
}
