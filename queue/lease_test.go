package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

func owners(t testing.TB, db *pgtest.DB) int {
	var n int
	_, _ = fmt.Sscan(db.One(t, "SELECT count(DISTINCT owner) FROM walbridge.lane WHERE owner IS NOT NULL"), &n)
	return n
}

// gate holds handlers until it is open or their context ends.
type gate struct{ open chan struct{} }

func (g gate) wait(ctx context.Context) error {
	select {
	case <-g.open:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// TestLanesAreShared: a second worker gets its share while the first is handling, an
// item is never handled by both, and what the second leaves the first takes back.
func TestLanesAreShared(t *testing.T) {
	t.Parallel()
	db := migrated(t, testLanes)
	cfg := testConfig(t, "search")
	cfg.Lease = 9 * time.Second // renewed, and shared anew, every third of it; the machine may be slow
	first, second := subscribed(t, db, cfg), subscribed(t, db, cfg)
	got := newSeen()
	handle := func(ctx context.Context, it Item) error {
		got.add(it)
		timer := time.NewTimer(time.Millisecond)
		defer timer.Stop()
		<-timer.C
		return nil
	}
	produce(t, db, 3000, 100)
	a := start(t, func(ctx context.Context) error { return first.Run(ctx, handle) })
	pgtest.Eventually(t, patience, func() bool { return got.distinct() > 100 }, "the first is at work")
	b := start(t, func(ctx context.Context) error { return second.Run(ctx, handle) })
	pgtest.Eventually(t, patience, func() bool {
		return db.One(t, "SELECT count(*) FROM (SELECT FROM walbridge.lane WHERE owner IS NOT NULL GROUP BY owner HAVING count(*) = 4) o") == "2"
	}, "half of the lanes each")
	produce(t, db, 2000, 100)
	pgtest.Eventually(t, patience, func() bool { return got.distinct() == 5000 }, "all items")
	b.end()
	pgtest.Eventually(t, patience, func() bool {
		return db.One(t, "SELECT count(*) FROM walbridge.lane WHERE owner IS NOT NULL") == "8" && owners(t, db) == 1
	}, "the first has all again")
	a.end()
	require.Len(t, got.items, 5000, "each once: lanes were given up in peace")
	require.Empty(t, got.wrong)
	requireSettled(t, db, "search")
}

// TestHandlerLongerThanTheLease: heartbeats go on while a handler works.
func TestHandlerLongerThanTheLease(t *testing.T) {
	t.Parallel()
	db := migrated(t, testLanes)
	cfg := testConfig(t, "search")
	cfg.Lease = 4 * time.Second
	sub, other := subscribed(t, db, cfg), subscribed(t, db, cfg)
	produce(t, db, 1, 1)
	var calls atomic.Int64
	handle := func(ctx context.Context, _ Item) error {
		calls.Add(1)
		timer := time.NewTimer(7 * time.Second)
		defer timer.Stop()
		select {
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
	a := start(t, func(ctx context.Context) error { return sub.Run(ctx, handle) })
	pgtest.Eventually(t, patience, func() bool { return calls.Load() == 1 }, "it is handled")
	b := start(t, func(ctx context.Context) error { return other.Run(ctx, handle) })
	pgtest.Eventually(t, patience, func() bool { return settledThrough(db, t) }, "it is settled")
	a.end()
	b.end()
	require.EqualValues(t, 1, calls.Load())
}

// TestLeaseLostInTheHandler: when the lane is taken over, the handler's context ends
// with ErrLost and its result settles nothing.
func TestLeaseLostInTheHandler(t *testing.T) {
	t.Parallel()
	db := migrated(t, testLanes)
	cfg := testConfig(t, "search")
	cfg.Lease = time.Second
	sub := subscribed(t, db, cfg)
	produce(t, db, 1, 1)
	causes := make(chan error, 10)
	w := start(t, func(ctx context.Context) error {
		return sub.Run(ctx, func(ctx context.Context, it Item) error {
			if it.Fence > 1 {
				return nil
			}
			<-ctx.Done()
			causes <- context.Cause(ctx)
			return nil // it says that it succeeded
		})
	})
	pgtest.Eventually(t, patience, func() bool { return owners(t, db) == 1 }, "the lanes are taken")
	require.NoError(t, sub.Reset(t.Context(), Beginning()))
	require.ErrorIs(t, <-causes, ErrLost)
	pgtest.Eventually(t, patience, func() bool { return settledThrough(db, t) }, "it is handled again by the new fence")
	w.end()
	require.Equal(t, "0", db.One(t, "SELECT count(*) FROM walbridge.checkpoint WHERE lease_generation = 1 AND n > 1 AND seq > 0"), "nothing was settled under the old one")
}

// TestStopWithin: what runs may finish, what waits is not begun; then contexts end.
func TestStopWithin(t *testing.T) {
	t.Parallel()
	for _, within := range []time.Duration{patience, 50 * time.Millisecond} {
		db := migrated(t, testLanes)
		cfg := testConfig(t, "search")
		cfg.StopWithin, cfg.Concurrency = within, 1
		sub := subscribed(t, db, cfg)
		produce(t, db, 20, 20)
		g := gate{make(chan struct{})}
		began := make(chan struct{}, 100)
		var cause atomic.Value
		w := start(t, func(ctx context.Context) error {
			return sub.Run(ctx, func(ctx context.Context, _ Item) error {
				began <- struct{}{}
				err := g.wait(ctx)
				if err != nil {
					cause.Store(err)
				}
				return err
			})
		})
		<-began
		w.stop()
		if within == patience {
			close(g.open)
		}
		require.NoError(t, w.wait())
		settled := db.One(t, "SELECT count(DISTINCT lane) FROM walbridge.checkpoint WHERE n > 1 AND seq > 0")
		if within == patience {
			require.Nil(t, cause.Load())
			require.NotEqual(t, "0", settled, "what ran is settled")
			require.Empty(t, began, "nothing else was begun")
		} else {
			require.ErrorIs(t, cause.Load().(error), ErrStopped)
			require.Equal(t, "0", db.One(t, "SELECT count(*) FROM walbridge.parked"), "it was no attempt")
		}
	}
}

// TestPauseResumeReset work on a running worker.
func TestPauseResumeReset(t *testing.T) {
	t.Parallel()
	db := migrated(t, testLanes)
	readModel(t, db)
	cfg := testConfig(t, "projection")
	cfg.Lease = time.Second
	sub := subscribed(t, db, cfg)
	produce(t, db, 100, 10)
	w := start(t, func(ctx context.Context) error { return sub.RunTx(ctx, project) })
	pgtest.Eventually(t, patience, func() bool { return rows(t, db) == 100 }, "all items")
	require.NoError(t, sub.Pause(t.Context()))
	pgtest.Eventually(t, patience, func() bool { return owners(t, db) == 0 }, "the lanes are given up")
	produce(t, db, 10, 10)
	require.NoError(t, sub.Resume(t.Context()))
	pgtest.Eventually(t, patience, func() bool { return rows(t, db) == 110 }, "the later ones too")
	require.NoError(t, pgx.BeginFunc(t.Context(), sub.pool, func(tx pgx.Tx) error {
		_, err := tx.Exec(t.Context(), "DELETE FROM model; DELETE FROM total")
		return errors.Join(err, sub.ResetTx(t.Context(), tx, Beginning()))
	}))
	pgtest.Eventually(t, patience, func() bool { return rows(t, db) == 110 }, "rebuilt")
	requireModel(t, db, 110)
	require.NoError(t, sub.Pause(t.Context()))
	pgtest.Eventually(t, patience, func() bool { return owners(t, db) == 0 }, "the lanes are given up again")
	produce(t, db, 7, 7) // passed over
	require.NoError(t, sub.Reset(t.Context(), End()))
	produce(t, db, 5, 5)
	pgtest.Eventually(t, patience, func() bool { return rows(t, db) >= 115 }, "from the end on")
	pgtest.Eventually(t, patience, func() bool {
		items, _, err := sub.Lag(t.Context())
		require.NoError(t, err)
		return items == 0
	}, "nothing is left")
	require.Equal(t, 115, rows(t, db), "what lay before the end is passed over")
	w.end()
}

// TestBlock: with Block the key waits behind its dead letter until that is replayed
// or discarded; the other keys go on.
func TestBlock(t *testing.T) {
	t.Parallel()
	db := migrated(t, testLanes)
	cfg := testConfig(t, "search")
	cfg.OnDead, cfg.Lease = Block, time.Second
	sub := subscribed(t, db, cfg)
	produce(t, db, 40, 4)
	got := newSeen()
	var cured atomic.Bool
	w := start(t, func(ctx context.Context) error {
		return sub.Run(ctx, func(_ context.Context, it Item) error {
			if (it.Key == "k1" || it.Key == "k2") && it.Seq < 5 && !cured.Load() {
				return Dead(errors.New("not yet"))
			}
			got.add(it)
			return nil
		})
	})
	pgtest.Eventually(t, patience, func() bool { return got.distinct() == 20 && db.One(t, "SELECT count(*) FROM walbridge.parked") == "20" }, "the other keys")
	cured.Store(true)
	db.Exec(t, "SELECT walbridge.replay(id) FROM walbridge.dead_letter WHERE partition_key = 'k1'")
	pgtest.Eventually(t, patience, func() bool { return got.distinct() == 30 }, "k1 goes on")
	db.Exec(t, "SELECT walbridge.discard(id) FROM walbridge.dead_letter WHERE partition_key = 'k2'")
	pgtest.Eventually(t, patience, func() bool { return got.distinct() == 39 }, "k2 goes on without the discarded one")
	w.end()
	requireSettled(t, db, "search")
}

// TestScheduled: an item whose time has not come waits, and its key does not.
func TestScheduled(t *testing.T) {
	t.Parallel()
	db := migrated(t, testLanes)
	sub := subscribed(t, db, testConfig(t, "search"))
	produce(t, db, 5, 1)
	db.Exec(t, "UPDATE walbridge.log SET available_at = clock_timestamp() + interval '6 s' WHERE seq = 2")
	var mu sync.Mutex
	var order []int64
	w := start(t, func(ctx context.Context) error {
		return sub.Run(ctx, func(_ context.Context, it Item) error {
			mu.Lock()
			defer mu.Unlock()
			order = append(order, it.Seq)
			return nil
		})
	})
	pgtest.Eventually(t, patience, func() bool { mu.Lock(); defer mu.Unlock(); return len(order) == 5 }, "all items")
	w.end()
	require.Equal(t, []int64{1, 3, 4, 5, 2}, order)
	requireSettled(t, db, "search")
}

// TestUnknownSettlement: the answer to a settling transaction is lost; the lanes are
// taken anew and the work goes on, in RunTx without doing anything twice.
func TestUnknownSettlement(t *testing.T) {
	t.Parallel()
	db := migrated(t, testLanes)
	readModel(t, db)
	proxy := pgtest.NewProxy(t, db.DSN())
	cfg := testConfig(t, "projection")
	cfg.Lease, cfg.BatchItems = time.Second, 50
	pool := poolAt(t, proxy.DSN(db.DSN()), 6)
	sub, err := Subscribe(t.Context(), pool, cfg)
	require.NoError(t, err)
	produce(t, db, 3000, 50)
	w := start(t, func(ctx context.Context) error { return sub.RunTx(ctx, project) })
	for i := range 5 {
		pgtest.Eventually(t, patience, func() bool { return rows(t, db) > i*400 }, "work goes on")
		proxy.MuteServer(true) // what is committed now is not heard
		timer := time.NewTimer(50 * time.Millisecond)
		<-timer.C
		proxy.Cut()
		proxy.MuteServer(false)
	}
	pgtest.Eventually(t, patience, func() bool { return rows(t, db) >= 3000 }, "all items")
	w.end()
	requireModel(t, db, 3000)
}
