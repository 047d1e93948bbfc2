package queue

import (
	"cmp"
	"context"
	"errors"
	"slices"
)

// BatchHandler handles several items at once. nil settles all. Failed settles those
// that it does not name and treats the others as a Handler's errors. Any other
// error, or a panic, has the batch tried again by halves until the items that fail
// are alone, so what came before them is handled more than once; those are parked,
// the others settled.
//
// The items are sorted by seq within their lanes; those of a key are in order. It is
// called from several goroutines, for different lanes. The slice is the handler's.
type BatchHandler func(ctx context.Context, items []Item) error

// RunBatch is Run for interfaces that take many items at once: up to
// Config.BatchItems, of several lanes, at least once each.
func (s *Subscription) RunBatch(ctx context.Context, handle BatchHandler) error {
	m, unregister, err := newMetrics(s.cfg)
	if err != nil {
		return err
	}
	defer unregister()
	w := newWorker(s, m)
	w.ordered = true
	return w.work(ctx, s.cfg.Concurrency, func() {
		for {
			b := w.takeBatch()
			if b == nil {
				return
			}
			b.exec = func(ctx context.Context, part []*entry) error {
				at := w.metrics.start()
				err := safely(func() error { return handle(ctx, itemsOf(part)) })
				w.metrics.handled(at)
				return err
			}
			b.run()
		}
	})
}

// batch is items of lanes that nothing else works on meanwhile.
type batch struct {
	*worker
	lanes   []*lane
	entries []*entry // nil: taken back
	ctx     context.Context
	exec    func(ctx context.Context, part []*entry) error
	settles bool // exec settles what it handles
	broken  bool // nothing more of this batch is tried
}

// errNotItems: exec failed for a reason that no item is to blame for.
type errNotItems struct{ error }

// Unwrap returns the reason.
func (e errNotItems) Unwrap() error { return e.error }

// takeBatch waits for a batch. nil: the worker stops.
func (w *worker) takeBatch() *batch {
	w.mu.Lock()
	defer w.mu.Unlock()
	for !w.stopping && w.asked.Err() == nil {
		b := &batch{worker: w, lanes: w.unclaimed()}
		for _, most := range w.portions(len(b.lanes)) {
			for _, l := range b.lanes {
				b.entries = l.takeInOrder(min(most, w.cfg.BatchItems-len(b.entries)), b.entries)
			}
		}
		if len(b.entries) > 0 {
			b.lanes = slices.DeleteFunc(b.lanes, func(l *lane) bool { return l.running == 0 })
			for _, l := range b.lanes {
				l.claimed = true
			}
			if w.inTx {
				slices.SortFunc(b.entries, func(a, b *entry) int { return cmp.Compare(a.item.Seq, b.item.Seq) })
			}
			return b
		}
		w.cond.Wait()
	}
	return nil
}

// unclaimed are the lanes with items of which no batch is being handled, beginning
// with the one whose turn it is; in RunTx no more than a handler's part of all lanes,
// since its batches are spread over them. Called with mu held.
func (w *worker) unclaimed() []*lane {
	most := len(w.order)
	if w.inTx {
		most = (most + w.handlers - 1) / w.handlers
	}
	var lanes []*lane
	for range w.order {
		w.next = (w.next + 1) % len(w.order)
		l := w.order[w.next]
		if l.claimed || l.draining || l.items == 0 || w.inTx && l.settling {
			continue
		}
		if lanes = append(lanes, l); len(lanes) == most {
			break
		}
	}
	return lanes
}

// portions are how many items at most are taken of each lane, in turns: in RunTx first
// a part of each, so that the batch is much like what the log has next.
func (w *worker) portions(lanes int) []int {
	if !w.inTx || lanes == 0 {
		return []int{w.cfg.BatchItems}
	}
	return []int{(w.cfg.BatchItems + lanes - 1) / lanes, w.cfg.BatchItems}
}

// run handles the batch and gives its lanes back.
func (b *batch) run() {
	ctx, cancel := context.WithCancelCause(context.Background())
	defer cancel(nil)
	for _, l := range b.lanes {
		defer context.AfterFunc(l.ctx, func() { cancel(context.Cause(l.ctx)) })()
	}
	b.ctx = ctx
	b.try(0, len(b.entries))
	b.mu.Lock()
	defer b.mu.Unlock()
	for _, e := range slices.Backward(b.entries) {
		if e != nil && e.phase == running {
			b.takeBack(e)
		}
	}
	for _, l := range b.lanes {
		l.claimed = false
	}
	b.settledWakes()
	b.cond.Broadcast()
	wake(b.setWake)
	wake(b.readWake)
}

// takeBack returns an item that was not handled. Called with mu held.
func (b *batch) takeBack(e *entry) {
	if e.lane.gone {
		b.strayEnded()
		return
	}
	e.lane.unstart([]*entry{e})
}

// try handles the entries from low to high that are still in the batch.
func (b *batch) try(low, high int) {
	part := slices.DeleteFunc(slices.Clone(b.entries[low:high]), func(e *entry) bool { return e == nil })
	if len(part) == 0 || b.broken || b.ctx.Err() != nil {
		return
	}
	err := b.exec(b.ctx, part)
	var notItems errNotItems
	var failed Failed
	switch {
	case err == nil:
		b.succeeded(low, high, nil)
	case errors.As(err, &notItems):
		b.broken = true
		b.trouble(b.ctx, "batch", notItems.error)
	case b.ctx.Err() != nil: // stopped or lost: it was no attempt
	case !b.settles && errors.As(err, &failed) && !isPanic(err):
		b.succeeded(low, high, failed)
	case len(part) == 1:
		b.failedAt(slices.Index(b.entries, part[0]), err)
	default:
		middle := (low + high) / 2
		b.try(low, middle)
		b.try(middle, high)
	}
}

// succeeded settles the entries from low to high but those that failed.
func (b *batch) succeeded(low, high int, failed Failed) {
	var good []*entry
	for i := low; i < high; i++ {
		e := b.entries[i]
		if e == nil {
			continue
		}
		if err := failed[e.item.Seq]; err != nil {
			b.failedAt(i, err)
			continue
		}
		good = append(good, e)
		b.entries[i] = nil
	}
	if !b.settles {
		b.report(good)
	}
}

// failedAt decides about one entry; those behind it of its key leave the batch.
func (b *batch) failedAt(i int, err error) {
	e := b.entries[i]
	b.entries[i] = nil
	b.reportFailure(e, err, b.entries[i+1:])
}

func itemsOf(part []*entry) []Item {
	items := make([]Item, len(part))
	for i, e := range part {
		items[i] = e.item
	}
	return items
}
