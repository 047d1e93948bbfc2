package workflow

import (
	"context"
	"sync"
	"time"
)

// runner is one Run of an engine.
type runner struct {
	e       *Engine
	soft    context.Context // Run's: no new work after it
	hard    context.Context // of the steps: ends StopWithin later
	leases  leases
	due     due
	slots   chan struct{} // a token for each instance at hand
	freed   chan struct{} // holds one token at most
	txs     chan struct{} // a token for each step that holds a connection
	workers sync.WaitGroup
}

// claimMost bounds one claim, and so the time that it holds locks.
const claimMost = 32

func newRunner(e *Engine) *runner {
	return &runner{
		e: e, leases: leases{all: map[*lease]struct{}{}}, due: due{e: e},
		slots: make(chan struct{}, e.cfg.Concurrency), freed: make(chan struct{}, 1),
		txs: make(chan struct{}, max(1, min(int(e.pool.Config().MaxConns)-1, e.cfg.Concurrency))),
	}
}

// run works until ctx ends and all that was begun has ended.
func (r *runner) run(ctx context.Context) {
	r.soft = ctx
	hard, stop := context.WithCancelCause(context.WithoutCancel(ctx))
	defer stop(nil)
	r.hard = hard
	var side sync.WaitGroup
	side.Go(func() { r.heartbeat(hard) })
	side.Go(func() { r.listen(ctx) })
	side.Go(func() {
		select {
		case <-ctx.Done():
			pause(hard, r.e.cfg.StopWithin)
			stop(ErrStopping)
		case <-hard.Done():
		}
	})
	if len(r.e.order) > 0 {
		r.dispatch(ctx)
	} else {
		<-ctx.Done()
	}
	r.workers.Wait()
	stop(nil)
	side.Wait()
}

// dispatch takes what is due and gives each instance a goroutine.
func (r *runner) dispatch(ctx context.Context) {
	failures := 0
	for ctx.Err() == nil {
		n := min(cap(r.slots)-len(r.slots), claimMost)
		if n == 0 {
			r.await(ctx, r.freed, time.Hour)
			continue
		}
		sweep := r.due.sweeping()
		// Not under ctx: what a claim takes in its last moment is given back at once.
		taken, err := r.due.take(r.hard, r, n)
		if err == nil && sweep {
			err = r.strangers(r.hard)
		}
		for _, in := range taken {
			r.work(in)
		}
		switch {
		case ctx.Err() != nil:
		case err != nil:
			failures++
			r.e.log.Warn("workflow instances cannot be looked for; trying again", "error", err, "failures", failures)
			r.await(ctx, nil, r.e.claimBackoff(failures))
		case len(taken) == n:
			failures = 0 // there may be more
		default:
			failures = 0
			r.await(ctx, r.e.wake, r.e.cfg.Poll)
		}
	}
}

// await waits for a token, at most for d.
func (r *runner) await(ctx context.Context, token <-chan struct{}, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	case <-token:
	}
}

// work drives an instance in a goroutine of its own. Only dispatch calls it, when
// there is a free slot.
func (r *runner) work(in *instance) {
	r.slots <- struct{}{}
	r.e.metrics.active.Inc()
	r.workers.Go(func() {
		defer func() {
			r.e.metrics.active.Dec()
			<-r.slots
			select {
			case r.freed <- struct{}{}:
			default:
			}
		}()
		r.drive(in)
	})
}

// wakeAfter wakes the engine when something that it has put off is due. What is due
// after the next poll is found by a poll.
func (r *runner) wakeAfter(d time.Duration) {
	if d < r.e.cfg.Poll {
		time.AfterFunc(d, r.e.poke)
	}
}

// stopping reports whether Run is to end.
func (r *runner) stopping() bool { return r.soft.Err() != nil }
