package queue

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/migrations"
)

// TestMaxParked: when everything fails no more is read than MaxParked allows, beside
// what was in hand; when it heals, all of it is handled.
func TestMaxParked(t *testing.T) {
	t.Parallel()
	db := migrated(t, testLanes)
	cfg := testConfig(t, "search")
	cfg.MaxParked, cfg.MaxItems, cfg.MaxAttempts, cfg.Lease = 150, 100, 1000, time.Second
	sub := subscribed(t, db, cfg)
	produce(t, db, 2000, 2000)
	got := newSeen()
	var healed atomic.Bool
	w := start(t, func(ctx context.Context) error {
		return sub.Run(ctx, func(_ context.Context, it Item) error {
			if !healed.Load() {
				return errors.New("everything is down")
			}
			got.add(it)
			return nil
		})
	})
	full := func() bool {
		return db.One(t, "SELECT p.is_full FROM walbridge._parked('search', (SELECT settings FROM walbridge.subscription)) p") == "t"
	}
	pgtest.Eventually(t, patience, full, "it is full")
	before := db.One(t, "SELECT sum(attempts) FROM walbridge.parked")
	pgtest.Eventually(t, patience, func() bool { return db.One(t, "SELECT sum(attempts) FROM walbridge.parked") > before && full() }, "what is parked is tried again")
	var parked int
	_, _ = fmt.Sscan(db.One(t, "SELECT count(*) FROM walbridge.parked"), &parked)
	require.LessOrEqual(t, parked, cfg.MaxParked+cfg.MaxItems)
	healed.Store(true)
	pgtest.Eventually(t, patience, func() bool { return got.distinct() == 2000 }, "all items")
	w.end()
	require.Empty(t, got.wrong)
	requireSettled(t, db, "search")
}

// oneLane gives the items of the log two keys in turn that share a lane.
func oneLane(t *testing.T, db *pgtest.DB) (slow, quick string) {
	t.Helper()
	slow = "slow"
	for i := 0; quick == "" || migrations.Lane([]byte(quick), testLanes) != migrations.Lane([]byte(slow), testLanes); i++ {
		quick = fmt.Sprint("quick", i)
	}
	db.Exec(t, "UPDATE walbridge.log SET partition_key = CASE WHEN seq % 2 = 1 THEN $1 ELSE $2 END, lane = walbridge.lane($1)", slow, quick)
	return slow, quick
}

// TestManyRanges: behind the slow head of a lane other keys go on until there are as
// many ranges as a checkpoint may have; then the lane is read no further. What was
// settled ahead is not repeated by whoever takes the lane.
func TestManyRanges(t *testing.T) {
	t.Parallel()
	db := migrated(t, testLanes)
	cfg := testConfig(t, "search")
	cfg.StopWithin = 50 * time.Millisecond
	sub := subscribed(t, db, cfg)
	const first, later = 2 * (mostRanges + 200), 100
	produce(t, db, first, 1)
	slow, quick := oneLane(t, db)
	g := gate{make(chan struct{})}
	got := newSeen()
	handle := func(ctx context.Context, it Item) error {
		if it.Key == slow {
			if err := g.wait(ctx); err != nil {
				return err
			}
		}
		got.add(it)
		return nil
	}
	w := start(t, func(ctx context.Context) error { return sub.Run(ctx, handle) })
	ranges := func() string {
		return db.One(t, "SELECT max((SELECT count(*) FROM unnest(settled))) FROM walbridge.checkpoint")
	}
	pgtest.Eventually(t, patience, func() bool { return got.distinct() == first/2 && ranges() == fmt.Sprint(first/2) }, "the quick key, each a range of its own")
	_, err := db.Conn(t).Exec(t.Context(), fmt.Sprintf(produceSQL, later, 1, "orders")+
		fmt.Sprintf("; UPDATE walbridge.log SET partition_key = '%[1]s', lane = walbridge.lane('%[1]s') WHERE seq > %[2]d", quick, first)) // one transaction
	require.NoError(t, err)
	require.Never(t, func() bool { return got.distinct() > first/2 }, 3*cfg.Poll, 20*time.Millisecond, "no more is read of the lane")
	w.end()
	again := start(t, func(ctx context.Context) error { return sub.Run(ctx, handle) })
	close(g.open)
	pgtest.Eventually(t, patience, func() bool { return got.distinct() == first+later }, "all items")
	again.end()
	require.Len(t, got.items, first+later, "each once, though the lane changed hands")
	require.Empty(t, got.wrong)
	requireSettled(t, db, "search")
}

// TestRunTxLosesOneOfItsLanes: a batch of several lanes of which one is lost writes
// nothing; the others' items are written by the next.
func TestRunTxLosesOneOfItsLanes(t *testing.T) {
	t.Parallel()
	db := migrated(t, testLanes)
	readModel(t, db)
	cfg := testConfig(t, "projection")
	cfg.Concurrency = 1 // so that the batch has all lanes
	sub := subscribed(t, db, cfg)
	produce(t, db, 200, 50)
	g := gate{make(chan struct{})}
	began := make(chan []Item, 1)
	w := start(t, func(ctx context.Context) error {
		return sub.RunTx(ctx, func(ctx context.Context, tx pgx.Tx, items []Item) error {
			select {
			case began <- items:
			default:
			}
			if err := project(ctx, tx, items); err != nil {
				return err
			}
			return g.wait(context.WithoutCancel(ctx)) // it does not notice
		})
	})
	lanes := map[int]bool{}
	for _, it := range <-began {
		lanes[it.Lane] = true
	}
	require.Len(t, lanes, testLanes)
	db.Exec(t, "UPDATE walbridge.lane SET owner = 'other', lease_generation = lease_generation + 1, lease_expires_at = clock_timestamp() + interval '1 hour' WHERE lane = 3")
	close(g.open)
	others := db.One(t, "SELECT count(*) FROM walbridge.log WHERE lane <> 3")
	pgtest.Eventually(t, patience, func() bool { return db.One(t, "SELECT count(*) FROM model") == others }, "the other lanes' items")
	require.Equal(t, "0", db.One(t, "SELECT count(*) FROM model WHERE lane = 3"), "the lost lane's are not")
	db.Exec(t, "UPDATE walbridge.lane SET lease_expires_at = clock_timestamp() WHERE lane = 3")
	pgtest.Eventually(t, patience, func() bool { return rows(t, db) == 200 }, "it takes the lane anew")
	w.end()
	requireModel(t, db, 200)
	requireSettled(t, db, "projection")
}
