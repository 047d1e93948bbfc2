package worktable

import (
	"context"
	"errors"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/sinktest"
)

// The sink keeps the law of sinks, with every promise, on a server whose commits
// can be made to wait for a standby that is not there.
func TestConformance(t *testing.T) {
	t.Parallel()
	cluster := pgtest.New(t)
	sinktest.Run(t, sinktest.Harness{
		Promises: sinktest.Promises{AtomicPosition: true, ExactlyOnce: true, Fencing: true, ManySources: true},
		Lanes:    testLanes,
		Keeps: func(s sinktest.Stored) sinktest.Stored {
			s.Xid = 0
			return s
		},
		CrashStages: []string{string(stageBegin), string(stageCopy), string(stageCommit), string(stageAck)},
		BlockStages: []string{"lock", "copy", "syncrep"},
		Within:      30 * time.Second,
		New: func(t testing.TB) sinktest.Destination {
			d := &destination{db: migrated(t, cluster)}
			return sinktest.Destination{
				Sink:     d.sink,
				Read:     d.read,
				Progress: d.progress,
				Poison:   func(it *mapper.Item) { it.Type = []byte("not\x00text") },
				Crash:    d.crash,
				Block:    d.block,
				Save:     d.save,
			}
		},
	})
}

type destination struct{ db *pgtest.DB }

func (d *destination) sink(t testing.TB) sink.Sink {
	s := newTest(t, testConfig(d.db))
	s.tune.partitionSize = 64
	return s
}

var errCrashed = errors.New("ended by the test")

// crash cuts the session at the stage, as the end of the process would.
func (d *destination) crash(_ testing.TB, k sink.Sink, at string) {
	s := k.(*Sink)
	s.step = func(_ context.Context, now stage) error {
		if string(now) != at {
			return nil
		}
		_ = s.conn.pg.Conn().Close()
		return errCrashed
	}
}

// block makes the next write of s wait: for the log's lock, in the middle of COPY
// for a lock on a partition, in COMMIT for a standby.
func (d *destination) block(t testing.TB, _ sink.Sink, at string) *sinktest.Blocked {
	reached := make(chan struct{})
	b := &sinktest.Blocked{Reached: reached}
	pid, wait := 0, ""
	switch at {
	case "lock":
		pid, b.Release = holdLog(t, d.db)
	case "copy":
		pid, b.Release = holdTable(t, d.db)
	case "syncrep":
		b.Release = stallCommits(t, d.db)
		wait = "SyncRep"
		b.Waiting = func() bool { return waitsForSource(t, d.db) }
	}
	go func() {
		defer close(reached)
		pgtest.Eventually(t, within, func() bool { return writerWaits(t, d.db, pid, wait) }, "a writer to wait at %s", at)
	}()
	return b
}

