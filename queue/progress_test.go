package queue

import (
	"context"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// TestCheckpointAndWaitFor: what a subscription says about itself is true before,
// while and after it works, and a worker's metrics say the same.
func TestCheckpointAndWaitFor(t *testing.T) {
	t.Parallel()
	db := migrated(t, testLanes)
	registry := prometheus.NewRegistry()
	cfg := testConfig(t, "search")
	cfg.Lease, cfg.Metrics = time.Second, registry
	sub := subscribed(t, db, cfg)
	db.Exec(t, "INSERT INTO walbridge.source (name) VALUES ('shop')")
	produce(t, db, 100, 10)
	p, err := sub.Checkpoint(t.Context())
	require.NoError(t, err)
	require.Zero(t, p.Seq)
	require.EqualValues(t, 100, p.Head)
	require.EqualValues(t, 100, p.LagItems)
	require.Positive(t, p.Lag)
	const end = LSN(0x1000 + 101)
	require.ErrorIs(t, sub.WaitFor(t.Context(), "shop", end, 0), ErrTimeout)
	w := start(t, func(ctx context.Context) error {
		return sub.Run(ctx, func(_ context.Context, it Item) error {
			if it.Seq == 50 {
				return Dead(errTest)
			}
			return nil
		})
	})
	require.NoError(t, sub.WaitFor(t.Context(), "shop", end, patience))
	p, err = sub.Checkpoint(t.Context())
	require.NoError(t, err)
	require.EqualValues(t, 100, p.Seq)
	require.Zero(t, p.LagItems)
	require.Zero(t, p.Lag)
	require.Equal(t, "shop", p.Source)
	require.Equal(t, end, p.LSN)
	require.EqualValues(t, 1, p.Dead)
	pgtest.Eventually(t, patience, func() bool { return value(t, registry, "walbridge_queue_dead") == 1 }, "the metric")
	require.EqualValues(t, 8, value(t, registry, "walbridge_queue_lease_takeovers_total"))
	require.EqualValues(t, 100, value(t, registry, "walbridge_queue_handle_seconds"))
	w.end()
	families, err := registry.Gather()
	require.NoError(t, err)
	require.Empty(t, families, "the metrics went with the worker")
}

var errTest = Retry(context.DeadlineExceeded, 0)

func value(t testing.TB, registry *prometheus.Registry, name string) float64 {
	families, err := registry.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
		}
	}
	return -1
}

// TestSubscribeRefuses what cannot work.
func TestSubscribeRefuses(t *testing.T) {
	t.Parallel()
	db := migrated(t, testLanes)
	cfg := testConfig(t, "search")
	subscribed(t, db, cfg)
	cfg.Streams = []string{"others"}
	_, err := Subscribe(t.Context(), poolOf(t, db, 2), cfg)
	require.ErrorIs(t, err, ErrConflict)
	_, err = Subscribe(t.Context(), poolOf(t, db, 1), cfg)
	require.ErrorContains(t, err, "a worker needs 2")
	db.Exec(t, "UPDATE walbridge.schema_version SET version = 1, compatible_from = 1")
	_, err = Subscribe(t.Context(), poolOf(t, db, 2), cfg)
	require.ErrorContains(t, err, "migrate the schema")
	db.Exec(t, "UPDATE walbridge.schema_version SET version = 999")
	sub := subscribed(t, db, testConfig(t, "search"))
	db.Exec(t, "SELECT walbridge.expire('search')")
	w := start(t, func(ctx context.Context) error { return sub.Run(ctx, func(context.Context, Item) error { return nil }) })
	require.ErrorIs(t, w.wait(), ErrExpired)
}
