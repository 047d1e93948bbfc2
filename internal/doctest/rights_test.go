package doctest_test

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// bridgeIn is a bridge of a configuration, in a folder of its own.
type bridgeIn struct {
	t   *testing.T
	dir string
}

// configured writes the configuration of a bridge within one database.
func configured(t *testing.T, dsn, routes string) bridgeIn {
	t.Helper()
	text := fmt.Sprintf("name: shop\nsource: {dsn: %q}\nroutes: %s\nsink: {worktable: {dsn: %q}}\nhttp: {listen: \"127.0.0.1:0\"}\n", dsn, routes, dsn)
	dir := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(dir, "walbridge.yaml"), []byte(text), 0o600))
	return bridgeIn{t, dir}
}

// run runs a command that has to end well, and returns its output.
func (b bridgeIn) run(args ...string) string {
	b.t.Helper()
	p := pgtest.Command{Args: args, Dir: b.dir}.Start(b.t)
	require.Zero(b.t, p.WaitExit(b.t, within), "%v: %s", args, p.Output())
	return p.Stdout()
}

// start starts the bridge and waits until it is ready.
func (b bridgeIn) start() *pgtest.Process {
	b.t.Helper()
	p := pgtest.Command{Args: []string{"run"}, Dir: b.dir}.Start(b.t)
	url := statusPage(b.t, p)
	pgtest.Eventually(b.t, within, func() bool { return strings.HasPrefix(get(b.t, url+"readyz"), "ready") }, "the bridge is ready")
	return p
}

func delivered(t *testing.T, db *pgtest.DB, want string) {
	t.Helper()
	pgtest.Eventually(t, within, func() bool { return db.One(t, "SELECT count(*) FROM walbridge.log") == want }, "%s items are delivered", want)
}

// What `setup --print` prints is all that a role needs which is no superuser and
// owns nothing: the preflight finds no error, the bridge delivers, and dead letters
// can be looked at.
func TestPrintedRightsAreEnough(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t).DB(t)
	db.Exec(t, shop)
	db.Exec(t, "CREATE SCHEMA sales; CREATE TABLE sales.invoice (id int PRIMARY KEY); INSERT INTO sales.invoice VALUES (1); INSERT INTO public.orders VALUES (1, 'old')")
	db.Exec(t, "CREATE ROLE bridge LOGIN REPLICATION") // setup looks at the server before it prints
	b := configured(t, db.DSNAs("bridge", ""), "[{tables: [public.outbox], outbox: {}}, {tables: [public.orders, sales.*], changes: {}}]")
	db.Exec(t, b.run("setup", "--print", "--role", "bridge"))
	b.run("doctor")
	p := b.start()
	delivered(t, db, "2") // the rows that were there
	db.Exec(t, "REVOKE SELECT ON public.orders, sales.invoice FROM bridge; REVOKE USAGE ON SCHEMA sales FROM bridge")
	db.Exec(t, "INSERT INTO public.orders VALUES (2, 'new'); INSERT INTO sales.invoice VALUES (2)")
	delivered(t, db, "4")
	require.Zero(t, p.Terminate(t, within), p.Output())
	b.run("dlq", "list")
	b.run("migrate", "status")
}

// Work that is put into the inbox as the manual says becomes one event.
func TestInbox(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t).DB(t)
	b := configured(t, db.DSN(), "[{tables: [walbridge.inbox], inbox: {}}]")
	b.run("setup")
	p := b.start()
	db.Exec(t, read(t, manual).marked(t, "inbox"))
	delivered(t, db, "1")
	require.Equal(t, [][]string{{"inbox", "send_receipt", "order:9182", "send_receipt:9182"}},
		db.Query(t, "SELECT stream, type, partition_key, idempotency_key FROM walbridge.log"))
	require.Zero(t, p.Terminate(t, within), p.Output())
}

// Starting over, as the manual says, ends with a bridge that delivers; the old name
// stays halted.
func TestStartingOver(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t).DB(t)
	db.Exec(t, shop)
	const routes = "[{tables: [public.orders], changes: {}}]"
	old := configured(t, db.DSN(), routes)
	old.run("setup")
	require.Zero(t, old.start().Terminate(t, within))
	old.run("teardown", "--yes")

	text, err := os.ReadFile(filepath.Join(old.dir, "walbridge.yaml"))
	require.NoError(t, err)
	fresh := configured(t, db.DSN(), routes)
	require.NoError(t, os.WriteFile(filepath.Join(fresh.dir, "walbridge.yaml"), []byte(strings.Replace(string(text), "name: shop", "name: shop_2", 1)), 0o600))
	fresh.run("setup")
	db.Exec(t, "INSERT INTO public.orders VALUES (1, 'of the time between')")
	p := fresh.start()
	delivered(t, db, "1")
	db.Exec(t, "INSERT INTO public.orders VALUES (2, 'new')")
	delivered(t, db, "2")
	require.Zero(t, p.Terminate(t, within), p.Output())

	old.run("setup")
	halted := pgtest.Command{Args: []string{"run", "--exit-on-halt"}, Dir: old.dir}.Start(t)
	require.Equal(t, 3, halted.WaitExit(t, within), halted.Output())
	require.Contains(t, halted.Output(), "slot-missing")
}
