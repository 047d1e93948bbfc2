package workflow

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
)

// A started instance is there with the caller's transaction, and not without; once
// per key.
func TestStartTx(t *testing.T) {
	db := shared(t)
	w := Define[order]("flow", 1, Activity("a", nothing))
	e := engine(t, db, quick(t), w)
	ctx := t.Context()
	tx, err := e.pool.Begin(ctx)
	require.NoError(t, err)
	require.NoError(t, e.StartTx(ctx, tx, w, "a", order{Number: 1}))
	require.NoError(t, tx.Rollback(ctx))
	_, err = e.Show(ctx, "flow", "a")
	require.ErrorIs(t, err, ErrNotFound)
	require.NoError(t, e.Start(ctx, w, "a", &order{Number: 2}))
	require.NoError(t, e.Start(ctx, w, "a", order{Number: 3}))
	d, err := e.Show(ctx, "flow", "a")
	require.NoError(t, err)
	require.JSONEq(t, `{"Number": 2, "Break": "", "Done": null}`, string(d.State))
	for _, bad := range []any{nil, 7, (*order)(nil), "x"} {
		require.Error(t, e.Start(ctx, w, "b", bad))
	}
	require.Error(t, e.Start(ctx, w, "", order{}))
	require.Error(t, e.Start(ctx, w, "a\x00b", order{}))
	require.Error(t, e.Start(ctx, w, strings.Repeat("k", MaxKey+1), order{}))
	require.ErrorContains(t, e.Start(ctx, w, "b", order{Break: strings.Repeat("x", MaxState)}), "more than")
	require.Error(t, e.Start(ctx, nil, "b", order{}))
	require.NoError(t, e.Start(ctx, w, strings.Repeat("k", MaxKey), order{Break: "\x00"}), "json keeps what jsonb refuses")
}

// Finished instances are pruned, and nothing else.
func TestListAndPrune(t *testing.T) {
	db := shared(t)
	w := Define[order]("flow", 1, Activity("a", nothing))
	waits := Define[order]("waits", 1, Wait("go", time.Hour))
	e := engine(t, db, quick(t), w, waits)
	runs(t, e)
	for n := range 5 {
		require.NoError(t, e.Start(t.Context(), w, keyOf(n), order{}))
	}
	require.NoError(t, e.Start(t.Context(), waits, "a", order{}))
	for n := range 5 {
		comesTo(t, e, "flow", keyOf(n), Completed)
	}
	comesTo(t, e, "waits", "a", Waiting)
	page, err := e.List(t.Context(), Filter{Workflow: "flow", Limit: 3})
	require.NoError(t, err)
	require.Len(t, page, 3)
	require.Equal(t, keyOf(4), page[0].Key)
	page, err = e.List(t.Context(), Filter{Workflow: "flow", Limit: 3, Before: page[2].ID})
	require.NoError(t, err)
	require.Len(t, page, 2)
	n, err := e.Prune(t.Context(), time.Hour)
	require.NoError(t, err)
	require.Zero(t, n)
	n, err = e.Prune(t.Context(), 0)
	require.NoError(t, err)
	require.EqualValues(t, 5, n)
	page, err = e.List(t.Context(), Filter{})
	require.NoError(t, err)
	require.Len(t, page, 1)
	require.Equal(t, "0", db.One(t, "SELECT count(*) FROM walbridge.workflow_step"))
}

