package consumers

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/jackc/pgx/v5"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/migrate"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/secret"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

const within = 30 * time.Second

// newTable makes a work table of four lanes.
func newTable(t *testing.T) *pgtest.DB {
	t.Helper()
	db := pgtest.Shared(t).DBFrom(t, "consumers", func(dsn string) error {
		_, err := migrate.Up(context.Background(), migrate.Config{DSN: secret.DSN(dsn), Lanes: 4, ToolVersion: "test"})
		return err
	})
	db.Exec(t, "SELECT walbridge.make_partitions(200000, 2, 50000)")
	return db
}

// write appends n items of a stream as a bridge does, the keys k0 to k6.
func write(t *testing.T, db *pgtest.DB, stream string, n int) {
	t.Helper()
	db.Exec(t, "INSERT INTO walbridge.stream (name) VALUES ($1) ON CONFLICT DO NOTHING", stream)
	db.Exec(t, "INSERT INTO walbridge.source (name) VALUES ('shop') ON CONFLICT DO NOTHING")
	db.Exec(t, fmt.Sprintf(`WITH f AS (SELECT walbridge.take_seq(%d) AS first), g AS (SELECT first + i AS g FROM f, generate_series(0, %[1]d - 1) i),
		b AS (INSERT INTO walbridge.batch (source, n, first_seq, last_seq, end_lsn, last_tx_end, timeline) SELECT 'shop', first, first, first + %[1]d - 1, '0/1', '0/1', 1 FROM f)
		INSERT INTO walbridge.log (seq, commit_lsn, tx_seq, committed_at, created_at, stream_id, sub, lane, tx_end, kind, stream, partition_key, idempotency_key, source, payload)
		SELECT g, '0/1', g, clock_timestamp() - interval '1 min', now(), s.id, 0, walbridge.lane('k' || g %% 7), true,
			CASE WHEN g %% 2 = 0 THEN 'event' ELSE 'change' END, s.name, 'k' || g %% 7, 'id' || g, 'shop', '{}'
		FROM g JOIN walbridge.stream s ON s.name = '%s'`, n, stream))
}

// logged is an output that is read while it is written.
type logged struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (l *logged) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

func (l *logged) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// watching runs a watcher that connects with a DSN, until the test ends. The bridge's
// own session sees somebody to look at.
func watching(t *testing.T, dsn string, active *atomic.Bool) (*Watcher, *logged) {
	t.Helper()
	var somebody atomic.Bool
	somebody.Store(true)
	w, out, _ := watchingIf(t, dsn, active, &somebody)
	return w, out
}

