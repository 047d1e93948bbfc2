package worksql

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/migrate"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/secret"
	"github.com/walbridge/walbridge/migrations"
)

func TestMain(m *testing.M) {
	if dsn := os.Getenv(goVar); dsn != "" {
		os.Exit(goWorker(dsn))
	}
	pgtest.Main(m)
}

const (
	within = 20 * time.Second
	lanes  = 8
	all    = "{0,1,2,3,4,5,6,7}"
	ones   = "{1,1,1,1,1,1,1,1}"
)

// table is a work table and what tests do with it.
type table struct {
	*pgtest.DB
	t     *testing.T
	lanes int
}

func newTable(t *testing.T, c *pgtest.Cluster) table {
	t.Helper()
	return newTableOf(t, c, lanes)
}

func newTableOf(t *testing.T, c *pgtest.Cluster, lanes int) table {
	t.Helper()
	db := c.DBFrom(t, fmt.Sprint("worksql-", lanes), func(dsn string) error {
		_, err := migrate.Up(context.Background(), migrate.Config{DSN: secret.DSN(dsn), Lanes: lanes, ToolVersion: "test"})
		return err
	})
	w := table{db, t, lanes}
	w.Exec(t, "SELECT walbridge.make_partitions(2000, 2, 1000)")
	w.Exec(t, "INSERT INTO walbridge.source (name) VALUES ('a')")
	return w
}

// row is one item to write. Its commit LSN is its seq.
type row struct {
	stream, key string
	kind        string // default event
	due         string // an interval from now; empty: at once
	poison      bool
}

// write appends a batch as a bridge does, and returns its first seq.
func (w table) write(rows ...row) int64 {
	w.t.Helper()
	return w.writeOn(w.Conn(w.t), true, rows...)
}

// writeOn writes over a connection, in the transaction it is in when commit is false.
func (w table) writeOn(c *pgx.Conn, commit bool, rows ...row) int64 {
	w.t.Helper()
	ctx := w.t.Context()
	for _, r := range rows {
		w.Exec(w.t, "INSERT INTO walbridge.stream (name) VALUES ($1) ON CONFLICT DO NOTHING", r.stream)
	}
	exec := func(sql string, args ...any) {
		_, err := c.Exec(ctx, sql, args...)
		require.NoError(w.t, err, sql)
	}
	exec("BEGIN")
	exec("SELECT walbridge.lock_log()")
	var first int64
	require.NoError(w.t, c.QueryRow(ctx, "SELECT walbridge.take_seq($1)", len(rows)).Scan(&first))
	for i, r := range rows {
		if r.kind == "" {
			r.kind = "event"
		}
		seq := first + int64(i)
		exec(`INSERT INTO walbridge.log (seq, commit_lsn, tx_seq, committed_at, created_at, available_at, stream_id, sub, lane, tx_end, kind, stream, partition_key, idempotency_key, type, source, payload)
			SELECT $1::bigint, '0/0'::pg_lsn + $1::bigint, 1, now(), now(), now() + nullif($2, '')::interval, id, 0, walbridge.lane(coalesce(nullif($3, ''), $1::text)), true, $4, name,
				nullif($3, ''), 'id' || $1, 't', 'a', json_strip_nulls(json_build_object('seq', $1::bigint, 'poison', nullif($6, false)))
			FROM walbridge.stream WHERE name = $5`, seq, r.due, r.key, r.kind, r.stream, r.poison)
	}
	exec(`INSERT INTO walbridge.batch (source, n, first_seq, last_seq, end_lsn, last_tx_end, timeline)
		SELECT 'a', coalesce(max(n), 0) + 1, $1, $2, '0/0'::pg_lsn + $2::bigint, '0/0'::pg_lsn + $2::bigint, 1 FROM walbridge.batch WHERE source = 'a'`, first, first+int64(len(rows))-1)
	if commit {
		exec("COMMIT")
	}
	return first
}

// keys writes one item of the stream s for each key and returns the first seq.
func (w table) keys(keys ...string) int64 {
	w.t.Helper()
	var rows []row
	for _, k := range keys {
		rows = append(rows, row{stream: "s", key: k})
	}
	return w.write(rows...)
}

