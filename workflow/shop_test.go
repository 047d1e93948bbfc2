package workflow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// shopTables are effects: of transactions, and of calls to a service outside, which
// keeps one effect for each idempotency key and counts the calls.
const shopTables = `
CREATE SEQUENCE happened;
CREATE TABLE effect (n bigint DEFAULT nextval('happened'), workflow text, instance text, what text);
CREATE TABLE outside (n bigint DEFAULT nextval('happened'), workflow text, instance text, what text, key text UNIQUE, calls int DEFAULT 1)`

// order is the state of the workflows under test.
type order struct {
	Number int
	Break  string   // the step that fails for good; empty: none
	Done   []string // what its steps have done, in order
}

// shop makes workflows whose effects are counted.
type shop struct {
	outside *pgxpool.Pool
	flaky   func(what string) error // called in each step; nil: none fails
}

func (s shop) happen(what string) error {
	if s.flaky == nil {
		return nil
	}
	return s.flaky(what)
}

var errBroken = errors.New("broken as told")

func (s shop) tx(what string, undo bool) func(context.Context, *Run[order], pgx.Tx) error {
	return func(ctx context.Context, run *Run[order], tx pgx.Tx) error {
		if err := s.happen(what); err != nil {
			return err
		}
		name, _ := run.Workflow()
		if _, err := tx.Exec(ctx, "INSERT INTO effect (workflow, instance, what) VALUES ($1, $2, $3)", name, run.Instance(), what); err != nil {
			return err
		}
		if !undo && run.State().Break == what {
			return Fail(errBroken)
		}
		run.State().Done = append(run.State().Done, what)
		return nil
	}
}

func (s shop) call(what string, undo bool) func(context.Context, *Run[order]) error {
	return func(ctx context.Context, run *Run[order]) error {
		if !undo && run.State().Break == what {
			return Fail(errBroken)
		}
		name, _ := run.Workflow()
		_, err := s.outside.Exec(ctx, `INSERT INTO outside AS o (workflow, instance, what, key) VALUES ($1, $2, $3, $4)
			ON CONFLICT (key) DO UPDATE SET calls = o.calls + 1`, name, run.Instance(), what, run.Key())
		if err != nil {
			return err
		}
		if err := s.happen(what); err != nil {
			return err // the effect is there, and nobody knows
		}
		run.State().Done = append(run.State().Done, what)
		return nil
	}
}

// checkout is reserve, charge, shipped, close.
func (s shop) checkout(name string) *Definition[order] {
	return Define[order](name, 1,
		Tx("reserve", s.tx("reserve", false)).Undo(s.tx("release", true)),
		Activity("charge", s.call("charge", false)).Undo(s.call("refund", true)),
		Wait("shipped", time.Hour),
		Tx("pack", s.tx("pack", false)).Undo(s.tx("unpack", true)),
		Activity("thank", s.call("thank", false)))
}

var (
	forward  = []string{"reserve", "charge", "pack", "thank"}
	backward = map[string]string{"reserve": "release", "charge": "refund", "pack": "unpack"}
)

// history is what has happened for an instance, in order.
func history(t testing.TB, db *pgtest.DB, workflow, key string) []string {
	t.Helper()
	var all []string
	for _, row := range db.Query(t, `SELECT what FROM (SELECT n, what, workflow, instance FROM effect UNION ALL SELECT n, what, workflow, instance FROM outside) h
		WHERE workflow = $1 AND instance = $2 ORDER BY n`, workflow, key) {
		all = append(all, row[0])
	}
	return all
}

// requireWhole checks the promise: all steps once, or all compensated in reverse
// order; no step after its compensation. effects are once even for calls outside,
// which has idempotency keys.
func requireWhole(t testing.TB, db *pgtest.DB, d Details) {
	t.Helper()
	got := history(t, db, d.Workflow, d.Key)
	var state order
	require.NoError(t, json.Unmarshal(d.State, &state))
	switch d.Status {
	case Completed:
		require.Equal(t, forward, got, "%+v", d)
		require.Equal(t, forward, state.Done)
	case Compensated:
		n := slices.IndexFunc(got, func(what string) bool { return !slices.Contains(forward, what) })
		if n < 0 {
			require.Empty(t, got)
			return
		}
		require.Equal(t, forward[:n], got[:n], "forward in order, once")
		var undone []string
		for _, what := range slices.Backward(got[:n]) {
			if u := backward[what]; u != "" {
				undone = append(undone, u)
			}
		}
		// A call of unknown outcome is compensated, whether it took place or not.
		if len(got)-n == len(undone)+1 && n < len(forward) {
			undone = slices.Insert(undone, 0, backward[forward[n]])
		}
		require.Equal(t, undone, got[n:], "backward in reverse order, once: %+v", got)
	default:
		t.Fatalf("%s %s is %s: %+v", d.Workflow, d.Key, d.Status, d)
	}
	require.Equal(t, "0", db.One(t, "SELECT count(*) FROM walbridge.workflow_instance WHERE owner IS NOT NULL AND finished_at IS NOT NULL"))
}

func newShop(t testing.TB, db *pgtest.DB) shop { return shop{outside: poolOf(t, db)} }

// startShipped starts an instance that has its signal already.
func startShipped(t testing.TB, e *Engine, w *Definition[order], key string, o order) {
	t.Helper()
	require.NoError(t, pgx.BeginFunc(t.Context(), e.pool, func(tx pgx.Tx) error {
		return errors.Join(e.StartTx(t.Context(), tx, w, key, o), e.SignalTx(t.Context(), tx, w.Name(), key, "shipped", "parcel"))
	}))
}

func keyOf(n int) string { return fmt.Sprintf("order:%d", n) }

func join(s []string) string { return strings.Join(s, " ") }
