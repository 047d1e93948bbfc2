package replication

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/catalog"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pgtest"
)

// This file has what comes before a stream with a real server: looking, the
// publication, the slot, and what a server refuses.

// named returns the tables with those names, in the order of the catalog.
func named(all []catalog.Table, names ...string) []catalog.Table {
	var found []catalog.Table
	for _, t := range all {
		for _, n := range names {
			if t.QualifiedName() == n {
				found = append(found, t)
			}
		}
	}
	return found
}

const variousTables = `
CREATE SCHEMA "Sales";
CREATE TYPE mood AS ENUM ('sad', 'glad');
CREATE DOMAIN price AS numeric(10,2);
CREATE TYPE pair AS (a int, "B" mood);
CREATE TABLE "Sales"."Orders" ("Id" bigint PRIMARY KEY, "Mood" mood[], cost price NOT NULL, p pair);
CREATE TABLE m (id int, at date, PRIMARY KEY (id, at)) PARTITION BY RANGE (at);
CREATE TABLE m_2020 PARTITION OF m FOR VALUES FROM ('2020-01-01') TO ('2021-01-01');
CREATE TABLE keyless (v text);
CREATE TABLE whole (v text);
ALTER TABLE whole REPLICA IDENTITY FULL;
CREATE UNLOGGED TABLE fleeting (id int PRIMARY KEY);
CREATE TABLE late (id int PRIMARY KEY DEFERRABLE);
CREATE TEMPORARY TABLE passing (id int);
`

func TestTablesAndTypes(t *testing.T) {
	pgtest.Matrix(t, func(t *testing.T, c *pgtest.Cluster) {
		db := c.DB(t)
		s := testSource(t, db, db.DSN())
		db.Exec(t, variousTables)
		tables, err := s.Tables(t.Context())
		require.NoError(t, err)
		by := map[string]catalog.Table{}
		for _, table := range tables {
			by[table.QualifiedName()] = table
		}
		require.Len(t, by, 7, "no temporary and no system table: %v", by)

		orders := by["Sales.Orders"]
		require.Equal(t, []string{"Id"}, orders.IdentityColumns)
		require.Equal(t, byte('r'), orders.Kind)
		require.Equal(t, []string{"Id", "Mood", "cost", "p"}, columnNames(orders))
		require.True(t, orders.Columns[2].NotNull)
		require.False(t, orders.Columns[0].Toastable)
		require.True(t, orders.Columns[1].Toastable)
		require.Equal(t, byte('p'), by["public.m"].Kind)
		require.Empty(t, by["public.m"].Root)
		require.Equal(t, "public.m", by["public.m_2020"].Root)
		require.Equal(t, []string{"id", "at"}, by["public.m_2020"].IdentityColumns)
		require.Equal(t, byte('f'), by["public.whole"].Identity)
		require.True(t, by["public.fleeting"].Unlogged)
		for name, safe := range map[string]bool{"public.keyless": false, "public.whole": true, "public.late": false, "Sales.Orders": true} {
			table := by[name]
			require.Equal(t, safe, table.SafeToPublish(), name)
		}

		types, err := s.Types(t.Context())
		require.NoError(t, err)
		mood := types[orders.Columns[1].TypeOID]
		require.Equal(t, catalog.TypeArray, mood.Kind)
		require.Equal(t, catalog.TypeEnum, types[mood.Elem].Kind)
		require.Equal(t, "mood", types[mood.Elem].Name)
		require.Equal(t, catalog.TypeDomain, types[orders.Columns[2].TypeOID].Kind)
		require.EqualValues(t, 1700, types[orders.Columns[2].TypeOID].Base, "numeric")
		require.Equal(t, []catalog.Field{{Name: "a", TypeOID: 23}, {Name: "B", TypeOID: mood.Elem}}, types[orders.Columns[3].TypeOID].Fields)
	})
}

func columnNames(t catalog.Table) []string {
	var names []string
	for _, c := range t.Columns {
		names = append(names, c.Name)
	}
	return names
}

// plan looks at the server and makes the plan for those tables.
func plan(t *testing.T, s *Source, names ...string) (PublicationPlan, *Server) {
	t.Helper()
	tables, err := s.Tables(t.Context())
	require.NoError(t, err)
	srv, err := s.Inspect(t.Context())
	require.NoError(t, err)
	p, err := s.PlanPublication(srv, named(tables, names...))
	require.NoError(t, err)
	return p, srv
}

