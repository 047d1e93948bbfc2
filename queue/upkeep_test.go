package queue

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// partitioned makes partitions of 100 seqs and fills them up to a seq: events with
// odd seqs, changes with even ones.
func partitioned(t *testing.T, db *pgtest.DB, upto int) {
	t.Helper()
	db.Exec(t, "SELECT walbridge.make_partitions($1, 1, 100)", upto)
	db.Exec(t, "INSERT INTO walbridge.stream (name) VALUES ('orders')")
	db.Exec(t, "INSERT INTO walbridge.source (name) VALUES ('shop')")
	db.Exec(t, "SELECT walbridge.take_seq($1)", upto)
	db.Exec(t, `INSERT INTO walbridge.log (seq, commit_lsn, tx_seq, committed_at, created_at, stream_id, sub, lane, tx_end, kind, stream, partition_key, idempotency_key, source, payload)
		SELECT i, '0/1', i, now(), now(), 1, 0, walbridge.lane('k' || i % 9), true, CASE i % 2 WHEN 1 THEN 'event' ELSE 'change' END, 'orders', 'k' || i % 9, i, 'shop', '{}'
		FROM generate_series(1, $1::int) i`, upto)
	db.Exec(t, `INSERT INTO walbridge.batch (source, n, first_seq, last_seq, end_lsn, last_tx_end, timeline, written_at)
		VALUES ('shop', 1, 1, $1, '0/1', '0/1', 1, clock_timestamp())`, upto)
}

// aged makes all closed partitions as old as an interval.
func aged(t *testing.T, db *pgtest.DB, age string) {
	t.Helper()
	db.Exec(t, "UPDATE walbridge.closed_partition SET closed_at = clock_timestamp() - $1::text::interval", age)
}

// subscribe makes a subscription in SQL.
func subscribe(t *testing.T, db *pgtest.DB, name string, settings any) {
	t.Helper()
	db.Exec(t, "SELECT walbridge.subscribe($1, '{orders}', settings => $2::text::json)", name, settings)
}

// settles makes all lanes of a subscription reach a seq, one of them with a range
// that it settled ahead instead.
func settles(t *testing.T, db *pgtest.DB, name string, seq int, but string) {
	t.Helper()
	db.Exec(t, `INSERT INTO walbridge.checkpoint (subscription, lane, n, lease_generation, seq, settled)
		SELECT $1, lane, max(n) + 1, 0, CASE WHEN lane = 0 AND $3 <> '' THEN max(seq) ELSE $2::bigint END, CASE WHEN lane = 0 AND $3 <> '' THEN $3::text::int8multirange ELSE '{}' END
		FROM walbridge.checkpoint WHERE subscription = $1 GROUP BY lane`, name, seq, but)
}

// retained runs retain and says what it said.
func retained(t *testing.T, db *pgtest.DB) string {
	t.Helper()
	var all []string
	for _, row := range db.Query(t, "SELECT kind, what, subscription, seq FROM walbridge.retain()") {
		all = append(all, strings.Join(row, " "))
	}
	return strings.Join(all, ", ")
}

// there lists the partitions of the two kinds by their first seq, and what is left
// beside them.
func there(t *testing.T, db *pgtest.DB) string {
	t.Helper()
	return db.One(t, `SELECT string_agg(left(kind, 1) || lower || CASE WHEN pending THEN '?' ELSE '' END, ' ' ORDER BY kind DESC, lower) FROM (
			SELECT kind, p.lower, p.pending FROM walbridge.retention r CROSS JOIN LATERAL walbridge._partitions(r.kind) p
			UNION ALL SELECT 'orphan', right(relname, 19)::bigint, false FROM pg_class WHERE relname ~ '^log_[a-z]+_[0-9]+$' AND relkind = 'r' AND NOT relispartition) p`)
}

