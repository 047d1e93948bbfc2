package main

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/workflow"
)

type checkout struct{ Order int }

// checkoutOf is a workflow whose compensation fails until it is mended.
func checkoutOf(mended *atomic.Bool) *workflow.Definition[checkout] {
	return workflow.Define[checkout]("checkout", 1,
		workflow.Tx("reserve", func(context.Context, *workflow.Run[checkout], pgx.Tx) error { return nil }).
			Undo(func(context.Context, *workflow.Run[checkout], pgx.Tx) error {
				if mended.Load() {
					return nil
				}
				return workflow.Fail(errors.New("the stock is closed"))
			}),
		workflow.Wait("shipped", time.Hour))
}

// engineOn runs the workflow on the site's database until the test ends.
func engineOn(t *testing.T, s *site, w *workflow.Definition[checkout]) *workflow.Engine {
	t.Helper()
	pool := s.db.Pool(t)
	e, err := workflow.New(pool, workflow.Config{Poll: 20 * time.Millisecond, StopWithin: time.Second}, w)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- e.Run(ctx) }()
	t.Cleanup(func() { cancel(); require.NoError(t, <-ended) })
	return e
}

// The life of workflow instances as an operator sees it.
func TestWorkflows(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	require.JSONEq(t, "[]", s.do(t, exitOK, "workflow", "list", "--json").stdout)
	var mended atomic.Bool
	w := checkoutOf(&mended)
	e := engineOn(t, s, w)
	for n, key := range []string{"order:1", "order:2"} {
		require.NoError(t, e.Start(t.Context(), w, key, checkout{n}))
	}
	comesTo := func(key, state string) {
		t.Helper()
		pgtest.Eventually(t, within, func() bool {
			return as[instanceWhole](t, s.do(t, exitOK, "workflow", "show", "checkout", key, "--json")).State == workflow.Status(state)
		}, "%s becomes %s", key, state)
	}
	comesTo("order:1", "waiting")
	comesTo("order:2", "waiting")
	signalled(t, s)
	comesTo("order:1", "completed")

	require.Contains(t, s.do(t, exitOK, "workflow", "cancel", "checkout", "order:2").stdout, "nothing cancelled")
	comesTo("order:2", "waiting")
	require.Contains(t, s.do(t, exitOK, "workflow", "cancel", "checkout", "order:2", "--yes", "--reason", "ordered twice").stdout, "cancelled checkout order:2")
	comesTo("order:2", "failed")
	stuck := as[[]instanceView](t, s.do(t, exitOK, "workflow", "list", "--state", "failed", "--name", "checkout", "--json"))
	require.Len(t, stuck, 1)
	require.Equal(t, "ordered twice", stuck[0].CancelReason)
	require.Contains(t, s.do(t, exitFailure, "status").stdout, "workflow     checkout: 0 running, 0 waiting, 0 compensating, 1 failed, 0 halted")
	out := s.do(t, exitOK, "workflow", "show", "checkout", "order:2").stdout
	require.Contains(t, out, "undo: the stock is closed")
	mended.Store(true)
	require.Equal(t, "resumed checkout order:2\n", s.do(t, exitOK, "workflow", "resume", "checkout", "order:2").stdout)
	comesTo("order:2", "compensated")
	mistakenly(t, s)
}

// signalled sends a signal twice under one id, and looks at it.
func signalled(t *testing.T, s *site) {
	t.Helper()
	for range 2 {
		r := s.do(t, exitOK, "workflow", "signal", "checkout", "order:1", "early", "--data", `{"parcel": 7}`, "--id", "a")
		require.Equal(t, "sent early to checkout order:1\n", r.stdout)
	}
	d := as[instanceWhole](t, s.do(t, exitOK, "workflow", "show", "checkout", "order:1", "--json"))
	require.Equal(t, "shipped", d.WaitingFor)
	require.Len(t, d.Signals, 1)
	require.JSONEq(t, `{"parcel": 7}`, string(d.Signals[0].Data))
	require.Nil(t, d.Signals[0].ConsumedBy)
	require.Len(t, d.Timers, 1)
	require.Len(t, d.Steps, 1)
	require.JSONEq(t, `{"Order": 0}`, string(d.Data))
	out := s.do(t, exitOK, "workflow", "show", "checkout", "order:1").stdout
	for _, want := range []string{"waiting for  shipped\n", "reserve", "timer of step 1: fires at ", "not consumed, {\"parcel\":7}\n"} {
		require.Contains(t, out, want)
	}
	s.do(t, exitOK, "workflow", "signal", "checkout", "order:1", "shipped", "--json")
}

func mistakenly(t *testing.T, s *site) {
	t.Helper()
	for _, args := range [][]string{
		{"show", "checkout"}, {"list", "--state", "lost"}, {"cancel", "checkout", "order:1", "--json"}, {"signal", "checkout", "order:1", "x", "--data", "{"},
	} {
		s.do(t, exitUsage, append([]string{"workflow"}, args...)...)
	}
	for _, args := range [][]string{{"show", "checkout", "nobody"}, {"resume", "nothing", "order:1"}, {"cancel", "checkout", "nobody", "--yes"}, {"signal", "checkout", "nobody", "x"}} {
		require.Contains(t, s.do(t, exitFailure, append([]string{"workflow"}, args...)...).stderr, "there is no such workflow instance")
	}
	require.Contains(t, s.do(t, exitFailure, "workflow", "signal", "checkout", "order:1", "x").stderr, "has finished")
	out := s.do(t, exitOK, "workflow", "list", "--limit", "1").stdout
	require.Contains(t, out, "order:2")
	require.Contains(t, out, "there may be more: --before ")
}
