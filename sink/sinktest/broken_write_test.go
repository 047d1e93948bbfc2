package sinktest

import (
	"context"
	"errors"
	"time"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/sink"
)

// steps comes to the stages, in turn.
func (f *flawed) steps(ctx context.Context, stages ...Stage) error {
	for _, stage := range stages {
		if err := f.m.comeTo(ctx, stage, f.MemorySink); err != nil {
			return err
		}
	}
	return nil
}

// writeWith puts another Write in the place of the sink's own, one that begins as
// that does: not without an Open, not by a former owner.
func writeWith(write func(*flawed, context.Context, *memoryBatch, lsn.Progress) error) func(*flawed) {
	return func(f *flawed) {
		f.write = func(ctx context.Context, b sink.Batch, to lsn.Progress) error {
			if !f.owner() {
				return f.MemorySink.Write(ctx, b, to)
			}
			return write(f, ctx, b.(*memoryBatch), to)
		}
	}
}

// writeFlaws is a table.
//
//arch:flat
func writeFlaws() []flaw {
	return []flaw{
		{"items first, the position in a second step", []string{"crash/store", "crash_inside_transaction/store", "visible_with_position/store", "model", "redelivery"}, writeWith(itemsFirst)},
		{"the position first, items in a second step", []string{"crash/store", "crash_first_write/store", "visible_with_position/store", "model"}, writeWith(positionFirst)},
		{"a write that was given up lands later", []string{"unknown_result/store", "unknown_result/begin", "same_batch_again/store"}, landsLater},
		{"a given up write stays for ever", []string{"unknown_result/store"}, writeWith(func(f *flawed, ctx context.Context, b *memoryBatch, to lsn.Progress) error {
			return f.MemorySink.Write(context.WithoutCancel(ctx), b, to)
		})},
		{"says done to a cancelled context", []string{"cancelled_write"}, writeWith(func(f *flawed, ctx context.Context, b *memoryBatch, to lsn.Progress) error {
			if ctx.Err() != nil {
				return nil
			}
			return f.MemorySink.Write(ctx, b, to)
		})},
		{"says done when it is not known", []string{"unknown_result/store"}, writeWith(func(f *flawed, ctx context.Context, b *memoryBatch, to lsn.Progress) error {
			if err := f.MemorySink.Write(ctx, b, to); !errors.Is(err, context.Canceled) {
				return err
			}
			return nil
		})},
		{"says done and stores with the next write", []string{"all_lanes", "crash/begin", "redelivery"}, storesLater},
		{"fails when it is slow", []string{"slow_write/store"}, writeWith(failsWhenSlow)},
		{"a cancelled Open forgets", []string{"cancelled_open"}, func(f *flawed) {
			f.open = func(ctx context.Context, src sink.Source) (lsn.Progress, error) {
				if ctx.Err() != nil {
					f.m.Forget(src.Name, 1)
				}
				return f.MemorySink.Open(ctx, src)
			}
		}},
		{"drops what lies at or below the position by its commit", []string{"commit_at_previous_end"}, writeWith(dropsByCommit)},
		{"reorders", []string{"items_round_trip"}, writeWith(func(f *flawed, ctx context.Context, b *memoryBatch, to lsn.Progress) error {
			items := b.encoded("")
			for i := 1; i < len(items); i += 2 {
				items[i-1], items[i] = items[i], items[i-1]
			}
			return f.MemorySink.Write(ctx, &memoryBatch{lanes: 3, items: items}, to)
		})},
		{"stores the time of the write", []string{"items_round_trip", "redelivery"}, writeWith(func(f *flawed, ctx context.Context, b *memoryBatch, to lsn.Progress) error {
			items := b.encoded("")
			for i := range items {
				items[i].CommittedAt = lsn.MicrosOf(time.Now())
			}
			return f.MemorySink.Write(ctx, &memoryBatch{lanes: 3, items: items}, to)
		})},
		{"loses dead letters", []string{"dead_letters"}, writeWith(func(f *flawed, ctx context.Context, b *memoryBatch, to lsn.Progress) error {
			var items []Stored
			for _, s := range b.items {
				if s.Kind != mapper.KindDeadLetter {
					items = append(items, s)
				}
			}
			return f.MemorySink.Write(ctx, &memoryBatch{lanes: 3, items: items}, to)
		})},
		{"cuts dead letters", []string{"dead_letters"}, writeWith(func(f *flawed, ctx context.Context, b *memoryBatch, to lsn.Progress) error {
			for _, s := range b.items {
				if s.DeadLetter != nil {
					s.DeadLetter.Raw = s.DeadLetter.Raw[:20]
				}
			}
			return f.MemorySink.Write(ctx, b, to)
		})},
	}
}

// itemsFirst stores the items under the old position, then the position alone.
func itemsFirst(f *flawed, ctx context.Context, b *memoryBatch, to lsn.Progress) error {
	if err := f.steps(ctx, StageBegin); err != nil {
		return err
	}
	f.m.Store(Written{f.src.Name, f.m.Progress(f.src.Name), b.encoded(f.src.Name)})
	return f.MemorySink.Write(ctx, &memoryBatch{}, to)
}

// positionFirst stores the position, then the items.
func positionFirst(f *flawed, ctx context.Context, b *memoryBatch, to lsn.Progress) error {
	if err := f.steps(ctx, StageBegin); err != nil {
		return err
	}
	f.m.Store(Written{f.src.Name, to, nil})
	if err := f.steps(ctx, StageStore); err != nil {
		return err
	}
	f.m.Store(Written{f.src.Name, to, b.encoded(f.src.Name)})
	return f.steps(ctx, StageAck)
}