// writerWaits reports whether a writer is blocked by pid, or waits for an event.
func writerWaits(t testing.TB, db *pgtest.DB, pid int, event string) bool {
	return db.One(t, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE '%/writer'
		AND (wait_event = $1 OR $2 = ANY (pg_blocking_pids(pid)))`, event, pid) != "0"
}

// waitsForSource reports whether an Open waits for the source row.
func waitsForSource(t testing.TB, db *pgtest.DB) bool {
	return db.One(t, `SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE '%/writer'
		AND wait_event_type = 'Lock' AND query LIKE '%FOR UPDATE%'`) != "0"
}

// holder runs statements in a transaction that it keeps open until released.
func hold(t testing.TB, db *pgtest.DB, sql ...string) (pid int, release func()) {
	conn, err := pgx.Connect(context.Background(), db.DSN())
	require.NoError(t, err)
	for _, s := range append([]string{"BEGIN"}, sql...) {
		_, err = conn.Exec(context.Background(), s)
		require.NoError(t, err)
	}
	release = sync.OnceFunc(func() { _ = conn.Close(context.Background()) })
	t.Cleanup(release)
	return int(conn.PgConn().PID()), release
}

func holdLog(t testing.TB, db *pgtest.DB) (int, func()) {
	return hold(t, db, "SELECT walbridge.lock_log()")
}

// holdTable stops writers of log, not readers.
func holdTable(t testing.TB, db *pgtest.DB) (int, func()) {
	var sql []string
	for _, r := range db.Query(t, `SELECT format('LOCK TABLE walbridge.%I IN EXCLUSIVE MODE', c.relname) FROM pg_class c
		JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'walbridge' AND relkind = 'r' AND relname ~ '^log_'`) {
		sql = append(sql, r[0])
	}
	return hold(t, db, sql...)
}

// stallCommits makes commits wait for a standby that does not exist. It returns
// when that has come about: the checkpointer is who tells the others (syncrep.c,
// SyncRepUpdateSyncStandbysDefined), some time after the reload.
func stallCommits(t testing.TB, db *pgtest.DB) (release func()) {
	set := func(value string) {
		db.Exec(t, "ALTER SYSTEM SET synchronous_standby_names = '"+value+"'")
		db.Exec(t, "SELECT pg_reload_conf()")
		pgtest.Eventually(t, within, func() bool { return db.One(t, "SHOW synchronous_standby_names") == value }, "synchronous_standby_names = %q", value)
	}
	set("nobody")
	probed := make(chan struct{})
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(probed)
		probe(ctx, db.DSN()+"&application_name=probe")
	}()
	pgtest.Eventually(t, within, func() bool {
		return db.One(t, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'probe' AND wait_event = 'SyncRep'") == "1"
	}, "a commit to wait")
	release = sync.OnceFunc(func() { set(""); cancel(); <-probed })
	t.Cleanup(release)
	return release
}

// probe commits again and again until it stands still, and ends when ctx does.
func probe(ctx context.Context, dsn string) {
	conn, err := pgx.Connect(ctx, dsn)
	for err == nil && ctx.Err() == nil {
		_, err = conn.Exec(ctx, "SET synchronous_commit = on; SELECT pg_logical_emit_message(true, 'probe', '')", pgx.QueryExecModeSimpleProtocol)
	}
	if conn != nil {
		_ = conn.Close(context.Background())
		<-conn.PgConn().CleanupDone()
	}
}

// save copies the tables aside; restore puts them back, as a failover to a standby
// that lagged would, epoch and all.
func (d *destination) save(t testing.TB) func(testing.TB) {
	tables := []string{"source", "batch", "log", "dead_letter"}
	for _, table := range tables {
		d.db.Exec(t, "CREATE TABLE walbridge.saved_"+table+" AS TABLE walbridge."+table)
	}
	return func(t testing.TB) {
		for _, table := range tables {
			d.db.Exec(t, "DELETE FROM walbridge."+table)
			override := ""
			if table == "dead_letter" {
				override = " OVERRIDING SYSTEM VALUE"
			}
			d.db.Exec(t, "INSERT INTO walbridge."+table+override+" TABLE walbridge.saved_"+table)
		}
	}
}

func (d *destination) progress(t testing.TB, source string) lsn.Progress {
	l, err := ReadLatest(ctxOf(t), testConfig(d.db), source)
	require.NoError(t, err)
	return l.Progress
}

// read returns the log in order of seq, then the dead letters.
func (d *destination) read(t testing.TB) []sinktest.Stored {
	return append(readLog(t, d.db), readLetters(t, d.db)...)
}

func readLog(t testing.TB, db *pgtest.DB) []sinktest.Stored {
	conn := db.Conn(t)
	defer func() { _ = conn.Close(context.Background()) }()
	rows, err := conn.Query(context.Background(), `SELECT source, commit_lsn::text, tx_seq, sub, kind, stream, partition_key, idempotency_key, coalesce(type, ''),
		payload::text, headers::text, committed_at, created_at, available_at, tx_end,
		lane = CASE WHEN type IS NOT DISTINCT FROM 'truncate' THEN sub ELSE walbridge.lane(coalesce(partition_key, idempotency_key)) END
		FROM walbridge.log ORDER BY seq`)
	require.NoError(t, err)
	all, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (s sinktest.Stored, err error) {
		var x scanned
		var lane bool
		err = r.Scan(&s.Source, &x.commit, &x.seq, &s.ID.Sub, &x.kind, &s.Stream, &x.key, &s.EventID, &s.Type,
			&x.payload, &x.headers, &x.committed, &x.created, &x.available, &s.TxEnd, &lane)
		require.NoError(t, err)
		require.True(t, lane, "lane of %s", s.EventID)
		x.into(t, &s)
		return s, nil
	})
	require.NoError(t, err)
	return all
}

func readLetters(t testing.TB, db *pgtest.DB) []sinktest.Stored {
	conn := db.Conn(t)
	defer func() { _ = conn.Close(context.Background()) }()
	rows, err := conn.Query(context.Background(), `SELECT source, commit_lsn::text, tx_seq, sub, stream, partition_key, coalesce(idempotency_key, ''), coalesce(type, ''),
		payload, headers, committed_at, created_at, available_at, raw, replayable, reason, error FROM walbridge.dead_letter ORDER BY commit_lsn, tx_seq, sub, id`)
	require.NoError(t, err)
	all, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (s sinktest.Stored, err error) {
		var x scanned
		var raw *string
		d := &mapper.DeadLetter{}
		err = r.Scan(&s.Source, &x.commit, &x.seq, &s.ID.Sub, &s.Stream, &x.key, &s.EventID, &s.Type,
			&x.payload, &x.headers, &x.committed, &x.created, &x.available, &raw, &d.Replayable, &d.Reason, &d.Error)
		require.NoError(t, err)
		x.into(t, &s)
		s.Kind, s.DeadLetter, d.Raw = mapper.KindDeadLetter, d, bytesOf(raw)
		return s, nil
	})
	require.NoError(t, err)
	return all
}

// scanned are values that need a conversion.
type scanned struct {
	commit, kind          string
	seq                   int64
	key, payload, headers *string
	committed, created    *time.Time
	available             *time.Time
}

func (x scanned) into(t testing.TB, s *sinktest.Stored) {
	var err error
	s.ID.Commit, err = lsn.Parse(x.commit)
	require.NoError(t, err)
	s.ID.Seq = uint32(x.seq)
	s.Kind = mapper.KindEvent
	if strings.HasPrefix(x.kind, "change") {
		s.Kind = mapper.KindRecord
	}
	s.Key, s.Payload, s.Headers = bytesOf(x.key), bytesOf(x.payload), bytesOf(x.headers)
	if x.committed != nil {
		s.CommittedAt = lsn.MicrosOf(*x.committed)
	}
	if x.created != nil {
		s.Time = lsn.MicrosOf(*x.created)
	}
	if x.available != nil {
		s.AvailableAt = lsn.MicrosOf(*x.available)
	}
}

func bytesOf(s *string) []byte {
	if s == nil {
		return nil
	}
	return []byte(*s)
}
