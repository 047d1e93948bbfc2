package torture_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/kafkatest"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/torture"
)

// snapshotRig is a bridge between a database with rows and a work table, in another
// cluster, so that the source's commits can be held up.
func snapshotRig(t *testing.T, source *pgtest.DB, seed uint64, rows int) *rig {
	t.Helper()
	source.Exec(t, snapshotTables)
	w := &snapshotWriter{conn: source.Conn(t), r: torture.Rand(seed, 1)}
	require.NoError(t, w.fill(t.Context(), rows))
	r := bareRig(t, source, pgtest.Shared(t).DB(t))
	r.routes = snapshotRoutes
	r.setup(t)
	return r
}

// write starts writers that end with the test, or when stop is called.
func snapshotWriters(t *testing.T, source *pgtest.DB, seed uint64, n, keys int) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, n)
	for i := range n {
		conn, err := pgx.Connect(t.Context(), source.DSN())
		require.NoError(t, err)
		w := &snapshotWriter{conn: conn, r: torture.Rand(seed, 100+uint64(i)), keys: keys, big: 3000, ddl: true}
		go func() {
			err := w.run(ctx)
			_ = conn.Close(context.Background())
			ended <- err
		}()
	}
	var done bool
	stop = func() {
		if done {
			return
		}
		done = true
		cancel()
		for range n {
			if err := <-ended; err != nil {
				t.Errorf("write: %v", err)
			}
		}
	}
	t.Cleanup(stop)
	return stop
}

// unfinished is the number of tables that are not read, by what the sink has stored;
// false: nothing is stored.
func (r *rig) unfinished(t *testing.T) (int, bool) {
	t.Helper()
	text := r.sink.One(t, "SELECT coalesce((SELECT convert_from(cursors, 'UTF8') FROM walbridge.source WHERE name = $1), '')", r.name)
	if text == "" {
		return 0, false
	}
	var state struct{ Tables []json.RawMessage }
	require.NoError(t, json.Unmarshal([]byte(text), &state))
	return len(state.Tables), true
}

func (r *rig) awaitSnapshot(t *testing.T) {
	t.Helper()
	pgtest.Eventually(t, drainWithin(), func() bool {
		n, ok := r.unfinished(t)
		return ok && n == 0
	}, "all tables are read")
}

// drainTo waits until all that has committed is delivered.
func (r *rig) drainSnapshot(t *testing.T) {
	t.Helper()
	r.source.Exec(t, "INSERT INTO snap.plain (id, v) VALUES (-1, 0) ON CONFLICT (id) DO UPDATE SET v = plain.v + 1")
	v := r.source.One(t, "SELECT v FROM snap.plain WHERE id = -1")
	pgtest.Eventually(t, drainWithin(), func() bool {
		return r.sink.One(t, `SELECT count(*) FROM walbridge.log WHERE stream = 'snap.plain' AND type <> 'delete'
			AND payload->'after'->>'id' = '-1' AND payload->'after'->>'v' = $1`, v) != "0"
	}, "the last row is delivered")
}

// Existing rows, read while writers change everything about them, move keys and use
// them again, truncate and add columns, and while the bridge is killed: the tables that
// the items add up to are the source's, no row that was read is older than what the
// stream had said, and no item comes twice.
func TestSnapshotUnderLoadAndKills(t *testing.T) {
	t.Parallel()
	pgtest.Matrix(t, func(t *testing.T, c *pgtest.Cluster) {
		s := seed(t)
		rand := torture.Rand(s, 60)
		rows, kills := sized(1200, 20_000), sized(6, 100)
		r := snapshotRig(t, c.DB(t), s, rows)
		r.extra = "batch: {max_items: 40}\nsnapshot: {rows_per_second: 2500}"
		stop := snapshotWriters(t, r.source, s, 3, rows)
		b := r.run(t)
		for range kills {
			moment(t, rand, 900*time.Millisecond)
			require.NoError(t, b.Kill())
			<-b.Done()
			b = r.run(t)
		}
		r.awaitSnapshot(t)
		stop()
		r.drainSnapshot(t)
		rep := rebuild(t, r.sink)
		requireSame(t, rep, r.source)
		require.Zero(t, r.deadLetters(t))
		t.Logf("%d items, %d of them read, %d once more", len(rep.seen), rep.reads, rep.again)
		require.NotZero(t, rep.reads)
	})
}

