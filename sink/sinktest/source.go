package sinktest

import (
	"context"
	"time"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/sink"
)

// source is a log of transactions that can be read from any position on, as a
// pipeline reads a server.
type source struct {
	h    Harness
	name string
	txs  []Tx
	max  int // items of a batch
	// together is the number of transactions that share a batch; 0 is 1.
	together int
}

// progress is what belongs to a position of the source.
func (s *source) progress(tx *Tx, p lsn.Position) lsn.Progress {
	return lsn.Progress{
		SystemID: 0xF1234567_89ABCDEF, Timeline: 3, Slot: "walbridge_shop", Position: p, Phase: lsn.PhaseStreaming,
		Xid: 5<<32 | uint64(tx.Xid), CommitTime: tx.CommittedAt.Time().Truncate(time.Microsecond), ConfigHash: "9f86d081884c7d65",
	}
}

// at is the progress at the end of the i-th transaction.
func (s *source) at(i int) lsn.Progress {
	tx := &s.txs[i]
	return s.progress(tx, lsn.Position{End: tx.End, LastTxEnd: tx.End})
}

// upTo is what a destination holds whose position is p.
func (s *source) upTo(p lsn.Position) []Stored {
	var all []Stored
	for i := range s.txs {
		all = append(all, s.stored(i, p)...)
	}
	return all
}

func (s *source) stored(i int, p lsn.Position) []Stored {
	tx := &s.txs[i]
	var all []Stored
	for _, c := range tx.Changes {
		if durable(p, tx, c) {
			all = append(all, changeStored(s.h, s.name, c)...)
		}
	}
	if tx.End <= p.End {
		all[len(all)-1].TxEnd = true
	}
	return all
}

func (s *source) all() []Stored { return s.upTo(s.end()) }

func (s *source) end() lsn.Position { return s.at(len(s.txs) - 1).Position }

// durable reports whether the change lies at or before the position.
func durable(p lsn.Position, tx *Tx, c Change) bool {
	if tx.End <= p.End {
		return true
	}
	return tx.Commit == p.Commit && c[0].ID.Seq <= p.Seq
}

// run delivers what lies behind a position until the end, or until write
// returns an error. Batches are made as a pipeline makes them: a transaction is
// split when it is larger than a batch, and then the last change is carried over.
func (s *source) run(k sink.Sink, from lsn.Position, write func(sink.Batch, lsn.Progress) error) error {
	b, spare := k.NewBatch(), k.NewBatch()
	for i := range s.txs {
		tx := &s.txs[i]
		if tx.End <= from.End {
			continue
		}
		for _, c := range tx.Changes {
			if durable(from, tx, c) {
				continue
			}
			c.scribble(b.Append)
			if b.Items() < s.max {
				continue
			}
			last, some := b.CarryLast(spare)
			if some {
				inside := lsn.Position{End: s.before(i), LastTxEnd: s.before(i), Commit: last.Commit, Seq: last.Seq, Sub: last.Sub}
				if err := write(b, s.progress(tx, inside)); err != nil {
					return err
				}
			}
			b.Reset()
			b, spare = spare, b
		}
		b.EndTx()
		if (i+1)%max(s.together, 1) != 0 && i < len(s.txs)-1 {
			continue
		}
		if err := write(b, s.at(i)); err != nil {
			return err
		}
		b.Reset()
	}
	return nil
}

// before is the end of the transaction before the i-th.
func (s *source) before(i int) lsn.LSN {
	if i == 0 {
		return s.txs[0].Commit - 8
	}
	return s.txs[i-1].End
}

// deliver writes all that lies behind the position.
func (s *source) deliver(ctx context.Context, k sink.Sink, from lsn.Position) error {
	return s.run(k, from, func(b sink.Batch, to lsn.Progress) error { return k.Write(ctx, b, to) })
}
