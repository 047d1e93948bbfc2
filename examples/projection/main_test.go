package main

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/examples/internal/proof"
)

// The worker processes are projectors. The slow one takes an item at a time.
func TestMain(m *testing.M) {
	proof.Main(m, func(ctx context.Context, pool *pgxpool.Pool, name string) error {
		if name == "slow" {
			return work(ctx, pool, name, 1)
		}
		return work(ctx, pool, name, 500)
	})
}

// Two projectors of different speeds are killed at random moments, and the server and
// the bridge with them, while orders come in and the read model is rebuilt.
func TestReadModelEqualsRecomputationAfterKillsOfTheProjector(t *testing.T) {
	t.Parallel()
	s := proof.New(t, setup())
	ctx := t.Context()
	sub, _, err := projection(ctx, s.Pool, "fast", 500)
	require.NoError(t, err)
	slow, _, err := projection(ctx, s.Pool, "slow", 1)
	require.NoError(t, err)
	rounds := proof.Size(3, 30)
	orders := make(chan int, 1)
	stop, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() { orders <- placeUntil(stop, s, 400*rounds) }()
	for i := range rounds {
		fast, slow := s.Worker("fast"), s.Worker("slow")
		s.Pause(time.Second)
		s.Retry(func() error { return rebuild(ctx, s.Pool, sub) })
		s.Pause(time.Second)
		proof.Kill(t, fast)
		proof.Kill(t, slow)
		switch i % 3 {
		case 0:
			s.RestartServer(s.Server)
		case 1:
			s.RestartBridge()
		}
	}
	s.Worker("fast")
	s.Worker("slow")
	cancel()
	t.Logf("%d orders", <-orders)
	require.NoError(t, s.Ready(ctx))
	s.Retry(func() error { return shown(ctx, s.Pool, sub) })
	s.Retry(func() error { return shown(ctx, s.Pool, slow) })
	for _, name := range []string{"fast", "slow"} {
		require.Equal(t, "0", s.One(`SELECT count(*)::text FROM (SELECT * FROM revenue WHERE projection = $1) r
			FULL JOIN (SELECT customer, count(*) AS orders, sum(total) AS total FROM orders GROUP BY 1) o USING (customer)
			WHERE (r.orders, r.total) IS DISTINCT FROM (o.orders, o.total)`, name), name)
	}
	require.NotEqual(t, "0", s.One("SELECT count(*)::text FROM revenue"))
}

// placeUntil places orders, also those whose answer is lost, and returns how many it
// tried.
func placeUntil(ctx context.Context, s *proof.Stage, most int) int {
	for i := range most {
		if ctx.Err() != nil {
			return i
		}
		_ = place(context.WithoutCancel(ctx), s.Pool, fmt.Sprint("customer ", i%11), i)
	}
	return most
}

// A rebuild that fails halfway has changed nothing: the read model is neither emptied
// nor filled twice.
func TestRebuildIsOneTransaction(t *testing.T) {
	t.Parallel()
	s := proof.New(t, setup())
	ctx := t.Context()
	sub, _, err := projection(ctx, s.Pool, "fast", 500)
	require.NoError(t, err)
	s.Worker("fast")
	counts := func(want int) {
		require.NoError(t, place(ctx, s.Pool, "anna", 1))
		require.NoError(t, shown(ctx, s.Pool, sub))
		orders, _, err := total(ctx, s.Pool, "fast")
		require.NoError(t, err)
		require.EqualValues(t, want, orders)
	}
	counts(1)
	_, err = s.Pool.Exec(ctx, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN RAISE EXCEPTION 'not now'; END $$;
		CREATE TRIGGER refuse BEFORE DELETE ON revenue EXECUTE FUNCTION refuse()`)
	require.NoError(t, err)
	require.ErrorContains(t, rebuild(ctx, s.Pool, sub), "not now")
	counts(2)
	_, err = s.Pool.Exec(ctx, "DROP TRIGGER refuse ON revenue")
	require.NoError(t, err)
	require.NoError(t, rebuild(ctx, s.Pool, sub))
	counts(3)
}

// After WaitFor the read model has what was committed before it, each time.
func TestWaitForNeverAnswersTooEarly(t *testing.T) {
	t.Parallel()
	s := proof.New(t, setup())
	ctx := t.Context()
	sub, _, err := projection(ctx, s.Pool, "fast", 500)
	require.NoError(t, err)
	s.Worker("fast")
	for n := range proof.Size(40, 1000) {
		require.NoError(t, place(ctx, s.Pool, fmt.Sprint("customer ", s.Rand.IntN(5)), 1))
		if s.Rand.IntN(20) == 0 {
			s.RestartBridge()
		}
		require.NoError(t, shown(ctx, s.Pool, sub))
		orders, _, err := total(ctx, s.Pool, "fast")
		require.NoError(t, err)
		require.EqualValues(t, n+1, orders)
	}
}

// The example shows what it says.
func TestExample(t *testing.T) {
	t.Parallel()
	require.Equal(t, "a hundred orders: 100 orders, 4950 in total\nrebuilt, with one more: 101 orders, 5950 in total\n", proof.Output(t, "projection"))
}