func (r *rig) deadLetters(t *testing.T) int {
	t.Helper()
	var n int
	require.NoError(t, r.sink.Conn(t).QueryRow(t.Context(), "SELECT count(*) FROM walbridge.dead_letter").Scan(&n))
	return n
}

// Commits that are in the log and not yet visible, because a standby does not answer:
// what is streamed is newer than what a SELECT sees. Meanwhile somebody copies the
// marks of chunks into transactions of their own, and writes others.
func TestSnapshotWhileCommitsAreNotVisible(t *testing.T) {
	t.Parallel()
	pgtest.Matrix(t, func(t *testing.T, c *pgtest.Cluster) {
		s := seed(t)
		c = pgtest.New(t, pgtest.Major(c.Major()))
		rows := sized(800, 10_000)
		r := snapshotRig(t, c.DB(t), s, rows)
		r.extra = "batch: {max_items: 40}\nsnapshot: {rows_per_second: 1500}"
		stop := snapshotWriters(t, r.source, s, 4, rows)
		stopForging := forgeMarks(t, r.source)
		r.start(t)
		stall := stallCommits(t, c)
		r.awaitSnapshot(t)
		stall()
		stopForging()
		stop()
		r.drainSnapshot(t)
		rep := rebuild(t, r.sink)
		requireSame(t, rep, r.source)
		t.Logf("%d items, %d of them read, %d once more", len(rep.seen), rep.reads, rep.again)
		require.NotZero(t, rep.reads)
	})
}