// keeperOf is a keeper that a test drives.
func keeperOf(t testing.TB, dsn string) *keeper {
	cfg := testConfig(t, "keeper").WithDefaults()
	return &keeper{
		Subscription: &Subscription{pool: poolAt(t, dsn, 2), cfg: cfg}, id: "keeper", log: cfg.Logger, wake: func() {},
		lease: upkeepLease, every: upkeepEvery,
	}
}

func (k *keeper) must(t testing.TB) {
	t.Helper()
	k.keeps = true
	require.NoError(t, k.upkeep(t.Context()))
}

// withoutAhead is there without the partitions that the keeper makes ahead.
func withoutAhead(t *testing.T, db *pgtest.DB) string {
	t.Helper()
	var all []string
	for _, p := range strings.Fields(there(t, db)) {
		if len(strings.TrimLeft(p, "eco")) < 6 {
			all = append(all, p)
		}
	}
	return strings.Join(all, " ")
}

// partitionsGoWhenPassed: the oldest first, when every subscription has passed them
// in every lane and they are old enough, each kind by its own rule; what is parked or
// dead survives.
func partitionsGoWhenPassed(t *testing.T, db *pgtest.DB) {
	partitioned(t, db, 350)
	require.Equal(t, "e0 e100 e200 e300 e400 c0 c100 c200 c300 c400", there(t, db))
	subscribe(t, db, "fast", nil)
	subscribe(t, db, "slow", nil)
	key := db.One(t, "SELECT partition_key FROM walbridge.log WHERE seq = 51")
	lane := db.One(t, "SELECT lane FROM walbridge.log WHERE seq = 51")
	db.Exec(t, "UPDATE walbridge.lane SET lease_generation = 1 WHERE subscription = 'slow'")
	db.Exec(t, "SELECT walbridge.park('slow', $1::text::smallint, 1, 'orders', 51, 1, 'later', '1 hour')", lane)
	db.Exec(t, "SELECT walbridge.bury('slow', walbridge.lane('k' || 52 % 9), 1, 'orders', 52, 1, 'never')")
	settles(t, db, "fast", 350, "")
	require.Empty(t, retained(t, db))
	require.Equal(t, "0", db.One(t, "SELECT sum(floor) FROM walbridge.retention"), "slow has passed nothing")

	aged(t, db, "2 days")
	settles(t, db, "slow", 250, "{[1,150)}")
	require.Empty(t, retained(t, db))
	require.Equal(t, "100 100", db.One(t, "SELECT string_agg(floor::text, ' ') FROM walbridge.retention"), "lane 0 has settled ahead as far as 149 only")
	db.Exec(t, "SELECT walbridge.set_retention('event', '3 days', '7 days')")
	settles(t, db, "slow", 250, "")
	require.Empty(t, retained(t, db))
	require.Equal(t, "change 200 event 100", db.One(t, "SELECT string_agg(kind || ' ' || floor, ' ' ORDER BY kind) FROM walbridge.retention"), "events are kept longer")

	keeperOf(t, db.DSN()).must(t)
	require.Equal(t, "e100 e200 e300 e400 e500 c200 c300 c400 c500", withoutAhead(t, db))
	require.Equal(t, "51 "+key+" retry", strings.Join(db.Query(t, "SELECT seq, partition_key, reason FROM walbridge.parked")[0], " "))
	db.Exec(t, "SELECT walbridge.replay(id) FROM walbridge.dead_letter")
	require.Equal(t, [][]string{{"51", "{}"}, {"52", "{}"}}, db.Query(t, "SELECT seq, payload FROM walbridge.fetch_parked('slow', '{51,52}')"))
	settles(t, db, "slow", 350, "")
	require.Empty(t, retained(t, db))
	require.Equal(t, "e100 e200 e300 e400 e500 c200 c300 c400 c500", withoutAhead(t, db), "one that may still get rows stays")
}

