package logtail

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/migrate"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/secret"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const within = 20 * time.Second

// noon is the commit time of seq 0; each seq is a second later.
var noon = time.Date(2025, 11, 24, 12, 0, 0, 0, time.UTC)

// newLog makes a work table.
func newLog(t *testing.T) *pgtest.DB {
	t.Helper()
	db := pgtest.Shared(t).DBFrom(t, "logtail", func(dsn string) error {
		_, err := migrate.Up(context.Background(), migrate.Config{DSN: secret.DSN(dsn), Lanes: 8, ToolVersion: "test"})
		return err
	})
	db.Exec(t, "SELECT walbridge.make_partitions(200000, 2, 50000)")
	return db
}

// write appends n items whose stream, kind and key are SQL of the seq, g.
func write(t *testing.T, db *pgtest.DB, n int, stream, kind, key string) {
	t.Helper()
	db.Exec(t, fmt.Sprintf(`WITH f AS (SELECT walbridge.take_seq(%d) AS first), g AS (SELECT first + i AS g FROM f, generate_series(0, %[1]d - 1) i),
		s AS (INSERT INTO walbridge.stream (name) SELECT DISTINCT %[2]s FROM g ON CONFLICT (name) DO UPDATE SET name = excluded.name RETURNING id, name)
		INSERT INTO walbridge.log (seq, commit_lsn, tx_seq, committed_at, created_at, stream_id, sub, lane, tx_end, kind, stream, partition_key, idempotency_key, type, source, payload)
		SELECT g, '0/1', g, timestamptz '2025-11-24 12:00:00Z' + g * interval '1 s', now(), s.id, 0, walbridge.lane(%[4]s), true, %[3]s, s.name, %[4]s, 'id' || g, 't', 'shop', '{"n": 1}'
		FROM g JOIN s ON s.name = %[2]s`, n, stream, kind, key))
}

// open makes a Log over a session of its own.
func open(t *testing.T, db *pgtest.DB, key *string, streams ...string) *Log {
	t.Helper()
	l, err := Open(t.Context(), db.Conn(t), "walbridge", Choice{Streams: streams, Key: key})
	require.NoError(t, err)
	return l
}

// read returns the seqs above after.
func read(t *testing.T, l *Log, after int64) []int64 {
	t.Helper()
	var all []int64
	require.NoError(t, l.Read(t.Context(), after, false, func(i Item) (bool, error) {
		all = append(all, i.Seq)
		return true, nil
	}))
	return all
}

// seqs asks the table itself.
func seqs(t *testing.T, db *pgtest.DB, where string) []int64 {
	t.Helper()
	var all []int64
	for _, row := range db.Query(t, "SELECT seq FROM walbridge.log WHERE "+where+" ORDER BY seq") {
		var n int64
		_, err := fmt.Sscan(row[0], &n)
		require.NoError(t, err)
		all = append(all, n)
	}
	return all
}

func TestReadsWhatTheTableHasInItsOrder(t *testing.T) {
	t.Parallel()
	db := newLog(t)
	write(t, db, 3000, "CASE WHEN g % 500 = 0 THEN 'rare' ELSE 'orders.' || g % 7 END", "CASE WHEN g % 3 = 0 THEN 'change' ELSE 'event' END", "'k' || g % 11")
	db.Exec(t, "SELECT walbridge.take_seq(100000)") // a gap, as a batch that was rolled back leaves one
	write(t, db, 600, "'rare'", "'event'", "'late'")
	key := "k5"
	for _, c := range []struct {
		streams []string
		key     *string
		after   int64
		where   string
	}{
		{[]string{"rare"}, nil, 0, "stream = 'rare'"},
		{[]string{"orders.1", "rare"}, nil, 0, "stream IN ('orders.1', 'rare')"},
		{[]string{"orders.*"}, nil, 1234, "stream LIKE 'orders.%' AND seq > 1234"},
		{[]string{"*"}, nil, 0, "true"},
		{[]string{"*", "rare"}, &key, 17, "partition_key = 'k5' AND seq > 17"},
		{[]string{"order"}, nil, 0, "false"},
	} {
		require.Equal(t, seqs(t, db, c.where), read(t, open(t, db, c.key, c.streams...), c.after), c.where)
	}
}

