package mapper

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/internal/catalog"
	"github.com/walbridge/walbridge/internal/fault"
)

func TestFirstMatchingRouteWins(t *testing.T) {
	m := newMapper(t, Config{Routes: []Route{
		{Tables: []string{"public.outbox", "public.*_box"}, Exclude: []string{"public.no_box"}, Outbox: &Outbox{}},
		{Tables: []string{"public.*"}, Exclude: []string{"*.session?"}, Changes: &Changes{}},
		{Tables: []string{"a?c.x*y*z", "*.Mixed Case"}, Changes: &Changes{}},
	}})
	for name, want := range map[string]int{
		"public.outbox": 0, "public.x_box": 0, "public.no_box": 1, "public.orders": 1, "public.sessions": -1, "public.session": 1,
		"public.a.b": 1, "publi.c": -1, "abc.xyz": 2, "abc.x-y-y-zz": 2, "abbc.xyz": -1, "abc.xy": -1, "s.Mixed Case": 2, "s.mixed case": -1, "aéc.xyz": 2,
	} {
		schema, table, _ := strings.Cut(name, ".")
		got, ok := m.Match(schema, table)
		require.Equal(t, want, got, name)
		require.Equal(t, want >= 0, ok, name)
	}
	for _, c := range []struct {
		name, root string
		want       int
	}{
		{"parts.orders_1", "public.orders", 1}, {"parts.orders_1", "public.sessions", -1}, {"public.orders_1", "other.orders", 1},
		{"other.sessions", "public.orders", -1}, {"parts.p", "public.outbox", 0}, {"public.p", "x.sessions", -1},
	} {
		schema, table, _ := strings.Cut(c.name, ".")
		got, _ := m.MatchTable(&catalog.Table{Schema: schema, Name: table, Root: c.root})
		require.Equal(t, c.want, got, "%s under %s", c.name, c.root)
	}
}

func TestWhatRoutesSpell(t *testing.T) {
	m := newMapper(t, Config{Routes: []Route{
		{Tables: []string{"public.orders", "app.*", "app.a"}, Exclude: []string{"app.x"}, Changes: &Changes{}},
		{Tables: []string{"app.a", "app.x", "s.outbox"}, Outbox: &Outbox{}},
		{Tables: []string{"s.settled"}, Outbox: &Outbox{}, Snapshot: "never"},
		{Tables: []string{"s.read"}, Outbox: &Outbox{}, Snapshot: "initial"},
	}})
	require.Equal(t, []string{"public.orders", "app.a", "app.x", "s.outbox", "s.settled", "s.read"}, m.Names())
	for name, want := range map[string]struct{ wild, asks bool }{
		"public.orders": {}, "app.a": {}, "app.b": {wild: true}, "app.x": {asks: true}, "s.outbox": {asks: true}, "s.settled": {}, "s.read": {asks: true}, "no.route": {},
	} {
		schema, table, _ := strings.Cut(name, ".")
		of := &catalog.Table{Schema: schema, Name: table}
		require.Equal(t, want.wild, m.Wild(of), name)
		require.Equal(t, want.asks, m.Asks(of), name)
	}
	require.True(t, m.Wild(&catalog.Table{Schema: "parts", Name: "p", Root: "app.b"}), "by the root")
}

// matchSlowly is glob by its definition.
func matchSlowly(p, s []rune) bool {
	switch {
	case len(p) == 0:
		return len(s) == 0
	case p[0] == '*':
		return matchSlowly(p[1:], s) || len(s) > 0 && matchSlowly(p, s[1:])
	}
	return len(s) > 0 && (p[0] == '?' || p[0] == s[0]) && matchSlowly(p[1:], s[1:])
}

func TestGlob(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		p := rapid.StringOfN(rapid.SampledFrom([]rune("ab*?é")), 0, 8, -1).Draw(t, "pattern")
		s := rapid.StringOfN(rapid.SampledFrom([]rune("abé")), 0, 10, -1).Draw(t, "name")
		require.Equal(t, matchSlowly([]rune(p), []rune(s)), glob(p, s))
	})
}

// A leaf partition that arrives under its own name is routed by its root's and
// keeps its own name.
func TestPartitionIsRoutedByItsRoot(t *testing.T) {
	m, err := New(Config{Routes: []Route{{Tables: []string{"public.orders"}, Changes: &Changes{}}}}, Env{
		Bridge: "shop", Tables: []catalog.Table{{Schema: "parts", Name: "orders_1", Root: "public.orders"}},
	})
	require.NoError(t, err)
	it := mapOne(t, m, insert(newRelation("parts", "orders_1", 'd', "*id int4"), "1"))
	require.Equal(t, "parts.orders_1", it.Stream)
	require.Equal(t, "parts.orders_1:[1]", string(it.Key))
}