// watchingIf also counts the sessions that the watcher makes.
func watchingIf(t *testing.T, dsn string, active, somebody *atomic.Bool) (*Watcher, *logged, *atomic.Int64) {
	t.Helper()
	var out logged
	var made atomic.Int64
	active.Store(true)
	w := NewWatcher(WatchConfig{
		Connect: func(ctx context.Context) (*pgx.Conn, error) { made.Add(1); return pgx.Connect(ctx, dsn) },
		Any:     func(context.Context) (bool, error) { return somebody.Load(), nil },
		Schema:  "walbridge", Bridge: "shop", Active: active.Load, Log: hclog.New(&hclog.LoggerOptions{Output: &out}),
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() { w.Run(ctx); close(ended) }()
	t.Cleanup(func() { cancel(); <-ended })
	return w, &out, &made
}

func series(t *testing.T, w *Watcher) int {
	t.Helper()
	registry := prometheus.NewRegistry()
	require.NoError(t, registry.Register(w))
	all, err := registry.Gather()
	require.NoError(t, err)
	return len(all)
}

// A watcher shows what is there, and nothing while the bridge is a standby.
func TestWatches(t *testing.T) {
	t.Parallel()
	db := newTable(t)
	db.Exec(t, "SELECT walbridge.subscribe('search', '{orders}')")
	write(t, db, "orders", 50)
	var active atomic.Bool
	w, out := watching(t, db.DSN(), &active)
	pgtest.Eventually(t, within, func() bool { return w.Latest() != nil }, "it has looked")
	s := w.Latest().Subscriptions[0]
	require.Equal(t, "search", s.Name)
	require.EqualValues(t, 50, s.Lag.Items)
	require.InDelta(t, 60, *s.Lag.Seconds, 30)
	require.Equal(t, 4, s.Lanes)
	require.Equal(t, 5, series(t, w))
	active.Store(false)
	require.Nil(t, w.Latest())
	require.Zero(t, series(t, w))
	require.Empty(t, out.String())
}

// known is how many subscriptions a watcher knows of; -1: it does not know.
func known(w *Watcher) int {
	if c := w.Latest(); c != nil {
		return len(c.Subscriptions)
	}
	return -1
}

// A subscription for which the log is kept is named, with the time.
func TestWhoHoldsTheLogIsNamed(t *testing.T) {
	t.Parallel()
	db := newTable(t)
	db.Exec(t, `SELECT walbridge.subscribe('ledger', '{orders}', settings => '{"on_exceeded":"keep"}'), walbridge.subscribe('search', '{orders}')`)
	write(t, db, "orders", 60_000)
	db.Exec(t, "SELECT FROM walbridge.retain()") // the first partition is closed now
	db.Exec(t, "UPDATE walbridge.closed_partition SET closed_at = clock_timestamp() - interval '8 days'")
	require.NotEmpty(t, db.Query(t, "SELECT FROM walbridge.retain() WHERE what = 'held' AND subscription = 'ledger'"))
	db.Exec(t, "UPDATE walbridge.retention SET held_since = held_since - interval '1 hour'")
	var active atomic.Bool
	w, _ := watching(t, db.DSN(), &active)
	pgtest.Eventually(t, within, func() bool { return w.Latest() != nil }, "it has looked")
	all := w.Latest().Subscriptions
	require.Equal(t, []string{"ledger", "search"}, []string{all[0].Name, all[1].Name})
	require.InDelta(t, 3600, *all[0].HoldsSeconds, 300)
	require.Nil(t, all[1].HoldsSeconds)
	require.InDelta(t, 3600, gaugeOf(t, w, "walbridge_queue_holds_log_seconds", "ledger"), 300)
	require.Zero(t, gaugeOf(t, w, "walbridge_queue_holds_log_seconds", "search"))
}

func gaugeOf(t *testing.T, w *Watcher, name, subscription string) float64 {
	t.Helper()
	registry := prometheus.NewRegistry()
	require.NoError(t, registry.Register(w))
	all, err := registry.Gather()
	require.NoError(t, err)
	for _, family := range all {
		for _, m := range family.Metric {
			for _, l := range m.Label {
				if family.GetName() == name && l.GetName() == "subscription" && l.GetValue() == subscription {
					return m.Gauge.GetValue()
				}
			}
		}
	}
	require.Fail(t, "there is no such series")
	return 0
}

// While nobody reads, no session is made, and none stays open; who comes is seen.
func TestWhileNobodyReadsNoSessionStays(t *testing.T) {
	t.Parallel()
	db := newTable(t)
	var active, somebody atomic.Bool
	w, _, made := watchingIf(t, db.DSN()+"&application_name=watcher", &active, &somebody)
	pgtest.Eventually(t, within, func() bool { return w.Latest() != nil }, "it has looked")
	sessions := func() bool {
		return db.One(t, "SELECT count(*) FROM pg_stat_activity WHERE application_name = 'watcher' AND datname = current_database()") == "1"
	}
	require.Zero(t, made.Load())
	require.False(t, sessions())
	db.Exec(t, "SELECT walbridge.subscribe('search', '{orders}')")
	somebody.Store(true)
	pgtest.Eventually(t, within, func() bool { return known(w) == 1 && sessions() }, "it sees who has come")
	db.Exec(t, "SELECT walbridge.drop_subscription('search')")
	somebody.Store(false)
	pgtest.Eventually(t, within, func() bool { return known(w) == 0 && !sessions() }, "its session has ended")
}

// A role without the rights is no error of the bridge: what it may not see is absent,
// and said once.
func TestWithoutRightsNothingIsShown(t *testing.T) {
	t.Parallel()
	db := newTable(t)
	role := "r_" + db.Name()
	db.Exec(t, "CREATE ROLE "+role+" LOGIN; GRANT USAGE ON SCHEMA walbridge TO "+role)
	t.Cleanup(func() { db.Exec(t, "DROP OWNED BY "+role+"; DROP ROLE "+role) })
	var active atomic.Bool
	w, out := watching(t, db.DSNAs(role, ""), &active)
	pgtest.Eventually(t, within, func() bool {
		return strings.Contains(out.String(), "the role lacks rights, which walbridge doctor names")
	}, "it says so")
	require.Nil(t, w.Latest())
	require.Zero(t, series(t, w))
}

// A lock that somebody holds on a table delays a look by its time-out and no longer,
// and the look waits in front of nobody for longer than that.
func TestALockedTableEndsALook(t *testing.T) {
	t.Parallel()
	db := newTable(t)
	db.Exec(t, "SELECT walbridge.subscribe('search', '{orders}')")
	holder := db.Conn(t)
	_, err := holder.Exec(t.Context(), "BEGIN; LOCK TABLE walbridge.subscription IN ACCESS EXCLUSIVE MODE")
	require.NoError(t, err)
	var active atomic.Bool
	w, out := watching(t, db.DSN(), &active)
	pgtest.Eventually(t, within, func() bool { return strings.Contains(out.String(), "lock timeout") }, "it gives up")
	require.Nil(t, w.Latest())
	require.Equal(t, "0", db.One(t, "SELECT count(*) FROM pg_locks WHERE NOT granted AND database = (SELECT oid FROM pg_database WHERE datname = current_database())"))
}

// What cannot be counted in time stays unknown, and the others are counted.
func TestLagThatTakesTooLongIsUnknown(t *testing.T) {
	t.Parallel()
	db := newTable(t)
	db.Exec(t, "SELECT walbridge.subscribe('search', '{orders}'), walbridge.subscribe('slow', '{orders}')")
	db.Exec(t, `DROP FUNCTION walbridge.subscription_progress(text);
		CREATE FUNCTION walbridge.subscription_progress(name text, OUT seq bigint, OUT items bigint, OUT lag_ms bigint) LANGUAGE plpgsql AS
		$$ BEGIN IF name = 'slow' THEN PERFORM pg_sleep(60); END IF; SELECT 1, 20, 60000 INTO seq, items, lag_ms; END $$`)
	conn := db.Conn(t)
	_, err := conn.Exec(t.Context(), "SET statement_timeout = '200ms'")
	require.NoError(t, err)
	b, err := New(t.Context(), conn, "walbridge", "test")
	require.NoError(t, err)
	all, err := b.Subscriptions(t.Context(), 0)
	require.NoError(t, err)
	require.EqualValues(t, 20, all[0].Lag.Items)
	require.False(t, all[0].Lag.More)
	require.Nil(t, all[1].Lag.Seconds)
	require.True(t, all[1].Lag.More)
	all, err = b.Subscriptions(t.Context(), time.Nanosecond)
	require.NoError(t, err)
	require.Nil(t, all[0].Lag.Seconds, "the budget was spent")
}

// The lanes are looked at through the index, no further than the bound.
func TestLanesReadABoundedPartOfTheLog(t *testing.T) {
	t.Parallel()
	db := newTable(t)
	db.Exec(t, "SELECT walbridge.subscribe('search', '{orders,pay*}')")
	write(t, db, "orders", 20_000)
	write(t, db, "payments", 5_000)
	conn := db.Conn(t)
	b, err := New(t.Context(), conn, "walbridge", "test")
	require.NoError(t, err)
	lanes, err := b.Lanes(t.Context(), "search", 1000)
	require.NoError(t, err)
	require.Len(t, lanes, 4)
	items := int64(0)
	for _, l := range lanes {
		items += l.Lag.Items
		require.True(t, l.Lag.More)
	}
	require.EqualValues(t, 2000, items, "500 of each stream and kind")
	rows, err := conn.Query(t.Context(), "EXPLAIN "+fmt.Sprintf(sqlLanes, b.schema), "search", 1000)
	require.NoError(t, err)
	plan, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err)
	require.NotContains(t, strings.Join(plan, "\n"), "Seq Scan on log_")
	all, err := b.Lanes(t.Context(), "search", 1_000_000)
	require.NoError(t, err)
	items = 0
	for _, l := range all {
		items += l.Lag.Items
		require.False(t, l.Lag.More)
		require.Equal(t, l.Lag.Items > 0, *l.Lag.Seconds > 0)
	}
	require.EqualValues(t, 25_000, items)
}
