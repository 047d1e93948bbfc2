package pipeline

import (
	"context"
	"sync"
	"time"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/sink"
)

// parcels is how many batches exist in all: one being written, one on its way,
// one being filled.
const parcels = 3

// parcel is a batch on its way to the writer, with the progress it reaches.
type parcel struct {
	batch sink.Batch
	to    lsn.Progress
	// commits are the commit times of the transactions that end in the batch.
	commits []lsn.Micros
	// since is when the first item was appended.
	since time.Time
	// open: the chain may take it back to add more, until the writer has it. The writer
	// leaves it for that until due.
	open bool
	due  time.Time
	// bytes of the batch when it was put: its holder alone may ask the batch.
	bytes int64
}

func (p *parcel) reset() {
	p.batch.Reset()
	*p = parcel{batch: p.batch, commits: p.commits[:0]}
}

// handoff is where the chain leaves parcels for the writer. The writer takes them
// in order. A parcel may be left open: then the chain can take it back while the
// writer is busy with an earlier one, so that a slow sink gets larger batches and
// an idle one gets each commit at once, without a timer.
//
// The chain calls get, put, reclaim, drain; the writer take and done; anybody fail.
type handoff struct {
	mu      sync.Mutex
	free    []*parcel
	queue   []*parcel // the next to write first
	writing *parcel
	err     error
	// changed is closed and made anew whenever a waiter may have something to do.
	changed chan struct{}
	// budget bounds the bytes of all parcels that are not free, but for the one that
	// is alone: a huge row is written by itself.
	budget int64
}

func newHandoff(s sink.Sink, budget int64) *handoff {
	h := &handoff{changed: make(chan struct{}), budget: budget}
	for range parcels {
		h.free = append(h.free, &parcel{batch: s.NewBatch()})
	}
	return h
}

// wake tells all waiters to look again. The caller holds mu.
func (h *handoff) wake() {
	close(h.changed)
	h.changed = make(chan struct{})
}

// wait blocks until ready, called with mu held, returns true; or the handoff has
// failed, or ctx has ended.
func (h *handoff) wait(ctx context.Context, ready func() bool) error {
	return h.waitTimed(ctx, func() (bool, <-chan time.Time) { return ready(), nil })
}

// waitTimed is wait for what may become ready with time: ready is asked again when
// its channel says so.
func (h *handoff) waitTimed(ctx context.Context, ready func() (bool, <-chan time.Time)) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	for h.err == nil {
		ok, again := ready()
		if ok {
			return nil
		}
		changed := h.changed
		h.mu.Unlock()
		select {
		case <-changed:
		case <-again:
		case <-ctx.Done():
			h.mu.Lock()
			return context.Cause(ctx)
		}
		h.mu.Lock()
	}
	return h.err
}

// get returns an empty parcel, blocking while none is free or the others hold too
// many bytes: that is the back-pressure.
func (h *handoff) get(ctx context.Context) (*parcel, error) {
	var p *parcel
	err := h.wait(ctx, func() bool {
		if len(h.free) == 0 || len(h.free) < parcels && h.bytes() > h.budget {
			return false
		}
		p = h.free[len(h.free)-1]
		h.free = h.free[:len(h.free)-1]
		return true
	})
	return p, err
}

func (h *handoff) bytes() int64 {
	var n int64
	for _, p := range h.queue {
		n += p.bytes
	}
	if h.writing != nil {
		n += h.writing.bytes
	}
	return n
}

// put queues a parcel for the writer.
func (h *handoff) put(p *parcel) { h.queueUp(p, false, time.Time{}) }

// putOpen queues a parcel that the chain may take back. The writer takes it when it
// has nothing else to do, but not before due.
func (h *handoff) putOpen(p *parcel, due time.Time) { h.queueUp(p, true, due) }

func (h *handoff) queueUp(p *parcel, open bool, due time.Time) {
	h.mu.Lock()
	defer h.mu.Unlock()
	p.open, p.due, p.bytes = open, due, int64(p.batch.Bytes())
	h.queue = append(h.queue, p)
	h.wake()
}

// reclaim takes the open parcel back, nil when there is none or the writer has it.
func (h *handoff) reclaim() *parcel {
	h.mu.Lock()
	defer h.mu.Unlock()
	last := len(h.queue) - 1
	if last < 0 || !h.queue[last].open {
		return nil
	}
	p := h.queue[last]
	h.queue = h.queue[:last]
	return p
}

// release gives back a parcel that its holder needs no more.
func (h *handoff) release(p *parcel) {
	p.reset()
	h.mu.Lock()
	defer h.mu.Unlock()
	h.free = append(h.free, p)
	h.wake()
}

// take returns the next parcel to write.
func (h *handoff) take(ctx context.Context) (*parcel, error) {
	err := h.waitTimed(ctx, func() (bool, <-chan time.Time) {
		if len(h.queue) == 0 {
			return false, nil
		}
		p := h.queue[0]
		if p.open && !p.due.IsZero() {
			if early := time.Until(p.due); early > 0 {
				return false, time.After(early)
			}
		}
		h.writing = p
		h.queue = append(h.queue[:0], h.queue[1:]...)
		return true, nil
	})
	if err != nil {
		return nil, err
	}
	return h.writing, nil
}

// done frees the parcel that take gave, which is durable now.
func (h *handoff) done() {
	h.mu.Lock()
	p := h.writing
	h.writing = nil
	h.mu.Unlock()
	h.release(p)
}

// idle reports whether the writer has nothing to do.
func (h *handoff) idle() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return len(h.queue) == 0 && h.writing == nil
}

// drain blocks until all that was put is durable.
func (h *handoff) drain(ctx context.Context) error {
	return h.wait(ctx, func() bool { return len(h.queue) == 0 && h.writing == nil })
}

// fail ends all waiting with err, the first one given.
func (h *handoff) fail(err error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.err == nil {
		h.err = err
	}
	h.wake()
}

// failed returns what fail was given.
func (h *handoff) failed() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.err
}