// A plan that was applied is empty when it is made again; with a slot, tables are
// added under a lock.
func TestPublicationFollowsTheRoutes(t *testing.T) {
	pgtest.Matrix(t, func(t *testing.T, c *pgtest.Cluster) {
		db := c.DB(t)
		s := testSource(t, db, db.DSN())
		s.cfg.Publication = `My "own", or so`
		db.Exec(t, variousTables)
		first, _ := plan(t, s, "Sales.Orders", "public.m", "public.m_2020")
		require.True(t, first.Create)
		require.Equal(t, []string{"Sales.Orders", "public.m"}, first.Add, "a partition comes through its root")
		require.NoError(t, s.ApplyPublication(t.Context(), first))
		again, srv := plan(t, s, "Sales.Orders", "public.m", "public.m_2020")
		require.Equal(t, PublicationPlan{}, again)
		require.True(t, srv.Published.ViaRoot)
		require.ElementsMatch(t, []string{"Sales.Orders", "public.m"}, srv.Published.Explicit)

		_, err := s.CreateSlot(t.Context())
		require.NoError(t, err)
		change, srv := plan(t, s, "public.m", "public.whole")
		require.NotNil(t, srv.Slot)
		require.Equal(t, []string{"public.whole"}, change.Add)
		require.Equal(t, []string{"Sales.Orders"}, change.Drop)
		require.Contains(t, change.Statements[0], "LOCK TABLE")
		require.NoError(t, s.ApplyPublication(t.Context(), change))
		again, _ = plan(t, s, "public.m", "public.whole")
		require.Empty(t, again.Statements)
		require.NoError(t, s.DropSlot(t.Context()))
		require.NoError(t, s.DropSlot(t.Context()), "one that does not exist is no error")
		require.NoError(t, s.DropPublication(t.Context()))
		require.NoError(t, s.DropPublication(t.Context()))
	})
}

// Creating a slot waits for every open transaction that has written. It says for
// whom, gives up, and leaves nothing behind.
func TestSlotCreationNamesWhoIsInTheWay(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t)
	db := c.DB(t)
	db.Exec(t, "CREATE TABLE a (id int PRIMARY KEY)")
	writer := db.Conn(t)
	_, err := writer.Exec(t.Context(), "SET application_name = 'the writer'")
	require.NoError(t, err)
	tx, err := writer.Begin(t.Context())
	require.NoError(t, err)
	_, err = tx.Exec(t.Context(), "INSERT INTO a VALUES (1)")
	require.NoError(t, err)

	s := testSource(t, db, db.DSN())
	s.limits.slot, s.limits.slotBlockers = 2*time.Second, 200*time.Millisecond
	began := time.Now()
	_, err = s.CreateSlot(t.Context())
	require.Equal(t, ReasonBlocked, fault.Reason(err), "%v", err)
	require.ErrorContains(t, err, "the writer")
	require.ErrorContains(t, err, db.Name())
	require.Less(t, time.Since(began), within)
	pgtest.Eventually(t, within, func() bool { return db.One(t, "SELECT count(*) FROM pg_replication_slots") == "0" }, "nothing is left")

	require.NoError(t, tx.Rollback(t.Context()))
	_, err = s.CreateSlot(t.Context())
	require.NoError(t, err)
}

// requireOneConfigLine checks that an error is one finding in one line.
func requireOneConfigLine(t *testing.T, err error, check string) {
	t.Helper()
	var config *fault.ConfigError
	require.ErrorAs(t, err, &config)
	require.Len(t, config.Problems, 1)
	require.Equal(t, check, config.Problems[0].Check)
	require.NotEmpty(t, config.Problems[0].Fix)
	require.NotContains(t, err.Error(), "\n")
}

func TestWALLevelTooLow(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t, pgtest.Setting("wal_level", "replica")).DB(t)
	s := testSource(t, db, db.DSN())
	_, err := s.CreateSlot(t.Context())
	requireOneConfigLine(t, err, "wal-level")
}

