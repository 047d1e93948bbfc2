package torture_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/torture"
)

// growth is a schema in which tables are made while others are written to.
type growth struct {
	dsn string
	ids atomic.Int64 // the last id given away: no row's id is another's

	mu     sync.Mutex // guards tables
	tables []string
}

// shapes are tables that replication treats differently: by their key, by the whole old
// row, by another index, through the table above them.
func (g *growth) shape(n int, name string) string {
	switch n % 4 {
	case 1:
		return "CREATE TABLE " + name + " (v int, id bigint PRIMARY KEY, note text); ALTER TABLE " + name + " REPLICA IDENTITY FULL"
	case 2:
		return "CREATE TABLE " + name + " (id bigint NOT NULL, v int, note text); CREATE UNIQUE INDEX ON " + name + " (id); ALTER TABLE " + name +
			" REPLICA IDENTITY USING INDEX " + name[len("grow."):] + "_id_idx"
	case 3:
		return "CREATE TABLE " + name + " (id bigint PRIMARY KEY, v int, note text) PARTITION BY HASH (id); CREATE TABLE " + name +
			"_even PARTITION OF " + name + " FOR VALUES WITH (MODULUS 2, REMAINDER 0); CREATE TABLE " + name + "_odd PARTITION OF " + name + " FOR VALUES WITH (MODULUS 2, REMAINDER 1)"
	}
	return "CREATE TABLE " + name + " (id bigint PRIMARY KEY, v int, note text)"
}

// grow makes tables, with rows in the same transaction.
func (g *growth) grow(ctx context.Context, conn *pgx.Conn, r *rand.Rand, tables int) error {
	for n := range tables {
		name := fmt.Sprintf("grow.t%d", n)
		sql := fmt.Sprintf("BEGIN; %s; INSERT INTO %s (id, v) SELECT %d + i, 0 FROM generate_series(1, 60) i; SELECT pg_sleep(%f); COMMIT",
			g.shape(n, name), name, g.ids.Add(60)-60, r.Float64()/4)
		if _, err := conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
			return fmt.Errorf("make %s: %w", name, err)
		}
		g.mu.Lock()
		g.tables = append(g.tables, name)
		g.mu.Unlock()
	}
	return nil
}

func (g *growth) some(r *rand.Rand) string {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.tables[max(0, len(g.tables)-1-r.IntN(6))] // the youngest are the ones that matter
}

// write writes transactions until ctx ends; now and then one stays open for longer than a
// lock on its table is waited for.
func (g *growth) write(ctx context.Context, conn *pgx.Conn, r *rand.Rand) error {
	for ctx.Err() == nil {
		if err := g.transaction(ctx, conn, r); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

func (g *growth) transaction(ctx context.Context, conn *pgx.Conn, r *rand.Rand) error {
	tx, err := conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	name := g.some(r) // of one table: two writers that wait for each other's would be in a deadlock
	for range 1 + r.IntN(4) {
		id := g.ids.Add(1)
		sql := fmt.Sprintf("INSERT INTO %s (id, v) VALUES (%d, 0)", name, id)
		switch r.IntN(4) {
		case 0:
			sql = fmt.Sprintf("UPDATE %s SET v = v + 1 WHERE id = (SELECT id FROM %[1]s OFFSET %d LIMIT 1 FOR UPDATE SKIP LOCKED)", name, r.IntN(60))
		case 1:
			sql = fmt.Sprintf("DELETE FROM %s WHERE id = (SELECT id FROM %[1]s OFFSET %d LIMIT 1 FOR UPDATE SKIP LOCKED)", name, r.IntN(200))
		}
		if _, err := tx.Exec(ctx, sql); err != nil {
			return err
		}
	}
	open := r.Float64() / 50
	if r.IntN(60) == 0 {
		open = 2 + r.Float64()
	}
	if _, err := tx.Exec(ctx, "SELECT pg_sleep($1)", open); err != nil {
		return err
	}
	if r.IntN(10) == 0 {
		return tx.Rollback(ctx)
	}
	return tx.Commit(ctx)
}

// start runs f over a connection of its own; what is returned waits for its end.
func (g *growth) start(t *testing.T, f func(*pgx.Conn) error) (wait func()) {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), g.dsn)
	require.NoError(t, err)
	ended := make(chan error, 1)
	go func() {
		err := f(conn)
		_ = conn.Close(context.Background())
		ended <- err
	}()
	return sync.OnceFunc(func() {
		if err := <-ended; err != nil {
			t.Errorf("write: %v", err)
		}
	})
}

