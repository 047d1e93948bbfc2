package queue

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// TestChaos: workers of all kinds come and go, connections are cut, leases are lost,
// pauses happen, items fail for a while or for good, all at random.
// In the end the effects in the database are those of one sequential run: with RunTx
// each item once; each key in order; dead exactly the poison.
func TestChaos(t *testing.T) {
	t.Parallel()
	db := migrated(t, testLanes)
	readModel(t, db)
	random := seeded(t)
	proxy := pgtest.NewProxy(t, db.DSN())
	cfg := testConfig(t, "work")
	cfg.Lease, cfg.BatchItems, cfg.MaxAttempts, cfg.Logger = time.Second, 30, 4, nil
	_, err := Subscribe(t.Context(), poolOf(t, db, 2), cfg)
	require.NoError(t, err)
	var workers sync.WaitGroup
	total := 0
	for range 12 {
		produce(t, db, 300, 23)
		total += 300
		life := time.Duration(100+random.IntN(1500)) * time.Millisecond
		ctx, cancel := context.WithTimeout(t.Context(), life)
		defer cancel()
		workers.Go(func() { chaosWorker(t, ctx, proxy.DSN(db.DSN()), cfg) })
		switch random.IntN(4) {
		case 0:
			proxy.Cut()
		case 1:
			db.Exec(t, "UPDATE walbridge.lane SET lease_expires_at = clock_timestamp() WHERE lane % 2 = 0") // as if the heartbeat was late
		case 2:
			db.Exec(t, "SELECT walbridge.pause('work')")
			db.Exec(t, "SELECT walbridge.resume('work')")
		}
		timer := time.NewTimer(time.Duration(random.IntN(200)) * time.Millisecond)
		<-timer.C
	}
	workers.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	workers.Go(func() { chaosWorker(t, ctx, db.DSN(), cfg) })
	dead := total / 100
	pgtest.Eventually(t, 2*patience, func() bool {
		return rows(t, db) >= total-dead && db.One(t, "SELECT count(*) FROM walbridge.dead_letter") == fmt.Sprint(dead)
	}, "all items")
	cancel()
	workers.Wait()
	requireModel(t, db, total-dead)
	require.Equal(t, "0", db.One(t, "SELECT count(*) FROM walbridge.dead_letter WHERE seq % 100 <> 42"), "only the poison is dead")
	require.Equal(t, "0", db.One(t, `SELECT count(*) FROM (SELECT key, seq, lag(seq) OVER (PARTITION BY key ORDER BY id) AS before FROM model) m WHERE before > seq`), "order of each key")
	requireSettled(t, db, "work")
}

// chaosWorker is a worker whose handler fails now and then.
func chaosWorker(t testing.TB, ctx context.Context, dsn string, cfg Config) {
	pool := poolAt(t, dsn, 4)
	defer pool.Close()
	s := &Subscription{pool: pool, cfg: cfg.WithDefaults()}
	err := s.RunTx(ctx, func(ctx context.Context, tx pgx.Tx, items []Item) error {
		if err := project(ctx, tx, items); err != nil {
			return err
		}
		for _, it := range items {
			if it.Seq%100 == 42 || it.Seq%50 == 7 && it.Attempt < 3 {
				return errors.New("not now")
			}
		}
		return nil
	})
	if err != nil {
		t.Errorf("the worker ended: %v", err)
	}
}
