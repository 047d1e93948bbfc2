package main

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/configs"
	"github.com/walbridge/walbridge/internal/catalog"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/replication"
)

// changesOf is a configuration with one route of changes, as far as the preflight of the
// first start looks at it.
func changesOf(tables string) configs.Loaded {
	return configs.Loaded{Config: configs.Config{Name: "shop", Routes: mapper.Config{Routes: []mapper.Route{{Tables: []string{tables}, Changes: &mapper.Changes{}}}}.WithDefaults().Routes}}
}

// The first start refuses what it is to read and cannot, all of it at once, with the
// GRANT that is missing; the printed statement helps, and so does snapshot: never.
func TestFirstStartNamesWhatItCannotRead(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t)
	db := c.DB(t)
	db.Exec(t, `CREATE ROLE reader LOGIN REPLICATION; CREATE SCHEMA "Old";
		CREATE TABLE "Old"."Item" (id int PRIMARY KEY); INSERT INTO "Old"."Item" VALUES (1);
		CREATE TABLE "Old".part (id int, at int, PRIMARY KEY (id, at)) PARTITION BY LIST (at);
		CREATE TABLE "Old".part_1 PARTITION OF "Old".part FOR VALUES IN (1); INSERT INTO "Old".part VALUES (1, 1);
		CREATE TABLE "Old".log (line text); ALTER TABLE "Old".log REPLICA IDENTITY FULL;
		CREATE TABLE "Old".secret (id int PRIMARY KEY); ALTER TABLE "Old".secret ENABLE ROW LEVEL SECURITY`)
	text := fmt.Sprintf("name: shop\nsource: {dsn: %q}\nroutes: [{tables: [\"Old.*\"], changes: {}}]\nsink: {worktable: {dsn: %[1]q}}\n", db.DSNAs("reader", ""))
	s := newSite(t, db, text)
	db.Exec(t, s.do(t, exitOK, "setup", "--print").stdout)
	db.Exec(t, "GRANT SELECT ON walbridge.migration TO reader") // for setup, which finds nothing to do
	db.Exec(t, `REVOKE SELECT ON ALL TABLES IN SCHEMA "Old" FROM reader; REVOKE USAGE ON SCHEMA "Old" FROM reader`)
	const grant = `GRANT USAGE ON SCHEMA "Old" TO "reader"; GRANT SELECT ON "Old"."Item", "Old"."log", "Old"."part", "Old"."secret" TO "reader"`
	says := []string{
		"Old.Item, Old.log, Old.part, Old.secret: the role reader may not read the rows", "fix: " + grant + "; or snapshot: never in routes[0]",
		"Old.secret: row security would hide rows of it from the role reader", `ALTER ROLE "reader" BYPASSRLS`,
		"routes[0].snapshot is initial (the default of changes)",
	}
	for _, args := range [][]string{{"run"}, {"setup", "--slot"}, {"doctor"}} {
		r := s.invoke(t, args...)
		require.NotEqual(t, exitOK, r.code, args)
		for _, want := range says {
			require.Contains(t, r.stdout+r.stderr, want, args)
		}
		require.NotContains(t, r.stdout+r.stderr, "part_1", "a partition is read by its table")
	}
	require.Equal(t, "0", db.One(t, "SELECT count(*) FROM pg_replication_slots"))

	db.Exec(t, grant)
	r := s.invoke(t, "doctor")
	require.NotContains(t, r.stdout, "may not read")
	require.Contains(t, r.stdout, "Old.secret: ")
	require.NotContains(t, r.stdout, "Old.log", "it is read whole")
	s.change(t, `[{tables: ["Old.*"], changes: {}}]`, `[{tables: [Old.log, Old.secret], changes: {}, snapshot: never}, {tables: ["Old.*"], changes: {}}]`)
	s.do(t, exitOK, "doctor")
	running := s.run(t)
	s.delivered(t, 2)
	require.Contains(t, running.errs.String(), "read Old.Item: ", "the plan is printed before")
	require.Contains(t, running.errs.String(), "2 tables, ")
	require.Equal(t, exitOK, running.stopped(t), running.errs.String())
}

