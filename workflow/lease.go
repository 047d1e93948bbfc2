package workflow

import (
	"context"
	"sync"
	"time"
)

// lease is the ownership of one instance in this process. Its end is counted here,
// on this machine's monotonic clock, from before the statement that took or renewed
// it was sent, and a margin early: the handlers' context ends before another engine
// can have the instance.
type lease struct {
	id, generation int64
	ctx            context.Context // ends with the lease, or with the engine's patience
	cancel         context.CancelCauseFunc

	mu     sync.Mutex // guards the fields below
	timer  *time.Timer
	abort  context.CancelCauseFunc // of the forward step at hand; nil: none
	reason *string                 // an operator's, who cancelled
}

// margin is the part of a lease that its owner does not use.
func margin(d time.Duration) time.Duration { return d / 5 }

// newLease begins a lease of length d that was asked for at a time of ours.
func newLease(parent context.Context, id, generation int64, asked time.Time, d time.Duration) *lease {
	l := &lease{id: id, generation: generation}
	l.ctx, l.cancel = context.WithCancelCause(parent)
	l.timer = time.AfterFunc(time.Until(asked.Add(d-margin(d))), func() { l.cancel(ErrLeaseLost) })
	return l
}

// renewed prolongs the lease, and tells the step at hand that it is cancelled.
// Nothing brings back a lease that has ended.
func (l *lease) renewed(asked time.Time, d time.Duration, cancelled *string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.timer.Stop() {
		l.timer.Reset(time.Until(asked.Add(d - margin(d))))
	}
	if cancelled != nil {
		l.reason = cancelled
		if l.abort != nil {
			l.abort(ErrCancelled)
		}
	}
}

// lost reports whether the lease has ended before its owner gave it back.
func (l *lease) lost() bool { return context.Cause(l.ctx) == ErrLeaseLost }

// end gives up what the lease holds here.
func (l *lease) end() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.timer.Stop()
	l.cancel(context.Canceled)
}

// attempt returns the context of one attempt. A forward one ends when the instance
// is cancelled; a compensation goes on.
func (l *lease) attempt(forward bool) (context.Context, context.CancelCauseFunc) {
	ctx, cancel := context.WithCancelCause(l.ctx)
	if !forward {
		return ctx, cancel
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.abort = cancel
	if l.reason != nil {
		cancel(ErrCancelled)
	}
	return ctx, func(err error) {
		l.mu.Lock()
		l.abort = nil
		l.mu.Unlock()
		cancel(err)
	}
}

// cancelled returns the reason that an operator gave, or nil.
func (l *lease) cancelled() *string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.reason
}

// leases are those of an engine that runs.
type leases struct {
	mu  sync.Mutex // guards all
	all map[*lease]struct{}
}

func (s *leases) add(l *lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.all[l] = struct{}{}
}

func (s *leases) remove(l *lease) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, l)
}

func (s *leases) list() []*lease {
	s.mu.Lock()
	defer s.mu.Unlock()
	list := make([]*lease, 0, len(s.all))
	for l := range s.all {
		list = append(list, l)
	}
	return list
}
