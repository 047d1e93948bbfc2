package mapper

import (
	"errors"
	"slices"
	"strings"

	"github.com/walbridge/walbridge/internal/catalog"
)

// pattern matches qualified table names.
type pattern struct{ schema, table string }

// parsePattern reads schema.table. The first dot is the one between them.
func parsePattern(s string) (pattern, error) {
	schema, table, ok := strings.Cut(s, ".")
	if !ok || schema == "" || table == "" {
		return pattern{}, errors.New("a pattern is schema.table, with * and ? in either half")
	}
	return pattern{schema, table}, nil
}

func parsePatterns(list []string) ([]pattern, error) {
	out := make([]pattern, 0, len(list))
	for _, s := range list {
		p, err := parsePattern(s)
		if err != nil {
			return nil, err
		}
		out = append(out, p)
	}
	return out, nil
}

func (p pattern) match(schema, table string) bool {
	return glob(p.schema, schema) && glob(p.table, table)
}

// wild reports whether the pattern can match more than one table.
func (p pattern) wild() bool { return strings.ContainsAny(p.schema+p.table, "*?") }

// glob reports whether s matches p, in which * is any run of characters and ? any
// one. It goes back only to the last *, so it takes len(p) × len(s) steps at most.
func glob(p, s string) bool {
	pattern, text := []rune(p), []rune(s)
	i, j := 0, 0
	star, mark := -1, 0 // the last * met, and where in text its run ends for now
	for j < len(text) {
		switch {
		case i < len(pattern) && pattern[i] == '*':
			star, mark = i, j
			i++
		case i < len(pattern) && (pattern[i] == '?' || pattern[i] == text[j]):
			i++
			j++
		case star >= 0:
			mark++
			i, j = star+1, mark
		default:
			return false
		}
	}
	return strings.Trim(string(pattern[i:]), "*") == ""
}

// matches reports whether the route takes a table of that name, and whether only
// by a pattern with wildcards.
func (r *route) matches(schema, table string) (ok, wild bool) {
	wild = true
	for _, p := range r.tables {
		if p.match(schema, table) {
			ok = true
			wild = wild && p.wild()
		}
	}
	return ok && !r.excludes(schema, table), wild
}

func (r *route) excludes(schema, table string) bool {
	for _, p := range r.exclude {
		if p.match(schema, table) {
			return true
		}
	}
	return false
}

// Match returns the index of the first route that takes a table. It is safe for
// concurrent use.
func (m *Mapper) Match(schema, table string) (route int, ok bool) {
	i, _ := m.match(schema, table, "")
	return i, i >= 0
}

// MatchTable is Match for a table of the catalog: a partition is also matched by
// the name of its root, and neither name may be excluded. It is safe for concurrent
// use.
func (m *Mapper) MatchTable(t *catalog.Table) (route int, ok bool) {
	i, _ := m.match(t.Schema, t.Name, t.Root)
	return i, i >= 0
}

// Wild reports whether the table is taken, if at all, by a pattern with wildcards alone. It
// is safe for concurrent use.
func (m *Mapper) Wild(t *catalog.Table) bool {
	_, wild := m.match(t.Schema, t.Name, t.Root)
	return wild
}

// Asks reports whether somebody has to say of the rows that are in a table, if there are
// any, what becomes of them once the bridge runs: it is an outbox, which is read at the
// first start or not at all, and its route does not say that they are settled. It is safe
// for concurrent use.
func (m *Mapper) Asks(t *catalog.Table) bool {
	i, ok := m.MatchTable(t)
	return ok && m.cfg.Routes[i].Outbox != nil && m.cfg.Routes[i].Snapshot != wordNever
}

// Names are the tables that routes spell without wildcards and do not exclude, each once,
// in their order. It is safe for concurrent use.
func (m *Mapper) Names() []string {
	var names []string
	for i := range m.routes {
		for _, p := range m.routes[i].tables {
			name := p.schema + "." + p.table
			if !p.wild() && !m.routes[i].excludes(p.schema, p.table) && !slices.Contains(names, name) {
				names = append(names, name)
			}
		}
	}
	return names
}

// match finds the route of a table whose topmost partitioned table is root
// ("schema.name", empty when it is no partition). The index is -1 when there is none.
func (m *Mapper) match(schema, table, root string) (index int, wild bool) {
	rootSchema, rootTable, _ := strings.Cut(root, ".")
	for i := range m.routes {
		r := &m.routes[i]
		ok, wild := r.matches(schema, table)
		if ok && (root == "" || !r.excludes(rootSchema, rootTable)) {
			return i, wild
		}
		if root == "" || r.excludes(schema, table) {
			continue
		}
		if ok, wild = r.matches(rootSchema, rootTable); ok {
			return i, wild
		}
	}
	return -1, false
}