// withoutSubscription: a log that nobody reads yet, or any more, keeps its
// partitions up to the maximum.
func withoutSubscription(t *testing.T, db *pgtest.DB) {
	partitioned(t, db, 250)
	retained(t, db)
	aged(t, db, "6 days")
	retained(t, db)
	require.Equal(t, "0", db.One(t, "SELECT sum(floor) FROM walbridge.retention"))
	aged(t, db, "8 days")
	require.Empty(t, retained(t, db))
	require.Equal(t, "400", db.One(t, "SELECT sum(floor) FROM walbridge.retention"))
	keeperOf(t, db.DSN()).must(t)
	require.Equal(t, "e200 e300 e400 c200 c300 c400", withoutAhead(t, db))
}

// expiry: who would hold the log beyond the maximum expires, its worker ends with
// ErrExpired, and only a reset leads out.
func expiry(t *testing.T, db *pgtest.DB) {
	partitioned(t, db, 250)
	cfg := testConfig(t, "slow")
	sub := subscribed(t, db, cfg)
	subscribe(t, db, "fast", nil)
	settles(t, db, "fast", 250, "")
	block := make(chan struct{})
	r := start(t, func(ctx context.Context) error {
		return sub.Run(ctx, func(ctx context.Context, _ Item) error {
			select {
			case <-block:
			case <-ctx.Done():
			}
			return ctx.Err()
		})
	})
	defer close(block)
	pgtest.Eventually(t, patience, func() bool { return db.One(t, "SELECT count(*) FROM walbridge.worker") == "1" }, "a worker")
	require.Empty(t, retained(t, db))
	aged(t, db, "8 days")
	require.Equal(t, "event expired slow 0", retained(t, db))
	require.ErrorIs(t, r.wait(), ErrExpired)
	require.Equal(t, "expired", db.One(t, "SELECT state FROM walbridge.subscription WHERE name = 'slow'"))
	require.Equal(t, "active", db.One(t, "SELECT state FROM walbridge.subscription WHERE name = 'fast'"))
	require.Equal(t, "expire slow", strings.Join(db.Query(t, "SELECT command, target FROM walbridge.operation ORDER BY id DESC LIMIT 1")[0], " "))
	require.NoError(t, sub.Reset(t.Context(), Beginning()))
	require.Equal(t, "199", db.One(t, "SELECT start_seq FROM walbridge.subscription WHERE name = 'slow'"))
}

// kept: a subscription that must not lose anything keeps the log, and is named.
func kept(t *testing.T, db *pgtest.DB) {
	partitioned(t, db, 250)
	subscribe(t, db, "ledger", `{"on_exceeded":"keep"}`)
	subscribe(t, db, "slow", nil)
	retained(t, db)
	aged(t, db, "8 days")
	require.Equal(t, "event held ledger 0, change held ledger 0", retained(t, db))
	require.Equal(t, "active", db.One(t, "SELECT state FROM walbridge.subscription WHERE name = 'slow'"), "that it expires would gain nothing")
	require.Equal(t, "{ledger} t", strings.Join(db.Query(t, "SELECT held_by, held_since IS NOT NULL FROM walbridge.retention WHERE kind = 'event'")[0], " "))
	var said bytes.Buffer
	k := keeperOf(t, db.DSN())
	k.log = slog.New(slog.NewTextHandler(&said, nil))
	k.must(t)
	require.Contains(t, said.String(), `msg=retention_exceeded held_by="ledger (event from seq 0) ledger (change from seq 0) "`)
	settles(t, db, "ledger", 250, "")
	require.Equal(t, "event expired slow 0", retained(t, db))
	require.Equal(t, "{} ∅", strings.Join(db.Query(t, "SELECT held_by, held_since FROM walbridge.retention WHERE kind = 'event'")[0], " "))
}