// subscribed makes the subscription sub to stream s.
func (w table) subscribed(settings ...string) {
	w.t.Helper()
	var s any
	if len(settings) > 0 {
		s = settings[0]
	}
	w.Exec(w.t, "SELECT walbridge.subscribe('sub', '{s}', settings => $1::json)", s)
}

// lane is the lane of a key.
func lane(key string) int { return migrations.Lane([]byte(key), lanes) }

// code fails unless an error of the server has this SQLSTATE, and returns it.
func code(t *testing.T, err error, want string) *pgconn.PgError {
	t.Helper()
	var pg *pgconn.PgError
	require.ErrorAs(t, err, &pg)
	require.Equal(t, want, pg.Code, pg.Message)
	return pg
}

// call is a statement under way over a connection of its own.
type call struct {
	t    *testing.T
	w    table
	pid  uint32
	done chan error
}

// start runs a statement in the background.
func (w table) start(c *pgx.Conn, sql string, args ...any) call {
	x := call{w.t, w, c.PgConn().PID(), make(chan error, 1)}
	go func() {
		_, err := c.Exec(w.t.Context(), sql, args...)
		x.done <- err
	}()
	return x
}

// blocked waits until the statement waits for a lock.
func (c call) blocked() {
	c.t.Helper()
	pgtest.Eventually(c.t, within, func() bool {
		return c.w.One(c.t, "SELECT count(*) FROM pg_stat_activity WHERE pid = $1 AND wait_event_type = 'Lock'", c.pid) == "1"
	}, "the statement waits for a lock")
}

// result is what came of it.
func (c call) result() error {
	c.t.Helper()
	select {
	case err := <-c.done:
		return err
	case <-time.After(within):
		require.Fail(c.t, "the statement does not end")
		return errors.New("no result")
	}
}

// handed is what next gave.
type handed struct {
	receipt string
	seqs    []int64
	keys    []string
	tries   []int
}

func (w table) next(worker string, most int) handed {
	w.t.Helper()
	return take(w.t, w.Conn(w.t), worker, most)
}

// take asks for items over a connection.
func take(t testing.TB, c *pgx.Conn, worker string, most int) handed {
	t.Helper()
	var h handed
	rows, err := c.Query(t.Context(), "SELECT receipt, seq, coalesce(partition_key, ''), attempts FROM walbridge.next('sub', $1, $2)", worker, most)
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		var seq int64
		var key string
		var tries int
		require.NoError(t, rows.Scan(&h.receipt, &seq, &key, &tries))
		h.seqs, h.keys, h.tries = append(h.seqs, seq), append(h.keys, key), append(h.tries, tries)
	}
	require.NoError(t, rows.Err())
	return h
}

func (w table) finish(h handed) {
	w.t.Helper()
	w.Exec(w.t, "SELECT walbridge.done('sub', $1)", h.receipt)
}

// parked is what is parked, as "seq reason[ held]".
func (w table) parked() string {
	w.t.Helper()
	return w.One(w.t, "SELECT coalesce(string_agg(seq || ' ' || reason || CASE WHEN available_at IS NULL THEN ' held' ELSE '' END, ', ' ORDER BY seq), '') FROM walbridge.parked")
}

// item is one row of fetch.
type item struct {
	lane int
	seq  int64
	mark bool
}

func fetch(t testing.TB, c *pgx.Conn, sub, lanes, after string, most int, bytes int64) []item {
	t.Helper()
	rows, err := c.Query(t.Context(), "SELECT lane, seq, kind IS NULL FROM walbridge.fetch($1, $2::text::smallint[], $3::text::bigint[], $4, $5)", sub, lanes, after, most, bytes)
	require.NoError(t, err)
	items, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (x item, err error) { return x, r.Scan(&x.lane, &x.seq, &x.mark) })
	require.NoError(t, err)
	return items
}

// array is an array as text.
func array[T any](all []T) string {
	var b []string
	for _, x := range all {
		b = append(b, fmt.Sprint(x))
	}
	return "{" + strings.Join(b, ",") + "}"
}

// number reads a number.
func number(t testing.TB, s string) int64 {
	t.Helper()
	n, err := strconv.ParseInt(s, 10, 64)
	require.NoError(t, err)
	return n
}