// An update leaves out large values that it did not change. A row that was streamed
// like that, and that the destination never had whole, is read once more: one whose
// commit the snapshot of its chunk did not see, and one that moved to a key that was
// read already.
func TestSnapshotReadsAgainWhatCameInPart(t *testing.T) {
	t.Parallel()
	pgtest.Matrix(t, func(t *testing.T, c *pgtest.Cluster) {
		c = pgtest.New(t, pgtest.Major(c.Major()))
		db := c.DB(t)
		db.Exec(t, snapshotTables)
		db.Exec(t, "INSERT INTO snap.plain SELECT i, 0, repeat(md5(i::text), 100) FROM generate_series(1, 8) i")
		r := bareRig(t, db, pgtest.Shared(t).DB(t))
		r.routes = strings.Replace(snapshotRoutes, "snap.*", "snap.plain", 1)
		r.extra = "snapshot: {rows_per_second: 2}"
		r.setup(t)
		r.start(t)
		arrived := func(op, key string) {
			t.Helper()
			pgtest.Eventually(t, drainWithin(), func() bool {
				return r.sink.One(t, "SELECT count(*) FROM walbridge.log WHERE type = $1 AND partition_key = $2", op, "snap.plain:["+key+"]") != "0"
			}, "%s of row %s", op, key)
		}
		arrived("read", "2")
		db.Exec(t, "UPDATE snap.plain SET id = 0 WHERE id = 8") // behind the cursor
		db.Exec(t, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
		db.Exec(t, "SELECT pg_reload_conf()")
		pgtest.Eventually(t, drainWithin(), func() bool { return db.One(t, "SHOW synchronous_standby_names") == "nobody" }, "commits wait")
		waiting := make(chan error, 1)
		conn := db.Conn(t)
		go func() {
			_, err := conn.Exec(context.Background(), "UPDATE snap.plain SET v = 1 WHERE id = 6") // not visible, and streamed
			waiting <- err
		}()
		arrived("update", "6")
		arrived("read", "7")
		require.Equal(t, "0", r.sink.One(t, "SELECT count(*) FROM walbridge.log WHERE type = 'read' AND partition_key = 'snap.plain:[6]'"))
		db.Exec(t, "ALTER SYSTEM RESET synchronous_standby_names")
		db.Exec(t, "SELECT pg_reload_conf()")
		require.NoError(t, <-waiting)
		r.awaitSnapshot(t)
		rep := rebuild(t, r.sink)
		for key, v := range map[string]string{"0": "0", "6": "1"} {
			require.Equal(t, v, rep.tables["snap.plain"][key]["v"])
			require.NotEqual(t, absent, rep.tables["snap.plain"][key]["big"], "row %s", key)
		}
		require.Len(t, rep.tables["snap.plain"], 8)
		require.GreaterOrEqual(t, rep.again, 2)
	})
}

// cli runs a command beside a bridge, with its configuration.
func (r *rig) cli(t *testing.T, b *bridge, args ...string) *pgtest.Process {
	t.Helper()
	_, port, _ := strings.Cut(strings.TrimPrefix(b.url, "http://"), ":")
	n, err := strconv.Atoi(port)
	require.NoError(t, err)
	return pgtest.Run(t, append(args, "--config", r.config(t, n))...)
}

func (r *rig) mustCLI(t *testing.T, b *bridge, args ...string) string {
	t.Helper()
	p := r.cli(t, b, args...)
	require.Zero(t, p.WaitExit(t, drainWithin()), "%v: %s", args, p.Output())
	return p.Stdout()
}

// A running bridge is asked to read tables, by a message that only it can have meant:
// rows and stream add up to the source. Pause, resume, cancel, a condition, a second
// time.
func TestSnapshotOnRequest(t *testing.T) {
	t.Parallel()
	s := seed(t)
	rows := sized(300, 5000)
	r := snapshotRig(t, pgtest.Shared(t).DB(t), s, rows)
	r.routes = strings.Replace(snapshotRoutes, "initial", "never", 1)
	r.extra = fmt.Sprintf("snapshot: {rows_per_second: %d, parallel: 3}", rows)
	b := r.start(t)
	stop := snapshotWriters(t, r.source, s, 2, rows)
	tables := "snap.plain,snap.pair,snap.whole,snap.indexed,snap.part"
	asking := r.cli(t, b, "snapshot", "--tables", tables)
	asking.WaitLine(t, drainWithin(), "5 tables")
	require.Contains(t, r.mustCLI(t, b, "snapshot", "pause"), "taken")
	require.Contains(t, r.mustCLI(t, b, "snapshot", "status"), "paused")
	require.NoError(t, b.Kill()) // it is still paused after that
	<-b.Done()
	b = r.start(t)
	require.Contains(t, r.mustCLI(t, b, "snapshot", "status", "--json"), `"paused": true`)
	require.Contains(t, r.mustCLI(t, b, "snapshot", "resume"), "taken")
	require.Zero(t, asking.WaitExit(t, drainWithin()), asking.Output())
	require.Contains(t, asking.Stdout(), "all rows are delivered")
	stop()
	r.drainSnapshot(t)
	requireSame(t, rebuild(t, r.sink), r.source)

	r.mustCLI(t, b, "snapshot", "--tables", "snap.plain", "--where", "id % 2 = 0 -- even")
	odd := r.sink.One(t, `SELECT count(*) FROM walbridge.log WHERE idempotency_key LIKE '%:r6:%' AND (payload->'key'->>'id')::int % 2 <> 0`)
	require.Equal(t, "0", odd)
	require.Equal(t, r.source.One(t, "SELECT count(*) FROM snap.plain WHERE id % 2 = 0"), r.sink.One(t, `SELECT count(*) FROM walbridge.log WHERE idempotency_key LIKE '%:r6:%'`))

	r.mustCLI(t, b, "snapshot", "--tables", tables, "--detach")
	r.mustCLI(t, b, "snapshot", "cancel")
	require.Contains(t, r.mustCLI(t, b, "snapshot", "status"), "nothing to read")
	for _, bad := range []string{"snap.nothing", "snap.part_low", "walbridge.log"} {
		p := r.cli(t, b, "snapshot", "--tables", bad)
		require.Equal(t, 2, p.WaitExit(t, drainWithin()), p.Output())
	}
	requireSame(t, rebuild(t, r.sink), r.source)
}

// snapshotToKafka kills the bridge while it reads rows into a cluster, exactly once.
func snapshotToKafka(t *testing.T, broker *kafkatest.Broker) {
	s := seed(t)
	rand := torture.Rand(s, 61)
	rows, kills := sized(400, 20_000), sized(4, 50)
	source := pgtest.Shared(t).DB(t)
	source.Exec(t, snapshotTables)
	w := &snapshotWriter{conn: source.Conn(t), r: torture.Rand(s, 1)}
	require.NoError(t, w.fill(t.Context(), rows))
	r := bareRig(t, source, source)
	r.routes, r.toKafka, r.delivery = snapshotRoutes, broker.Addr(), "exactly_once"
	r.extra = "batch: {max_items: 40}\nsnapshot: {rows_per_second: 1500}"
	r.setup(t)
	stop := snapshotWriters(t, source, s, 2, rows)
	b := r.start(t)
	for range kills {
		moment(t, rand, 900*time.Millisecond)
		require.NoError(t, b.Kill())
		<-b.Done()
		b = r.start(t)
	}
	b.awaitRead(t)
	stop()
	rep := r.rebuildFromKafka(t, broker)
	requireSame(t, rep, source)
	require.NotZero(t, rep.reads)
	t.Logf("%d items, %d of them read, %d once more", len(rep.seen), rep.reads, rep.again)
}

// rebuildFromKafka has a row confirmed, and with it all that committed before, and
// returns what the items of the cluster add up to.
func (r *rig) rebuildFromKafka(t *testing.T, broker *kafkatest.Broker) *replica {
	t.Helper()
	before := r.source.One(t, "SELECT pg_current_wal_insert_lsn()::text")
	r.source.Exec(t, "INSERT INTO snap.plain (id, v) VALUES (-1, 0) ON CONFLICT (id) DO UPDATE SET v = plain.v + 1")
	pgtest.Eventually(t, drainWithin(), func() bool {
		return r.source.One(t, "SELECT (confirmed_flush_lsn > $2::text::pg_lsn)::text FROM pg_replication_slots WHERE slot_name = $1", r.slot(), before) == "true"
	}, "all that has committed is confirmed")
	items, repeated := readKafka(t, broker.Addr(), r.name, false, false)
	require.Zero(t, repeated)
	rep := newReplica()
	for _, it := range items {
		require.NoError(t, rep.apply(it.EventID, it.Payload), it.ID)
	}
	return rep
}

// stallCommits makes commits wait for a standby that is not there, most of the time,
// until the function it returns is called.
func stallCommits(t *testing.T, c *pgtest.Cluster) (stop func()) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), c.Server().DSN("postgres"))
	require.NoError(t, err)
	set := func(names string) error {
		for _, sql := range []string{fmt.Sprintf("ALTER SYSTEM SET synchronous_standby_names = '%s'", names), "SELECT pg_reload_conf()"} {
			if _, err := conn.Exec(context.Background(), sql); err != nil {
				return err
			}
		}
		return nil
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() {
		defer conn.Close(context.Background())
		tick := time.NewTicker(300 * time.Millisecond)
		defer tick.Stop()
		for i := 0; ; i++ {
			if err := set([]string{"nobody", "nobody", ""}[i%3]); err != nil {
				ended <- err
				return
			}
			select {
			case <-tick.C:
			case <-ctx.Done():
				ended <- set("")
				return
			}
		}
	}()
	var done bool
	stop = func() {
		if !done {
			done = true
			cancel()
			require.NoError(t, <-ended)
		}
	}
	t.Cleanup(stop)
	return stop
}

