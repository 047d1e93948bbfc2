package main

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/examples/internal/proof"
)

// The worker processes run engine and consumer; their argument is how long the saga
// waits for a parcel.
func TestMain(m *testing.M) {
	proof.Main(m, func(ctx context.Context, pool *pgxpool.Pool, arg string) error {
		parcel, err := time.ParseDuration(arg)
		if err != nil {
			return err
		}
		return work(ctx, pool, parcel)
	})
}

// barrier makes the storing of one step of the saga wait for the test, which holds
// the lock: the step's work is done and not committed.
const barrier = `
CREATE FUNCTION barrier() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
	IF NEW.name = (SELECT name FROM barred) AND NEW.status = (SELECT status FROM barred) THEN PERFORM pg_advisory_xact_lock(7); END IF;
	RETURN NEW; END $$;
CREATE TABLE barred AS SELECT NULL::text AS name, NULL::text AS status;
CREATE TRIGGER barrier BEFORE INSERT OR UPDATE ON walbridge.workflow_step FOR EACH ROW EXECUTE FUNCTION barrier();`

// A worker is killed while each step, and each compensation, is about to be stored.
func TestCrashAfterEveryStepAllStepsOnceOrAllCompensated(t *testing.T) {
	t.Parallel()
	s := proof.New(t, setup())
	_, err := s.Pool.Exec(t.Context(), barrier)
	require.NoError(t, err)
	points := []struct{ card, step, status string }{
		{"good", "reserve", "completed"}, {"good", "charge", "completed"}, {"good", "shipped", "completed"}, {"good", "close", "completed"},
		{"lost", "charge", "compensated"}, {"lost", "reserve", "compensated"}, {"stolen", "reserve", "compensated"},
	}
	for i, p := range points {
		crashAt(s, strconv.Itoa(i+1), p.card, p.step, p.status)
	}
	verify(s, len(points))
}

func crashAt(s *proof.Stage, order, card, step, status string) {
	s.T.Helper()
	ctx := s.T.Context()
	lock, err := s.Pool.Acquire(ctx)
	require.NoError(s.T, err)
	defer lock.Release()
	for _, sql := range []string{"SELECT pg_advisory_lock(7)", "UPDATE barred SET name = '" + step + "', status = '" + status + "'"} {
		_, err = lock.Exec(ctx, sql)
		require.NoError(s.T, err)
	}
	events := 1
	require.NoError(s.T, publish(ctx, s.Pool, order, "OrderPlaced", Order{"lamp", card}))
	if card != "lost" {
		events++
		require.NoError(s.T, publish(ctx, s.Pool, order, "ParcelShipped", map[string]string{"parcel": "7F"}))
	}
	// Only then the saga begins, so that a parcel is never late.
	s.Until("SELECT count(*) = $2 FROM walbridge.log WHERE partition_key = $1", order, events)
	w := s.Worker("500ms")
	s.Until("SELECT EXISTS (SELECT FROM pg_locks WHERE locktype = 'advisory' AND objid = 7 AND NOT granted)")
	proof.Kill(s.T, w)
	_, err = lock.Exec(ctx, "UPDATE barred SET name = NULL")
	require.NoError(s.T, err)
	_, err = lock.Exec(ctx, "SELECT pg_advisory_unlock(7)")
	require.NoError(s.T, err)
	w = s.Worker("500ms")
	n, _ := strconv.Atoi(order)
	s.Until(finished, n)
	proof.Kill(s.T, w)
}

// verify compares what the parties have with what the sagas say.
func verify(s *proof.Stage, orders int) {
	s.T.Helper()
	require.Equal(s.T, "0", s.One(`SELECT count(*)::text FROM walbridge.workflow_instance i
		LEFT JOIN (SELECT order_key, string_agg(what, ',' ORDER BY n) AS what FROM history GROUP BY 1) h ON order_key = key
		WHERE what IS DISTINCT FROM CASE status WHEN 'completed' THEN 'reserve,close' ELSE 'reserve,release' END`), "each step once, none after its compensation")
	require.Equal(s.T, "0", s.One(`SELECT count(*)::text FROM walbridge.workflow_instance i
		LEFT JOIN (SELECT order_key, count(*) AS n, bool_or(refunded) AS refunded FROM payment GROUP BY 1) p ON order_key = key
		WHERE CASE status WHEN 'completed' THEN n IS DISTINCT FROM 1 OR refunded ELSE n > 1 OR NOT refunded END`), "one payment, or a refunded one, or none")
	completed := s.One("SELECT count(*)::text FROM walbridge.workflow_instance WHERE status = 'completed'")
	n, err := strconv.Atoi(completed)
	require.NoError(s.T, err)
	require.Equal(s.T, strconv.Itoa(1000-n), s.One("SELECT amount::text FROM stock"))
	require.Equal(s.T, strconv.Itoa(orders), s.One("SELECT count(*)::text FROM walbridge.workflow_instance"))
	s.Until("SELECT count(*) = $1 FROM walbridge.log WHERE type = 'OrderClosed'", n)
	require.Positive(s.T, n)
	require.Less(s.T, n, orders)
}

// Two workers, the bridge and the server are killed at random moments.
func TestAllStepsOnceOrAllCompensatedAcrossRandomKills(t *testing.T) {
	t.Parallel()
	s := proof.New(t, setup())
	orders := proof.Size(24, 400)
	for i := range orders {
		order := strconv.Itoa(i + 1)
		require.NoError(t, publish(t.Context(), s.Pool, order, "OrderPlaced", Order{"lamp", []string{"good", "lost", "stolen"}[i%3]}))
		if i%3 != 1 {
			require.NoError(t, publish(t.Context(), s.Pool, order, "ParcelShipped", map[string]string{"parcel": "7F"}))
		}
	}
	stays := s.Worker("5s")
	for range proof.Size(3, 30) {
		w := s.Worker("5s")
		s.Pause(1500 * time.Millisecond)
		proof.Kill(t, w)
		switch s.Rand.IntN(3) {
		case 0:
			s.RestartServer(s.Server)
		case 1:
			s.RestartBridge()
		default:
			proof.Kill(t, stays)
			stays = s.Worker("5s")
		}
	}
	s.Until(finished, orders)
	verify(s, orders)
}

// The example shows what it says.
func TestExample(t *testing.T) {
	t.Parallel()
	require.Equal(t, `order 1: completed (reserve, close)
order 2: compensated (reserve, release), since step charge: the card is refused
order 3: compensated (reserve, release), since step shipped: no signal came in time
`, proof.Output(t, "saga"))
}
