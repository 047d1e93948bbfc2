package workflow

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// After the last attempt the step has failed; what nobody knows of an activity is
// compensated with it. A panic is an error with its stack.
func TestOutOfAttempts(t *testing.T) {
	db := shared(t)
	s := newShop(t, db)
	s.flaky = func(what string) error {
		if what == "charge" {
			panic("no line")
		}
		return nil
	}
	w := s.checkout("checkout")
	e := engine(t, db, quick(t), w)
	startShipped(t, e, w, "a", order{})
	runs(t, e)
	d := comesTo(t, e, "checkout", "a", Compensated)
	require.Equal(t, "reserve charge refund release", join(history(t, db, "checkout", "a")))
	require.Equal(t, "reserve compensated, charge compensated", stepsOf(d))
	require.Equal(t, 5, d.Steps[1].Attempts)
	require.Contains(t, d.Steps[1].LastError, "panic: no line")
	require.Contains(t, d.Steps[1].LastError, "shop_test.go")
	require.Equal(t, "5", db.One(t, "SELECT calls FROM outside WHERE what = 'charge'"))
}

// A compensation that fails for good leaves the instance failed, visible, and
// resumable.
func TestFailedCompensation(t *testing.T) {
	db := shared(t)
	s := newShop(t, db)
	var broken atomic.Bool
	broken.Store(true)
	s.flaky = func(what string) error {
		if what == "refund" && broken.Load() {
			return errors.New("the bank is closed")
		}
		return nil
	}
	w := s.checkout("checkout")
	e := engine(t, db, quick(t), w)
	startShipped(t, e, w, "a", order{Break: "pack"})
	runs(t, e)
	d := comesTo(t, e, "checkout", "a", Failed)
	require.Equal(t, "the bank is closed", d.LastError)
	require.Equal(t, "charge", d.Step)
	require.Equal(t, "reserve completed, charge undo_failed, shipped completed, pack failed", stepsOf(d))
	require.Equal(t, 5, d.Steps[1].UndoAttempts)
	list, err := e.List(t.Context(), Filter{Status: Failed})
	require.NoError(t, err)
	require.Len(t, list, 1)
	require.Equal(t, "a", list[0].Key)
	broken.Store(false)
	require.NoError(t, e.Resume(t.Context(), "checkout", "a"))
	requireWhole(t, db, comesTo(t, e, "checkout", "a", Compensated))
	require.ErrorIs(t, e.Resume(t.Context(), "checkout", "a"), ErrFinished)
	require.ErrorIs(t, e.Cancel(t.Context(), "checkout", "a", "too late"), ErrFinished)
	require.ErrorIs(t, e.Cancel(t.Context(), "checkout", "b", "who"), ErrNotFound)
}

// Cancel compensates what waits, and what is at hand, whose context ends first.
func TestCancel(t *testing.T) {
	db := shared(t)
	s := newShop(t, db)
	w := s.checkout("checkout")
	reached := make(chan bool, 1)
	busy := Define[order]("busy", 1, Tx("reserve", s.tx("reserve", false)).Undo(s.tx("release", true)),
		Activity("charge", func(ctx context.Context, _ *Run[order]) error {
			reached <- true
			<-ctx.Done()
			return context.Cause(ctx)
		}).Undo(s.call("refund", true)))
	e := engine(t, db, quick(t), w, busy)
	runs(t, e)
	require.NoError(t, e.Start(t.Context(), w, "a", order{}))
	comesTo(t, e, "checkout", "a", Waiting)
	require.NoError(t, e.Cancel(t.Context(), "checkout", "a", "changed my mind"))
	d := comesTo(t, e, "checkout", "a", Compensated)
	require.Equal(t, "cancelled: changed my mind", d.Reason)
	requireWhole(t, db, d)

	require.NoError(t, e.Start(t.Context(), busy, "a", order{}))
	<-reached
	require.NoError(t, e.Cancel(t.Context(), "busy", "a", "enough"))
	comesTo(t, e, "busy", "a", Compensated)
	require.Equal(t, "reserve refund release", join(history(t, db, "busy", "a")), "its outcome was not known")
}

// A step that completes although it was cancelled is compensated.
func TestCancelledLastStepCompletes(t *testing.T) {
	db := shared(t)
	s := newShop(t, db)
	reached, release := make(chan bool), make(chan bool)
	w := Define[order]("flow", 1, Activity("charge", func(ctx context.Context, run *Run[order]) error {
		reached <- true
		<-release
		return nil
	}).Undo(s.call("refund", true)))
	e := engine(t, db, quick(t), w)
	runs(t, e)
	require.NoError(t, e.Start(t.Context(), w, "a", order{}))
	<-reached
	require.NoError(t, e.Cancel(t.Context(), "flow", "a", "enough"))
	close(release)
	comesTo(t, e, "flow", "a", Compensated)
	require.Equal(t, "refund", join(history(t, db, "flow", "a")))
}

