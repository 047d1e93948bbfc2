package queue

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/migrate"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/secret"
)

// TestUpkeep runs the tests of upkeep and mover on every version.
func TestUpkeep(t *testing.T) {
	t.Parallel()
	tests := []struct {
		name string
		run  func(t *testing.T, db *pgtest.DB)
	}{
		{"PlainInsert", plainInsert},
		{"MoverIsExactlyOnce", moverIsExactlyOnce},
		{"GapsAreGivenUp", gapsAreGivenUp},
		{"OpenTransactionKeepsItsGap", openTransactionKeepsItsGap},
		{"NumberWithoutXid", numberWithoutXid},
		{"PreparedTransaction", preparedTransaction},
		{"BridgeReadsTheInbox", bridgeReadsTheInbox},
		{"MoverWaitFor", moverWaitFor},
		{"MoverMarksAreBounded", moverMarksAreBounded},
		{"InboxIsPruned", inboxIsPruned},
		{"IdleMarks", idleMarks},
		{"OneKeeper", oneKeeper},
		{"PartitionsGoWhenPassed", partitionsGoWhenPassed},
		{"WithoutSubscription", withoutSubscription},
		{"Expiry", expiry},
		{"Kept", kept},
		{"MaxBytes", maxBytes},
		{"OpenReader", openReader},
		{"CrashBetweenDetachAndDrop", crashBetweenDetachAndDrop},
		{"WithoutTheOwnersRights", withoutTheOwnersRights},
		{"StartsRespectTheFloor", startsRespectTheFloor},
	}
	pgtest.Matrix(t, func(t *testing.T, c *pgtest.Cluster) {
		t.Parallel()
		for _, test := range tests {
			t.Run(test.name, func(t *testing.T) {
				t.Parallel()
				test.run(t, c.DBFrom(t, "upkeep", func(dsn string) error {
					_, err := migrate.Up(context.Background(), migrate.Config{DSN: secret.DSN(dsn), Lanes: testLanes, ToolVersion: "test"})
					return err
				}))
			})
		}
	})
}

// moves calls the mover once and returns what it says: moved, more, gaps, waits.
func moves(t testing.TB, db *pgtest.DB) string {
	t.Helper()
	return strings.Join(db.Query(t, "SELECT * FROM walbridge.move_inbox(1000)")[0], " ")
}

func insert(t testing.TB, db *pgtest.DB, key string, n int) {
	t.Helper()
	db.Exec(t, "INSERT INTO walbridge.inbox (partition_key, payload) SELECT $1, json_build_object('type', 'Paid', 'n', i) FROM generate_series(1, $2::int) i", key, n)
}

// begun is a transaction of an application.
func begun(t testing.TB, db *pgtest.DB, statements ...string) *pgx.Conn {
	t.Helper()
	c := db.Conn(t)
	for _, s := range append([]string{"BEGIN"}, statements...) {
		_, err := c.Exec(t.Context(), s)
		require.NoError(t, err)
	}
	return c
}

func end(t testing.TB, c *pgx.Conn, how string) {
	t.Helper()
	_, err := c.Exec(t.Context(), how)
	require.NoError(t, err)
}

const insertOne = "INSERT INTO walbridge.inbox (partition_key, payload) VALUES ('order:1', '{}')"

// low is how far the mover is, and what it has moved above.
func low(t testing.TB, db *pgtest.DB) string {
	t.Helper()
	return strings.Join(db.Query(t, "SELECT inbox_low, inbox_seen FROM walbridge.batch WHERE source = 'inbox' ORDER BY n DESC LIMIT 1")[0], " ")
}