// More tables than the position can remember are refused before a slot is made for them.
func TestFirstStartRefusesMoreTablesThanItCanRemember(t *testing.T) {
	t.Parallel()
	var tables []catalog.Table
	for i := range 20_000 {
		tables = append(tables, catalog.Table{Schema: "public", Name: fmt.Sprintf("tenant_%x_orders", i*2654435761), Kind: 'r', Identity: 'd', IdentityColumns: []string{"id"}, Readable: true, EstRows: -1, Bytes: 8192})
	}
	found := snapshotFindings(changesOf("public.*"), &replication.Server{}, tables)
	require.Len(t, found, 1)
	require.Equal(t, "snapshot-tables", found[0].Check)
	require.Empty(t, snapshotFindings(changesOf("public.*"), &replication.Server{}, tables[:500]))
}

// An outbox is read by its key, and where its updates are seen; a table of changes
// needs neither.
func TestFirstStartOfAnOutbox(t *testing.T) {
	t.Parallel()
	l := changesOf("public.*")
	l.Config.Routes = mapper.Config{Routes: append([]mapper.Route{{Tables: []string{"public.outbox"}, Outbox: &mapper.Outbox{}, Snapshot: "initial"}}, l.Config.Routes...)}.WithDefaults().Routes
	tables := []catalog.Table{
		{Schema: "public", Name: "outbox", Kind: 'r', Identity: 'f', Readable: true, EstRows: 5},
		{Schema: "public", Name: "log", Kind: 'r', Identity: 'f', Readable: true, EstRows: 7},
	}
	srv := &replication.Server{Published: &replication.Publication{Name: "p", Insert: true, Tables: []replication.PublishedTable{{Schema: "public", Name: "outbox"}, {Schema: "public", Name: "log"}}}}
	whats := func() (all []string) {
		for _, p := range snapshotFindings(l, srv, tables) {
			all = append(all, p.Where+": "+p.What+" → "+p.Fix)
		}
		return all
	}
	require.Len(t, whats(), 1)
	require.Contains(t, whats()[0], "public.outbox: it has no key")
	tables[0].IdentityColumns = []string{"id"}
	require.Len(t, whats(), 1)
	require.Contains(t, whats()[0], "ALTER PUBLICATION p SET (publish = ")
	require.Contains(t, whats()[0], "snapshot: never in routes[0]")
	srv.Published.Update = true
	require.Empty(t, whats())
	require.Contains(t, firstPlan(l, srv, tables), "2 tables, about 12 rows")
}

// Before there is a publication the plan has what setup will publish: partitions by their
// table, unless the route takes them alone.
func TestPlanBeforeSetup(t *testing.T) {
	t.Parallel()
	tables := []catalog.Table{
		{Schema: "public", Name: "events", Kind: 'p', EstRows: -1},
		{Schema: "public", Name: "events_1", Kind: 'r', Root: "public.events", EstRows: 30, Bytes: 8192},
		{Schema: "public", Name: "events_2", Kind: 'r', Root: "public.events", EstRows: 12, Bytes: 8192},
		{Schema: "public", Name: "cache", Kind: 'r', Unlogged: true, EstRows: 1000},
	}
	require.Contains(t, firstPlan(changesOf("public.*"), &replication.Server{}, tables), "1 tables, about 42 rows, 16")
	require.Contains(t, firstPlan(changesOf("public.events_2"), &replication.Server{}, tables), "1 tables, about 12 rows, 8")
	require.Empty(t, firstPlan(changesOf("public.nothing"), &replication.Server{}, tables))
	require.Empty(t, firstPlan(changesOf("public.*"), &replication.Server{Slot: &replication.Slot{}}, tables), "the first start is over")
	require.Len(t, planFindings(changesOf("public.*"), &replication.Server{}, tables), 1)
}
