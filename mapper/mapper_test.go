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
	require.True(t, m.Unknown(rel))
	require.Contains(t, string(mapOne(t, m, c).Payload.AppendJSON(nil)), `"p":"(1,a)"`)
	m.SetTypes(testTypes())
	require.False(t, m.Unknown(rel), "what is still unknown asks no more")
	require.Contains(t, string(mapOne(t, m, c).Payload.AppendJSON(nil)), `"p":{"n":1,"say \"s\"":"a"},"x":"y"`)
	require.False(t, m.Unknown(newRelation("public", "u", 'd', "x lost")))
	require.False(t, m.Unknown(newRelation("elsewhere", "u", 'd', "x mood")), "nobody maps the table")
	require.False(t, m.Unknown(nil))
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
