package worktable

import (
	"context"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/migrate"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/secret"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/migrations"
	"github.com/walbridge/walbridge/sink"
)

// What is read in the statement that waits for a lock is from before the wait: the
// reason why taking the lock and reading are two statements everywhere.
func TestReadAfterLockIsAStatementOfItsOwn(t *testing.T) {
	t.Parallel()
	db := shared(t)
	s := opened(t, testConfig(db), "shop")
	writeN(t, s, 10, 1)
	read := func(sql string) string {
		holder := db.Conn(t)
		_, err := holder.Exec(t.Context(), "BEGIN; SELECT walbridge.lock_log(); INSERT INTO walbridge.batch (source, n, end_lsn, last_tx_end, timeline) SELECT 'shop', max(n) + 1, '0/0', '0/0', 1 FROM walbridge.batch")
		require.NoError(t, err)
		got := make(chan string, 1)
		reader := db.Conn(t)
		go func() {
			var v string
			r, err := reader.PgConn().Exec(context.Background(), sql).ReadAll()
			if err == nil {
				v, err = first(r)
			}
			if err != nil {
				v = err.Error()
			}
			got <- v
		}()
		pid := reader.PgConn().PID()
		pgtest.Eventually(t, within, func() bool {
			return db.One(t, "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event_type = 'Lock'", pid) == "1"
		}, "the reader to wait")
		_, err = holder.Exec(t.Context(), "COMMIT")
		require.NoError(t, err)
		return <-got
	}
	require.Equal(t, "1", read("BEGIN; WITH l AS MATERIALIZED (SELECT walbridge.lock_log()) SELECT max(n) FROM walbridge.batch, l; COMMIT"), "the hole: a row is missing")
	require.Equal(t, "3", read("BEGIN; SELECT walbridge.lock_log(); SELECT max(n) FROM walbridge.batch; COMMIT"))
	require.Equal(t, "3", read("BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT walbridge.lock_log(); SELECT max(n) FROM walbridge.batch; COMMIT"), "the hole: REPEATABLE READ")
}

// A plain UPDATE of the epoch passes beside a fence that is held: only FOR UPDATE
// waits for it.
func TestFenceIsWaitedForByForUpdateAlone(t *testing.T) {
	t.Parallel()
	db := shared(t)
	opened(t, testConfig(db), "shop")
	_, release := hold(t, db, "SELECT walbridge.fence('shop', 1)")
	db.Exec(t, "UPDATE walbridge.source SET epoch = epoch WHERE name = 'shop'") // does not wait: the hole
	_, err := db.Conn(t).Exec(t.Context(), "SET lock_timeout = '100ms'; SELECT 1 FROM walbridge.source WHERE name = 'shop' FOR UPDATE")
	require.ErrorContains(t, err, codeLockNotAvailable)
	release()
	_, err = db.Conn(t).Exec(t.Context(), "SELECT walbridge.fence('shop', 0)")
	require.True(t, hasCode(err, migrations.CodeFenced), "%v", err)
}

