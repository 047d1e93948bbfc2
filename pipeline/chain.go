package pipeline

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/replication"
	"github.com/walbridge/walbridge/snapshot"
)

// frames is what the chain reads: replication.Stream, or frames that a test made.
type frames interface {
	Next() (*replication.Frame, error)
	Ready() bool
	Behind() bool
}

// chain is the way from a frame to an encoded item: one goroutine, plain calls. It
// lives as long as one replication session.
type chain struct {
	cfg     Config
	frames  frames
	decoder *decoder.Decoder
	mapper  *mapper.Mapper
	handoff *handoff
	// snapshots reads the rows that were there before the stream.
	snapshots *snapshot.Session
	tally     *tally
	letters   *letterbox
	// types loads the catalog's types anew; called when a relation has unknown ones.
	types func(ctx context.Context) error
	// table loads what the catalog says of a table that the mapper does not know.
	table func(ctx context.Context, oid uint32) error
	// confirmed is what is durable, to know how far an idle mark is ahead.
	confirmed func() lsn.LSN
	// idle is told that all that was read is on its way, or needs none.
	idle func()
	// retained is how much WAL the server keeps for the slot; 0: unknown.
	retained func() int64
	// asked: somebody waits for the position to move. Cleared with each mark.
	asked *atomic.Bool
	now   func() time.Time
	widen xidWidener

	// at is how far the stream has been read, whole transactions and idle marks:
	// what everything put into parcels so far reaches.
	at lsn.Progress
	// cur is the parcel being filled; nil when nothing is waiting in it.
	cur *parcel
	// txItems counts the items of the transaction under way; txStart is where its
	// items begin in cur.
	txItems int
	// txChanges counts its changes, also those that give no item.
	txChanges int
	txStart   struct {
		items int
		bytes int
	}
	lastPut  time.Time // of any parcel: idle marks keep a distance to it
	stopping bool      // stop at the end of the transaction under way
	unknown  *decoder.Relation
	// quiet: nothing that was read is waiting for its commit or for a parcel. Read by
	// whoever asks for the lag.
	quiet atomic.Bool
}

// errStopped is returned by run when it was asked to stop and has.
var errStopped = errors.New("stopped")

// run reads until the stream fails, a stage does, or stop was asked for and the
// transaction under way has ended. What was handed over stays handed over.
func (c *chain) run(ctx context.Context) error {
	for {
		if !c.frames.Ready() {
			c.offer()
			c.atEnd()
		}
		f, err := c.frames.Next()
		switch {
		case errors.Is(err, replication.ErrInterrupted):
			if err := c.interrupted(ctx); err != nil {
				return err
			}
		case err != nil:
			return err
		default:
			if err := c.frame(ctx, f); err != nil {
				return err
			}
		}
	}
}

// atEnd takes note that all that has come was read.
func (c *chain) atEnd() {
	quiet := c.cur == nil && !c.decoder.InTx()
	c.quiet.Store(quiet)
	if quiet {
		c.idle()
	}
}

