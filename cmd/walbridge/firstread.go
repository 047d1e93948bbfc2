package main

import (
	"strings"

	"github.com/walbridge/walbridge/configs"
	"github.com/walbridge/walbridge/internal/catalog"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/pipeline"
	"github.com/walbridge/walbridge/replication"
	"github.com/walbridge/walbridge/snapshot"
)

// firstRead are the tables that the first start reads: of those that are published, or
// will be by `walbridge setup` where nothing is yet.
func firstRead(l configs.Loaded, m *mapper.Mapper, srv *replication.Server, tables []catalog.Table) []*catalog.Table {
	byRoot := map[string]bool{}
	var all []*catalog.Table
	for i := range tables {
		if t := &tables[i]; t.Kind == 'p' {
			_, byRoot[t.QualifiedName()] = m.MatchTable(t)
		}
	}
	for i := range tables {
		t := &tables[i]
		if _, ok := m.Initial(t); !ok || ownTable(l, t) {
			continue
		}
		if srv.Published != nil && pipeline.Streamed(srv, t) || srv.Published == nil && !t.Unlogged && !byRoot[t.Root] {
			all = append(all, t)
		}
	}
	return all
}

// planned is what the catalog says of tables that are to be read.
func planned(m *mapper.Mapper, first []*catalog.Table, tables []catalog.Table) []*snapshot.Table {
	var plan []*snapshot.Table
	for _, t := range first {
		rows, bytes := pipeline.SizeOf(t, tables)
		plan = append(plan, &snapshot.Table{Schema: t.Schema, Name: t.Name, Estimate: rows, Bytes: bytes, Whole: !m.Outbox(t) && len(t.IdentityColumns) == 0})
	}
	return plan
}

// firstPlan says in a line how much the first start reads; empty: nothing, or the first
// start is over.
func firstPlan(l configs.Loaded, srv *replication.Server, tables []catalog.Table) string {
	m, err := newMapper(l, mapped{})(nil, tables)
	if err != nil || srv.Slot != nil {
		return ""
	}
	plan := planned(m, firstRead(l, m, srv, tables), tables)
	if len(plan) == 0 {
		return ""
	}
	lines := strings.Split(strings.TrimSpace(snapshot.PlanOf(plan, l.Config.Snapshot.RowsPerSecond)), "\n")
	return lines[len(lines)-1]
}

// planFindings tells an operator of it before it begins.
func planFindings(l configs.Loaded, srv *replication.Server, tables []catalog.Table) []fault.Problem {
	plan := firstPlan(l, srv, tables)
	if plan == "" {
		return nil
	}
	return []fault.Problem{{
		Check: "snapshot-plan", Where: "routes", Warning: true, What: "the first start reads " + plan,
		Why: "the slot keeps WAL from its creation on; the stream confirms it while rows are read",
		Fix: "snapshot: never in the routes whose rows nobody needs, snapshot.rows_per_second where the source must be spared",
	}}
}