// Two bridges in one log interleave, and nothing ever appears below a seq that was
// visible.
func TestNothingAppearsBelowAVisibleSeq(t *testing.T) {
	t.Parallel()
	db := shared(t)
	const writes, rows = 25, 40
	var g errgroup.Group
	for _, name := range []string{"shop", "legacy"} {
		s := newTest(t, testConfig(db))
		s.tune.partitionSize = 300
		mustOpen(t, s, name)
		g.Go(func() error {
			for i := range lsn.LSN(writes) {
				commit := 0x100 * (i + 1)
				if err := s.Write(context.Background(), fill(s, commit, rows), at(commit+0x30)); err != nil {
					return err
				}
			}
			return nil
		})
	}
	done := make(chan error, 1)
	go func() { done <- g.Wait() }()
	conn := db.Conn(t)
	seen, top := 0, int64(0)
	for finished := false; !finished; {
		select {
		case err := <-done:
			require.NoError(t, err)
			finished = true
		default:
		}
		var below, total int
		var last int64
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT count(*) FILTER (WHERE seq <= $1), count(*), coalesce(max(seq), 0) FROM walbridge.log", top).Scan(&below, &total, &last))
		require.Equal(t, seen, below, "rows up to seq %d", top)
		seen, top = total, last
	}
	require.Equal(t, 2*writes*rows, seen)
	require.Equal(t, "0", db.One(t, `SELECT count(*) FROM (SELECT commit_lsn < lag(commit_lsn) OVER (PARTITION BY source ORDER BY seq) AS bad FROM walbridge.log) x WHERE bad`), "order of each source")
	require.Equal(t, "0", db.One(t, `SELECT count(*) FROM walbridge.batch b WHERE last_seq - first_seq + 1 <> (SELECT count(*) FROM walbridge.log l WHERE l.source = b.source AND seq BETWEEN first_seq AND last_seq)`), "each batch's block is its own")
}

// A writer whose idea of the last batch is wrong is fenced by the key of batch,
// also when its epoch is right.
func TestCompareAndAppend(t *testing.T) {
	t.Parallel()
	db := shared(t)
	s := opened(t, testConfig(db), "shop")
	writeN(t, s, 10, 3)
	s.n--
	requireFenced(t, s.Write(ctxOf(t), fill(s, 0x100, 2), at(0x130)))
	require.Equal(t, "3", count(t, db, "log"))
}

// Open refuses, once, to take a source away from another instance that opened it
// since: the caller becomes the standby and asks for the lock first.
func TestOpenFindsAForeignEpoch(t *testing.T) {
	t.Parallel()
	db := shared(t)
	a, b := opened(t, testConfig(db), "shop"), newTest(t, testConfig(db))
	mustOpen(t, a, "shop") // its own epoch is not foreign
	mustOpen(t, b, "shop")
	_, err := a.Open(ctxOf(t), sink.Source{Name: "shop"})
	requireFenced(t, err)
	writeN(t, b, 10, 1)
	mustOpen(t, a, "shop")
	requireFenced(t, b.Write(ctxOf(t), fill(b, 0x100, 1), at(0x130)))
	require.Equal(t, "4", db.One(t, "SELECT epoch FROM walbridge.source"))
}

// An epoch that another instance raised says nothing to one that has taken the
// lock on the name anew.
func TestOpenAfterLockIsNoRivalry(t *testing.T) {
	t.Parallel()
	db := shared(t)
	a, b := newTest(t, testConfig(db)), newTest(t, testConfig(db))
	l, err := a.Lock(ctxOf(t), "shop", time.Minute, nil)
	require.NoError(t, err)
	mustOpen(t, a, "shop")
	require.NoError(t, l.Unlock(ctxOf(t)))
	mustOpen(t, b, "shop")
	_, err = a.Lock(ctxOf(t), "shop", time.Minute, nil)
	require.NoError(t, err)
	mustOpen(t, a, "shop")
}

// A program and a schema that do not fit refuse each other with both numbers, and
// the number of lanes has to be the schema's.
func TestOpenChecksTheSchema(t *testing.T) {
	t.Parallel()
	bare := pgtest.Shared(t).DB(t)
	_, err := newTest(t, testConfig(bare)).Open(ctxOf(t), sink.Source{Name: "shop"})
	var config *fault.ConfigError
	require.ErrorAs(t, err, &config, "no schema")
	require.Contains(t, config.Problems[0].Fix, "walbridge setup")

	db := shared(t)
	cfg := testConfig(db)
	cfg.Lanes = 64
	_, err = newTest(t, cfg).Open(ctxOf(t), sink.Source{Name: "shop"})
	require.ErrorAs(t, err, &config)
	require.ErrorContains(t, err, "64, but the schema was made with 8")
	db.Exec(t, "UPDATE walbridge.schema_version SET version = 900, compatible_from = 899")
	_, err = newTest(t, testConfig(db)).Open(ctxOf(t), sink.Source{Name: "shop"})
	require.ErrorAs(t, err, &config)
	require.ErrorContains(t, err, "900")
	db.Exec(t, "UPDATE walbridge.schema_version SET version = $1, compatible_from = 1", migrations.Version-1)
	_, err = newTest(t, testConfig(db)).Open(ctxOf(t), sink.Source{Name: "shop"})
	require.ErrorAs(t, err, &config)
	require.Contains(t, config.Problems[0].Fix, "walbridge migrate up")
	require.Equal(t, "0", count(t, db, "source"), "nothing was written")
}

