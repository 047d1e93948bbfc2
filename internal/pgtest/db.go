package pgtest

import (
	"context"
	"fmt"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// Null is how Query and One show NULL.
const Null = "∅"

// sqlTimeout bounds one statement of a helper, so that a lock that is never
// released fails one test and not the whole run.
const sqlTimeout = 60 * time.Second

// closeTimeout bounds the wait for what a test should have given back.
const closeTimeout = 10 * time.Second

// DB is a database of a cluster, for one test.
type DB struct {
	cluster *Cluster
	name    string
	admin   string // DSN of the database postgres

	mu   sync.Mutex
	pool *pgxpool.Pool // of the helpers; nil before the first use
}

var databases atomic.Int64 // numbers the databases of this process

// DB makes an empty database, dropped at the test's end with its slots.
func (c *Cluster) DB(t testing.TB) *DB {
	t.Helper()
	return c.newDB(t, "template1")
}

// DBFrom makes a database as build made one: build runs once per cluster and key
// in a database of its own, of which all of that key are copies. It must leave no
// connection open. It saves tests from running the same migrations again.
func (c *Cluster) DBFrom(t testing.TB, key string, build func(dsn string) error) *DB {
	t.Helper()
	return c.newDB(t, c.template(t, key, build))
}

func (c *Cluster) template(t testing.TB, key string, build func(dsn string) error) string {
	t.Helper()
	c.mu.Lock()
	defer c.mu.Unlock()
	if name, ok := c.templates[key]; ok {
		return name
	}
	d := c.dbNamed(fmt.Sprintf("template_%d", databases.Add(1)))
	d.onAdmin(t, "CREATE DATABASE "+d.name)
	if err := build(d.DSN()); err != nil {
		t.Fatalf("build template %s: %v", key, err)
	}
	if c.templates == nil {
		c.templates = map[string]string{}
	}
	c.templates[key] = d.name
	return d.name
}

func (c *Cluster) newDB(t testing.TB, template string) *DB {
	t.Helper()
	d := c.dbNamed(dbName(t))
	d.onAdmin(t, "CREATE DATABASE "+d.name+" TEMPLATE "+template)
	t.Cleanup(func() { d.drop(t) })
	return d
}

func (c *Cluster) dbNamed(name string) *DB {
	return &DB{cluster: c, name: name, admin: c.server.DSN("postgres")}
}

// dbName makes a name that says which test it belongs to and needs no quotes.
func dbName(t testing.TB) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '_'
	}, t.Name())
	return fmt.Sprintf("t_%.40s_%d", name, databases.Add(1)) // an identifier has at most 63 bytes
}

// Name returns the database's name.
func (d *DB) Name() string { return d.name }

// Cluster returns the cluster that holds the database.
func (d *DB) Cluster() *Cluster { return d.cluster }

// DSN returns the URL of the database over TCP, as the superuser postgres.
func (d *DB) DSN() string { return d.cluster.server.DSN(d.name) }

// SocketDSN returns the URL of the database over the Unix socket.
func (d *DB) SocketDSN() string { return d.cluster.server.SocketDSN(d.name) }

// DSNAs returns the DSN for another role.
func (d *DB) DSNAs(role, password string) string {
	u, err := url.Parse(d.DSN())
	if err != nil {
		return d.DSN() // cannot be: the DSN was made by url.URL
	}
	u.User = url.UserPassword(role, password)
	return u.String()
}

// Pool returns a pool for the test's own use, closed at the test's end.
func (d *DB) Pool(t testing.TB) *pgxpool.Pool {
	t.Helper()
	p, err := pgxpool.New(t.Context(), d.DSN())
	if err != nil {
		t.Fatalf("open a pool to %s: %v", d.name, err)
	}
	t.Cleanup(func() { closePool(t, p) })
	return p
}

// closePool closes a pool, which waits for its connections: one that a test keeps
// fails that test instead of hanging all.
func closePool(t testing.TB, p *pgxpool.Pool) {
	closed := make(chan struct{})
	go func() {
		defer close(closed)
		p.Close()
	}()
	select {
	case <-closed:
	case <-time.After(closeTimeout):
		t.Errorf("the test did not give back %d connections of its pool", p.Stat().AcquiredConns())
	}
}

// Conn returns a connection of the test's own, closed at the test's end.
func (d *DB) Conn(t testing.TB) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), d.DSN())
	if err != nil {
		t.Fatalf("connect to %s: %v", d.name, err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), sqlTimeout)
		defer cancel()
		_ = c.Close(ctx) // the server may be gone: tests kill it
	})
	return c
}

// Exec runs one statement, or without args several separated by semicolons (in
// one transaction, as the simple protocol does). An error fails the test.
func (d *DB) Exec(t testing.TB, sql string, args ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), sqlTimeout)
	defer cancel()
	if _, err := d.helper(t).Exec(ctx, sql, args...); err != nil {
		t.Fatalf("run %s: %v", sql, err)
	}
}

// Query returns the rows of a statement as text, NULL as Null. An error fails the
// test.
func (d *DB) Query(t testing.TB, sql string, args ...any) [][]string {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), sqlTimeout)
	defer cancel()
	rows, err := d.helper(t).Query(ctx, sql, append([]any{pgx.QueryResultFormats{pgx.TextFormatCode}}, args...)...)
	if err != nil {
		t.Fatalf("query %s: %v", sql, err)
	}
	defer rows.Close()
	var all [][]string
	for rows.Next() {
		all = append(all, texts(rows.RawValues()))
	}
	if err := rows.Err(); err != nil {
		t.Fatalf("query %s: %v", sql, err)
	}
	return all
}

func texts(raw [][]byte) []string {
	row := make([]string, len(raw))
	for i, v := range raw {
		row[i] = string(v)
		if v == nil {
			row[i] = Null
		}
	}
	return row
}

// One returns the only column of the only row of a statement.
func (d *DB) One(t testing.TB, sql string, args ...any) string {
	t.Helper()
	rows := d.Query(t, sql, args...)
	if len(rows) != 1 || len(rows[0]) != 1 {
		t.Fatalf("query %s: want one value, got %d rows: %v", sql, len(rows), rows)
	}
	return rows[0][0]
}

// helper returns the pool of Exec and Query.
func (d *DB) helper(t testing.TB) *pgxpool.Pool {
	t.Helper()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.pool != nil {
		return d.pool
	}
	cfg, err := pgxpool.ParseConfig(d.DSN())
	if err != nil {
		t.Fatalf("open a pool to %s: %v", d.name, err)
	}
	// Tests restart servers, so that an idle connection is often a dead one.
	cfg.ShouldPing = func(context.Context, pgxpool.ShouldPingParams) bool { return true }
	if d.pool, err = pgxpool.NewWithConfig(context.Background(), cfg); err != nil {
		t.Fatalf("open a pool to %s: %v", d.name, err)
	}
	return d.pool
}

// onAdmin runs one statement in the database postgres.
func (d *DB) onAdmin(t testing.TB, sql string, args ...any) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), sqlTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, d.admin)
	if err != nil {
		t.Fatalf("connect to the cluster: %v", err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, sql, args...); err != nil {
		t.Fatalf("run %s: %v", sql, err)
	}
}