// plainInsert: an INSERT of an application reaches a handler with this library
// alone: no bridge, no partitions made by hand.
func plainInsert(t *testing.T, db *pgtest.DB) {
	cfg := testConfig(t, "mail")
	cfg.Streams = []string{"inbox", "orders"}
	sub := subscribed(t, db, cfg)
	var mu sync.Mutex
	var got []Item
	r := start(t, func(ctx context.Context) error {
		return sub.Run(ctx, func(_ context.Context, it Item) error {
			mu.Lock()
			defer mu.Unlock()
			got = append(got, it)
			return nil
		})
	})
	db.Exec(t, `INSERT INTO walbridge.inbox (partition_key, payload, idempotency_key) VALUES ('order:9182', '{"type":"send_receipt","order_id":9182}', 'send_receipt:9182')`)
	db.Exec(t, `INSERT INTO walbridge.inbox (partition_key, payload, type, stream, headers) VALUES ('order:9182', '{"type":"x\u0000"}', NULL, 'orders', '{"a":"b"}')`)
	pgtest.Eventually(t, patience, func() bool { mu.Lock(); defer mu.Unlock(); return len(got) == 2 }, "both items")
	r.end()
	require.Equal(t, []any{"send_receipt:9182", "inbox", "order:9182", "send_receipt", `{"type":"send_receipt","order_id":9182}`},
		[]any{got[0].ID, got[0].Stream, got[0].Key, got[0].Type, string(got[0].Payload)})
	require.Equal(t, []any{"orders", "", `{"a":"b"}`}, []any{got[1].Stream, got[1].Type, db.One(t, "SELECT headers FROM walbridge.log WHERE stream = 'orders'")})
	require.Equal(t, db.One(t, "SELECT id FROM walbridge.inbox WHERE idempotency_key IS NULL"), got[1].ID)
	require.Equal(t, "∅", db.One(t, "SELECT owner FROM walbridge.keeper"), "a worker that ends leaves the upkeep")
}

// apps are applications that insert at once, under their aggregate's lock, with
// rollbacks, savepoints, several rows in a transaction, and commits in any order.
func apps(t *testing.T, db *pgtest.DB, random *rand.Rand, writers, each int) {
	db.Exec(t, "CREATE TABLE aggregate (key text PRIMARY KEY, version int NOT NULL DEFAULT 0)")
	db.Exec(t, "INSERT INTO aggregate SELECT 'k' || i FROM generate_series(0, 6) i")
	var all sync.WaitGroup
	for range writers {
		seed := random.Uint64()
		conn := db.Conn(t)
		all.Go(func() {
			own := rand.New(rand.NewPCG(seed, 2))
			for range each {
				if !app(conn, own) {
					return
				}
			}
		})
	}
	all.Wait()
}

func app(c *pgx.Conn, random *rand.Rand) bool {
	ctx := context.Background()
	statements := []string{"BEGIN"}
	for range 1 + random.IntN(2) { // two keys may deadlock, which is a rollback like any other
		key := fmt.Sprintf("k%d", random.IntN(7))
		save := random.IntN(4) == 0
		if save {
			statements = append(statements, "SAVEPOINT s")
		}
		statements = append(statements, "UPDATE aggregate SET version = version + 1 WHERE key = '"+key+"'",
			"INSERT INTO walbridge.inbox (partition_key, payload) SELECT key, json_build_object('version', version) FROM aggregate WHERE key = '"+key+"'")
		if save {
			statements = append(statements, "ROLLBACK TO s")
		}
	}
	last := "COMMIT"
	if random.IntN(5) == 0 {
		last = "ROLLBACK"
	}
	for _, s := range append(statements, last) {
		if _, err := c.Exec(ctx, s); err != nil {
			if _, err := c.Exec(ctx, "ROLLBACK"); err != nil {
				return false
			}
			break
		}
	}
	return true
}

// requireMoved: each row of inbox is in log once, and the versions of each key rise.
func requireMoved(t *testing.T, db *pgtest.DB) {
	t.Helper()
	require.Equal(t, "0", db.One(t, `SELECT count(*) FROM walbridge.inbox i FULL JOIN walbridge.log g ON g.idempotency_key = i.id::text
		WHERE i.n IS NULL OR g.seq IS NULL`), "the same rows")
	require.Equal(t, db.One(t, "SELECT count(*) FROM walbridge.inbox"), db.One(t, "SELECT count(*) FROM walbridge.log"), "each once")
	require.Equal(t, "0", db.One(t, `SELECT count(*) FROM (
		SELECT (payload ->> 'version')::int AS v, lag((payload ->> 'version')::int) OVER (PARTITION BY partition_key ORDER BY seq) AS before FROM walbridge.log) x
		WHERE v <> coalesce(before, 0) + 1`), "each key in the order of its aggregate")
}