// forgeMarks writes messages of our prefixes: made up ones, and copies of those that
// the bridge is about to write, in transactions that change rows as well.
func forgeMarks(t *testing.T, source *pgtest.DB) (stop func()) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), source.DSN())
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan int, 1)
	go func() {
		defer conn.Close(context.Background())
		tick := time.NewTicker(5 * time.Millisecond)
		defer tick.Stop()
		n := 0
		for {
			n += forge(ctx, conn)
			select {
			case <-tick.C:
			case <-ctx.Done():
				ended <- n
				return
			}
		}
	}()
	var done bool
	stop = func() {
		if !done {
			done = true
			cancel()
			t.Logf("%d forged marks, copies among them", <-ended)
		}
	}
	t.Cleanup(stop)
	return stop
}

func forge(ctx context.Context, conn *pgx.Conn) int {
	nonce := strings.Repeat("0", 32)
	var copied string
	err := conn.QueryRow(ctx, `SELECT substring(query from '''walbridge.chunk'', ''([0-9a-f]{32})''') FROM pg_stat_activity
		WHERE query LIKE '%walbridge.chunk%' AND pid <> pg_backend_pid() LIMIT 1`).Scan(&copied)
	if err == nil && copied != "" {
		nonce = copied
	}
	_, err = conn.Exec(ctx, "BEGIN; SET LOCAL synchronous_commit = local; UPDATE snap.plain SET v = v + 1 WHERE id = 7; SELECT pg_logical_emit_message(true, 'walbridge.chunk', '"+
		nonce+"'); UPDATE snap.whole SET v = v + 1 WHERE id = 7; SELECT pg_logical_emit_message(true, 'walbridge.signal', '{\"do\":\"cancel\"}'); COMMIT")
	if err != nil {
		return 0
	}
	return 2
}
