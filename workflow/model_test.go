package workflow

import (
	"context"
	"encoding/json"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// Three engines share instances whose steps fail at random, by errors, panics and
// lost connections; some are cancelled at random. Each ends whole.
func TestModel(t *testing.T) {
	pgtest.Matrix(t, func(t *testing.T, c *pgtest.Cluster) {
		db := migrated(t, c)
		chance := dice(t)
		s := newShop(t, db)
		s.flaky = failing(chance)
		w := s.checkout("checkout")
		cfg := quick(t)
		cfg.MaxAttempts = 100
		proxy := pgtest.NewProxy(t, db.DSN())
		for range 3 {
			pool, err := pgxpool.New(t.Context(), proxy.DSN(db.DSN()))
			require.NoError(t, err)
			t.Cleanup(pool.Close)
			e, err := New(pool, cfg, w)
			require.NoError(t, err)
			runs(t, e)
		}
		sure := engine(t, db, cfg, w)
		const instances = 60
		for n := range instances {
			o := order{Number: n}
			for _, at := range forward {
				if chance(12) {
					o.Break = at
				}
			}
			startShipped(t, sure, w, keyOf(n), o)
			if chance(20) {
				err := sure.Cancel(t.Context(), "checkout", keyOf(n), "by chance")
				require.True(t, err == nil || errors.Is(err, ErrFinished), "%v", err)
			}
			if chance(10) {
				proxy.Cut()
			}
		}
		for n := range instances {
			requireEnd(t, db, sure, keyOf(n))
		}
	})
}

// dice makes a function that is true so often of a hundred times.
func dice(t testing.TB) func(percent int) bool {
	rnd := seed(t)
	var mu sync.Mutex
	return func(percent int) bool {
		mu.Lock()
		defer mu.Unlock()
		return rnd.IntN(100) < percent
	}
}

// failing makes steps fail by chance.
func failing(chance func(int) bool) func(string) error {
	return func(string) error {
		switch {
		case chance(10):
			return errors.New("by chance")
		case chance(5):
			panic("by chance")
		case chance(5):
			return RetryAfter(errors.New("by chance"), time.Millisecond)
		}
		return nil
	}
}

// requireEnd waits for an instance's end and checks that it is whole, and the end
// that it should have.
func requireEnd(t testing.TB, db *pgtest.DB, e *Engine, key string) {
	t.Helper()
	var d Details
	pgtest.Eventually(t, within, func() bool {
		var err error
		d, err = e.Show(t.Context(), "checkout", key)
		require.NoError(t, err)
		return d.Status.final()
	}, "%s ends", key)
	requireWhole(t, db, d)
	var o order
	require.NoError(t, json.Unmarshal(d.State, &o))
	require.Equal(t, o.Break == "" && d.CancelReason == "", d.Status == Completed, "%+v", d)
}

// A transaction of unknown result that had committed: what it finished or gave back
// is not taken again.
func TestUnknownResultThatCommitted(t *testing.T) {
	db := shared(t)
	last := Define[order]("last", 1, Activity("a", nothing))
	later := Define[order]("later", 1, Activity("a", func(context.Context, *Run[order]) error { return RetryAfter(errBroken, time.Hour) }))
	first := Define[order]("first", 1, Activity("a", nothing), Activity("b", nothing))
	e := engine(t, db, quick(t), last, later, first)
	r := newRunner(e)
	r.soft, r.hard = t.Context(), t.Context()
	for _, w := range []Workflow{last, later, first} {
		require.NoError(t, e.Start(t.Context(), w, "a", order{}))
	}
	taken, err := r.due.take(t.Context(), r, 10)
	require.NoError(t, err)
	require.Len(t, taken, 3)
	for _, in := range taken {
		_, err := r.advance(in)
		require.NoError(t, err)
		in.lease.renewed(time.Now().Add(time.Hour), time.Hour, nil) // time is not what this is about
		again := r.retake(in)
		if in.name != "first" {
			require.Nil(t, again, in.name)
			continue
		}
		require.Equal(t, 1, again.step)
		require.Equal(t, in.generation+1, again.generation)
		again.lease.end()
		_, err = r.advance(in)
		require.ErrorIs(t, err, ErrLeaseLost, "the older self is fenced")
		in.lease.end()
	}
	require.Equal(t, "1", db.One(t, "SELECT count(*) FROM walbridge.workflow_instance WHERE owner IS NOT NULL"))
}

// An engine goes on when the server is back after a crash.
func TestServerCrash(t *testing.T) {
	db := migrated(t, pgtest.New(t))
	s := newShop(t, db)
	reached := make(chan bool, 100)
	s.flaky = func(what string) error {
		reached <- true
		return nil
	}
	w := s.checkout("checkout")
	e := engine(t, db, quick(t), w)
	runs(t, e)
	const instances = 20
	for n := range instances {
		startShipped(t, e, w, keyOf(n), order{})
	}
	<-reached
	require.NoError(t, db.Cluster().Server().Kill())
	require.NoError(t, db.Cluster().Server().Restart(t.Context()))
	pgtest.Eventually(t, within, func() bool { return e.pool.Ping(t.Context()) == nil }, "the server is back")
	other := engine(t, db, quick(t), w)
	for n := range instances {
		d := comesTo(t, other, "checkout", keyOf(n), Completed)
		requireWhole(t, db, d)
	}
}