// moverIsExactlyOnce: concurrent inserts, several movers at once, some of whose
// sessions are ended in the middle, again and again.
func moverIsExactlyOnce(t *testing.T, db *pgtest.DB) {
	random := seeded(t)
	db.Exec(t, "SELECT walbridge.keep_partitions()")
	ctx, stop := context.WithCancel(context.Background())
	var movers sync.WaitGroup
	var killed, calls atomic.Int64
	for i := range 3 {
		movers.Go(func() {
			for ctx.Err() == nil {
				killed.Add(moveUntilKilled(ctx, db.DSN()+fmt.Sprintf("&application_name=mover%d", i), &calls))
			}
		})
	}
	movers.Go(func() {
		conn, err := pgx.Connect(context.Background(), db.DSN())
		if err != nil {
			return
		}
		defer func() { _ = conn.Close(context.Background()) }()
		for ctx.Err() == nil {
			before := calls.Load()
			for ctx.Err() == nil && calls.Load() < before+20 {
				_, _ = conn.Exec(context.Background(), "SELECT pg_sleep(0.002)")
			}
			_, _ = conn.Exec(context.Background(), "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = 'mover'||(random()*2)::int AND datname = current_database()")
		}
	})
	apps(t, db, random, 8, 150)
	stop()
	movers.Wait()
	pgtest.Eventually(t, patience, func() bool { return moves(t, db) == "0 f 0 0" }, "all is moved, all gaps are given up")
	t.Logf("%d calls, %d sessions ended, %s rows, %s numbers", calls.Load(), killed.Load(), db.One(t, "SELECT count(*) FROM walbridge.inbox"), low(t, db))
	require.Positive(t, killed.Load())
	requireMoved(t, db)
}

// moveUntilKilled moves in one session until it ends, and returns 1 when another
// ended it.
func moveUntilKilled(ctx context.Context, dsn string, calls *atomic.Int64) int64 {
	conn, err := pgx.Connect(context.Background(), dsn)
	if err != nil {
		return 0
	}
	defer func() { _ = conn.Close(context.Background()) }()
	for ctx.Err() == nil {
		calls.Add(1)
		if _, err := conn.Exec(context.Background(), "SELECT walbridge.move_inbox(7)"); err != nil && conn.IsClosed() {
			return 1
		}
	}
	return 0
}

// gapsAreGivenUp: numbers that were rolled back, with a long transaction elsewhere.
func gapsAreGivenUp(t *testing.T, db *pgtest.DB) {
	db.Exec(t, "SELECT walbridge.keep_partitions()")
	db.Exec(t, "CREATE TABLE elsewhere (n int)")
	long := begun(t, db, "SET TRANSACTION ISOLATION LEVEL REPEATABLE READ", "INSERT INTO elsewhere VALUES (1)", "SELECT count(*) FROM walbridge.inbox")
	end(t, begun(t, db, insertOne, insertOne), "ROLLBACK")
	insert(t, db, "k", 3)
	require.Equal(t, "3 f 1 0", moves(t, db), "what is there is moved at once")
	require.Equal(t, "0 f 0 0", moves(t, db))
	require.Equal(t, "5 {}", low(t, db))
	end(t, long, "COMMIT")
}

// openTransactionKeepsItsGap: what others insert later is moved meanwhile, and its
// own rows when it has committed.
func openTransactionKeepsItsGap(t *testing.T, db *pgtest.DB) {
	db.Exec(t, "SELECT walbridge.keep_partitions()")
	open := begun(t, db, insertOne)
	for range 3 {
		insert(t, db, "k", 2)
		require.Equal(t, "2 f 1 1", moves(t, db))
		require.Equal(t, "0 f 1 1", moves(t, db))
	}
	require.Equal(t, "0 {[2,8)}", low(t, db))
	end(t, open, insertOne)
	require.Equal(t, "0 f 1 1", moves(t, db))
	end(t, open, "COMMIT")
	require.Equal(t, "2 f 0 0", moves(t, db))
	require.Equal(t, "8 {}", low(t, db))
	require.Equal(t, "2,3,4,5,6,7,1,8", db.One(t, "SELECT string_agg(tx_seq::text, ',' ORDER BY seq) FROM walbridge.log"))
}