// maxBytes: the size limit takes as much as is too much, however young.
func maxBytes(t *testing.T, db *pgtest.DB) {
	partitioned(t, db, 350)
	subscribe(t, db, "slow", nil)
	retained(t, db)
	aged(t, db, "1 s")
	size := db.One(t, "SELECT sum(pg_total_relation_size(p.oid)) FROM walbridge._partitions('event') p")
	db.Exec(t, "SELECT walbridge.set_retention('event', '1 day', '7 days', $1::text::bigint)", size)
	require.Empty(t, retained(t, db))
	db.Exec(t, "SELECT walbridge.set_retention('event', '1 day', '7 days', $1::text::bigint - 1)", size)
	require.Equal(t, "event expired slow 0", retained(t, db))
	require.Equal(t, "100", db.One(t, "SELECT floor FROM walbridge.retention WHERE kind = 'event'"))
	require.Equal(t, "0", db.One(t, "SELECT floor FROM walbridge.retention WHERE kind = 'change'"))
}

// gone makes a log of which the first partitions are to go.
func gone(t *testing.T, db *pgtest.DB) {
	t.Helper()
	partitioned(t, db, 250)
	db.Exec(t, "SELECT walbridge.keep_partitions()")
	retained(t, db)
	aged(t, db, "8 days")
	retained(t, db)
}

// openReader: a reader that stays open stops neither the writers nor the keeper; the
// partitions go when it has ended.
func openReader(t *testing.T, db *pgtest.DB) {
	gone(t, db)
	reader := begun(t, db, "SELECT count(*) FROM walbridge.log")
	k := keeperOf(t, db.DSN())
	writer := db.Conn(t)
	_, err := writer.Exec(t.Context(), "SET statement_timeout = '900ms'")
	require.NoError(t, err)
	stop, written := make(chan struct{}), make(chan error, 1)
	go func() {
		n := 0
		for {
			select {
			case <-stop:
				if n == 0 {
					written <- fmt.Errorf("nothing was written")
				} else {
					written <- nil
				}
				return
			default:
			}
			n++
			if err := appendOne(writer); err != nil {
				written <- fmt.Errorf("write %d: %w", n, err)
				return
			}
		}
	}()
	k.must(t)
	require.Equal(t, "e0 e100 e200 e300 e400 c0? c100 c200 c300 c400", withoutAhead(t, db), "the first one waits for the reader")
	k.must(t)
	require.Equal(t, "e0? e100 e200 e300 e400 c0? c100 c200 c300 c400", withoutAhead(t, db))
	require.Equal(t, "150", db.One(t, "SELECT count(*) FROM walbridge.log WHERE seq < 251 AND seq > 100"), "nobody sees it any more")
	require.NoError(t, try(reader, "SELECT count(*) FROM walbridge.log"), "the reader goes on")
	close(stop)
	require.NoError(t, <-written, "no write waited")
	end(t, reader, "COMMIT")
	k.must(t)
	k.must(t)
	require.Equal(t, "e200 e300 e400 c200 c300 c400", withoutAhead(t, db))
}

func try(c *pgx.Conn, sql string) error {
	_, err := c.Exec(context.Background(), sql)
	return err
}

func appendOne(c *pgx.Conn) error {
	_, err := c.Exec(context.Background(), `INSERT INTO walbridge.log (seq, commit_lsn, tx_seq, committed_at, created_at, stream_id, sub, lane, tx_end, kind, stream, partition_key, idempotency_key, source, payload)
		SELECT walbridge.take_seq(1), '0/1', 1, now(), now(), 1, 0, 1, true, 'event', 'orders', 'k', 'x', 'shop', '{}' FROM walbridge.lock_log()`)
	return err
}

