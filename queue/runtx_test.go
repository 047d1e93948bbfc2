package queue

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// readModel makes the table that project fills: a row for each item, no constraint
// that would hide a second one.
func readModel(t testing.TB, db *pgtest.DB) {
	db.Exec(t, "CREATE TABLE model (seq bigint, key text, lane int, id bigint GENERATED ALWAYS AS IDENTITY); CREATE TABLE total (key text PRIMARY KEY, n bigint)")
}

func project(ctx context.Context, tx pgx.Tx, items []Item) error {
	b := &pgx.Batch{}
	for _, it := range items {
		b.Queue("INSERT INTO model VALUES ($1, $2, $3)", it.Seq, it.Key, it.Lane)
		b.Queue("INSERT INTO total VALUES ($1, 1) ON CONFLICT (key) DO UPDATE SET n = total.n + 1", it.Key)
	}
	return tx.SendBatch(ctx, b).Close()
}

func requireModel(t testing.TB, db *pgtest.DB, n int) {
	t.Helper()
	require.Equal(t, fmt.Sprint(n), db.One(t, "SELECT count(*) FROM model"), "each item once")
	require.Equal(t, fmt.Sprint(n), db.One(t, "SELECT count(DISTINCT seq) FROM model"))
	require.Equal(t, fmt.Sprint(n), db.One(t, "SELECT coalesce(sum(n), 0) FROM total"))
}

func rows(t testing.TB, db *pgtest.DB) int {
	var n int
	_, _ = fmt.Sscan(db.One(t, "SELECT count(*) FROM model"), &n)
	return n
}

// TestRunTxExactlyOnce: effects and checkpoint are one, poison rolls back alone, and
// its batch commits without it.
func TestRunTxExactlyOnce(t *testing.T) {
	t.Parallel()
	db := migrated(t, testLanes)
	readModel(t, db)
	cfg := testConfig(t, "projection")
	cfg.MaxAttempts, cfg.BatchItems = 2, 100
	sub := subscribed(t, db, cfg)
	produce(t, db, 3000, 50)
	var calls atomic.Int64
	w := start(t, func(ctx context.Context) error {
		return sub.RunTx(ctx, func(ctx context.Context, tx pgx.Tx, items []Item) error {
			calls.Add(1)
			if err := project(ctx, tx, items); err != nil {
				return err
			}
			for i, it := range items {
				if i > 0 && items[i-1].Seq >= it.Seq {
					return Dead(errors.New("not sorted"))
				}
				if it.Seq%1000 == 7 { // after its effects
					return fmt.Errorf("poison %d", it.Seq)
				}
			}
			return nil
		})
	})
	pgtest.Eventually(t, patience, func() bool { return rows(t, db) == 2997 }, "all but the poison")
	pgtest.Eventually(t, patience, func() bool { return db.One(t, "SELECT count(*) FROM walbridge.dead_letter") == "3" }, "three dead")
	w.end()
	requireModel(t, db, 2997)
	require.Equal(t, "0", db.One(t, `SELECT count(*) FROM (SELECT key, seq, lag(seq) OVER (PARTITION BY key ORDER BY id) AS before FROM model) m WHERE before > seq`),
		"order of each key")
	requireSettled(t, db, "projection")
}

// TestRunTxConstraintAtCommit: what would fail at COMMIT only is the items' fault all
// the same.
func TestRunTxConstraintAtCommit(t *testing.T) {
	t.Parallel()
	db := migrated(t, testLanes)
	readModel(t, db)
	db.Exec(t, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF new.seq = 5 THEN RAISE EXCEPTION 'no five'; END IF; RETURN new; END $$;
		CREATE CONSTRAINT TRIGGER late AFTER INSERT ON model DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()`)
	cfg := testConfig(t, "projection")
	cfg.MaxAttempts = 1
	sub := subscribed(t, db, cfg)
	produce(t, db, 50, 5)
	w := start(t, func(ctx context.Context) error { return sub.RunTx(ctx, project) })
	pgtest.Eventually(t, patience, func() bool { return rows(t, db) == 49 }, "all but one")
	w.end()
	require.Contains(t, db.One(t, "SELECT error FROM walbridge.dead_letter"), "no five")
}

// TestRunTxBelongsToTheWorker: the handler cannot end the transaction.
func TestRunTxBelongsToTheWorker(t *testing.T) {
	t.Parallel()
	db := migrated(t, testLanes)
	sub := subscribed(t, db, testConfig(t, "projection"))
	produce(t, db, 1, 1)
	w := start(t, func(ctx context.Context) error {
		return sub.RunTx(ctx, func(ctx context.Context, tx pgx.Tx, _ []Item) error {
			if err := errors.Join(tx.Commit(ctx), tx.Rollback(ctx)); err == nil {
				return Dead(errors.New("it was let"))
			}
			_, err := tx.Exec(ctx, "COMMIT")
			return err
		})
	})
	require.ErrorContains(t, w.wait(), "has ended the transaction itself")
}

// TestRunTxServerTroubleIsNoAttempt: a session that dies costs the items nothing.
func TestRunTxServerTroubleIsNoAttempt(t *testing.T) {
	t.Parallel()
	db := migrated(t, testLanes)
	readModel(t, db)
	cfg := testConfig(t, "projection")
	cfg.MaxAttempts = 1
	sub := subscribed(t, db, cfg)
	produce(t, db, 100, 10)
	var killed atomic.Int64
	w := start(t, func(ctx context.Context) error {
		return sub.RunTx(ctx, func(ctx context.Context, tx pgx.Tx, items []Item) error {
			if killed.Add(1) <= 5 {
				_, err := tx.Exec(ctx, "SELECT pg_terminate_backend(pg_backend_pid())")
				return err
			}
			return project(ctx, tx, items)
		})
	})
	pgtest.Eventually(t, patience, func() bool { return rows(t, db) == 100 }, "all items")
	w.end()
	requireModel(t, db, 100)
	require.Equal(t, "0", db.One(t, "SELECT count(*) FROM walbridge.dead_letter"))
}

// TestRunBatch: several lanes in one call, Failed parks what it names, and an error is
// found by halves.
func TestRunBatch(t *testing.T) {
	t.Parallel()
	db := migrated(t, testLanes)
	cfg := testConfig(t, "bulk")
	cfg.MaxAttempts, cfg.Concurrency, cfg.BatchItems = 2, 1, 500
	sub := subscribed(t, db, cfg)
	produce(t, db, 1000, 40)
	got := newSeen()
	var most atomic.Int64
	w := start(t, func(ctx context.Context) error {
		return sub.RunBatch(ctx, func(_ context.Context, items []Item) error {
			most.Store(max(most.Load(), int64(len(items))))
			failed := Failed{}
			for _, it := range items {
				switch {
				case it.Seq == 333:
					return errors.New("the batch is refused")
				case it.Seq == 444:
					failed[it.Seq] = errors.New("only this one")
				}
			}
			for _, it := range items {
				if failed[it.Seq] == nil {
					got.add(it)
				}
			}
			if len(failed) > 0 {
				return failed
			}
			return nil
		})
	})
	pgtest.Eventually(t, patience, func() bool { return got.distinct() == 998 }, "all but two")
	pgtest.Eventually(t, patience, func() bool { return db.One(t, "SELECT count(*) FROM walbridge.dead_letter") == "2" }, "two dead")
	w.end()
	require.Greater(t, most.Load(), int64(200), "of several lanes")
	requireSettled(t, db, "bulk")
}