func TestStartsWhereItIsAskedTo(t *testing.T) {
	t.Parallel()
	db := newLog(t)
	write(t, db, 1000, "'orders'", "CASE WHEN g % 2 = 0 THEN 'change' ELSE 'event' END", "'k'")
	// A replayed item is older than its neighbours.
	db.Exec(t, "UPDATE walbridge.log SET committed_at = '2020-01-01' WHERE seq IN (500, 501, 750)")
	l := open(t, db, nil, "orders")
	start := func(f From, err error) int64 {
		require.NoError(t, err)
		after, err := l.Start(t.Context(), f)
		require.NoError(t, err)
		return after
	}
	require.EqualValues(t, 0, start(ParseFrom("beginning")))
	require.EqualValues(t, 1000, start(ParseFrom("end")))
	require.EqualValues(t, 41, start(ParseFrom("42")))
	require.EqualValues(t, 990, start(From{}, nil))
	require.EqualValues(t, 997, start(Last(3), nil))
	require.EqualValues(t, 0, start(Last(5000), nil))
	for seq := 1; seq <= 1000; seq += 37 {
		require.EqualValues(t, seq-1, start(ParseFrom(noon.Add(time.Duration(seq)*time.Second).Format(time.RFC3339))), "seq %d", seq)
	}
	require.EqualValues(t, 501, start(ParseFrom(noon.Add(500*time.Second).Format(time.RFC3339))), "the first that is not older")
	require.EqualValues(t, 0, start(ParseFrom("2001-01-01T00:00:00Z")))
	require.EqualValues(t, 1000, start(ParseFrom("-10m")), "nothing is so young")
	db.Exec(t, "UPDATE walbridge.log SET committed_at = now() - interval '5 min' WHERE seq > 990")
	require.EqualValues(t, 990, start(ParseFrom("-10m")))
	key := "nobody"
	require.EqualValues(t, 0, func() int64 { a, _ := open(t, db, &key, "orders").Start(t.Context(), From{}); return a }())
}

func TestPlacesThatAreNone(t *testing.T) {
	for _, text := range []string{"", "soon", "-", "-ten", "-1x", "10m", "2025-11-24", "--5m", "-9999999d"} {
		_, err := ParseFrom(text)
		require.Error(t, err, text)
	}
	for text, want := range map[string]time.Duration{"-7d": 7 * 24 * time.Hour, "-1h30m": 90 * time.Minute} {
		f, err := ParseFrom(text)
		require.NoError(t, err)
		require.Equal(t, want, f.ago)
	}
}

func TestStreamsThatAreNone(t *testing.T) {
	t.Parallel()
	db := newLog(t)
	for _, streams := range [][]string{nil, {""}, {"a*b"}, {"*a"}, {"**"}} {
		_, err := Open(t.Context(), db.Conn(t), "walbridge", Choice{Streams: streams})
		require.Error(t, err, streams)
	}
	l := open(t, db, nil, "orders")
	require.ErrorIs(t, l.Check(t.Context()), ErrNoStream)
	write(t, db, 1, "'payments'", "'event'", "'k'")
	err := l.Check(t.Context())
	require.ErrorIs(t, err, ErrNoStream)
	require.ErrorContains(t, err, "it has payments")
	write(t, db, 1, `E'\x1b[2J'`, "'event'", "'k'")
	require.ErrorContains(t, l.Check(t.Context()), `it has "\x1b[2J", payments`)
	require.NoError(t, open(t, db, nil, "pay*").Check(t.Context()))
}