// crashBetweenDetachAndDrop: a DETACH that was broken off is completed, and a table
// that is no partition any more is found by its name.
func crashBetweenDetachAndDrop(t *testing.T, db *pgtest.DB) {
	gone(t, db)
	db.Exec(t, "ALTER TABLE walbridge.log_event DETACH PARTITION walbridge.log_event_0000000000000000000 CONCURRENTLY")
	require.Contains(t, there(t, db), "o0 ")
	reader := begun(t, db, "SELECT count(*) FROM walbridge.log")
	killed := db.Conn(t)
	done := make(chan error, 1)
	go func() {
		done <- try(killed, "ALTER TABLE walbridge.log_change DETACH PARTITION walbridge.log_change_0000000000000000000 CONCURRENTLY")
	}()
	pgtest.Eventually(t, patience, func() bool { return strings.Contains(there(t, db), "c0?") }, "half detached")
	db.Exec(t, "SELECT pg_terminate_backend($1)", killed.PgConn().PID())
	require.Error(t, <-done)
	end(t, reader, "COMMIT")
	require.Equal(t, "0", db.One(t, "SELECT walbridge._floor('event') % 100"))
	db.Exec(t, "CREATE TABLE walbridge.log_event_0000000000000099999 ()") // not below the floor: not ours to drop
	k := keeperOf(t, db.DSN())
	k.must(t)
	k.must(t)
	require.Equal(t, "o99999 e200 e300 e400 c200 c300 c400", withoutAhead(t, db))
}

// withoutTheOwnersRights: a role that may only call functions takes partitions away
// as well, and hardly waits for readers.
func withoutTheOwnersRights(t *testing.T, db *pgtest.DB) {
	gone(t, db)
	role := "keeper_" + db.Name()
	role = role[:min(len(role), 60)]
	db.Exec(t, fmt.Sprintf(`CREATE ROLE "%s" LOGIN PASSWORD 'x'`, role))
	t.Cleanup(func() {
		db.Exec(t, fmt.Sprintf(`DROP OWNED BY "%s"`, role))
		db.Exec(t, fmt.Sprintf(`DROP ROLE "%s"`, role))
	})
	k := keeperOf(t, db.DSNAs(role, "x"))
	k.keeps = true
	require.True(t, isCode(k.upkeep(t.Context()), codeNoRight))
	db.Exec(t, fmt.Sprintf(`GRANT USAGE ON SCHEMA walbridge TO "%s"`, role))
	db.Exec(t, fmt.Sprintf(`GRANT EXECUTE ON FUNCTION walbridge.lease_upkeep, walbridge.leave_upkeep, walbridge.keep_partitions, walbridge.retain,
		walbridge.detachments, walbridge.drop_partitions, walbridge.move_inbox, walbridge.prune_inbox TO "%s"`, role))
	reader := begun(t, db, "SELECT count(*) FROM walbridge.log")
	began := time.Now()
	k.must(t)
	t.Logf("with a reader: %v", time.Since(began))
	require.Equal(t, "e0 e100 e200 e300 e400 c0 c100 c200 c300 c400", withoutAhead(t, db))
	end(t, reader, "COMMIT")
	k.must(t)
	require.Equal(t, "e200 e300 e400 c200 c300 c400", withoutAhead(t, db))
	db.Exec(t, fmt.Sprintf(`GRANT INSERT ON walbridge.inbox TO "%s"`, role))
	db.Exec(t, "DELETE FROM walbridge.batch")
	db.Exec(t, "DELETE FROM walbridge.source")
	insert(t, db, "k", 1)
	_, err := k.move(t.Context())
	require.NoError(t, err)
	require.Equal(t, "1", db.One(t, "SELECT count(*) FROM walbridge.log WHERE source = 'inbox'"))
}

// startsRespectTheFloor: a start waits for the decision what goes, and what was
// decided counts as gone although it is there still.
func startsRespectTheFloor(t *testing.T, db *pgtest.DB) {
	gone(t, db)
	require.Contains(t, there(t, db), "e0 ")
	require.Equal(t, "200", db.One(t, "SELECT walbridge.retained_floor()"))
	subscribe(t, db, "new", nil)
	require.Equal(t, "199", db.One(t, "SELECT start_seq FROM walbridge.subscription"))
	require.ErrorContains(t, try(db.Conn(t), "SELECT walbridge.subscribe('old', '{orders}', '100')"), "WB007")
	open := begun(t, db, "SELECT walbridge.reset('new', 'end')")
	require.ErrorContains(t, try(db.Conn(t), "SELECT walbridge.retain()"), codeLockBusy)
	end(t, open, "COMMIT")
	require.Empty(t, retained(t, db))
}
