package main

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/walbridge/walbridge/configs"
	"github.com/walbridge/walbridge/internal/catalog"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/pipeline"
	"github.com/walbridge/walbridge/replication"
	"github.com/walbridge/walbridge/snapshot"
)

// snapshotFindings judges what the first start is to read. Later starts go on with
// what is stored: a right may be taken away when the reading is done.
func snapshotFindings(l configs.Loaded, srv *replication.Server, tables []catalog.Table) []fault.Problem {
	if srv.Slot != nil {
		return nil
	}
	m, err := newMapper(l, mapped{})(nil, tables)
	if err != nil {
		return nil // reported by the caller
	}
	var all []fault.Problem
	var plan []*snapshot.Table
	for i := range tables {
		t := &tables[i]
		if _, ok := m.Initial(t); !ok || ownTable(l, t) || srv.Published != nil && !pipeline.Streamed(srv, t) {
			continue
		}
		p, bad := unreadableAtStart(m, srv, t)
		if bad && srv.Published != nil {
			route, _ := m.MatchTable(t)
			p.Why = fmt.Sprintf("routes[%d].snapshot is initial, so its rows are to be read", route)
			p.Fix += fmt.Sprintf("; or exclude it from that route and give it one with snapshot: never (routes[%d])", route)
			all = append(all, p)
			continue
		}
		rows, bytes := pipeline.SizeOf(t, tables)
		plan = append(plan, &snapshot.Table{Schema: t.Schema, Name: t.Name, Estimate: rows, Bytes: bytes, Whole: len(t.IdentityColumns) == 0})
	}
	if len(plan) == 0 {
		return all
	}
	lines := strings.Split(strings.TrimSpace(snapshot.PlanOf(plan, l.Config.Snapshot.RowsPerSecond)), "\n")
	return append(all, fault.Problem{
		Check: "snapshot-plan", Where: "routes", Warning: true, What: "the first start reads " + lines[len(lines)-1],
		Why: "the slot keeps WAL from its creation on; the stream confirms it while rows are read",
		Fix: "snapshot: never in the routes whose rows nobody needs, snapshot.rows_per_second where the source must be spared",
	})
}

// unreadableAtStart says what keeps the first start from reading a table. One without a
// key it can read, at once.
func unreadableAtStart(m *mapper.Mapper, srv *replication.Server, t *catalog.Table) (fault.Problem, bool) {
	outbox := m.Outbox(t)
	p, bad := unreadRows(srv, t, outbox)
	if !bad && outbox {
		return updatesUnseen(srv, t)
	}
	return p, bad
}

// updatesUnseen finds an outbox whose rows cannot be read because a row that is updated
// before it is read would be lost without a word.
func updatesUnseen(srv *replication.Server, t *catalog.Table) (fault.Problem, bool) {
	if srv.Published == nil || srv.Published.Update {
		return fault.Problem{}, false
	}
	return fault.Problem{
		Check: "snapshot-table", Where: t.QualifiedName(),
		What: "the publication does not publish its updates, so a row that is updated before it is read would be lost",
		Fix:  "ALTER PUBLICATION " + srv.Published.Name + " SET (publish = 'insert, update, delete, truncate')",
	}, true
}

// outboxRows is a question that only the operator can answer: whether the rows of an
// outbox that is not empty were published before. An empty answer is none.
func outboxRows(ctx context.Context, l configs.Loaded, src *replication.Source, srv *replication.Server, want []catalog.Table) ([]fault.Problem, error) {
	if srv.Slot != nil {
		return nil, nil
	}
	m, err := newMapper(l, mapped{})(nil, want)
	if err != nil {
		return nil, err
	}
	var all []fault.Problem
	for i := range want {
		t := &want[i]
		at, ok := m.MatchTable(t)
		if !ok || l.Config.Routes[at].Outbox == nil || l.Config.Routes[at].Snapshot != "" || !t.Readable {
			continue
		}
		rows, oldest, err := src.Rows(ctx, t, orderOf(l.Config.Routes[at], t))
		if err != nil {
			return nil, err
		}
		if rows > 0 {
			all = append(all, fullOutbox(at, t, rows, oldest))
		}
	}
	return all, nil
}

// orderOf is the column by which the oldest row of an outbox is found; empty: none.
func orderOf(r mapper.Route, t *catalog.Table) string {
	if r.Outbox.Timestamp != "" {
		return r.Outbox.Timestamp
	}
	for _, name := range []string{"created_at", "timestamp", r.Outbox.ID} {
		if slices.ContainsFunc(t.Columns, func(c catalog.Column) bool { return c.Name == name }) {
			return name
		}
	}
	return ""
}

func fullOutbox(route int, t *catalog.Table, rows int64, oldest string) fault.Problem {
	count := fmt.Sprintf("%d rows", rows)
	if rows >= replication.MaxRows {
		count = fmt.Sprintf("%d rows or more", replication.MaxRows)
	}
	return fault.Problem{
		Check: "outbox-not-empty", Where: fmt.Sprintf("routes[%d].snapshot", route),
		What: fmt.Sprintf("the outbox %s has %s already, the oldest: %s. Were they published before?", t.QualifiedName(), count, oldest),
		Why:  "the stream has what is inserted from now on. Rows that nobody has published would never be, and publishing others again would repeat them; only you know which they are",
		Fix: "snapshot: never in that route says that they are settled, snapshot: initial makes an event of each. Where only some were published: " +
			"stop the old relay, delete the rows that it has published, and choose initial",
	}
}