// What comes while it follows arrives in order, of a stream that was not there before
// too, and the end of the context is no error.
func TestFollows(t *testing.T) {
	t.Parallel()
	db := newLog(t)
	write(t, db, 5, "'orders'", "'event'", "'k'")
	l := open(t, db, nil, "orders", "new.*")
	ctx, cancel := context.WithCancel(t.Context())
	got := make(chan int64, 100)
	ended := make(chan error, 1)
	go func() {
		ended <- l.Read(ctx, 3, true, func(i Item) (bool, error) { got <- i.Seq; return true, nil })
	}()
	want := func(seqs ...int64) {
		for _, seq := range seqs {
			select {
			case n := <-got:
				require.Equal(t, seq, n)
			case <-time.After(within):
				t.Fatalf("seq %d does not come", seq)
			}
		}
	}
	want(4, 5)
	write(t, db, 2, "'new.stream'", "'change'", "'k'")
	db.Exec(t, "NOTIFY walbridge_log")
	want(6, 7)
	write(t, db, 1, "'orders'", "'event'", "'k'") // nobody notifies
	want(8)
	cancel()
	require.NoError(t, <-ended)
}

func TestEndsWhenItHasEnough(t *testing.T) {
	t.Parallel()
	db := newLog(t)
	write(t, db, 1000, "'orders'", "'event'", "'k'")
	n := 0
	require.NoError(t, open(t, db, nil, "orders").Read(t.Context(), 0, true, func(Item) (bool, error) { n++; return n < 7, nil }))
	require.Equal(t, 7, n)
	failed := fmt.Errorf("no room")
	require.ErrorIs(t, open(t, db, nil, "orders").Read(t.Context(), 0, false, func(Item) (bool, error) { return false, failed }), failed)
}

// Every statement goes through the index that begins with the stream and the seq, and
// reads about as many rows as it returns: never the log.
func TestReadsByTheIndexOnly(t *testing.T) {
	t.Parallel()
	db := newLog(t)
	write(t, db, 60_000, "CASE WHEN g % 1000 = 0 THEN 'rare' ELSE 'orders' END", "CASE WHEN g % 2 = 0 THEN 'change' ELSE 'event' END", "'k' || g % 11")
	key := "k5"
	for _, statistics := range []string{"", "ANALYZE walbridge.log"} {
		db.Exec(t, statistics)
		for _, l := range []*Log{open(t, db, nil, "rare"), open(t, db, nil, "ra*"), open(t, db, nil, "*"), open(t, db, &key, "orders")} {
			plan := explain(t, l, l.pageSQL(), l.args(int64(30_000), int64(31_000), pageItems)...)
			require.NotContains(t, plan, "Seq Scan on log")
			require.Contains(t, plan, "log_")
			require.Regexp(t, `Index Scan using log_\S*stream_id_seq_lane\S* on log_`, plan)
			require.Positive(t, scanned(t, plan), plan)
			require.Less(t, scanned(t, plan), 2000, plan)
		}
	}
}

func explain(t *testing.T, l *Log, sql string, args ...any) string {
	t.Helper()
	rows, err := l.conn.Query(t.Context(), "EXPLAIN (ANALYZE, TIMING OFF, SUMMARY OFF) "+sql, args...)
	require.NoError(t, err)
	var plan strings.Builder
	for rows.Next() {
		var line string
		require.NoError(t, rows.Scan(&line))
		plan.WriteString(line + "\n")
	}
	require.NoError(t, rows.Err())
	return plan.String()
}

// scanned adds up the rows that scans of log returned or threw away.
func scanned(t *testing.T, plan string) int {
	t.Helper()
	total, inLog := 0, false
	for line := range strings.Lines(plan) {
		var rows, loops int
		if _, actual, ok := strings.Cut(line, "(actual "); ok {
			inLog = strings.Contains(line, " on log_")
			actual = strings.ReplaceAll(actual, ".00 ", " ") // 18 writes rows as 4.00
			if _, err := fmt.Sscanf(actual, "rows=%d loops=%d", &rows, &loops); err == nil && inLog {
				total += rows * loops
			}
		}
		if _, err := fmt.Sscanf(strings.TrimSpace(line), "Rows Removed by Filter: %d", &rows); err == nil && inLog {
			total += rows
		}
	}
	return total
}
