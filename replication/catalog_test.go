package replication

import (
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/catalog"
	"github.com/walbridge/walbridge/internal/pgtest"
)

// Everything in a catalog that decides something, once.
//
//arch:flat
func TestCornersOfTheCatalog(t *testing.T) {
	pgtest.Matrix(t, func(t *testing.T, c *pgtest.Cluster) {
		db := c.DB(t)
		s := testSource(t, db, db.DSN())
		db.Exec(t, `
			CREATE SCHEMA "Sales";
			CREATE TYPE mood AS ENUM ('sad', 'glad');
			CREATE DOMAIN short AS text CHECK (length(value) < 10);
			CREATE TYPE pair AS (l int, r mood);
			CREATE TYPE span AS RANGE (subtype = int);
			CREATE TABLE "Sales"."Order" ("Id" bigint PRIMARY KEY, note text, plain int NOT NULL, doubled int GENERATED ALWAYS AS (plain * 2) STORED, m mood[], p pair, d short);
			CREATE TABLE keyless (a int);
			CREATE TABLE deferred (a int PRIMARY KEY DEFERRABLE);
			CREATE TABLE byindex (a int NOT NULL, b int NOT NULL, c int);
			CREATE UNIQUE INDEX byindex_b ON byindex (b, a) INCLUDE (c);
			ALTER TABLE byindex REPLICA IDENTITY USING INDEX byindex_b;
			CREATE TABLE full_ (a int); ALTER TABLE full_ REPLICA IDENTITY FULL;
			CREATE TABLE nothing (a int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING;
			CREATE UNLOGGED TABLE fleeting (a int PRIMARY KEY);
			CREATE TABLE root (a int PRIMARY KEY) PARTITION BY RANGE (a);
			CREATE TABLE middle PARTITION OF root FOR VALUES FROM (0) TO (10) PARTITION BY RANGE (a);
			CREATE TABLE leaf PARTITION OF middle FOR VALUES FROM (0) TO (5);
			CREATE TABLE rowtype (a int PRIMARY KEY, k keyless);
			CREATE VIEW not_a_table AS SELECT 1;
			ALTER TABLE keyless ADD gone int; ALTER TABLE keyless DROP gone`)
		db.Exec(t, `CREATE PUBLICATION `+quoteIdent(s.Publication())+` FOR TABLE "Sales"."Order", root WITH (publish_via_partition_root)`)

		tables, err := s.Tables(t.Context())
		require.NoError(t, err)
		byName := map[string]catalog.Table{}
		for _, table := range tables {
			byName[table.QualifiedName()] = table
		}
		require.Equal(t, []string{"Sales.Order", "public.byindex", "public.deferred", "public.fleeting", "public.full_", "public.keyless",
			"public.leaf", "public.middle", "public.nothing", "public.root", "public.rowtype"}, slices.Sorted(maps.Keys(byName)))
		for name, want := range map[string][]string{
			"Sales.Order": {"Id"}, "public.byindex": {"b", "a"}, "public.deferred": nil, "public.keyless": nil, "public.full_": nil,
			"public.nothing": nil, "public.root": {"a"}, "public.leaf": {"a"},
		} {
			require.Equal(t, want, byName[name].IdentityColumns, name)
		}
		for name, want := range map[string]bool{"Sales.Order": true, "public.root": true, "public.leaf": true, "public.middle": true, "public.keyless": false, "public.fleeting": false} {
			table := byName[name]
			require.Equal(t, want, table.Published, name)
		}
		keyless, full, leaf := byName["public.keyless"], byName["public.full_"], byName["public.leaf"]
		require.False(t, keyless.SafeToPublish())
		require.Len(t, keyless.Columns, 1, "a dropped column is none")
		require.True(t, full.SafeToPublish())
		require.Equal(t, "public.root", leaf.Root)
		require.Equal(t, byte('p'), byName["public.middle"].Kind)
		require.Empty(t, byName["public.root"].Root)
		require.True(t, byName["public.fleeting"].Unlogged)
		order := byName["Sales.Order"]
		require.Equal(t, "postgres", order.Owner)
		require.Equal(t, catalog.Column{Name: "Id", TypeOID: 20, TypeName: "bigint", NotNull: true}, order.Columns[0])
		require.True(t, order.Columns[1].Toastable)
		require.True(t, order.Columns[3].Generated)

		types, err := s.Types(t.Context())
		require.NoError(t, err)
		named := func(namespace, name string) *catalog.Type {
			for _, typ := range types {
				if typ.Namespace == namespace && typ.Name == name {
					return typ
				}
			}
			t.Fatalf("no type %s.%s", namespace, name)
			return nil
		}
		mood, pair := named("public", "mood"), named("public", "pair")
		require.Equal(t, catalog.TypeEnum, mood.Kind)
		require.Equal(t, catalog.TypeArray, named("public", "_mood").Kind)
		require.Equal(t, mood.OID, named("public", "_mood").Elem)
		require.Equal(t, catalog.TypeDomain, named("public", "short").Kind)
		require.EqualValues(t, 25, named("public", "short").Base)
		require.Equal(t, catalog.TypeComposite, pair.Kind)
		require.Equal(t, []catalog.Field{{Name: "l", TypeOID: 23}, {Name: "r", TypeOID: mood.OID}}, pair.Fields)
		require.Equal(t, catalog.TypeRange, named("public", "span").Kind)
		require.Equal(t, catalog.TypeMultirange, named("public", "span_multirange").Kind)
		require.Equal(t, catalog.TypeRange, types[3904].Kind, "int4range is built in")
		require.Equal(t, byte(';'), types[1020].Delim, "the elements of box[] are divided by semicolons")
		require.Equal(t, catalog.TypeComposite, named("public", "keyless").Kind, "a column has the row type of this table")
		require.Nil(t, types[22], "int2vector is no array")
		for _, typ := range types {
			require.NotEqual(t, "full_", typ.Name, "no column has the row type of this table")
		}
	})
}

