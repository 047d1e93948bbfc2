package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// within bounds each wait of a test.
const within = time.Minute

// shop is a database as people have one before walbridge comes: an outbox, a table of
// the application, a legacy one, and one without a key.
const shop = `
CREATE TABLE public.outbox (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), aggregatetype text NOT NULL, aggregateid text NOT NULL, type text NOT NULL, payload text NOT NULL);
CREATE TABLE public.orders (id bigint PRIMARY KEY, status text NOT NULL);
CREATE TABLE public.legacy_customers (no bigint PRIMARY KEY, name text NOT NULL);
CREATE TABLE public.audit (line text);`

// shopDB is a database of the shared cluster with the tables of the shop.
func shopDB(t testing.TB) *pgtest.DB {
	t.Helper()
	db := pgtest.Shared(t).DB(t)
	db.Exec(t, shop)
	return db
}

// noVariables is an environment with nothing in it.
func noVariables(string) (string, bool) { return "", false }

// site is a configuration on a database, with an environment that gives it a page of
// its own.
type site struct {
	db   *pgtest.DB
	path string
	env  map[string]string
}

// shopRoutes read no rows, which might come beside the stream's of the same rows: the
// tests count items.
const shopRoutes = `[{tables: [public.outbox], outbox: {}}, {tables: [public.orders, public.legacy_customers], changes: {}, snapshot: never}]`

// config is the text of a configuration that reads source and writes to sink, a line
// of the section sink.
func config(name, source, sink string) string {
	return fmt.Sprintf("name: %s\nsource: {dsn: %q}\nroutes: %s\nsink: {%s}\n", name, source, shopRoutes, sink)
}

// worktableAt is the line of config for a work table.
func worktableAt(dsn string) string { return fmt.Sprintf("worktable: {dsn: %q, lanes: 4}", dsn) }

// newSite makes a site of a configuration's text.
func newSite(t testing.TB, db *pgtest.DB, text string) *site {
	t.Helper()
	return &site{db: db, path: configFile(t, text), env: map[string]string{"WALBRIDGE_HTTP_LISTEN": fmt.Sprintf("127.0.0.1:%d", pgtest.FreePort(t))}}
}

// newShop is the site of a shop whose work table is in its own database, after setup.
func newShop(t testing.TB) *site {
	t.Helper()
	db := shopDB(t)
	s := newSite(t, db, config(bridgeName(db.Name()), db.DSN(), worktableAt(db.DSN())))
	s.do(t, exitOK, "setup")
	return s
}

// name is the name of the site's bridge, which says the slot's, too.
func (s *site) name() string { return bridgeName(s.db.Name()) }

// invoke runs a command with the site's configuration.
func (s *site) invoke(t testing.TB, args ...string) result {
	t.Helper()
	return invoke(t, s.env, append(args, "--config", s.path)...)
}

// do is invoke for a command that ends with that exit code.
func (s *site) do(t testing.TB, code int, args ...string) result {
	t.Helper()
	r := s.invoke(t, args...)
	require.Equal(t, code, r.code, "%v\n%s%s", args, r.stdout, r.stderr)
	return r
}

// change replaces a text of the configuration.
func (s *site) change(t testing.TB, old, new string) {
	t.Helper()
	text, err := os.ReadFile(s.path)
	require.NoError(t, err)
	require.Contains(t, string(text), old)
	require.NoError(t, os.WriteFile(s.path, []byte(strings.ReplaceAll(string(text), old, new)), 0o600))
}

// shared is an output that is read while it is written.
type shared struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *shared) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *shared) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// running is a command that goes on in this process.
type running struct {
	stop      context.CancelFunc
	out, errs shared
	code      chan int
}

// start begins a command with the site's configuration; the test's end stops it.
func (s *site) start(t testing.TB, args ...string) *running {
	t.Helper()
	return begin(t, s.env, append(args, "--config", s.path)...)
}

// begin begins a command line.
func begin(t testing.TB, env map[string]string, args ...string) *running {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &running{stop: cancel, code: make(chan int, 1)}
	a := &app{
		stdin: strings.NewReader(""), stdout: &r.out, stderr: &r.errs, version: "0.0.0-test",
		env: func(name string) (string, bool) { v, ok := env[name]; return v, ok },
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		r.code <- a.main(ctx, args)
	}()
	t.Cleanup(func() {
		cancel()
		<-ended
		if t.Failed() {
			t.Logf("%v wrote:\n%s", args, r.errs.String())
		}
	})
	return r
}

// wait waits for the command's end.
func (r *running) wait(t testing.TB) int {
	t.Helper()
	select {
	case code := <-r.code:
		return code
	case <-time.After(within):
		t.Fatalf("the command goes on\n%s%s", r.out.String(), r.errs.String())
		return -1
	}
}

// stopped asks the command to end and waits for it.
func (r *running) stopped(t testing.TB) int {
	t.Helper()
	r.stop()
	return r.wait(t)
}

// run starts the bridge of the site and waits until it streams.
func (s *site) run(t testing.TB) *running {
	t.Helper()
	r := s.start(t, "run")
	pgtest.Eventually(t, within, func() bool {
		require.Empty(t, r.code, "the bridge ended: %s", r.errs.String())
		return s.invoke(t, "status").code == exitOK
	}, "the bridge streams")
	return r
}

// delivered waits until the log has so many items.
func (s *site) delivered(t testing.TB, items int) {
	t.Helper()
	pgtest.Eventually(t, within, func() bool {
		return s.db.One(t, "SELECT count(*) FROM walbridge.log") == fmt.Sprint(items)
	}, "%d items are delivered", items)
}

// haveRead waits until the bridge has read the rows that were there at its first start.
func (s *site) haveRead(t testing.TB) {
	t.Helper()
	pgtest.Eventually(t, within, func() bool {
		return strings.Contains(s.invoke(t, "snapshot", "status").stdout, "nothing to read")
	}, "all rows are read")
}

// nothingLeft checks that a database has no publication, and its server no slot of
// the prefix.
func nothingLeft(t testing.TB, db *pgtest.DB, prefix string) {
	t.Helper()
	require.Equal(t, "0", db.One(t, "SELECT count(*) FROM pg_publication"))
	pgtest.Eventually(t, within, func() bool {
		return db.One(t, "SELECT count(*) FROM pg_replication_slots WHERE starts_with(slot_name::text, $1) AND database = $2", prefix, db.Name()) == "0"
	}, "no slot is left") // the end of a session drops its slot a moment later
}

// folder is a new folder's file of that name.
func folder(t testing.TB, name string) string {
	t.Helper()
	return filepath.Join(t.TempDir(), name)
}
