package main

import (
	"context"
	"net/url"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// mistake is one thing that is wrong before a start.
type mistake struct {
	prepare func(t *testing.T) *site
	doctor  int // exit codes
	run     int
	says    string // both say it
	way     string // both name it as the way out
}

// Each mistake is found by doctor before the start; the start says the same, once,
// and ends with the code that the manual has for it.
func TestEachMistakeIsNamedOnceWithItsWayOut(t *testing.T) {
	t.Parallel()
	for name, m := range mistakes(pgtest.New(t, smallServer()...)) {
		t.Run(name, func(t *testing.T) {
			s := m.prepare(t)
			found := s.do(t, m.doctor, "doctor")
			text := found.stdout + found.stderr
			require.Contains(t, text, m.says)
			require.Contains(t, text, m.way)
			found = s.do(t, m.run, "run", "--exit-on-halt")
			require.Empty(t, found.stdout)
			require.Contains(t, found.stderr, m.says)
			require.Contains(t, found.stderr, m.way)
			lines := "\n" + found.stderr
			require.Equal(t, 1, strings.Count(lines, "\nerror: ")+strings.Count(lines, "\nwalbridge: "), "%s", found.stderr)
		})
	}
}

// smallServer has two places for slots, one for a sender, and asks the role keeper for
// a password.
func smallServer() []pgtest.Option {
	return []pgtest.Option{
		pgtest.Setting("max_replication_slots", "2"), pgtest.Setting("max_wal_senders", "1"),
		pgtest.HBA("host all keeper 127.0.0.1/32 scram-sha-256"),
	}
}

// mistakes are all of them, by name. small is a server of smallServer.
//
//arch:flat
func mistakes(small *pgtest.Cluster) map[string]mistake {
	return map[string]mistake{
		"wrong key": {func(t *testing.T) *site { return textual(t, "batch: {max_byte: 1MiB}\n") },
			exitUsage, exitUsage, "batch.max_byte: unknown key", "fix: did you mean max_bytes?"},
		"wrong type": {func(t *testing.T) *site { return textual(t, "batch: {max_items: many}\n") },
			exitUsage, exitUsage, `batch.max_items: expected a whole number`, `found "many"`},
		"role without REPLICATION": {func(t *testing.T) *site {
			s := newShop(t)
			s.db.Exec(t, "CREATE ROLE plain_"+s.name()+" LOGIN")
			t.Cleanup(func() { s.db.Exec(t, "DROP ROLE plain_"+s.name()) })
			s.change(t, "source: {dsn: \""+s.db.DSN(), "source: {dsn: \""+s.db.DSNAs("plain_"+s.name(), ""))
			return s
		}, exitFailure, exitUsage, "REPLICATION", "fix: "},
		"sink role without rights": {func(t *testing.T) *site {
			s := newShop(t)
			s.db.Exec(t, "CREATE ROLE plain_"+s.name()+" LOGIN")
			t.Cleanup(func() { s.db.Exec(t, "DROP ROLE plain_"+s.name()) })
			s.change(t, "worktable: {dsn: \""+s.db.DSN(), "worktable: {dsn: \""+s.db.DSNAs("plain_"+s.name(), ""))
			return s
		}, exitFailure, exitUsage, "", "GRANT"},
		"wal_level": {func(t *testing.T) *site {
			return shopOn(t, pgtest.New(t, pgtest.Setting("wal_level", "replica")))
		}, exitFailure, exitUsage, "wal_level is replica, not logical", "fix: ALTER SYSTEM SET wal_level = 'logical', then restart the server"},
		"no free slot": {func(t *testing.T) *site {
			s := shopOn(t, small)
			s.db.Exec(t, "SELECT pg_create_physical_replication_slot(n) FROM unnest('{taken, too}'::text[]) n")
			t.Cleanup(func() { s.db.Exec(t, "SELECT pg_drop_replication_slot(n) FROM unnest('{taken, too}'::text[]) n") })
			return s
		}, exitFailure, exitUsage, "no free replication slot", "fix: raise max_replication_slots"},
		"no free sender": {func(t *testing.T) *site {
			s := shopOn(t, small)
			sender(t, s.db)
			return s
		}, exitFailure, exitUsage, "no free walsender", "fix: raise max_wal_senders"},
		"slot gone": {func(t *testing.T) *site {
			s := newShop(t)
			require.Equal(t, exitOK, s.run(t).stopped(t))
			s.db.Exec(t, "SELECT pg_drop_replication_slot($1)", "walbridge_"+s.name())
			return s
		}, exitFailure, exitHalted, "halted (slot-missing): the slot \"walbridge_", "correct source.dsn"},
		"no publication": {func(t *testing.T) *site {
			s := newShop(t)
			s.db.Exec(t, "DROP PUBLICATION walbridge_"+s.name())
			return s
		}, exitFailure, exitUsage, "the publication does not exist", "fix: walbridge setup"},
		"no schema": {func(t *testing.T) *site {
			s := newShop(t)
			s.db.Exec(t, "DROP SCHEMA walbridge CASCADE")
			return s
		}, exitFailure, exitUsage, "the schema walbridge is not there", "fix: walbridge setup"},
		"table without a key": {func(t *testing.T) *site {
			s := newShop(t)
			s.change(t, "public.orders", "public.orders, public.audit")
			s.db.Exec(t, "ALTER PUBLICATION walbridge_"+s.name()+" ADD TABLE public.audit")
			return s
		}, exitFailure, exitUsage, "public.audit: the table has no primary key", "REPLICA IDENTITY FULL"},
		"route without a table": {func(t *testing.T) *site {
			s := newShop(t)
			s.change(t, "public.outbox]", "public.outbx]")
			return s
		}, exitFailure, exitUsage, "no table of the source matches public.outbx", "public.outbox"},
		"unknown database": {func(t *testing.T) *site {
			s := newShop(t)
			s.change(t, "source: {dsn: \""+s.db.DSN(), "source: {dsn: \""+elsewhere(t, s.db.DSN(), "nosuch"))
			return s
		}, exitFailure, exitUsage, `database "nosuch" does not exist`, "fix: correct source.dsn"},
		"unknown database of the sink": {func(t *testing.T) *site {
			s := newShop(t)
			s.change(t, "worktable: {dsn: \""+s.db.DSN(), "worktable: {dsn: \""+elsewhere(t, s.db.DSN(), "nosuch"))
			return s
		}, exitFailure, exitUsage, `database "nosuch" does not exist`, "create the database, or correct sink.worktable.dsn"},
		"wrong password": {func(t *testing.T) *site {
			s := shopOn(t, small)
			keeper(t, s.db, "right")
			s.change(t, "source: {dsn: \""+s.db.DSN(), "source: {dsn: \""+s.db.DSNAs("keeper", "wrong"))
			return s
		}, exitFailure, exitUsage, "password authentication failed", "fix: correct user, password or pg_hba.conf"},
		"wrong password of the sink": {func(t *testing.T) *site {
			s := shopOn(t, small)
			keeper(t, s.db, "right")
			s.change(t, "worktable: {dsn: \""+s.db.DSN(), "worktable: {dsn: \""+s.db.DSNAs("keeper", "wrong"))
			return s
		}, exitFailure, exitUsage, "password authentication failed", "correct the password of sink.worktable.dsn"},
	}
}

// textual is a site that needs no server, with further lines of configuration.
func textual(t *testing.T, more string) *site {
	t.Helper()
	const nowhere = "postgres://u@127.0.0.1:1/shop?sslmode=disable"
	return newSite(t, nil, config("shop", nowhere, worktableAt(nowhere))+more)
}

// shopOn is newShop on a cluster.
func shopOn(t *testing.T, c *pgtest.Cluster) *site {
	t.Helper()
	db := c.DB(t)
	db.Exec(t, shop)
	s := newSite(t, db, config(bridgeName(db.Name()), db.DSN(), worktableAt(db.DSN())))
	s.do(t, exitOK, "setup")
	return s
}

// keeper makes the role that is asked for a password.
func keeper(t *testing.T, db *pgtest.DB, password string) {
	t.Helper()
	db.Exec(t, "CREATE ROLE keeper LOGIN SUPERUSER PASSWORD '"+password+"'")
	t.Cleanup(func() { db.Exec(t, "DROP OWNED BY keeper; DROP ROLE keeper") })
}

// sender takes a walsender's place.
func sender(t *testing.T, db *pgtest.DB) {
	t.Helper()
	cfg, err := pgconn.ParseConfig(db.DSN())
	require.NoError(t, err)
	cfg.RuntimeParams["replication"] = "database"
	conn, err := pgconn.ConnectConfig(t.Context(), cfg)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, conn.Close(context.Background()))
		pgtest.Eventually(t, within, func() bool { return db.One(t, "SELECT count(*) FROM pg_stat_replication") == "0" }, "the sender has ended")
	})
}

// elsewhere is a DSN of another database.
func elsewhere(t *testing.T, dsn, database string) string {
	t.Helper()
	u, err := url.Parse(dsn)
	require.NoError(t, err)
	u.Path = "/" + database
	return u.String()
}
