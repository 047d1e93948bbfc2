package pipeline

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/snapshot"
)

// wholeCopy delivers tables without a key, as they were where the stream begins, before
// it begins: a change that is streamed could not be told from a row that is read, nor
// the other way round.
//
// To the sink it is the part of a transaction that is larger than a batch, with phase new:
// whatever breaks it, the next start makes another slot and begins anew. What was
// delivered by then is taken back by a truncate.
type wholeCopy struct {
	p      *Pipeline
	begin  *beginning
	batch  sink.Batch
	to     lsn.Progress // of the start of the stream
	read   decoder.Read
	next   lsn.ID // of the next row
	last   lsn.ID // of the last item in the batch
	tally  *tally
	rows   int64
	spoken time.Time
}

// speakEvery is how often a long reading says how far it is.
const speakEvery = 10 * time.Second

// copyWhole delivers the tables and then stores where the stream begins.
func (p *Pipeline) copyWhole(ctx context.Context, b *beginning, to lsn.Progress) error {
	// No record of the WAL begins there, so that no transaction of the stream has it.
	before := lsn.ID{Commit: to.Position.End - 1}
	w := &wholeCopy{
		p: p, begin: b, batch: p.stages.Sink.NewBatch(), to: to, next: before, tally: newTally(p.metrics, &p.totals), spoken: time.Now(),
	}
	for _, t := range b.whole {
		if err := w.table(ctx, t); err != nil {
			return err
		}
	}
	w.batch.EndTx()
	w.tally.transaction()
	w.tally.flush()
	return p.write(ctx, w.batch, to)
}

func (w *wholeCopy) table(ctx context.Context, t *snapshot.Table) error {
	w.p.log.Info("reading a table that has no key, before the stream begins; a failure begins it anew", "table", t.QualifiedName())
	w.read = decoder.Read{Run: fmt.Sprint(t.Run), At: w.begin.reader.At}
	rel, err := w.begin.reader.Table(ctx, t)
	if err != nil {
		return err
	}
	if err := w.takeBack(ctx, t, rel); err != nil {
		return err
	}
	rows := w.rows
	err = w.begin.reader.Read(ctx, t, func(row []decoder.Value, cut int64) error {
		w.rows++
		return w.change(ctx, &decoder.Change{Op: decoder.OpRead, Relation: rel, Read: &w.read, New: row, CutSize: cut})
	})
	if err != nil {
		return err
	}
	w.tally.snapshot(t.QualifiedName(), int(w.rows-rows))
	w.p.log.Info("all rows of a table are read", "table", t.QualifiedName(), "rows", w.rows-rows)
	return nil
}

// takeBack removes what a reading that broke off has delivered. A route that halts for
// a TRUNCATE means that of the source.
func (w *wholeCopy) takeBack(ctx context.Context, t *snapshot.Table, rel *decoder.Relation) error {
	if !w.begin.broken {
		return nil
	}
	err := w.change(ctx, &decoder.Change{Op: decoder.OpTruncate, Relation: rel, Read: &w.read})
	if errors.As(err, new(*fault.Halt)) {
		w.p.log.Warn("rows that an earlier start has delivered are delivered again: the route halts for a truncate", "table", t.QualifiedName())
		return nil
	}
	return err
}

func (w *wholeCopy) change(ctx context.Context, ch *decoder.Change) error {
	if w.next.Seq == math.MaxUint32 {
		return errors.New("tables without a key have more rows than can be numbered")
	}
	ch.ID = w.next
	w.next.Seq++
	w.tally.change(ch)
	items, err := w.begin.mapper.Map(ch)
	if err != nil || len(items) == 0 {
		return err
	}
	if err := w.p.letters.mapped(items); err != nil {
		return err
	}
	if err := w.flushFull(ctx); err != nil {
		return err
	}
	w.batch.Append(items)
	w.last = items[len(items)-1].ID
	w.tally.items(items)
	return nil
}

// flushFull writes the batch when it is full. One item at least stays for the end.
func (w *wholeCopy) flushFull(ctx context.Context) error {
	if w.batch.Items() < w.p.cfg.Batch.MaxItems && int64(w.batch.Bytes()) < w.p.cfg.Batch.MaxBytes {
		return nil
	}
	part := w.to
	part.Phase = lsn.PhaseNew
	part.Position = lsn.Position{Commit: w.last.Commit, Seq: w.last.Seq, Sub: w.last.Sub}
	w.tally.flush()
	if err := w.p.write(ctx, w.batch, part); err != nil {
		return err
	}
	w.batch.Reset()
	if time.Since(w.spoken) >= speakEvery {
		w.spoken = time.Now()
		w.p.setState(status.StateStarting, fmt.Sprintf("reading tables that have no key: %d rows", w.rows))
		w.p.log.Info("reading tables that have no key", "rows", w.rows)
	}
	return nil
}