// What operators do is noted in the transaction of the deed, with its outcome; what
// changed nothing is not.
func TestOperatorsAreNoted(t *testing.T) {
	db := shared(t)
	w := Define[order]("flow", 1, Wait("go", time.Hour))
	e := engine(t, db, quick(t), w)
	ctx := t.Context()
	require.NoError(t, e.Start(ctx, w, "a", order{}))
	require.NoError(t, e.Resume(ctx, "flow", "a"))
	require.NoError(t, e.Cancel(ctx, "flow", "a", "ordered twice"))
	runs(t, e)
	comesTo(t, e, "flow", "a", Compensated)
	require.ErrorIs(t, e.Cancel(ctx, "flow", "a", "too late"), ErrFinished)
	require.ErrorIs(t, e.Resume(ctx, "flow", "b"), ErrNotFound)
	for range 2 {
		_, err := e.Prune(ctx, 0)
		require.NoError(t, err)
	}
	require.Equal(t, [][]string{
		{"postgres", "workflow", "workflow resume", "flow a", "∅", "running"},
		{"postgres", "workflow", "workflow cancel", "flow a", "ordered twice", "running"},
		{"postgres", "workflow", "workflow prune", "∅", "∅", "1"},
	}, db.Query(t, "SELECT who, tool_version, command, target, arguments ->> 'reason', coalesce(after ->> 'status', after ->> 'deleted') FROM walbridge.operation WHERE command LIKE 'workflow %' ORDER BY id"))
}

// Mistakes of definitions and configurations are reported together by New, and none
// panics.
func TestMistakes(t *testing.T) {
	db := shared(t)
	bad := Define[order]("bad name", 0,
		Tx[order]("a", nil), Activity("a", nothing).Retry(0, 0).Timeout(-1).Undo(nil), Wait("w", 0), Sleep("", 0), nil,
		Activity("other", func(context.Context, *Run[string]) error { return nil }))
	_, err := New(poolOf(t, db), Config{Lease: 1, Poll: 1, Concurrency: -1, Schema: "pg_x"}, bad, nil, Define[order]("empty", 1))
	for _, want := range []string{
		"Lease", "Poll", "Concurrency", "Schema", "the name is not", "the version is not", "there is no function", "0 attempts", "a timeout of -1ns",
		"Undo without", "a timeout of 0s", "a sleep of 0s", "step's name", "a step is nil", "is of a string", "two steps", "a workflow is nil", "0 steps",
	} {
		require.ErrorContains(t, err, want)
	}
	w := Define[order]("flow", 1, Activity("a", nothing))
	_, err = New(poolOf(t, db), Config{}, w, w)
	require.ErrorContains(t, err, "given twice")
	_, err = New(nil, Config{})
	require.ErrorContains(t, err, "the pool")
}

// Run refuses a schema that is not there or does not fit, and a second Run.
func TestRunChecksTheSchema(t *testing.T) {
	db := shared(t)
	w := Define[order]("flow", 1, Activity("a", nothing))
	require.ErrorContains(t, engine(t, db, Config{Schema: "elsewhere"}, w).Run(t.Context()), "42P01")
	db.Exec(t, "UPDATE walbridge.schema_version SET version = 100, compatible_from = 99")
	require.ErrorContains(t, engine(t, db, Config{}, w).Run(t.Context()), "use a newer walbridge")
	db.Exec(t, "UPDATE walbridge.schema_version SET version = 100, compatible_from = 5")
	e := engine(t, db, quick(t), w)
	runs(t, e)
	require.NoError(t, e.Start(t.Context(), w, "a", order{}))
	comesTo(t, e, "flow", "a", Completed)
	require.ErrorContains(t, e.Run(t.Context()), "runs already")
}

// Engines share a registerer.
func TestMetrics(t *testing.T) {
	db := shared(t)
	reg := prometheus.NewRegistry()
	cfg := quick(t)
	cfg.Registerer = reg
	w := Define[order]("flow", 1, Activity("a", nothing))
	e := engine(t, db, cfg, w)
	_ = engine(t, db, cfg, w)
	stop := runs(t, e)
	require.NoError(t, e.Start(t.Context(), w, "a", order{}))
	comesTo(t, e, "flow", "a", Completed)
	stop()
	families, err := reg.Gather()
	require.NoError(t, err)
	var text strings.Builder
	for _, f := range families {
		fmt.Fprintln(&text, f)
	}
	require.Regexp(t, `name:"walbridge_workflow_instances_total".*value:"completed".*counter:\{value:1`, text.String())
	require.Regexp(t, `name:"walbridge_workflow_steps_total".*value:"completed".*counter:\{value:1`, text.String())
	require.Regexp(t, `name:"walbridge_workflow_active".*gauge:\{value:0`, text.String())
}