func TestTablesPublishedBySchemaAndByAll(t *testing.T) {
	pgtest.Matrix(t, func(t *testing.T, c *pgtest.Cluster) {
		db := c.DB(t)
		s := testSource(t, db, db.DSN())
		db.Exec(t, "CREATE SCHEMA one; CREATE SCHEMA two; CREATE TABLE one.a (a int PRIMARY KEY); CREATE TABLE two.b (a int PRIMARY KEY, v int)")
		publishes := func() map[string]bool {
			t.Helper()
			tables, err := s.Tables(t.Context())
			require.NoError(t, err)
			got := map[string]bool{}
			for _, table := range tables {
				got[table.QualifiedName()] = table.Published
			}
			return got
		}
		inspect := func() *Publication {
			t.Helper()
			srv, err := s.Inspect(t.Context())
			require.NoError(t, err)
			return srv.Published
		}
		require.Equal(t, map[string]bool{"one.a": false, "two.b": false}, publishes())
		require.Nil(t, inspect())

		name := quoteIdent(s.Publication())
		db.Exec(t, "CREATE PUBLICATION "+name+" FOR ALL TABLES")
		require.Equal(t, map[string]bool{"one.a": true, "two.b": true}, publishes())
		require.True(t, inspect().AllTables)
		require.Empty(t, inspect().Explicit)
		require.NoError(t, s.DropPublication(t.Context()))
		require.NoError(t, s.DropPublication(t.Context()), "twice does nothing")

		if c.Major() < 15 {
			return
		}
		db.Exec(t, "CREATE PUBLICATION "+name+" FOR TABLES IN SCHEMA one")
		require.Equal(t, map[string]bool{"one.a": true, "two.b": false}, publishes())
		require.Equal(t, []string{"one"}, inspect().Schemas)
		db.Exec(t, "DROP PUBLICATION "+name)
		db.Exec(t, "CREATE PUBLICATION "+name+" FOR TABLE two.b (a) WHERE (a > 5 AND v IS NOT NULL) WITH (publish = 'insert')")
		pub := inspect()
		require.Equal(t, []string{"two.b"}, pub.Explicit)
		require.Len(t, pub.Tables, 1)
		require.Equal(t, []string{"a"}, pub.Tables[0].Columns)
		require.Equal(t, []string{"a", "v"}, pub.Tables[0].FilterColumns)
		require.Contains(t, pub.Tables[0].Filter, "a > 5")
		require.True(t, pub.Insert)
		require.False(t, pub.Update || pub.Delete || pub.Truncate)
	})
}

// Names are quoted everywhere, so that those in mixed case and with quotes work.
func TestNamesInMixedCaseStream(t *testing.T) {
	t.Parallel()
	db := pgtest.Shared(t).DB(t)
	s := testSource(t, db, db.DSN())
	s.cfg.Publication = `My "Pub's`
	db.Exec(t, `CREATE TABLE "Mixed""Case" (a int PRIMARY KEY)`)
	p, _ := plan(t, s, `public.Mixed"Case`)
	require.NoError(t, s.ApplyPublication(t.Context(), p))
	at, err := s.CreateSlot(t.Context())
	require.NoError(t, err)
	db.Exec(t, `INSERT INTO "Mixed""Case" VALUES (1)`)
	relation := until(t, open(t, s, at, positionAt(at).get), func(f *Frame) bool { return kind(f) == 'R' })
	require.Contains(t, string(relation.Data), "public\x00Mixed\"Case\x00")
}

// A table in use is not waited for for long, and the error says what to do.
func TestPublicationDoesNotWaitForLong(t *testing.T) {
	t.Parallel()
	db := pgtest.Shared(t).DB(t)
	s := testSource(t, db, db.DSN())
	ready(t, s, db)
	db.Exec(t, "CREATE TABLE busy (a int PRIMARY KEY)")
	writer := db.Conn(t)
	_, err := writer.Exec(t.Context(), "BEGIN; INSERT INTO busy VALUES (1)")
	require.NoError(t, err)
	plan := PublicationPlan{Statements: []string{lockedAdd("busy", "ALTER PUBLICATION "+quoteIdent(s.Publication())+" ADD TABLE ONLY busy")}}
	require.ErrorContains(t, s.ApplyPublication(t.Context(), plan), "try again")
	_, err = writer.Exec(t.Context(), "COMMIT")
	require.NoError(t, err)
	require.NoError(t, s.ApplyPublication(t.Context(), plan))
}
