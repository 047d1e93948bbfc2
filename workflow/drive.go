package workflow

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"time"

	"github.com/jackc/pgx/v5"
)

// maxLost is how many workers a step may take with it before it counts as failed
// for good: one that ends its process each time, by its use of memory say, must not
// do so for ever.
const maxLost = 20

// The points of a step at which a test may look in, or end the process.
const (
	pointBegin = "begin" // before the step's function
	pointDone  = "done"  // its function has returned, nothing is stored
	pointSaved = "saved" // all is stored but the commit
	pointNext  = "next"  // after the commit
)

// drive moves an instance on, step by step, until it ends, waits, or is no longer
// ours.
func (r *runner) drive(in *instance) {
	for in != nil {
		on, err := r.advance(in)
		if on && err == nil {
			r.e.points(pointNext, in)
			continue
		}
		next := r.settleDoubt(in, err)
		in.lease.end()
		r.leases.remove(in.lease)
		in = next
	}
}

// settleDoubt decides what follows an error of advance, which is never one of a
// step: nothing, when the instance is somebody else's; else the transaction may have
// committed or not, and the instance is taken anew.
func (r *runner) settleDoubt(in *instance, err error) *instance {
	switch {
	case err == nil:
		return nil
	case errors.Is(err, ErrLeaseLost) || in.lease.lost():
		r.e.metrics.lost.Inc()
		r.e.log.Warn("workflow lease lost; the instance goes on elsewhere from its last step", "workflow", in.name, "key", in.key, "step", in.step, "error", err)
		return nil
	}
	r.e.log.Warn("workflow step could not be stored; taking the instance anew", "workflow", in.name, "key", in.key, "step", in.step, "error", err)
	return r.retake(in)
}

// advance does the next thing, which ends with one transaction. on says that the
// instance is still ours and has more to do. An error says that it is not known what
// is stored.
func (r *runner) advance(in *instance) (on bool, err error) {
	if c := in.lease.cancelled(); c != nil {
		in.cancel = c
	}
	switch {
	case in.lease.lost():
		return false, ErrLeaseLost
	case r.stopping():
		return r.giveBack(in, 0, in.attempts-1)
	case in.def == nil || in.def.list() != in.list:
		return r.haltChanged(in)
	case in.cancel != nil && !in.undoing:
		return r.beginUndo(in, nil, "cancelled: "+*in.cancel, in.begun)
	}
	st := &in.def.steps[in.step]
	switch {
	case st.kind == kindWait || st.kind == kindSleep:
		return r.wait(in, st)
	case in.lost > maxLost:
		err := fmt.Errorf("its worker was lost %d times", in.lost)
		return r.failed(in, st, failure{err: err, final: true, effect: true})
	}
	return r.attempt(in, st)
}

// attempt calls the step's function, or that of its compensation.
func (r *runner) attempt(in *instance, st *step) (bool, error) {
	state, err := in.def.decode(in.state)
	if err != nil {
		return r.haltWith(in, "state", err.Error())
	}
	run := &run{in: in, state: state, step: st.name, undo: in.undoing}
	do, timeout := st.do, st.timeout
	if in.undoing {
		do = st.undo
	}
	if timeout == 0 {
		timeout = r.e.cfg.Lease
	}
	ctx, end := in.lease.attempt(!in.undoing)
	defer end(nil)
	ctx, cancel := context.WithTimeoutCause(ctx, timeout, fmt.Errorf("the attempt has taken longer than its timeout of %v", timeout))
	defer cancel()
	a := &attempt{r: r, in: in, st: st, run: run, do: do, ctx: ctx, timeout: timeout, begun: time.Now()}
	if st.kind == kindTx {
		return a.inTx()
	}
	return a.activity()
}

// attempt is one call of a step's function.
type attempt struct {
	r       *runner
	in      *instance
	st      *step
	run     *run
	do      work
	ctx     context.Context // of the function
	timeout time.Duration
	begun   time.Time
}

// call calls the function; a panic is an error.
func (a *attempt) call(tx pgx.Tx) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{Value: v, Stack: debug.Stack()}
		}
	}()
	a.r.e.points(pointBegin, a.in)
	err = a.do(a.ctx, a.run, tx)
	a.r.e.points(pointDone, a.in)
	return err
}

// activity does an attempt of an activity: the call, then its outcome in a
// transaction of its own.
func (a *attempt) activity() (bool, error) {
	err := a.call(nil)
	a.in.begun = true
	var state string
	if err == nil {
		if state, err = encode(a.run.state); err != nil {
			return a.end(failure{err: err, final: true, effect: true})
		}
	}
	if err != nil {
		return a.end(failureOf(err, true))
	}
	return a.r.settle(a.in, a.record(recordDone), a.in.completed(state))
}

// inTx does an attempt of a step in a transaction: the function's statements, the
// state, the row of the step and the fence in one.
func (a *attempt) inTx() (bool, error) {
	select {
	case a.r.txs <- struct{}{}:
		defer func() { <-a.r.txs }()
	case <-a.ctx.Done():
		if a.in.lease.ctx.Err() == nil && a.in.lease.cancelled() == nil { // no connection in time is no failure of the step
			return a.r.giveBack(a.in, a.r.e.cfg.FirstBackoff, a.in.attempts-1)
		}
		return a.end(failure{err: context.Cause(a.ctx)})
	}
	ctx, cancel := a.r.storing(a.timeout)
	defer cancel()
	tx, err := a.r.e.pool.BeginTx(ctx, readCommitted(max(a.r.e.cfg.Lease, a.timeout)))
	if err != nil {
		return false, fmt.Errorf("begin the step: %w", err)
	}
	defer rollback(tx)
	err = a.call(stepTx{tx})
	var state string
	if err == nil {
		if state, err = encode(a.run.state); err != nil {
			err = Fail(err)
		}
	}
	if err == nil {
		var on bool
		on, err = a.r.settleIn(ctx, tx, a.in, a.record(recordDone), a.in.completed(state))
		if err == nil || !refused(err) {
			return on, err
		}
	}
	rollback(tx) // before the failure is stored, which may need its locks
	return a.end(failureOf(err, false))
}

// end decides what an attempt without success means.
func (a *attempt) end(f failure) (bool, error) {
	switch cause := context.Cause(a.ctx); {
	case a.in.lease.lost():
		return false, ErrLeaseLost
	case errors.Is(cause, ErrStopping):
		a.r.count(a.in, a.st, "interrupted", a.begun)
		return a.r.giveBack(a.in, 0, a.in.attempts)
	case errors.Is(cause, ErrCancelled) && !f.final:
		a.r.count(a.in, a.st, "cancelled", a.begun)
		a.in.cancel = a.in.lease.cancelled()
		return a.r.beginUndo(a.in, nil, "cancelled: "+*a.in.cancel, f.effect)
	case a.ctx.Err() != nil && errors.Is(f.err, a.ctx.Err()):
		f.err = cause // says which limit it was
	}
	f.took = time.Since(a.begun)
	return a.r.failed(a.in, a.st, f)
}

// stepTx is what a step gets: the engine ends the transaction.
type stepTx struct{ pgx.Tx }

var errNotYours = errors.New("the transaction of a step is committed or rolled back by the engine")

// Commit is an error.
func (stepTx) Commit(context.Context) error { return errNotYours }

// Rollback is an error: return one from the step instead.
func (stepTx) Rollback(context.Context) error { return errNotYours }

// rollback ends a transaction, if it has not ended. A connection on which that
// fails is closed by the pool, which ends it too.
func rollback(tx pgx.Tx) {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	_ = tx.Rollback(ctx)
}