func TestNoFreeSlotAndNoFreeSender(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t, pgtest.Setting("max_replication_slots", "2"), pgtest.Setting("max_wal_senders", "1"))
	db := c.DB(t)
	s := testSource(t, db, db.DSN())
	at := ready(t, s, db)
	pgtest.Eventually(t, within, func() bool { return db.One(t, "SELECT count(*) FROM pg_stat_get_wal_senders()") == "0" }, "the session that made the slot has ended")
	st := open(t, s, at, positionAt(at).get)

	second := testSource(t, db, db.DSN())
	second.cfg.Slot = "second"
	_, err := second.CreateSlot(t.Context())
	requireOneConfigLine(t, err, "free-sender")
	srv, err := second.Inspect(t.Context())
	require.NoError(t, err)
	require.Zero(t, srv.Senders.Free())
	require.Equal(t, 1, srv.Slots.Free())
	require.Error(t, srv.ReplicationErr)

	require.NoError(t, st.Stop(t.Context()))
	pgtest.Eventually(t, within, func() bool { return walsenders(t, db, st.PID()) == 0 }, "the sender is free")
	_, err = second.CreateSlot(t.Context())
	requireOneConfigLine(t, err, "free-slot")
}

// The statements of GrantsSQL are all that a role needs to look and to stream, and
// defaults that somebody gave it change no text of a value.
func TestGrantedRoleWithPoisonedDefaults(t *testing.T) {
	t.Parallel()
	db := pgtest.Shared(t).DB(t)
	owner := testSource(t, db, db.DSN())
	db.Exec(t, "REVOKE ALL ON DATABASE "+quoteIdent(db.Name())+" FROM PUBLIC")
	db.Exec(t, "REVOKE ALL ON SCHEMA public FROM PUBLIC")
	db.Exec(t, "CREATE TABLE a (id int PRIMARY KEY, at timestamptz, d date, f float8, b bytea, i interval)")
	db.Exec(t, "CREATE PUBLICATION "+quoteIdent(owner.Publication())+" FOR TABLE a")
	role := `R"` + db.Name()[len(db.Name())-20:]
	db.Exec(t, "CREATE ROLE "+quoteIdent(role))
	s := testSource(t, db, db.DSNAs(role, "x"))
	_, err := s.CreateSlot(t.Context())
	require.ErrorAs(t, err, new(*fault.ConfigError), "without the grants it is refused")
	require.NotContains(t, err.Error(), "\n")

	db.Exec(t, GrantsSQL(role))
	for _, setting := range []string{
		"datestyle = 'German, DMY'", "intervalstyle = 'iso_8601'", "extra_float_digits = -10", "bytea_output = 'escape'", "timezone = 'Asia/Tokyo'",
		"client_encoding = 'LATIN1'", "statement_timeout = '20s'", "default_transaction_read_only = 'on'", "standard_conforming_strings = 'off'", "search_path = ''",
	} {
		db.Exec(t, "ALTER ROLE "+quoteIdent(role)+" SET "+setting)
	}
	at, err := s.CreateSlot(t.Context())
	require.NoError(t, err)
	srv, err := s.Inspect(t.Context())
	require.NoError(t, err)
	require.NoError(t, srv.ReplicationErr)
	require.Equal(t, Role{Name: role, Replication: true}, srv.Role)
	require.NotNil(t, srv.Published)
	tables, err := s.Tables(t.Context())
	require.NoError(t, err)
	require.True(t, tables[0].Published)

	st := open(t, s, at, positionAt(at).get)
	db.Exec(t, `INSERT INTO a VALUES (1, '2026-02-03 04:05:06+00', '2026-02-03', 0.1::float8 + 0.2::float8, '\x0102ff', '1 day 02:03:04')`)
	row := until(t, st, func(f *Frame) bool { return kind(f) == 'I' })
	for _, text := range []string{"2026-02-03 04:05:06+00", "2026-02-03", "0.30000000000000004", `\x0102ff`, "1 day 02:03:04"} {
		require.True(t, strings.Contains(string(row.Data), text), "%q in %q", text, row.Data)
	}
}

// What a stream cannot be opened for is told in one line, by kind.
func TestRefusedConnections(t *testing.T) {
	t.Parallel()
	db := pgtest.Shared(t).DB(t)
	s := testSource(t, db, strings.Replace(db.DSN(), db.Name(), "no_such_database", 1))
	_, err := s.Inspect(t.Context())
	requireOneConfigLine(t, err, "database")

	proxy := pgtest.NewProxy(t, db.DSN())
	proxy.Refuse(true)
	_, err = testSource(t, db, proxy.DSN(db.DSN())).Inspect(t.Context())
	require.Equal(t, ReasonNetwork, fault.Reason(err))
	require.NotContains(t, err.Error(), "\n")
}