// interrupted decides what a reader that was woken does. An item of an unfinished
// transaction in the parcel means whole transactions may wait there for its end.
func (c *chain) interrupted(ctx context.Context) error {
	if err := c.handoff.failed(); err != nil {
		return err
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	c.stopping = true
	return c.stopIfWhole()
}

func (c *chain) stopIfWhole() error {
	if !c.stopping || c.decoder.InTx() && c.txItems > 0 {
		return nil
	}
	c.offer()
	return errStopped
}

func (c *chain) frame(ctx context.Context, f *replication.Frame) error {
	if f.Keepalive {
		if err := c.decoder.Mark(f.End); err != nil {
			return &decodeError{c.confirmed(), err}
		}
		return c.mark(ctx, f.End, f.ReplyRequested)
	}
	c.tally.read(max(int64(len(f.Data)), f.Size))
	step, err := decodeFrame(c.decoder, f)
	if err != nil {
		return &decodeError{c.confirmed(), err}
	}
	switch step {
	case decoder.StepBegin:
		c.begin()
	case decoder.StepChange:
		return c.changes(ctx)
	case decoder.StepCommit:
		return c.commit(ctx)
	}
	return nil
}

func decodeFrame(d *decoder.Decoder, f *replication.Frame) (decoder.Step, error) {
	if f.Size > 0 {
		return d.DecodeCut(f.Data, f.Size, f.Start)
	}
	return d.Decode(f.Data, f.Start)
}

func (c *chain) begin() {
	c.quiet.Store(false)
	c.txItems, c.txChanges = 0, 0
	c.txStart.items, c.txStart.bytes = 0, 0
	if c.cur != nil {
		c.txStart.items, c.txStart.bytes = c.cur.batch.Items(), c.cur.batch.Bytes()
	}
}

// changes maps and appends the change that the decoder holds, and the further
// tables of a truncate.
func (c *chain) changes(ctx context.Context) error {
	for more := true; more; more = c.decoder.More() {
		if err := c.change(ctx, c.decoder.Change()); err != nil {
			return err
		}
	}
	return nil
}

func (c *chain) change(ctx context.Context, ch *decoder.Change) error {
	c.tally.change(ch)
	c.txChanges++
	doubt := c.snapshots.Change(ch)
	if ch.Tx == nil {
		return c.outside(ctx, ch)
	}
	if err := c.learn(ctx, ch.Relation); err != nil {
		return err
	}
	items, err := c.mapper.Map(ch)
	if err == nil && doubt && len(items) == 0 {
		items, err = c.mapper.Doubt(ch)
	}
	if err != nil || len(items) == 0 {
		return err
	}
	if err := c.letters.mapped(items); err != nil {
		return err
	}
	if err := c.fill(ctx); err != nil {
		return err
	}
	c.cur.batch.Append(items)
	c.txItems += len(items)
	c.tally.items(items)
	return c.splitIfHuge(ctx)
}

// learn loads what the mapper never saw of a relation: a table that was made since, its
// types.
func (c *chain) learn(ctx context.Context, rel *decoder.Relation) error {
	if rel == nil || rel == c.unknown {
		return nil
	}
	what := c.mapper.Unknown(rel)
	if what == mapper.UnknownTable {
		if err := c.table(ctx, rel.OID); err != nil {
			return err
		}
		what = c.mapper.Unknown(rel)
	}
	if what != mapper.UnknownTypes {
		return nil
	}
	c.unknown = rel // whatever stays unknown is carried as text
	return c.types(ctx)
}

// fill makes sure that there is a parcel to append to.
func (c *chain) fill(ctx context.Context) error {
	if c.cur != nil {
		return nil
	}
	if c.cur = c.handoff.reclaim(); c.cur != nil {
		if c.txItems == 0 {
			c.txStart.items, c.txStart.bytes = c.cur.batch.Items(), c.cur.batch.Bytes()
		}
		return nil
	}
	p, err := c.handoff.get(ctx)
	if err != nil {
		return err
	}
	p.since = c.now()
	c.cur = p
	return nil
}

// splitIfHuge hands over what there is of a transaction that alone fills a batch.
// The items of its last change stay back, so that its commit finds one to mark.
func (c *chain) splitIfHuge(ctx context.Context) error {
	b := c.cur.batch
	if int64(b.Bytes()-c.txStart.bytes) <= c.cfg.Batch.MaxBytes && b.Items()-c.txStart.items <= c.cfg.Batch.MaxItems {
		return nil
	}
	next, err := c.handoff.get(ctx)
	if err != nil {
		return err
	}
	id, ok := b.CarryLast(next.batch)
	full := c.cur
	next.since = c.now()
	c.cur = next
	c.txStart.items, c.txStart.bytes = 0, 0
	if !ok {
		next.since = full.since
		c.handoff.release(full)
		return nil
	}
	full.to = c.at
	full.to.Position.Commit, full.to.Position.Seq, full.to.Position.Sub = id.Commit, id.Seq, id.Sub
	if _, err := c.cursors(&full.to); err != nil {
		return err
	}
	c.stamp(&full.to)
	c.put(full)
	return nil
}

// stamp notes the transaction under way as the last that the progress knows of.
func (c *chain) stamp(to *lsn.Progress) {
	tx := c.decoder.Tx()
	to.Xid = c.widen.widen(tx.Xid)
	to.CommitTime = tx.CommitTime.Time()
}

// commit ends the transaction. One that left no item is a mark, nothing more:
// PostgreSQL 14 streams Begin and Commit of every transaction of the database, our
// own writes included when the sink is there, and a write for each would feed
// itself.
func (c *chain) commit(ctx context.Context) error {
	tx := c.decoder.Tx()
	if err := c.deliver(ctx, tx); err != nil {
		return err
	}
	moved, err := c.cursors(&c.at)
	if err != nil {
		return err
	}
	if c.txItems == 0 && !moved && !c.at.Position.Inside() {
		if err := c.mark(ctx, tx.End, false); err != nil {
			return err
		}
		return c.stopIfWhole()
	}
	if err := c.fill(ctx); err != nil {
		return err
	}
	c.tally.transaction()
	c.txItems = 0
	c.stamp(&c.at)
	c.at.Position = lsn.Position{End: tx.End, LastTxEnd: tx.End}
	c.cur.batch.EndTx()
	c.cur.to = c.at
	c.cur.commits = append(c.cur.commits, tx.CommitTime)
	c.handOver()
	return c.stopIfWhole()
}

// handOver passes the parcel on when it is full, or has waited long enough. All in it
// is whole.
func (c *chain) handOver() {
	switch {
	case c.full():
		c.put(c.cur)
		c.cur = nil
	case c.now().Sub(c.cur.since) >= c.patience():
		c.offer()
	}
}

func (c *chain) full() bool {
	return int64(c.cur.batch.Bytes()) >= c.cfg.Batch.MaxBytes || c.cur.batch.Items() >= c.cfg.Batch.MaxItems
}

// offer hands over what is whole, to be taken back as long as the writer is busy.
func (c *chain) offer() {
	if c.cur == nil || c.txItems > 0 {
		return
	}
	due := time.Time{}
	if c.frames.Behind() {
		due = c.cur.since.Add(c.patience())
	}
	c.note()
	c.handoff.putOpen(c.cur, due)
	c.cur = nil
}

// behindWait is how long whole transactions wait for more in catch-up, when they are
// old already: each write costs the sink about as much as hundreds of items.
const behindWait = 25 * time.Millisecond

// patience is how long items of whole transactions may wait to be handed over.
func (c *chain) patience() time.Duration {
	if c.frames.Behind() {
		return max(c.cfg.Batch.Wait, behindWait)
	}
	return c.cfg.Batch.Wait
}

func (c *chain) put(p *parcel) {
	c.note()
	c.handoff.put(p)
}

func (c *chain) note() {
	c.tally.flush()
	c.lastPut = c.now()
}