// Tables are made under a wildcard while writers have transactions open in them, and the
// bridge, which publishes them, is killed at random moments: what a transaction had
// written before is read, what came later is streamed, and nothing is lost, stale or there
// twice.
func TestTablesAddedUnderOpenWriters(t *testing.T) {
	t.Parallel()
	pgtest.Matrix(t, func(t *testing.T, c *pgtest.Cluster) {
		s := seed(t)
		chance := torture.Rand(s, 80)
		source := c.DB(t)
		source.Exec(t, "CREATE SCHEMA grow; CREATE TABLE grow.first (id bigint PRIMARY KEY, v int, note text)")
		r := bareRig(t, source, pgtest.Shared(t).DB(t))
		r.routes = "\n  - tables: [\"grow.*\"]\n    changes: {}\n    snapshot: initial\n"
		r.moreSource = "\n  on_new_table: publish\n  coverage_interval: 1s"
		r.extra = "batch: {max_items: 40}"
		r.setup(t)
		g := &growth{dsn: source.DSN(), tables: []string{"grow.first"}}
		writing, stop := context.WithCancel(t.Context())
		defer stop()
		var waits []func()
		for i := range 3 {
			waits = append(waits, g.start(t, func(conn *pgx.Conn) error { return g.write(writing, conn, torture.Rand(s, 81+uint64(i))) }))
		}
		b := r.start(t)
		grown := g.start(t, func(conn *pgx.Conn) error { return g.grow(t.Context(), conn, torture.Rand(s, 90), sized(12, 40)) })
		for i := range sized(6, 100) {
			if i%2 == 0 {
				moment(t, chance, 1500*time.Millisecond)
			} else {
				awaitPublished(t, source, r.publication())
			}
			require.NoError(t, b.Kill())
			<-b.Done()
			b = r.run(t)
		}
		grown()
		pgtest.Eventually(t, drainWithin(), func() bool { return len(unpublished(t, source, r.publication())) == 0 }, "all tables are published")
		stop()
		for _, wait := range waits {
			wait()
		}
		g.requireSame(t, r, b)
	})
}

// awaitPublished waits until the bridge has published a table that it lacks now, whose rows
// it has not read by then, for a second at most: it may have published all.
func awaitPublished(t *testing.T, source *pgtest.DB, publication string) {
	t.Helper()
	before, begun := len(unpublished(t, source, publication)), time.Now()
	pgtest.Eventually(t, drainWithin(), func() bool {
		now := len(unpublished(t, source, publication))
		published := now < before
		before = now
		return published || time.Since(begun) > time.Second
	}, "a table is published")
}

// unpublished are the tables of the schema that are in no stream.
func unpublished(t *testing.T, source *pgtest.DB, publication string) [][]string {
	t.Helper()
	return source.Query(t, `SELECT c.oid::regclass::text FROM pg_class c WHERE c.relnamespace = 'grow'::regnamespace AND c.relkind IN ('r', 'p') AND NOT c.relispartition
		AND c.oid NOT IN (SELECT format('%I.%I', schemaname, tablename)::regclass FROM pg_publication_tables WHERE pubname = $1)`, publication)
}

// told is what a bridge says of itself when it is printed.
type told struct{ b *bridge }

func (t told) String() string {
	s, ok := t.b.status()
	s.Lags, s.Warnings = nil, nil
	text, err := json.Marshal(s)
	return fmt.Sprintf("running %v, answers %v (%v): %s", t.b.Running(), ok, err, text)
}

// requireSame waits until all is delivered and compares the destination with the source.
func (g *growth) requireSame(t *testing.T, r *rig, b *bridge) {
	t.Helper()
	last := fmt.Sprintf("grow.first:[%d]", g.ids.Add(1))
	r.source.Exec(t, "INSERT INTO grow.first (id, v) VALUES ($1, 0)", g.ids.Load())
	pgtest.Eventually(t, drainWithin(), func() bool {
		return r.sink.One(t, "SELECT count(*) FROM walbridge.log WHERE partition_key = $1", last) != "0" // it may be read, too
	}, "the last row is delivered, and with it every request to read; the bridge is %s", told{b})
	pgtest.Eventually(t, drainWithin(), func() bool {
		n, ok := r.unfinished(t)
		return ok && n == 0
	}, "all tables are read; the bridge is %s", told{b})
	require.Zero(t, r.deadLetters(t))
	require.Empty(t, r.sink.Query(t, `SELECT partition_key, count(*) FILTER (WHERE type = 'insert'), count(*) FILTER (WHERE type = 'read') FROM walbridge.log
		GROUP BY partition_key HAVING count(*) FILTER (WHERE type = 'insert') > 1 OR count(*) FILTER (WHERE type = 'read') > 1`), "a row that was inserted or read twice")
	rep := rebuild(t, r.sink)
	rows := 0
	for _, name := range g.tables {
		rep := rep.tables[name]
		want := r.source.Query(t, "SELECT id::text, v::text FROM "+name)
		rows += len(want)
		for _, row := range want {
			require.NotNil(t, rep[row[0]], "%s %s is in the source alone", name, row[0])
			require.Equal(t, row[1], rep[row[0]]["v"], "%s %s", name, row[0])
		}
		require.Len(t, rep, len(want), "%s has rows that the source has not", name)
	}
	t.Logf("%d tables, %d rows, %d items, %d of them read", len(g.tables), rows, len(rep.seen), rep.reads)
	require.NotZero(t, rep.reads)
}
