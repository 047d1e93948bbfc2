package queue

import (
	"context"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// seen collects what handlers got.
type seen struct {
	mu    sync.Mutex
	items []Item
	times map[int64]int
	last  map[string]int64
	wrong []string
}

func newSeen() *seen { return &seen{times: map[int64]int{}, last: map[string]int64{}} }

func (s *seen) add(it Item) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.items = append(s.items, it)
	s.times[it.Seq]++
	if it.Seq <= s.last[it.Key] && s.times[it.Seq] == 1 {
		s.wrong = append(s.wrong, it.ID)
	}
	s.last[it.Key] = max(s.last[it.Key], it.Seq)
}

func (s *seen) distinct() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.times)
}

// TestRunHandlesEachItemOnce: keys in parallel, each key in order, nothing twice
// while nothing fails, and everything is settled in the end.
func TestRunHandlesEachItemOnce(t *testing.T) {
	t.Parallel()
	db := migrated(t, testLanes)
	sub := subscribed(t, db, testConfig(t, "search"))
	produce(t, db, 5000, 100)
	got := newSeen()
	w := start(t, func(ctx context.Context) error {
		return sub.Run(ctx, func(_ context.Context, it Item) error { got.add(it); return nil })
	})
	pgtest.Eventually(t, patience, func() bool { return got.distinct() == 5000 }, "all items")
	produce(t, db, 100, 10)
	pgtest.Eventually(t, patience, func() bool { return got.distinct() == 5100 }, "later items")
	w.end()
	require.Len(t, got.items, 5100)
	require.Empty(t, got.wrong)
	it := got.items[0]
	require.Equal(t, "orders", it.Stream)
	require.Equal(t, KindEvent, it.Kind)
	require.Equal(t, "Paid", it.Type)
	require.Equal(t, "shop", it.Position.Source)
	require.Equal(t, 1, it.Attempt)
	require.WithinDuration(t, time.Now(), it.CommittedAt, time.Hour)
	requireSettled(t, db, "search")
}

// requireSettled checks that every lane's checkpoint has passed all items.
func requireSettled(t testing.TB, db *pgtest.DB, name string) {
	t.Helper()
	rows := db.Query(t, `SELECT l.lane, c.seq, c.settled FROM walbridge.lane l CROSS JOIN LATERAL
		(SELECT * FROM walbridge.checkpoint c WHERE c.subscription = l.subscription AND c.lane = l.lane ORDER BY n DESC LIMIT 1) c
		WHERE l.subscription = $1 AND (c.seq < (SELECT max(g.seq) FROM walbridge.log g WHERE g.lane = l.lane AND g.stream = 'orders') OR c.settled <> '{}')`, name)
	require.Empty(t, rows, "lanes that are behind")
	require.Equal(t, "0", db.One(t, "SELECT count(*) FROM walbridge.parked WHERE subscription = $1", name))
	require.Equal(t, "0", db.One(t, "SELECT count(*) FROM walbridge.lane WHERE subscription = $1 AND owner IS NOT NULL", name))
}

// TestPoison: an item that fails is parked, its key waits, the others go on; after
// the last attempt it is dead and its key goes on.
func TestPoison(t *testing.T) {
	t.Parallel()
	db := migrated(t, testLanes)
	cfg := testConfig(t, "search")
	cfg.MaxAttempts = 3
	sub := subscribed(t, db, cfg)
	produce(t, db, 200, 10)
	got := newSeen()
	poison := errors.New("poison")
	w := start(t, func(ctx context.Context) error {
		return sub.Run(ctx, func(_ context.Context, it Item) error {
			if it.Key == "k3" && it.Seq < 20 {
				if it.Attempt == 2 {
					panic(poison)
				}
				return poison
			}
			got.add(it)
			return nil
		})
	})
	pgtest.Eventually(t, patience, func() bool { return got.distinct() == 198 }, "all items but the dead")
	w.end()
	require.Empty(t, got.wrong)
	rows := db.Query(t, `SELECT partition_key, attempts, reason, error, json_array_length(errors) FROM walbridge.dead_letter WHERE subscription = 'search' ORDER BY seq`)
	require.Len(t, rows, 2)
	require.Equal(t, []string{"k3", "3"}, rows[0][:2])
	require.Equal(t, "poison", rows[0][3])
	requireSettled(t, db, "search")
}
