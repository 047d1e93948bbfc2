package workflow

import (
	"context"
	"fmt"
	"reflect"
	"time"

	"github.com/jackc/pgx/v5"
)

// Step is one of Tx, Activity, Wait and Sleep.
type Step interface {
	step() step
}

// Kinds of steps, as they are stored.
const (
	kindTx       = "tx"
	kindActivity = "activity"
	kindWait     = "wait"
	kindSleep    = "sleep"
)

// work is a function of a step; tx is nil in an activity.
type work func(ctx context.Context, r *run, tx pgx.Tx) error

// step is a step without its type parameter.
type step struct {
	name     string
	kind     string
	state    reflect.Type // of the functions; nil for those without
	do, undo work         // nil: there is none
	retry    policy
	undoing  policy // of the compensation
	timeout  time.Duration
	duration time.Duration // of a wait or sleep
	goOn     bool          // a wait that runs out of time is no failure
	problems []string
}

// policy says how often something is tried; zero fields mean the engine's
// configuration.
type policy struct {
	attempts   int
	maxBackoff time.Duration
}

func (s *step) check(ok bool, format string, args ...any) {
	if !ok {
		s.problems = append(s.problems, fmt.Sprintf("step %s: ", s.name)+fmt.Sprintf(format, args...))
	}
}

func (s *step) setPolicy(what string, p *policy, attempts int, maxBackoff time.Duration) {
	s.check(attempts > 0, "%s: %d attempts", what, attempts)
	s.check(maxBackoff > 0, "%s: a pause of %v", what, maxBackoff)
	*p = policy{attempts, maxBackoff}
}

func (s *step) setTimeout(d time.Duration) {
	s.check(d > 0, "a timeout of %v", d)
	s.timeout = d
}

// TxStep is a step in a transaction of this database. Its methods return a changed
// copy.
type TxStep[T any] struct{ s step }

// Tx makes a step whose effect is rows of this database. The function's statements,
// the changed state and the row of the step commit together: the effect is there
// exactly once, however often the process dies. Outbox rows belong into the same
// transaction.
//
// The transaction is READ COMMITTED and the engine's: Commit and Rollback on it are
// errors, Begin makes a savepoint. An error rolls it back and the step is tried
// again; so a failed step needs no compensation of its own. The function should do
// nothing that lives outside of the database: that is for an Activity.
//
// name is unique in the workflow: letters, digits, _, - and ., at most 100.
func Tx[T any](name string, do func(ctx context.Context, run *Run[T], tx pgx.Tx) error) TxStep[T] {
	s := step{name: name, kind: kindTx, state: reflect.TypeFor[T](), do: txWork(do)}
	s.check(do != nil, "there is no function")
	return TxStep[T]{s}
}

func txWork[T any](f func(context.Context, *Run[T], pgx.Tx) error) work {
	if f == nil {
		return nil
	}
	return func(ctx context.Context, r *run, tx pgx.Tx) error { return f(ctx, &Run[T]{r}, tx) }
}

// Undo is the compensation, in a transaction like the step's own: run after a later
// step has failed for good or the instance was cancelled, when the step has
// completed, and done exactly once.
func (t TxStep[T]) Undo(undo func(ctx context.Context, run *Run[T], tx pgx.Tx) error) TxStep[T] {
	t.s.check(undo != nil, "Undo without a function")
	t.s.undo = txWork(undo)
	return t
}

// Retry says how often the step is tried before it has failed for good, and the
// longest pause between two attempts.
func (t TxStep[T]) Retry(attempts int, maxBackoff time.Duration) TxStep[T] {
	t.s.setPolicy("Retry", &t.s.retry, attempts, maxBackoff)
	return t
}

// UndoRetry is Retry for the compensation.
func (t TxStep[T]) UndoRetry(attempts int, maxBackoff time.Duration) TxStep[T] {
	t.s.setPolicy("UndoRetry", &t.s.undoing, attempts, maxBackoff)
	return t
}

// Timeout bounds one attempt of the step or its compensation. Defaults to the
// lease. A session that idles in the transaction for longer, or for longer than the
// lease if that is more, is ended by the server: a stopped process does not keep
// its locks.
func (t TxStep[T]) Timeout(d time.Duration) TxStep[T] {
	t.s.setTimeout(d)
	return t
}

