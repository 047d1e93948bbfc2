package main

import (
	"fmt"
	"slices"
	"strings"

	"github.com/walbridge/walbridge/configs"
	"github.com/walbridge/walbridge/internal/catalog"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/replication"
)

// routed returns the tables that a route takes, without the bridge's own.
func routed(l configs.Loaded, tables []catalog.Table) ([]catalog.Table, error) {
	m, err := newMapper(l, mapped{})(nil, tables)
	if err != nil {
		return nil, err
	}
	var all []catalog.Table
	for i := range tables {
		t := &tables[i]
		if ownTable(l, t) {
			continue
		}
		if _, ok := m.MatchTable(t); ok {
			all = append(all, *t)
		}
	}
	return all, nil
}

// ownTable reports whether a table is one of the bridge's own, which must never be
// published: what is written there would come back as changes, for ever. The inbox
// is where applications put work, and is the exception.
func ownTable(l configs.Loaded, t *catalog.Table) bool {
	return t.Schema == ownSchema(l) && t.Name != "inbox"
}

func ownSchema(l configs.Loaded) string {
	if w := l.Config.Sink.Worktable; w != nil {
		return w.Schema
	}
	return "walbridge"
}

// preflight is everything that can be known of the source before a start.
func preflight(l configs.Loaded, src *replication.Source, srv *replication.Server, tables []catalog.Table) []fault.Problem {
	want, err := routed(l, tables)
	if err != nil {
		return []fault.Problem{{Check: "routes", Where: "routes", What: err.Error()}}
	}
	all := once(src.Check(srv, tables, want, ownSchema(l)))
	if srv.Slot != nil {
		atLaterStart(l, src, tables, all)
	}
	all = append(all, unmatchedRoutes(l, tables)...)
	all = append(all, snapshotFindings(l, srv, tables)...)
	all = append(all, publishFindings(src, srv)...)
	all = append(all, messageFindings(l, srv)...)
	return append(all, pruneFindings(l, srv, tables)...)
}

// once leaves out errors that say again what one before them has said: that a refused
// connection and the server's own numbers find the same, say.
func once(all []fault.Problem) []fault.Problem {
	var kept []fault.Problem
	for _, p := range all {
		again := slices.ContainsFunc(kept, func(k fault.Problem) bool {
			return !k.Warning && k.Check == p.Check && k.Where == p.Where && k.Fix == p.Fix
		})
		if p.Warning || !again {
			kept = append(kept, p)
		}
	}
	return kept
}

// unmatchedRoutes finds routes that take no table: nothing would ever come of them,
// without a word.
func unmatchedRoutes(l configs.Loaded, tables []catalog.Table) []fault.Problem {
	m, err := newMapper(l, mapped{})(nil, tables)
	if err != nil {
		return nil // reported by the caller
	}
	taken := make([]int, len(l.Config.Routes))
	for i := range tables {
		if route, ok := m.MatchTable(&tables[i]); ok && !ownTable(l, &tables[i]) {
			taken[route]++
		}
	}
	var all []fault.Problem
	for i, n := range taken {
		if n == 0 && len(l.Config.Routes[i].Tables) > 0 {
			all = append(all, noTable(i, l.Config.Routes[i], tables))
		}
	}
	return all
}

func noTable(i int, r mapper.Route, tables []catalog.Table) fault.Problem {
	return fault.Problem{
		Check: "route-without-table", Where: fmt.Sprintf("routes[%d].tables", i),
		What: fmt.Sprintf("no table of the source matches %s, or an earlier route takes them all", strings.Join(r.Tables, ", ")),
		Why:  "a route that takes nothing is a typing error, or a table that is not there yet",
		Fix:  "tables are written schema.table; the source has " + someNames(tables),
	}
}

func someNames(tables []catalog.Table) string {
	const most = 8
	var names []string
	for i := range tables {
		if len(names) == most {
			return strings.Join(names, ", ") + fmt.Sprintf(" and %d more", len(tables)-most)
		}
		names = append(names, tables[i].QualifiedName())
	}
	if len(names) == 0 {
		return "no tables"
	}
	return strings.Join(names, ", ")
}