func TestUnknownTypesAskOnce(t *testing.T) {
	m, err := New(Config{Routes: []Route{{Tables: []string{"public.*"}, Changes: &Changes{}}}}, Env{Bridge: "shop"})
	require.NoError(t, err)
	rel := newRelation("public", "t", 'd', "*id int4", "p pair", "x lost")
	c := insert(rel, "1", "(1,a)", "y")
	require.Equal(t, UnknownTable, m.Unknown(rel), "the table comes first")
	require.Equal(t, UnknownTable, m.Unknown(rel), "until it is told")
	require.Contains(t, string(mapOne(t, m, c).Payload.AppendJSON(nil)), `"p":"(1,a)"`)
	m.SetTable(rel.OID, &catalog.Table{OID: rel.OID, Schema: "public", Name: "t"})
	require.Equal(t, UnknownTypes, m.Unknown(rel))
	require.Contains(t, string(mapOne(t, m, c).Payload.AppendJSON(nil)), `"p":"(1,a)"`)
	m.SetTypes(testTypes())
	require.Equal(t, UnknownNothing, m.Unknown(rel), "what is still unknown asks no more")
	require.Contains(t, string(mapOne(t, m, c).Payload.AppendJSON(nil)), `"p":{"n":1,"say \"s\"":"a"},"x":"y"`)
	gone := newRelation("public", "gone", 'd', "x lost")
	require.Equal(t, UnknownTable, m.Unknown(gone))
	m.SetTable(gone.OID, nil)
	require.Equal(t, UnknownNothing, m.Unknown(gone), "it is gone, and asks no more")
	require.Equal(t, UnknownNothing, m.Unknown(newRelation("public", "gone", 'd', "x lost", "y lost")))
	require.Equal(t, UnknownNothing, m.Unknown(nil))
}

// A table that is made while the bridge runs: its key, where the stream marks every
// column, and its route, where only its root has one.
func TestTablesMadeLater(t *testing.T) {
	m, err := New(Config{Routes: []Route{{Tables: []string{"public.orders", "public.full"}, Changes: &Changes{}}}}, Env{
		Bridge: "shop", Tables: []catalog.Table{{OID: 1, Schema: "public", Name: "full", IdentityColumns: []string{"v"}}},
	})
	require.NoError(t, err)
	full := newRelation("public", "full", 'f', "id int4", "v int4")
	require.Equal(t, UnknownTable, m.Unknown(full), "a table of another OID")
	require.Equal(t, "public.full:[2]", string(mapOne(t, m, insert(full, "1", "2")).Key), "what is known by its name serves until then")
	m.SetTable(full.OID, &catalog.Table{OID: full.OID, Schema: "public", Name: "full", IdentityColumns: []string{"id"}})
	require.Equal(t, UnknownNothing, m.Unknown(full))
	require.Equal(t, "public.full:[1]", string(mapOne(t, m, insert(full, "1", "2")).Key))
	old := *full
	old.OID = 1
	require.Equal(t, UnknownNothing, m.Unknown(&old))
	require.Equal(t, "public.full:[2]", string(mapOne(t, m, insert(&old, "1", "2")).Key), "the old table has its own key")

	part := newRelation("parts", "orders_1", 'd', "*id int4")
	require.Equal(t, UnknownTable, m.Unknown(part))
	m.SetTable(part.OID, &catalog.Table{OID: part.OID, Schema: "parts", Name: "orders_1", Root: "public.orders"})
	require.Equal(t, "parts.orders_1", mapOne(t, m, insert(part, "1")).Stream)
	m.SetTable(part.OID, nil)
	require.Equal(t, "parts.orders_1", mapOne(t, m, insert(part, "1")).Stream, "its rows may still come when it is gone")
}

