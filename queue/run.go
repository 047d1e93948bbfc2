package queue

import (
	"context"
	"errors"
	"time"
)

// Handler handles an item. nil settles it. An error parks it until another attempt,
// or makes it a dead letter after Config.MaxAttempts; Retry and Dead say otherwise,
// and a panic is an error. What it returns when its context has ended is not counted:
// the item is delivered again.
//
// It is called from several goroutines, for different keys. It must return soon
// after its context has ended (context.Cause says why: ErrLost, ErrStopped): until
// then this worker takes no new lanes.
type Handler func(ctx context.Context, it Item) error

// Run handles items until ctx ends, at least once each: keys in parallel, the items
// of a key one after the other, in their order. It blocks. It returns nil when ctx
// ended and everything in hand was finished or given up, else why it cannot go on:
// ErrExpired, ErrUnknown, or what the database says when rights or the schema are
// missing. Everything else, lost connections too, it tries again.
//
// ctx ends the taking of items; their handlers go on for Config.StopWithin.
func (s *Subscription) Run(ctx context.Context, handle Handler) error {
	m, unregister, err := newMetrics(s.cfg)
	if err != nil {
		return err
	}
	defer unregister()
	w := newWorker(s, m)
	return w.work(ctx, s.cfg.Concurrency, func() { (&runner{worker: w, handle: handle}).loop() })
}

// runner is one goroutine of Run. It takes more items at a time while handlers are
// so quick that taking them costs more, and one at a time otherwise, so that no item
// waits behind a slow one of another key for long.
type runner struct {
	*worker
	handle Handler
	chunk  []*entry
	size   int
}

const (
	mostChunk  = 64
	quickChunk = time.Millisecond
)

func (r *runner) loop() {
	r.size = 1
	for {
		if r.chunk = r.takeItems(r.size, r.chunk[:0]); len(r.chunk) == 0 {
			return
		}
		started := time.Now()
		r.handleChunk(started)
		if time.Since(started) < quickChunk {
			r.size = min(2*r.size, mostChunk)
		} else {
			r.size = max(r.size/4, 1)
		}
	}
}

// takeItems waits for items and starts up to n of them, of the lanes in turn. None:
// the worker stops.
func (w *worker) takeItems(n int, into []*entry) []*entry {
	w.mu.Lock()
	defer w.mu.Unlock()
	for !w.stopping && w.asked.Err() == nil {
		for range w.order {
			w.next = (w.next + 1) % len(w.order)
			if into = w.order[w.next].take(n-len(into), into); len(into) == n {
				return into
			}
		}
		if len(into) > 0 {
			return into
		}
		w.cond.Wait()
	}
	return into
}

// handleChunk handles items in turn and reports them together, but failures at once.
func (r *runner) handleChunk(at time.Time) {
	reported := 0
	for i, e := range r.chunk {
		if e == nil {
			continue
		}
		err := context.Cause(e.lane.ctx)
		if err == nil {
			err = safely(func() error { return r.handle(e.lane.ctx, e.item) })
			at = r.metrics.handled(at)
		}
		if err != nil {
			r.report(r.chunk[reported:i])
			r.reportFailure(e, err, r.chunk[i+1:])
			reported = i + 1
		}
	}
	r.report(r.chunk[reported:])
}

// report settles handled items in memory.
func (w *worker) report(chunk []*entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	freed := 0
	for _, e := range chunk {
		switch l := (*lane)(nil); {
		case e == nil:
		case e.lane.gone:
			w.strayEnded()
		default:
			l = e.lane
			l.done(e)
			if e.queue.first != nil || len(l.wants) > 0 {
				freed++
			}
			if len(l.wants) > 0 || l.items == 0 {
				wake(w.readWake)
			}
		}
	}
	if w.hungry() {
		wake(w.readWake)
	}
	if freed > 1 {
		w.cond.Broadcast()
	}
	if len(chunk) > 0 {
		wake(w.setWake)
	}
}

// reportFailure decides about an item whose handler returned an error. later are
// the items of the chunk behind it: those of its key must wait, and become nil.
func (w *worker) reportFailure(e *entry, err error, later []*entry) {
	w.mu.Lock()
	defer w.mu.Unlock()
	l := e.lane
	if l.gone {
		w.strayEnded()
		return
	}
	var behind []*entry
	for i, other := range later {
		if other != nil && other.queue == e.queue {
			behind = append(behind, other)
			later[i] = nil
		}
	}
	l.unstart(behind)
	if l.ctx.Err() != nil {
		l.unstart([]*entry{e}) // stopped: it was no attempt
		return
	}
	w.failItem(e, err)
	w.cond.Signal()
}

// failItem parks an item or makes it a dead letter. Called with mu held.
func (w *worker) failItem(e *entry, err error) {
	v := w.cfg.judge(err, e.item.Attempt)
	it := &e.item
	if v.dead {
		w.log.Warn("item_dead", "seq", it.Seq, "key", it.Key, "type", it.Type, "attempt", it.Attempt, "err", err,
			"next", "it is a dead letter")
	} else {
		w.log.Debug("item_failed", "seq", it.Seq, "key", it.Key, "type", it.Type, "attempt", it.Attempt, "err", err, "after", v.after)
	}
	w.metrics.failed(v.dead)
	e.lane.fail(e, v, messageOf(err))
	wake(w.setWake)
	wake(w.readWake)
}

// isPanic reports whether an error is a handler's panic.
func isPanic(err error) bool {
	var p *PanicError
	return errors.As(err, &p)
}
