package replication

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/catalog"
)

// coveredTable is a table of the publication's owner, with a key.
func coveredTable(name string, change ...func(*CoveredTable)) CoveredTable {
	t := CoveredTable{Table: aTable(name), Owned: true}
	t.Readable = true
	for _, f := range change {
		f(&t)
	}
	return t
}

//arch:flat
func TestCover(t *testing.T) {
	isPublished := func(c *CoveredTable) { c.Published, c.Named = true, true }
	inherits := func(c *CoveredTable) { c.Published = true }
	keyless := func(c *CoveredTable) { c.IdentityColumns = nil }
	full := func(c *CoveredTable) { c.Identity, c.IdentityColumns = 'f', nil }
	unlogged := func(c *CoveredTable) { c.Unlogged = true }
	root := func(c *CoveredTable) { c.Kind = 'p' }
	leaf := func(c *CoveredTable) { c.Root = "public.root" }
	foreign := func(c *CoveredTable) { c.Owned = false }
	unreadable := func(c *CoveredTable) { c.Readable = false }
	none := Routed{}
	named, wild, read := Routed{Taken: true}, Routed{Taken: true, Wild: true}, Routed{Taken: true, Wild: true, Read: true}
	const counts = "published %d unpublished %d unrouted %d no_identity %d vanished %d"
	for _, c := range []struct {
		name     string
		change   func(*Covered)
		tables   []CoveredTable
		route    Routed            // of all tables
		routes   map[string]Routed // but these
		names    []string
		counts   string
		problems []string // check and table
		fix      string   // of the first
		notReady string
		added    string // with what is read of it
	}{
		{name: "all is well", tables: []CoveredTable{coveredTable("a", isPublished), coveredTable("b")}, route: none, routes: map[string]Routed{"public.a": named}, names: []string{"public.a"},
			counts: fmt.Sprintf(counts, 1, 0, 0, 0, 0)},
		{name: "a new table of a wildcard", tables: []CoveredTable{coveredTable("a")}, route: wild, counts: fmt.Sprintf(counts, 0, 1, 0, 0, 0), problems: []string{"not-published public.a"},
			fix: `LOCK TABLE "public"."a" IN SHARE ROW EXCLUSIVE MODE; ALTER PUBLICATION "walbridge_shop" ADD TABLE ONLY "public"."a"`, added: "public.a:"},
		{name: "whose rows are to be read", tables: []CoveredTable{coveredTable("a")}, route: read, counts: fmt.Sprintf(counts, 0, 1, 0, 0, 0), problems: []string{"not-published public.a"},
			fix: "walbridge snapshot --tables public.a", added: "public.a:public.a"},
		{name: "that a route names", tables: []CoveredTable{coveredTable("a")}, route: named, names: []string{"public.a"}, counts: fmt.Sprintf(counts, 0, 1, 0, 0, 0), problems: []string{"not-published public.a"},
			notReady: "public.a, which a route names, is not published", added: "public.a:"},
		{name: "of somebody else", tables: []CoveredTable{coveredTable("a", foreign)}, route: wild, counts: fmt.Sprintf(counts, 0, 1, 0, 0, 0), problems: []string{"not-published public.a"}, fix: "ALTER PUBLICATION"},
		{name: "in a publication of somebody else", change: func(c *Covered) { c.Owned = false }, tables: []CoveredTable{coveredTable("a")}, route: wild, counts: fmt.Sprintf(counts, 0, 1, 0, 0, 0), problems: []string{"not-published public.a"}},
		{name: "that cannot be read in chunks", tables: []CoveredTable{coveredTable("a", full)}, route: read, counts: fmt.Sprintf(counts, 0, 1, 0, 0, 0), problems: []string{"not-published public.a"}, fix: "ADD PRIMARY KEY"},
		{name: "that may not be read", tables: []CoveredTable{coveredTable("a", unreadable)}, route: read, counts: fmt.Sprintf(counts, 0, 1, 0, 0, 0), problems: []string{"not-published public.a"}, fix: "GRANT SELECT"},
		{name: "that is not read need not be readable", tables: []CoveredTable{coveredTable("a", unreadable)}, route: wild, counts: fmt.Sprintf(counts, 0, 1, 0, 0, 0), problems: []string{"not-published public.a"}, added: "public.a:"},
		{name: "without a key", tables: []CoveredTable{coveredTable("a", keyless)}, route: wild, counts: fmt.Sprintf(counts, 0, 0, 0, 1, 0), problems: []string{"no-identity public.a"}, fix: "REPLICA IDENTITY FULL"},
		{name: "without a key, inserts alone", change: func(c *Covered) { c.Updates = false }, tables: []CoveredTable{coveredTable("a", keyless)}, route: wild, counts: fmt.Sprintf(counts, 0, 1, 0, 0, 0), problems: []string{"not-published public.a"}, added: "public.a:"},
		{name: "a published one without a key", tables: []CoveredTable{coveredTable("a", isPublished, keyless)}, route: named, counts: fmt.Sprintf(counts, 0, 0, 0, 1, 0), problems: []string{"no-identity public.a"}},
		{name: "unlogged", tables: []CoveredTable{coveredTable("a", unlogged)}, route: wild, counts: fmt.Sprintf(counts, 0, 1, 0, 0, 0), problems: []string{"unlogged public.a"}, fix: "SET LOGGED"},
		{name: "no route", tables: []CoveredTable{coveredTable("a", isPublished)}, counts: fmt.Sprintf(counts, 0, 0, 1, 0, 0), problems: []string{"not-routed public.a"}, fix: "DROP TABLE ONLY"},
		{name: "no route, of all tables", change: func(c *Covered) { c.AllTables = true }, tables: []CoveredTable{coveredTable("a", inherits)}, counts: fmt.Sprintf(counts, 0, 0, 1, 0, 0)},
		{name: "vanished", route: wild, names: []string{"public.gone"}, counts: fmt.Sprintf(counts, 0, 0, 0, 0, 1), problems: []string{"vanished public.gone"}, notReady: "public.gone, which a route names, is not there"},
		{name: "no publication", change: func(c *Covered) { c.Exists = false }, tables: []CoveredTable{coveredTable("a")}, route: named, counts: fmt.Sprintf(counts, 0, 1, 0, 0, 0), problems: []string{"publication walbridge_shop"},
			notReady: "the publication does not exist"},
		{name: "partitions come with their root", tables: []CoveredTable{coveredTable("root", root, isPublished), coveredTable("leaf", leaf, inherits)}, route: wild, counts: fmt.Sprintf(counts, 1, 0, 0, 0, 0)},
		{name: "a new root", tables: []CoveredTable{coveredTable("root", root), coveredTable("leaf", leaf)}, route: read, counts: fmt.Sprintf(counts, 0, 1, 0, 0, 0), problems: []string{"not-published public.root"}, added: "public.root:public.root"},
		{name: "a new root, under the names of partitions", change: func(c *Covered) { c.ViaRoot = false }, tables: []CoveredTable{coveredTable("root", root), coveredTable("leaf", leaf), coveredTable("high", leaf)}, route: read,
			counts: fmt.Sprintf(counts, 0, 1, 0, 0, 0), problems: []string{"not-published public.root"}, added: "public.root:public.leaf,public.high"},
		{name: "a new root with a partition without a key", tables: []CoveredTable{coveredTable("root", root), coveredTable("leaf", leaf, keyless)}, route: wild, counts: fmt.Sprintf(counts, 0, 0, 0, 2, 0), problems: []string{"no-identity public.leaf"}},
		{name: "a published root with a partition without a key", tables: []CoveredTable{coveredTable("root", root, isPublished), coveredTable("leaf", leaf, inherits, keyless)}, route: wild, counts: fmt.Sprintf(counts, 1, 0, 0, 1, 0), problems: []string{"no-identity public.leaf"}},
		{name: "partitions that no route takes", tables: []CoveredTable{coveredTable("root", root, isPublished), coveredTable("leaf", leaf, inherits)}, counts: fmt.Sprintf(counts, 0, 0, 1, 0, 0), problems: []string{"not-routed public.root"}},
		{name: "a partition alone", tables: []CoveredTable{coveredTable("leaf", leaf, isPublished)}, route: named, names: []string{"public.leaf"}, counts: fmt.Sprintf(counts, 1, 0, 0, 0, 0)},
	} {
		t.Run(c.name, func(t *testing.T) {
			covered := &Covered{Exists: true, Updates: true, ViaRoot: true, Owned: true, Tables: c.tables}
			if c.change != nil {
				c.change(covered)
			}
			s := shopSource(t)
			s.cfg.OnNewTable = NewTablePublish
			got := s.Cover(covered, c.names, func(table *catalog.Table) Routed {
				if r, ok := c.routes[table.QualifiedName()]; ok {
					return r
				}
				return c.route
			})
			require.Equal(t, c.counts, fmt.Sprintf(counts, got.Published, got.Unpublished, got.Unrouted, got.NoIdentity, got.Vanished))
			var problems []string
			for _, p := range got.Problems {
				problems = append(problems, p.Check+" "+p.Where)
				require.True(t, p.Warning)
				require.NotEmpty(t, p.Fix)
			}
			require.Equal(t, c.problems, problems)
			if c.fix != "" {
				require.Contains(t, got.Problems[0].Fix, c.fix)
			}
			require.Equal(t, c.notReady == "", got.NotReady == "", got.NotReady)
			require.Contains(t, got.NotReady, c.notReady)
			var added []string
			for _, a := range got.Additions {
				var read []string
				for i := range a.Read {
					read = append(read, a.Read[i].QualifiedName())
				}
				added = append(added, a.Table.QualifiedName()+":"+strings.Join(read, ","))
			}
			require.Equal(t, c.added, strings.Join(added, " "))
			s.cfg.OnNewTable = NewTableAlert
			require.Empty(t, s.Cover(covered, c.names, func(*catalog.Table) Routed { return c.route }).Additions)
		})
	}
}

// However many tables there are, a bounded number of warnings is told.
func TestCoverTellsABoundedNumber(t *testing.T) {
	covered := &Covered{Exists: true, Updates: true}
	for i := range maxOfKind + 7 {
		covered.Tables = append(covered.Tables, coveredTable(fmt.Sprint("t", i)))
	}
	got := shopSource(t).Cover(covered, nil, func(*catalog.Table) Routed { return Routed{Taken: true, Wild: true} })
	require.Len(t, got.Problems, maxOfKind+1)
	require.Contains(t, got.Problems[maxOfKind].What, "7 more tables")
	require.Equal(t, maxOfKind+7, got.Unpublished)
	got = shopSource(t).Cover(covered, nil, func(*catalog.Table) Routed { return Routed{Taken: true} })
	require.Equal(t, maxLacking, strings.Count(got.NotReady, "is not published"))
	require.Contains(t, got.NotReady, fmt.Sprintf("and %d more", maxOfKind+7-maxLacking))
}