// Partitions are made before they are needed, under writes, and none is missing.
func TestPartitionRollover(t *testing.T) {
	t.Parallel()
	db := shared(t)
	s := newTest(t, testConfig(db))
	s.tune.partitionSize = 100
	mustOpen(t, s, "shop")
	for i := range lsn.LSN(30) {
		writeN(t, s, 0x100*(i+1), 30)
	}
	writeN(t, s, 0x10000, 1050) // ten partitions at once
	require.Equal(t, "1950", count(t, db, "log"))
	pgtest.Eventually(t, within, func() bool { return !s.wantsPartitions(s.upkeep.seq.Load()) }, "two partitions ahead")
	require.Equal(t, "0", db.One(t, `SELECT count(*) FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'walbridge' AND relname ~ '^log_(event|change)_0' AND relkind = 'r' AND NOT relispartition`))
	require.Equal(t, "0", count(t, db, "dead_letter"), "a missing partition is no poison")
}

// A partition that is gone is made anew, and its absence condemns no row.
func TestMissingPartitionIsNoPoison(t *testing.T) {
	t.Parallel()
	db := shared(t)
	told := 0
	s := newTest(t, testConfig(db))
	s.tune.partitionSize = 100
	_, err := s.Open(ctxOf(t), sink.Source{Name: "shop", OnPoison: func(sink.Poison) error { told++; return nil }})
	require.NoError(t, err)
	db.Exec(t, "DROP TABLE walbridge.log_event_0000000000000000000, walbridge.log_event_0000000000000000100, walbridge.log_event_0000000000000000200")
	writeN(t, s, 10, 5)
	require.Equal(t, "5", count(t, db, "log"))
	db.Exec(t, "ALTER FUNCTION walbridge.make_partitions(bigint, integer, bigint) RENAME TO elsewhere")
	db.Exec(t, "DROP TABLE walbridge.log_event_0000000000000000000, walbridge.log_event_0000000000000000100, walbridge.log_event_0000000000000000200")
	err = s.Write(ctxOf(t), fill(s, 0x100, 5), at(0x130))
	require.Error(t, err)
	require.Zero(t, told)
	require.Equal(t, "0", count(t, db, "dead_letter"))
}

// Old rows of batch go, some at a time, from where the last trim ended; the newest
// stay, of this source and of others.
func TestTrim(t *testing.T) {
	t.Parallel()
	db := shared(t)
	s := newTest(t, testConfig(db))
	s.tune.trimEvery, s.tune.trimKeep, s.tune.trimMost, s.tune.notifyPause = 10, 5, 8, time.Millisecond
	mustOpen(t, s, "shop")
	other := opened(t, testConfig(db), "legacy")
	writeN(t, other, 10, 1)
	p := at(0)
	write := func(n int) {
		for range n {
			p.Position.End++
			require.NoError(t, s.Write(ctxOf(t), s.NewBatch(), p))
		}
	}
	write(10)
	pgtest.Eventually(t, within, func() bool { return s.upkeep.trimmedTo() == 5 }, "the first trim")
	write(10)
	pgtest.Eventually(t, within, func() bool { return s.upkeep.trimmedTo() == 13 }, "the second trim, of %d rows at most", 8)
	require.Equal(t, "14", db.One(t, "SELECT min(n) FROM walbridge.batch WHERE source = 'shop'"))
	require.Equal(t, "1", db.One(t, "SELECT count(*) FROM walbridge.batch WHERE source = 'legacy'"))
	again := newTest(t, testConfig(db))
	require.Equal(t, p.Position, mustOpen(t, again, "shop").Position)
	require.Equal(t, int64(13), again.upkeep.trimmedTo(), "it goes on where the last one ended")
}

