package workflow

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// Old instances finish on the old version, by an engine that has both.
func TestVersions(t *testing.T) {
	db := shared(t)
	v1 := Define[order]("flow", 1, Wait("go", time.Hour), Activity("old", nothing))
	v2 := Define[order]("flow", 2, Wait("go", time.Hour), Activity("new", nothing), Activity("newer", nothing))
	old := engine(t, db, quick(t), v1)
	require.NoError(t, old.Start(t.Context(), v1, "a", order{}))
	stop := runs(t, old)
	comesTo(t, old, "flow", "a", Waiting)
	stop()
	both := engine(t, db, quick(t), v1, v2)
	runs(t, both)
	require.NoError(t, both.Start(t.Context(), v2, "b", order{}))
	require.NoError(t, both.Start(t.Context(), v2, "a", order{}), "the key is there")
	for _, key := range []string{"a", "b"} {
		require.NoError(t, both.Signal(t.Context(), "flow", key, "go", nil))
	}
	require.Equal(t, "go completed, old completed", stepsOf(comesTo(t, both, "flow", "a", Completed)))
	require.Equal(t, "go completed, new completed, newer completed", stepsOf(comesTo(t, both, "flow", "b", Completed)))
	require.ErrorIs(t, old.Start(t.Context(), v2, "c", order{}), ErrUnknown)
}

// An instance of an unknown workflow or version, with changed steps, or a state that
// does not fit, is halted alone; a program that has its steps takes it up.
func TestUnknownHaltsOneInstance(t *testing.T) {
	pgtest.Matrix(t, func(t *testing.T, c *pgtest.Cluster) {
		db := migrated(t, c)
		v1 := Define[order]("flow", 1, Activity("a", nothing))
		v2 := Define[order]("flow", 2, Activity("a", nothing))
		changed := Define[order]("changed", 1, Activity("a", nothing), Activity("b", nothing))
		state := Define[string]("state", 1, Activity("a", func(context.Context, *Run[string]) error { return nil }))
		before := engine(t, db, quick(t), v1, v2, changed, state)
		for _, w := range []Workflow{v1, v2, changed} {
			require.NoError(t, before.Start(t.Context(), w, fmt.Sprint(w.definition().version), order{}))
		}
		require.NoError(t, before.Start(t.Context(), state, "1", "text"))
		after := engine(t, db, quick(t), v1, Define[order]("changed", 1, Activity("b", nothing)), Define[order]("state", 1, Activity("a", nothing)))
		stop := runs(t, after)
		comesTo(t, after, "flow", "1", Completed)
		require.Contains(t, comesTo(t, after, "flow", "2", Halted).LastError, "no workflow flow of version 2")
		require.Contains(t, comesTo(t, after, "changed", "1", Halted).LastError, "[a=activity b=activity] when it was started and are [b=activity]")
		require.Contains(t, comesTo(t, after, "state", "1", Halted).LastError, "decode the state")
		stop()
		runs(t, before)
		comesTo(t, before, "flow", "2", Completed)
		comesTo(t, before, "changed", "1", Completed)
		comesTo(t, before, "state", "1", Halted)
		require.NoError(t, before.Resume(t.Context(), "state", "1"))
		comesTo(t, before, "state", "1", Completed)
	})
}

// Failures are stored with the time of the next attempt, which no engine anticipates,
// and the state of a failed attempt is forgotten.
func TestRetries(t *testing.T) {
	db := shared(t)
	var calls atomic.Int64
	keys := make(chan string, 10)
	w := Define[order]("flow", 1, Activity("call", func(_ context.Context, run *Run[order]) error {
		keys <- run.Key()
		run.State().Done = append(run.State().Done, "called")
		if n := calls.Add(1); n < 3 {
			if run.Attempt() != int(n) {
				return Fail(fmt.Errorf("attempt %d is said to be %d", n, run.Attempt()))
			}
			return RetryAfter(errors.New("not \x00yet"), time.Hour)
		}
		return nil
	}).Retry(3, time.Minute))
	e := engine(t, db, quick(t), w)
	require.NoError(t, e.Start(t.Context(), w, "a", order{}))
	stop := runs(t, e)
	tried := func(n int64) {
		pgtest.Eventually(t, within, func() bool {
			d, err := e.Show(t.Context(), "flow", "a")
			require.NoError(t, err)
			return calls.Load() == n && d.Owner == "" && len(d.Steps) == 1 && d.Steps[0].Attempts == int(n)
		}, "attempt %d is stored", n)
	}
	tried(1)
	stop()
	again := engine(t, db, quick(t), w)
	runs(t, again)
	d, err := e.Show(t.Context(), "flow", "a")
	require.NoError(t, err)
	require.Equal(t, "not \uFFFDyet", d.LastError)
	require.Equal(t, "call retrying", stepsOf(d))
	require.Greater(t, time.Until(*d.AvailableAt), 50*time.Minute)
	require.WithinDuration(t, *d.AvailableAt, *d.Steps[0].NextAt, time.Second)
	require.EqualValues(t, 1, calls.Load())
	require.NoError(t, again.Resume(t.Context(), "flow", "a"))
	tried(2)
	require.NoError(t, again.Resume(t.Context(), "flow", "a"))
	d = comesTo(t, e, "flow", "a", Completed)
	require.JSONEq(t, `{"Number": 0, "Break": "", "Done": ["called"]}`, string(d.State))
	require.Equal(t, <-keys, <-keys)
	require.EqualValues(t, 3, d.Steps[0].Attempts)
}