// A known table that no route takes may have become a partition of one that has a
// route, and asks once.
func TestUnroutedTableAsksOnce(t *testing.T) {
	part := newRelation("parts", "orders_1", 'd', "*id int4")
	m, err := New(Config{Routes: []Route{{Tables: []string{"public.orders"}, Changes: &Changes{}}}}, Env{
		Bridge: "shop", Tables: []catalog.Table{{OID: part.OID, Schema: "parts", Name: "orders_1"}},
	})
	require.NoError(t, err)
	require.Equal(t, UnknownTable, m.Unknown(part))
	m.SetTable(part.OID, &catalog.Table{OID: part.OID, Schema: "parts", Name: "orders_1", Root: "public.orders"})
	require.Equal(t, UnknownNothing, m.Unknown(part))
	require.Equal(t, "parts.orders_1", mapOne(t, m, insert(part, "1")).Stream)
	other := newRelation("other", "t", 'd', "*id int4")
	require.Equal(t, UnknownTable, m.Unknown(other))
	m.SetTable(other.OID, &catalog.Table{OID: other.OID, Schema: "other", Name: "t"})
	require.Equal(t, UnknownNothing, m.Unknown(other))
	require.Equal(t, UnknownNothing, m.Unknown(newRelation("other", "t", 'd', "*id int4", "v int4")))
}

// Each change of a table is a new description; only the last one is kept.
func TestMemoryIsBoundedByTables(t *testing.T) {
	m := hotMapper(t)
	for i := range 1000 {
		rel := newRelation("public", "t", 'd', "*id int4", fmt.Sprintf("c%d text", i))
		mapOne(t, m, insert(rel, "1", "x"))
	}
	require.Len(t, m.relations, 1)
	big := newRelation("public", "outbox", 'd', "*id text", "aggregatetype text", "aggregateid text", "type text", "payload bytea")
	mapOne(t, m, insert(big, "1", "s", "k", "t", `\x22`+strings.Repeat("61", 8<<20)+"22"))
	_, err := m.Map(insert(big, null, null, null, null, null))
	require.NoError(t, err)
	require.LessOrEqual(t, cap(m.arena), maxKeptScratch)
}

func TestBinaryValuesAreDeadLetters(t *testing.T) {
	m := hotMapper(t)
	for _, c := range []*decoder.Change{sevenColumns(), outboxRow()} {
		c.New[1].Kind = decoder.ValueBinary
		require.Equal(t, ReasonBinaryValue, mapOne(t, m, c).DeadLetter.Reason)
		c.New[1].Kind = '?'
		require.Equal(t, ReasonMalformedChange, mapOne(t, m, c).DeadLetter.Reason)
	}
}

func TestMessagesHaveNoRoute(t *testing.T) {
	m := hotMapper(t)
	items, err := m.Map(&decoder.Change{Op: decoder.OpMessage, Prefix: "x"})
	require.NoError(t, err)
	require.Empty(t, items)
	require.EqualValues(t, 1, m.Counts().Unrouted)
}

func TestNewRefuses(t *testing.T) {
	var config *fault.ConfigError
	_, err := New(Config{}, Env{Bridge: "shop"})
	require.ErrorAs(t, err, &config)
	_, err = New(Config{Routes: []Route{{Tables: []string{"a.b"}, Inbox: &Inbox{}}}}, Env{})
	require.ErrorAs(t, err, &config)
	require.Equal(t, "name", config.Problems[0].Where)
}

func TestDefaultsLeaveTheOriginalAlone(t *testing.T) {
	cfg := Config{Routes: []Route{{Tables: []string{"a.b"}, Outbox: &Outbox{}}, {Tables: []string{"a.b"}, Changes: &Changes{}, Columns: &Columns{}}}}
	d := cfg.WithDefaults()
	require.Equal(t, Config{Routes: []Route{{Tables: []string{"a.b"}, Outbox: &Outbox{}}, {Tables: []string{"a.b"}, Changes: &Changes{}, Columns: &Columns{}}}}, cfg)
	require.Equal(t, "aggregateid", d.Routes[0].Outbox.Key)
	require.Equal(t, "${schema}.${table}", d.Routes[1].Stream)
	require.Equal(t, d, d.WithDefaults())
	require.Empty(t, d.Validate())
}

func TestHaltsNameTheirWaysOut(t *testing.T) {
	m := newMapper(t, Config{Routes: []Route{{Tables: []string{"public.t"}, Changes: &Changes{Truncate: "halt"}}}})
	_, err := m.Map(change(decoder.OpTruncate, newRelation("public", "t", 'd', "*id int4")))
	var halt *fault.Halt
	require.ErrorAs(t, err, &halt)
	require.Equal(t, "truncate", halt.Rule)
	require.NotEmpty(t, halt.Ways)
	require.NotEmpty(t, halt.Why)
}