func (t TxStep[T]) step() step { return t.s }

// ActivityStep is a step outside of the database. Its methods return a changed
// copy.
type ActivityStep[T any] struct{ s step }

// activityTimeout is the default of ActivityStep.Timeout.
const activityTimeout = 5 * time.Minute

// Activity makes a step whose effect is elsewhere: a call of another service. It
// happens at least once: the process may die between the call and its record, and
// an attempt that timed out may have had its effect. run.Key() is the same at every
// attempt; give it to the other side as the idempotency key.
//
// The name is one as for Tx.
func Activity[T any](name string, do func(ctx context.Context, run *Run[T]) error) ActivityStep[T] {
	s := step{name: name, kind: kindActivity, state: reflect.TypeFor[T](), do: activityWork(do), timeout: activityTimeout}
	s.check(do != nil, "there is no function")
	return ActivityStep[T]{s}
}

func activityWork[T any](f func(context.Context, *Run[T]) error) work {
	if f == nil {
		return nil
	}
	return func(ctx context.Context, r *run, _ pgx.Tx) error { return f(ctx, &Run[T]{r}) }
}

// Undo is the compensation: run after a later step has failed for good or the
// instance was cancelled, at least once, with a Key of its own that is the same at
// every attempt.
//
// It is also run when the activity itself has failed for good or was cancelled and
// nobody knows whether it had an effect, which is so after every error but that of
// Fail. So it must cope with an effect that is not there: ask the other side by
// run.KeyOf(the step's name).
func (a ActivityStep[T]) Undo(undo func(ctx context.Context, run *Run[T]) error) ActivityStep[T] {
	a.s.check(undo != nil, "Undo without a function")
	a.s.undo = activityWork(undo)
	return a
}

// Retry says how often the step is tried before it has failed for good, and the
// longest pause between two attempts.
func (a ActivityStep[T]) Retry(attempts int, maxBackoff time.Duration) ActivityStep[T] {
	a.s.setPolicy("Retry", &a.s.retry, attempts, maxBackoff)
	return a
}

// UndoRetry is Retry for the compensation.
func (a ActivityStep[T]) UndoRetry(attempts int, maxBackoff time.Duration) ActivityStep[T] {
	a.s.setPolicy("UndoRetry", &a.s.undoing, attempts, maxBackoff)
	return a
}

// Timeout bounds one attempt of the step or its compensation, by its context. It
// may be longer than the lease. Defaults to 5 min.
func (a ActivityStep[T]) Timeout(d time.Duration) ActivityStep[T] {
	a.s.setTimeout(d)
	return a
}

func (a ActivityStep[T]) step() step { return a.s }

// WaitStep waits for a signal.
type WaitStep struct{ s step }

// Wait makes a step that ends with a signal, which the steps behind it read with
// run.Signal. One that was sent before is taken at once; of several the one that was
// sent first. When none has come within the timeout, counted from
// the moment that the step was reached, the step fails for good with ErrTimeout and
// those before it are compensated; see OrContinue. Waiting occupies no worker.
//
// The signal's name is also the step's; it is one as for Tx.
func Wait(signal string, timeout time.Duration) WaitStep {
	s := step{name: signal, kind: kindWait, duration: timeout}
	s.check(timeout > 0, "a timeout of %v", timeout)
	return WaitStep{s}
}

// OrContinue makes the workflow go on when no signal has come in time: run.Signal
// reports false then.
func (w WaitStep) OrContinue() WaitStep {
	w.s.goOn = true
	return w
}

func (w WaitStep) step() step { return w.s }

// SleepStep waits for a time.
type SleepStep struct{ s step }

// Sleep makes a step that lasts a time, counted from the moment that it was
// reached. The end is stored: a restart does not move it. Sleeping occupies no
// worker.
//
// The name is one as for Tx.
func Sleep(name string, d time.Duration) SleepStep {
	s := step{name: name, kind: kindSleep, duration: d}
	s.check(d > 0, "a sleep of %v", d)
	return SleepStep{s}
}

func (s SleepStep) step() step { return s.s }
