package queue

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/migrate"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/secret"
)

func TestMain(m *testing.M) {
	if what := os.Getenv(childVar); what != "" {
		os.Exit(child(what))
	}
	pgtest.Main(m)
}

// patience bounds every wait of a test.
const patience = 30 * time.Second

const testLanes = 8

// migrated returns a database with the schema.
func migrated(t testing.TB, lanes int) *pgtest.DB {
	t.Helper()
	return pgtest.Shared(t).DBFrom(t, fmt.Sprintf("queue-%d", lanes), func(dsn string) error {
		_, err := migrate.Up(context.Background(), migrate.Config{DSN: secret.DSN(dsn), Lanes: lanes, ToolVersion: "test"})
		return err
	})
}

func poolOf(t testing.TB, db *pgtest.DB, conns int) *pgxpool.Pool { return poolAt(t, db.DSN(), conns) }

func poolAt(t testing.TB, dsn string, conns int) *pgxpool.Pool {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(dsn)
	require.NoError(t, err)
	cfg.MaxConns = int32(conns)
	pool, err := pgxpool.NewWithConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	return pool
}

// testConfig has short waits.
func testConfig(t testing.TB, name string) Config {
	return Config{
		Name: name, Streams: []string{"orders"}, Lease: 3 * time.Second, Poll: 200 * time.Millisecond,
		RetryAfter: 10 * time.Millisecond, RetryAtMost: 50 * time.Millisecond, Concurrency: 4,
		Logger: slog.New(slog.NewTextHandler(testWriter{t}, &slog.HandlerOptions{Level: slog.LevelInfo})),
	}
}

type testWriter struct{ t testing.TB }

func (w testWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimRight(string(p), "\n"))
	return len(p), nil
}

func subscribed(t testing.TB, db *pgtest.DB, cfg Config) *Subscription {
	t.Helper()
	s, err := Subscribe(t.Context(), poolOf(t, db, 8), cfg)
	require.NoError(t, err)
	return s
}

// produceSQL appends items to the log as a bridge does: n of a stream over so many
// keys, with payload {"n": …} and the key's own count.
const produceSQL = `
DO $$
DECLARE first bigint; total int := %d; keys int := %d;
BEGIN
	INSERT INTO walbridge.stream (name) VALUES ('%[3]s') ON CONFLICT DO NOTHING;
	PERFORM walbridge.make_partitions((SELECT last_value FROM walbridge.log_seq) + total, 1, 100000);
	PERFORM walbridge.lock_log();
	first := walbridge.take_seq(total);
	INSERT INTO walbridge.log (seq, commit_lsn, tx_seq, committed_at, created_at, stream_id, sub, lane, tx_end, kind, stream, partition_key,
		idempotency_key, type, source, payload)
	SELECT first + i, pg_lsn '0/1000' + first + i, 0, clock_timestamp(), clock_timestamp(), (SELECT id FROM walbridge.stream WHERE name = '%[3]s'), 0,
		walbridge.lane('k' || (i %% keys)), true, 'event', '%[3]s', 'k' || (i %% keys), 'id-' || (first + i), 'Paid', 'shop',
		json_build_object('n', first + i, 'count', i / keys)
	FROM generate_series(0, total - 1) i;
	INSERT INTO walbridge.batch (source, n, first_seq, last_seq, end_lsn, last_tx_end, timeline)
	SELECT 'shop', coalesce(max(n), 0) + 1, first, first + total - 1, pg_lsn '0/1000' + first + total, pg_lsn '0/1000' + first + total, 1
	FROM walbridge.batch WHERE source = 'shop';
	PERFORM pg_notify('walbridge_log', 'walbridge');
END $$`

// produce appends n items of the stream orders over so many keys.
func produce(t testing.TB, db *pgtest.DB, n, keys int) {
	t.Helper()
	db.Exec(t, fmt.Sprintf(produceSQL, n, keys, "orders"))
}

// workerRun is a worker under test.
type workerRun struct {
	t    testing.TB
	stop context.CancelFunc
	done chan error
}

func start(t testing.TB, run func(ctx context.Context) error) *workerRun {
	ctx, cancel := context.WithCancel(context.Background())
	r := &workerRun{t, cancel, make(chan error, 1)}
	go func() {
		err := run(ctx)
		if err != nil && ctx.Err() == nil {
			fmt.Fprintf(os.Stderr, "%s: the worker ended: %v\n", t.Name(), err)
		}
		r.done <- err
	}()
	t.Cleanup(cancel)
	return r
}

// end asks the worker to stop and waits for it.
func (r *workerRun) end() {
	r.t.Helper()
	r.stop()
	require.NoError(r.t, r.wait())
}

func (r *workerRun) wait() error {
	r.t.Helper()
	select {
	case err := <-r.done:
		return err
	case <-time.After(patience):
		require.Fail(r.t, "the worker does not end")
		return nil
	}
}