// numberWithoutXid: an INSERT takes its number long before its transaction gets an
// xid, which no list of running xids shows. Its row is not lost.
func numberWithoutXid(t *testing.T, db *pgtest.DB) {
	db.Exec(t, "SELECT walbridge.keep_partitions()")
	insert(t, db, "k", 1) // the sequence logs ahead: only that would need an xid
	holder := begun(t, db, "SELECT pg_advisory_xact_lock(99)")
	late := db.Conn(t)
	_, err := late.Exec(t.Context(), "SET application_name = 'late'")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() {
		_, err := late.Exec(context.Background(), "INSERT INTO walbridge.inbox (partition_key, payload) VALUES ('late', json_build_object('x', pg_advisory_xact_lock(99)::text))")
		done <- err
	}()
	pgtest.Eventually(t, patience, func() bool {
		return db.One(t, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'late' AND wait_event = 'advisory'") == "1"
	}, "the insert has its number")
	require.Equal(t, "∅", db.One(t, "SELECT backend_xid FROM pg_stat_activity WHERE application_name = 'late'"))
	insert(t, db, "k", 3)
	require.Equal(t, "4 f 1 1", moves(t, db))
	for range 3 {
		require.Equal(t, "0 f 1 1", moves(t, db))
	}
	end(t, holder, "COMMIT")
	require.NoError(t, <-done)
	require.Equal(t, "1 f 0 0", moves(t, db))
	require.Equal(t, "5 {}", low(t, db))
	require.Equal(t, "late", db.One(t, "SELECT partition_key FROM walbridge.log ORDER BY seq DESC LIMIT 1"))
}

// preparedTransaction: a transaction changes its name when it is prepared.
func preparedTransaction(t *testing.T, db *pgtest.DB) {
	db.Exec(t, "SELECT walbridge.keep_partitions()")
	open := begun(t, db, insertOne)
	insert(t, db, "k", 1)
	require.Equal(t, "1 f 1 1", moves(t, db))
	end(t, open, "PREPARE TRANSACTION 'one'")
	require.Equal(t, "0 f 1 1", moves(t, db))
	end(t, begun(t, db, insertOne), "PREPARE TRANSACTION 'two'") // a later one is not waited for
	end(t, open, "COMMIT PREPARED 'one'")
	require.Equal(t, "1 f 0 0", moves(t, db))
	end(t, open, "ROLLBACK PREPARED 'two'")
	insert(t, db, "k", 1)
	require.Equal(t, "1 f 1 0", moves(t, db))
	require.Equal(t, "0 f 0 0", moves(t, db))
}

// bridgeReadsTheInbox: where a bridge has ever been, nothing is moved unless an
// operator says so.
func bridgeReadsTheInbox(t *testing.T, db *pgtest.DB) {
	db.Exec(t, "SELECT walbridge.keep_partitions()")
	insert(t, db, "k", 1)
	db.Exec(t, "INSERT INTO walbridge.source (name, opened_at) VALUES ('shop', clock_timestamp())")
	require.Equal(t, "0 f 0 0", moves(t, db))
	require.Equal(t, [][]string{{"t", "f", "f"}}, db.Query(t, "SELECT * FROM walbridge.lease_upkeep('w')"))
	db.Exec(t, "UPDATE walbridge.source SET opened_at = clock_timestamp() - interval '1 day'")
	require.Equal(t, [][]string{{"t", "f", "t"}}, db.Query(t, "SELECT * FROM walbridge.lease_upkeep('w')"))
	db.Exec(t, "SELECT walbridge.set_mover('on')")
	require.Equal(t, "1 f 0 0", moves(t, db))
	db.Exec(t, "SELECT walbridge.set_mover('off')")
	insert(t, db, "k", 1)
	require.Equal(t, "0 f 0 0", moves(t, db))
}

// inboxIsPruned: old rows go when they were moved, in small batches.
func inboxIsPruned(t *testing.T, db *pgtest.DB) {
	db.Exec(t, "SELECT walbridge.keep_partitions()")
	insert(t, db, "k", 25)
	db.Exec(t, "UPDATE walbridge.inbox SET created_at = created_at - interval '8 days' WHERE n <= 23")
	prune := func(after string) []string {
		return db.Query(t, "SELECT * FROM walbridge.prune_inbox(after => $1::text::bigint, max_rows => 10)", after)[0]
	}
	require.Equal(t, []string{"0", "0"}, prune("0"), "not moved yet")
	require.Equal(t, "25 f 0 0", moves(t, db))
	require.Equal(t, []string{"10", "10"}, prune("0"))
	require.Equal(t, []string{"10", "20"}, prune("10"))
	require.Equal(t, []string{"3", "20"}, prune("20"))
	require.Equal(t, "2", db.One(t, "SELECT count(*) FROM walbridge.inbox"))
	insert(t, db, "k", 1)
	require.Equal(t, "1 f 0 0", moves(t, db))
	require.Equal(t, "26", db.One(t, "SELECT count(*) FROM walbridge.log"))
}

// idleMarks: an idle inbox costs few rows of batch, and what fetch relies on is
// found behind any number of them.
func idleMarks(t *testing.T, db *pgtest.DB) {
	db.Exec(t, "SELECT walbridge.keep_partitions()")
	insert(t, db, "k", 3)
	require.Equal(t, "3 f 0 0", moves(t, db))
	for range 50 {
		moves(t, db)
	}
	require.LessOrEqual(t, db.One(t, "SELECT count(*) FROM walbridge.batch"), "3")
	last := db.One(t, "SELECT max(n) FROM walbridge.batch")
	db.Exec(t, `INSERT INTO walbridge.batch (source, n, end_lsn, last_tx_end, timeline, inbox_low, inbox_seen, inbox_waits, written_at)
		SELECT 'inbox', i, b.end_lsn, b.last_tx_end, 0, b.inbox_low, b.inbox_seen, b.inbox_waits, b.written_at - interval '1 hour'
		FROM walbridge.batch b, generate_series(b.n + 1, 1200) i WHERE b.n = $1::text::bigint`, last)
	require.Equal(t, "3", db.One(t, "SELECT walbridge._visible()"))
	require.Equal(t, "0 f 0 0", moves(t, db))
	require.Equal(t, "1,201", db.One(t, "SELECT string_agg(n::text, ',') FROM (SELECT n FROM walbridge.batch ORDER BY n LIMIT 2) b"), "old rows go, but not the newest that added to log")
}

// oneKeeper: of several workers one has the upkeep; it goes over when it leaves or
// its lease is over.
func oneKeeper(t *testing.T, db *pgtest.DB) {
	lease := func(worker string) string {
		return db.One(t, "SELECT mine FROM walbridge.lease_upkeep($1, '200 ms')", worker)
	}
	require.Equal(t, "t", lease("a"))
	require.Equal(t, "f", lease("b"))
	pgtest.Eventually(t, patience, func() bool { return lease("b") == "t" }, "the lease of a runs out")
	db.Exec(t, "SELECT walbridge.leave_upkeep('a')")
	require.Equal(t, "f", lease("a"))
	db.Exec(t, "SELECT walbridge.leave_upkeep('b')")
	require.Equal(t, "t", lease("a"))
	var pg *pgconn.PgError
	_, err := db.Conn(t).Exec(t.Context(), "SELECT walbridge.lease_upkeep('')")
	require.True(t, errors.As(err, &pg))
	require.Equal(t, "WB002", pg.Code)
}

// BenchmarkInbox inserts from 16 sessions, without a mover and beside one: the
// insert must not be slower for it.
func BenchmarkInbox(b *testing.B) {
	c := pgtest.New(b, pgtest.Fsync())
	for _, mover := range []bool{false, true} {
		b.Run(fmt.Sprintf("mover=%v", mover), func(b *testing.B) {
			db := c.DB(b)
			_, err := migrate.Up(b.Context(), migrate.Config{DSN: secret.DSN(db.DSN()), Lanes: testLanes, ToolVersion: "test"})
			require.NoError(b, err)
			db.Exec(b, "SELECT walbridge.keep_partitions()")
			pool := poolOf(b, db, 20)
			ctx, stop := context.WithCancel(context.Background())
			defer stop()
			var all sync.WaitGroup
			if mover {
				k := &keeper{Subscription: &Subscription{pool: pool, cfg: testConfig(b, "b").WithDefaults()}, id: "b", log: testConfig(b, "b").Logger, wake: func() {}, lease: upkeepLease, every: upkeepEvery}
				all.Go(func() { k.keep(ctx) })
			}
			insertAtOnce(b, pool)
			stop()
			all.Wait()
		})
	}
}

func insertAtOnce(b *testing.B, pool *pgxpool.Pool) {
	var left atomic.Int64
	left.Store(int64(b.N))
	b.ResetTimer()
	began := time.Now()
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for left.Add(-1) >= 0 {
				if _, err := pool.Exec(context.Background(), "INSERT INTO walbridge.inbox (partition_key, payload) VALUES ('order:1', '{\"type\":\"Paid\"}')"); err != nil {
					b.Error(err)
					return
				}
			}
		})
	}
	all.Wait()
	b.ReportMetric(float64(b.N)/time.Since(began).Seconds(), "rows/s")
}
