package workflow

import (
	"context"
	"encoding/json"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// nothing is a step that does nothing.
func nothing(context.Context, *Run[order]) error { return nil }

// A signal that was sent before the wait, and one sent while it waits, are not
// lost; a repeated id is dropped.
func TestSignals(t *testing.T) {
	pgtest.Matrix(t, func(t *testing.T, c *pgtest.Cluster) {
		db := migrated(t, c)
		var got atomic.Value
		w := Define[order]("flow", 1, Activity("before", nothing), Wait("go", time.Hour), Activity("after", func(_ context.Context, run *Run[order]) error {
			data, ok := run.Signal("go")
			got.Store(fmt.Sprint(string(data), ok))
			return nil
		}))
		e := engine(t, db, quick(t), w)
		ctx := t.Context()
		require.ErrorIs(t, e.Signal(ctx, "flow", "early", "go", 1), ErrNotFound)
		require.NoError(t, e.Start(ctx, w, "early", order{}))
		require.NoError(t, e.Signal(ctx, "flow", "early", "go", 1, SignalID("a")))
		require.NoError(t, e.Signal(ctx, "flow", "early", "go", 2, SignalID("a")))
		runs(t, e)
		comesTo(t, e, "flow", "early", Completed)
		require.Equal(t, "1true", got.Load())
		require.Equal(t, "1", db.One(t, "SELECT count(*) FROM walbridge.workflow_signal"))
		require.ErrorIs(t, e.Signal(ctx, "flow", "early", "go", 3), ErrFinished)

		require.NoError(t, e.Start(ctx, w, "late", order{}))
		d := comesTo(t, e, "flow", "late", Waiting)
		require.Equal(t, "go", d.WaitingFor)
		require.NoError(t, e.Signal(ctx, "flow", "late", "go", json.RawMessage(`{"n": 1e400}`)))
		comesTo(t, e, "flow", "late", Completed)
		require.Equal(t, `{"n":1e400}true`, got.Load())
	})
}

// A signal whose transaction is open when the wait begins: the wait begins after it
// and sees it.
func TestSignalDuringTheBeginningOfAWait(t *testing.T) {
	db := shared(t)
	reached, release := make(chan bool), make(chan bool)
	w := Define[order]("flow", 1, Activity("before", func(context.Context, *Run[order]) error {
		reached <- true
		<-release
		return nil
	}), Wait("go", time.Hour))
	e := engine(t, db, quick(t), w)
	require.NoError(t, e.Start(t.Context(), w, "a", order{}))
	runs(t, e)
	<-reached
	tx, err := e.pool.Begin(t.Context())
	require.NoError(t, err)
	require.NoError(t, e.SignalTx(t.Context(), tx, "flow", "a", "go", nil))
	close(release)
	pgtest.Eventually(t, within, func() bool {
		return db.One(t, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'") == "1"
	}, "the wait waits for the signal")
	require.NoError(t, tx.Commit(t.Context()))
	comesTo(t, e, "flow", "a", Completed)
}

// A signal's transaction that takes long delays the wait and loses nothing, nor
// does it take the lease.
func TestLongSignalTransaction(t *testing.T) {
	db := shared(t)
	w := Define[order]("flow", 1, Wait("go", time.Hour))
	e := engine(t, db, quick(t), w)
	require.NoError(t, e.Start(t.Context(), w, "a", order{}))
	tx, err := e.pool.Begin(t.Context())
	require.NoError(t, err)
	require.NoError(t, e.SignalTx(t.Context(), tx, "flow", "a", "go", nil))
	runs(t, e)
	begun := time.Now()
	pgtest.Eventually(t, within, func() bool { return time.Since(begun) > 2*busyFor }, "longer than a wait's patience")
	d, err := e.Show(t.Context(), "flow", "a")
	require.NoError(t, err)
	require.Equal(t, Running, d.Status)
	require.NoError(t, tx.Commit(t.Context()))
	comesTo(t, e, "flow", "a", Completed)

	tx, err = e.pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	require.NoError(t, err)
	defer rollback(tx)
	require.NoError(t, e.StartTx(t.Context(), tx, w, "b", order{}))
	require.ErrorContains(t, e.SignalTx(t.Context(), tx, "flow", "b", "go", nil), "has to be read committed")
}

// A wait without a signal fails the workflow, or goes on where it says so.
func TestWaitTimesOut(t *testing.T) {
	db := shared(t)
	s := newShop(t, db)
	var there atomic.Bool
	strict := Define[order]("strict", 1, Tx("reserve", s.tx("reserve", false)).Undo(s.tx("release", true)), Wait("go", 50*time.Millisecond), Activity("after", nothing))
	easy := Define[order]("easy", 1, Wait("go", 50*time.Millisecond).OrContinue(), Activity("after", func(_ context.Context, run *Run[order]) error {
		_, ok := run.Signal("go")
		there.Store(ok)
		return nil
	}))
	e := engine(t, db, quick(t), strict, easy)
	require.NoError(t, e.Start(t.Context(), strict, "a", order{}))
	require.NoError(t, e.Start(t.Context(), easy, "a", order{}))
	runs(t, e)
	d := comesTo(t, e, "strict", "a", Compensated)
	require.Equal(t, "reserve compensated, go failed", stepsOf(d))
	require.Contains(t, d.Reason, ErrTimeout.Error())
	require.Equal(t, "reserve release", join(history(t, db, "strict", "a")))
	comesTo(t, e, "easy", "a", Completed)
	require.False(t, there.Load())
}

// A workflow that sleeps through a restart resumes on time: not before, and not
// counted anew.
func TestSleepThroughARestart(t *testing.T) {
	pgtest.Matrix(t, func(t *testing.T, c *pgtest.Cluster) {
		db := migrated(t, c)
		w := Define[order]("nap", 1, Sleep("nap", 1500*time.Millisecond), Activity("after", nothing))
		e := engine(t, db, quick(t), w)
		require.NoError(t, e.Start(t.Context(), w, "a", order{}))
		stop := runs(t, e)
		d := comesTo(t, e, "nap", "a", Waiting)
		ends := db.One(t, "SELECT fires_at FROM walbridge.workflow_timer")
		stop()
		require.NoError(t, c.Server().Restart(t.Context()))
		e.pool.Reset()
		runs(t, engine(t, db, quick(t), w))
		pgtest.Eventually(t, within, func() bool {
			return db.One(t, "SELECT status FROM walbridge.workflow_instance") == string(Completed)
		}, "it wakes")
		require.Equal(t, ends, db.One(t, "SELECT fires_at FROM walbridge.workflow_timer"), "counted from the beginning")
		require.Equal(t, "t", db.One(t, "SELECT fired_at >= fires_at FROM walbridge.workflow_timer"))
		require.Equal(t, "t", db.One(t, "SELECT started_at >= $1::timestamptz FROM walbridge.workflow_step WHERE name = 'after'", ends))
		require.NotNil(t, d.AvailableAt)
	})
}