// Readers are told of rows, not of positions, from another session than the
// writer's, several writes at once.
func TestNotify(t *testing.T) {
	t.Parallel()
	db := shared(t)
	s := newTest(t, testConfig(db))
	s.tune.notifyPause = time.Second
	mustOpen(t, s, "shop")
	conn := db.Conn(t)
	_, err := conn.Exec(t.Context(), "LISTEN "+migrations.Channel)
	require.NoError(t, err)
	require.NoError(t, s.Write(ctxOf(t), s.NewBatch(), at(5)))
	for i := range lsn.LSN(20) {
		writeN(t, s, 0x100*(i+1), 1)
	}
	got := 1
	n, err := conn.WaitForNotification(ctxOf(t))
	require.NoError(t, err)
	require.Equal(t, "walbridge", n.Payload)
	for ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond); ; got++ {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			cancel()
			break
		}
		require.Equal(t, "walbridge", n.Payload)
		require.NotEqual(t, s.conn.pg.PID(), n.PID, "not the writer's session")
	}
	require.Less(t, got, 20, "debounced")
}

// A new stream's number is given outside the write, so that two writers that meet
// on a name do not wait for each other's batch; both get the same.
func TestStreamsAreNumberedOnce(t *testing.T) {
	t.Parallel()
	db := shared(t)
	var sinks []*Sink
	for i := range 4 {
		sinks = append(sinks, opened(t, testConfig(db), fmt.Sprintf("b%d", i)))
	}
	var wg sync.WaitGroup
	for _, s := range sinks {
		wg.Go(func() {
			b := s.NewBatch()
			for i := range 20 {
				it := event(10, i, "k")
				it.Stream = fmt.Sprintf(`stream "%d" \ {,}`, i)
				b.Append([]mapper.Item{it})
			}
			b.EndTx()
			if err := s.Write(context.Background(), b, at(0x40)); err != nil {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	require.Equal(t, "20", count(t, db, "stream"))
	require.Equal(t, "0", db.One(t, "SELECT count(*) FROM walbridge.log l LEFT JOIN walbridge.stream s ON s.id = l.stream_id WHERE s.name IS DISTINCT FROM l.stream"))
}

// A write that cannot end in time fails as what it is, and holds nothing up.
func TestWriteTimeout(t *testing.T) {
	t.Parallel()
	db := shared(t)
	cfg := testConfig(db)
	cfg.WriteTimeout = time.Second
	s := opened(t, cfg, "shop")
	pid, release := holdLog(t, db)
	err := s.Write(context.Background(), fill(s, 10, 1), at(0x40))
	require.ErrorContains(t, err, "sink.write_timeout")
	require.ErrorContains(t, err, fmt.Sprintf("pid %d", pid), "the session in the way is named")
	require.Equal(t, "sink_timeout", fault.Reason(err))
	require.ErrorIs(t, s.Write(ctxOf(t), fill(s, 10, 1), at(0x40)), errNotOpen)
	release()
	mustOpen(t, s, "shop")
	writeN(t, s, 10, 1)
}

func TestForeignBatches(t *testing.T) {
	t.Parallel()
	db := shared(t)
	s := newTest(t, testConfig(db))
	early := fill(s, 10, 1)
	mustOpen(t, s, "shop")
	require.ErrorIs(t, s.Write(ctxOf(t), early, at(0x40)), errForeign, "filled before the name was known")
	mustOpen(t, s, "shop")
	p := at(0x40)
	p.Cursors = make([]byte, MaxCursors+1)
	require.ErrorContains(t, s.Write(ctxOf(t), s.NewBatch(), p), "cursors")
	mustOpen(t, s, "shop")
	writeN(t, s, 10, 1)
}

// A sink without password, in a role that may do just what it needs, never shows
// the secret.
func TestSecretsStayOut(t *testing.T) {
	t.Parallel()
	for _, dsn := range []secret.DSN{
		"postgres://u:hunter2@127.0.0.1:1/x?connect_timeout=1", "postgres://u:hunter2@127.0.0.1:notaport/x", "host=127.0.0.1 port=1 user=u password='hunter2'",
	} {
		cfg := Config{DSN: dsn}.WithDefaults()
		s := New(cfg, nil)
		_, err := s.Open(ctxOf(t), sink.Source{Name: "shop"})
		_, lerr := s.Lock(ctxOf(t), "shop", time.Second, nil)
		_, rerr := ReadLatest(ctxOf(t), cfg, "shop")
		_, serr := OpenStore(ctxOf(t), cfg)
		found, _ := Check(ctxOf(t), cfg, SourceOf{})
		for _, p := range append(found, cfg.Validate()...) {
			require.NotContains(t, fmt.Sprintf("%+v", p), "hunter2")
		}
		require.NotEmpty(t, found)
		for _, err := range []error{err, lerr, rerr, serr} {
			require.Error(t, err)
			require.NotContains(t, fmt.Sprintf("%v %+v", err, err), "hunter2")
		}
		require.NotContains(t, fmt.Sprintf("%+v", cfg), "hunter2")
		require.NoError(t, s.Close(ctxOf(t)))
	}
}

// A position survives a crash of a server whose database does not wait for its
// commits: the sink asks for it.
func TestDurableWhateverTheDatabaseAsks(t *testing.T) {
	t.Parallel()
	cluster := pgtest.New(t, pgtest.Fsync(), pgtest.Setting("synchronous_commit", "off"), pgtest.Setting("wal_writer_delay", "10s"))
	db := migrated(t, cluster)
	s := opened(t, testConfig(db), "shop")
	for i := range lsn.LSN(20) {
		writeN(t, s, 0x100*(i+1), 10)
	}
	require.NoError(t, cluster.Server().Kill())
	require.NoError(t, cluster.Server().Restart(t.Context()))
	require.Error(t, s.Write(ctxOf(t), fill(s, 0x10000, 1), at(0x10030)))
	require.Equal(t, at(0x1430).Position, mustOpen(t, s, "shop").Position)
	require.Equal(t, "200", count(t, db, "log"))
	writeN(t, s, 0x10000, 1)
	require.Equal(t, "orders", db.One(t, "SELECT s.name FROM walbridge.log JOIN walbridge.stream s ON s.id = stream_id ORDER BY seq DESC LIMIT 1"))
}

// Schemas with names that need quotes work.
func TestQuotedSchema(t *testing.T) {
	t.Parallel()
	db := pgtest.Shared(t).DB(t)
	cfg := testConfig(db)
	cfg.Schema = "Shop-Work"
	_, err := migrate.Up(t.Context(), migrate.Config{DSN: cfg.DSN, Schema: cfg.Schema, Lanes: testLanes})
	require.NoError(t, err)
	s := opened(t, cfg, "o'brien \\ \"x\"")
	writeN(t, s, 10, 3)
	require.Equal(t, at(0x3a).Position, mustOpen(t, s, "o'brien \\ \"x\"").Position)
	l, err := ReadLatest(ctxOf(t), cfg, "o'brien \\ \"x\"")
	require.NoError(t, err)
	require.Equal(t, int64(3), l.LastSeq)
	found, err := Check(ctxOf(t), cfg, SourceOf{})
	require.NoError(t, err)
	for _, p := range found {
		require.True(t, p.Warning, p.String())
	}
}