// landsLater returns when the context ends, and leaves a write behind that no
// fence stops. The Open after the next finds it.
func landsLater(f *flawed) {
	left := make(chan (<-chan error), 1)
	opens := 0
	f.open = func(ctx context.Context, src sink.Source) (lsn.Progress, error) {
		if opens++; len(left) > 0 && opens%2 == 1 {
			<-<-left
		}
		return f.MemorySink.Open(ctx, src)
	}
	writeWith(func(f *flawed, ctx context.Context, b *memoryBatch, to lsn.Progress) error {
		name, items, done := f.src.Name, b.encoded(f.src.Name), make(chan error, 1)
		go func() {
			err := f.steps(context.WithoutCancel(ctx), StageBegin, StageStore)
			if err == nil {
				f.m.Store(Written{name, to, items})
				err = f.steps(context.WithoutCancel(ctx), StageAck)
			}
			done <- err
		}()
		select {
		case err := <-done:
			return err
		case <-ctx.Done():
			left <- done
			opens = 1
			return ctx.Err()
		}
	})(f)
}

// storesLater keeps each batch back until the sink is used again.
func storesLater(f *flawed) {
	var kept *Written
	store := func() {
		if kept != nil && !f.dead {
			f.m.Store(*kept)
		}
		kept = nil
	}
	f.open = func(ctx context.Context, src sink.Source) (lsn.Progress, error) {
		store()
		return f.MemorySink.Open(ctx, src)
	}
	writeWith(func(f *flawed, ctx context.Context, b *memoryBatch, to lsn.Progress) error {
		store()
		if err := f.steps(ctx, StageBegin, StageStore, StageAck); err != nil {
			return err
		}
		kept = &Written{f.src.Name, to, b.encoded(f.src.Name)}
		return nil
	})(f)
}

// failsWhenSlow loses its patience with a write that stands still.
func failsWhenSlow(f *flawed, ctx context.Context, b *memoryBatch, to lsn.Progress) error {
	f.m.mu.Lock()
	held := len(f.m.faults[StageStore]) > 0
	f.m.mu.Unlock()
	if err := f.steps(ctx, StageBegin, StageStore); err != nil {
		return err
	}
	if held {
		return errors.New("too slow")
	}
	return f.MemorySink.Write(ctx, b, to)
}

// dropsByCommit takes a commit LSN for an end LSN.
func dropsByCommit(f *flawed, ctx context.Context, b *memoryBatch, to lsn.Progress) error {
	stored := f.m.Progress(f.src.Name).Position
	var items []Stored
	for _, s := range b.items {
		if s.ID.Commit > stored.End {
			items = append(items, s)
		}
	}
	return f.MemorySink.Write(ctx, &memoryBatch{lanes: 3, items: items}, to)
}

func poisonFlaws() []flaw {
	return []flaw{
		{"does not report", []string{"poison", "poison_abort"}, reporting(func(func(sink.Poison) error, sink.Poison) error { return nil })},
		{"reports twice", []string{"poison"}, reporting(func(tell func(sink.Poison) error, p sink.Poison) error { return errors.Join(tell(p), tell(p)) })},
		{"goes on after an error", []string{"poison_abort"}, reporting(func(tell func(sink.Poison) error, p sink.Poison) error { _ = tell(p); return nil })},
		{"returns another error", []string{"poison_abort"}, reporting(func(tell func(sink.Poison) error, p sink.Poison) error {
			if tell(p) != nil {
				return errors.New("stopped")
			}
			return nil
		})},
		{"reports without a reason", []string{"poison"}, reporting(func(tell func(sink.Poison) error, p sink.Poison) error { p.Reason = ""; return tell(p) })},
		{"reports another item", []string{"poison"}, reporting(func(tell func(sink.Poison) error, p sink.Poison) error { p.ID.Seq++; return tell(p) })},
		{"stores what came before the error", []string{"poison_abort"}, func(f *flawed) {
			f.write = func(ctx context.Context, b sink.Batch, to lsn.Progress) error {
				err := f.MemorySink.Write(ctx, b, to)
				if err != nil && err.Error() == "too many" {
					f.m.Store(Written{f.src.Name, f.m.Progress(f.src.Name), b.(*memoryBatch).encoded(f.src.Name)[:3]})
				}
				return err
			}
		}},
		{"swallows poison items", []string{"poison", "poison_only", "poison_unasked"}, func(f *flawed) {
			f.write = func(ctx context.Context, b sink.Batch, to lsn.Progress) error {
				kept := &memoryBatch{lanes: 3}
				for _, s := range b.(*memoryBatch).items {
					if string(s.Payload) != `"poison"` {
						kept.add(s)
					}
				}
				return f.MemorySink.Write(ctx, kept, to)
			}
		}},
	}
}

// reporting changes how poison is reported.
func reporting(report func(tell func(sink.Poison) error, p sink.Poison) error) func(*flawed) {
	return func(f *flawed) {
		f.open = func(ctx context.Context, src sink.Source) (lsn.Progress, error) {
			tell := src.OnPoison
			if tell != nil {
				src.OnPoison = func(p sink.Poison) error { return report(tell, p) }
			}
			return f.MemorySink.Open(ctx, src)
		}
	}
}
