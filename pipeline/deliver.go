package pipeline

import (
	"context"
	"fmt"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/snapshot"
)

// deliver puts the rows of a chunk at the end of the transaction that carries its
// mark, and of nothing else. They go into one parcel with the cursors, so that both are
// durable or neither; the position never lies between two of them, since the stream
// does not number them when it is read again.
func (c *chain) deliver(ctx context.Context, tx *decoder.Tx) error {
	chunk := c.snapshots.Commit(c.txChanges)
	if chunk == nil || chunk.Len() == 0 {
		return nil
	}
	if err := c.learn(ctx, chunk.Relation()); err != nil {
		return err
	}
	if err := c.roomFor(ctx, chunk); err != nil {
		return err
	}
	read := decoder.Read{Run: chunk.Run(), At: tx.CommitTime, Salt: chunk.Salt()}
	ch := decoder.Change{Op: decoder.OpRead, Relation: chunk.Relation(), Read: &read, ID: lsn.ID{Commit: tx.Commit}}
	var row []decoder.Value
	for i := range chunk.Len() {
		row, ch.CutSize = chunk.Row(i, row[:0])
		ch.New, ch.ID.Seq = row, uint32(i)
		if err := c.read(&ch); err != nil {
			return err
		}
	}
	c.snapshots.Delivered(chunk, tx.End)
	c.tally.snapshot(chunk.Table(), chunk.Len())
	return nil
}

// roomFor makes sure of a parcel that is not full before the chunk is in it.
func (c *chain) roomFor(ctx context.Context, chunk *snapshot.Chunk) error {
	if err := c.fill(ctx); err != nil {
		return err
	}
	b := c.cur.batch
	if b.Items() == 0 || int64(b.Bytes()+chunk.Bytes()) <= c.cfg.Batch.MaxBytes && b.Items()+chunk.Len() <= c.cfg.Batch.MaxItems {
		return nil
	}
	c.put(c.cur)
	c.cur = nil
	return c.fill(ctx)
}

// read maps one row that was read and appends what it gives.
func (c *chain) read(ch *decoder.Change) error {
	c.tally.change(ch)
	items, err := c.mapper.Map(ch)
	if err != nil || len(items) == 0 {
		return err
	}
	if err := c.letters.mapped(items); err != nil {
		return err
	}
	c.cur.batch.Append(items)
	c.txItems += len(items)
	c.tally.items(items)
	return nil
}

// cursors puts the state of snapshots into a progress when it has changed. It belongs
// to that place of the stream: what was noted of a transaction is durable with it.
func (c *chain) cursors(to *lsn.Progress) (moved bool, err error) {
	if !c.snapshots.Dirty() {
		return false, nil
	}
	text, err := c.snapshots.Cursors()
	if err != nil {
		return false, fmt.Errorf("store how far the snapshot is: %w", err)
	}
	to.Cursors = text
	c.at.Cursors = text
	return true, nil
}