// An activity longer than the lease keeps it, by heartbeats; another engine does not
// take the instance.
func TestLongerThanTheLease(t *testing.T) {
	db := shared(t)
	var calls atomic.Int64
	w := Define[order]("flow", 1, Activity("long", func(ctx context.Context, _ *Run[order]) error {
		calls.Add(1)
		pause(ctx, 7*time.Second)
		return ctx.Err()
	}))
	cfg := quick(t)
	cfg.Lease = 5 * time.Second
	one, two := engine(t, db, cfg, w), engine(t, db, cfg, w)
	runs(t, one)
	runs(t, two)
	require.NoError(t, one.Start(t.Context(), w, "a", order{}))
	comesTo(t, one, "flow", "a", Completed)
	require.EqualValues(t, 1, calls.Load())
}

// Timeout ends the attempt's context, and the error says so.
func TestTimeout(t *testing.T) {
	db := shared(t)
	w := Define[order]("flow", 1, Activity("long", func(ctx context.Context, _ *Run[order]) error {
		<-ctx.Done()
		return ctx.Err()
	}).Timeout(20*time.Millisecond).Retry(1, time.Second), Tx("never", func(context.Context, *Run[order], pgx.Tx) error { return nil }))
	e := engine(t, db, quick(t), w)
	runs(t, e)
	require.NoError(t, e.Start(t.Context(), w, "a", order{}))
	require.Contains(t, comesTo(t, e, "flow", "a", Compensated).Reason, "longer than its timeout of 20ms")
}

// Stopping interrupts a step after StopWithin, which is no failed attempt, and gives
// the instance back at once.
func TestStopGivesBack(t *testing.T) {
	db := shared(t)
	var calls atomic.Int64
	reached := make(chan bool, 2)
	w := Define[order]("flow", 1, Activity("long", func(ctx context.Context, _ *Run[order]) error {
		reached <- true
		if calls.Add(1) == 1 {
			<-ctx.Done()
			return ctx.Err()
		}
		return nil
	}).Retry(1, time.Second))
	cfg := quick(t)
	cfg.StopWithin, cfg.Lease = 50*time.Millisecond, time.Hour
	e := engine(t, db, cfg, w)
	stop := runs(t, e)
	require.NoError(t, e.Start(t.Context(), w, "a", order{}))
	<-reached
	stop()
	runs(t, engine(t, db, cfg, w))
	comesTo(t, e, "flow", "a", Completed)
	require.EqualValues(t, 2, calls.Load())
}

// The transaction of a step is the engine's; an error of the server within it is the
// step's error; a constraint that is checked at the commit fails the attempt.
func TestTransactionOfAStep(t *testing.T) {
	db := shared(t)
	db.Exec(t, "CREATE TABLE strict (id int PRIMARY KEY DEFERRABLE INITIALLY DEFERRED)")
	var errs [3]error
	w := Define[order]("own", 1, Tx("own", func(ctx context.Context, _ *Run[order], tx pgx.Tx) error {
		errs[0], errs[1] = tx.Commit(ctx), tx.Rollback(ctx)
		errs[2] = pgx.BeginFunc(ctx, tx, func(pgx.Tx) error { return nil })
		return nil
	}))
	swallowed := Define[order]("swallowed", 1, Tx("one", func(ctx context.Context, _ *Run[order], tx pgx.Tx) error {
		_, _ = tx.Exec(ctx, "SELECT 1/0")
		return nil
	}).Retry(2, time.Millisecond))
	deferred := Define[order]("deferred", 1, Tx("one", func(ctx context.Context, _ *Run[order], tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO strict VALUES (1), (1)")
		return err
	}).Retry(2, time.Millisecond))
	e := engine(t, db, quick(t), w, swallowed, deferred)
	runs(t, e)
	for _, w := range []Workflow{w, swallowed, deferred} {
		require.NoError(t, e.Start(t.Context(), w, "a", order{}))
	}
	comesTo(t, e, "own", "a", Completed)
	require.ErrorIs(t, errs[0], errNotYours)
	require.ErrorIs(t, errs[1], errNotYours)
	require.NoError(t, errs[2])
	require.Contains(t, comesTo(t, e, "swallowed", "a", Compensated).Reason, "25P02")
	require.Contains(t, comesTo(t, e, "deferred", "a", Compensated).Reason, "23505")
	require.Equal(t, "0", db.One(t, "SELECT count(*) FROM strict"))
}
