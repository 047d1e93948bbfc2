package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/walbridge/walbridge/configs"
	"github.com/walbridge/walbridge/internal/catalog"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/replication"
	"github.com/walbridge/walbridge/snapshot"
)

// snapshotFindings are what stands in the way of what the first start is to read. Later
// starts go on with what is stored: a right may be taken away when the reading is done.
func snapshotFindings(l configs.Loaded, srv *replication.Server, tables []catalog.Table) []fault.Problem {
	m, err := newMapper(l, mapped{})(nil, tables)
	if err != nil || srv.Slot != nil {
		return nil // the error is reported by the caller
	}
	var all []fault.Problem
	first := firstRead(l, m, srv, tables)
	denied := map[int][]*catalog.Table{} // by route
	for _, t := range first {
		route, _ := m.MatchTable(t)
		if !t.Readable {
			denied[route] = append(denied[route], t)
		}
		if p, bad := unreadableAtStart(m, srv, t); bad {
			all = append(all, initially(route, p))
		}
	}
	for _, route := range slices.Sorted(maps.Keys(denied)) {
		all = append(all, initially(route, noRight(srv, denied[route]...)))
	}
	state := snapshot.New(planned(m, first, tables))
	if _, err := state.Encode(); errors.Is(err, snapshot.ErrTooMany) {
		all = append(all, tooMany(len(first)))
	}
	return all
}

// initially adds why rows are to be read, and that they need not be.
func initially(route int, p fault.Problem) fault.Problem {
	p.Why = fmt.Sprintf("routes[%d].snapshot is initial (the default of changes), so the first start reads the rows that are there", route)
	p.Fix += fmt.Sprintf("; or snapshot: never in routes[%[1]d], which reads none, or in a route of its own before routes[%[1]d]", route)
	return p
}

// noRight says that the role may not read tables, with all GRANTs in one piece.
func noRight(srv *replication.Server, tables ...*catalog.Table) fault.Problem {
	var names []string
	for _, t := range tables {
		names = append(names, t.QualifiedName())
	}
	grants := strings.TrimSuffix(replication.ReadGrantSQL(tables, srv.Role.Name), ";\n")
	return fault.Problem{Check: "snapshot-rights", Where: strings.Join(names, ", "), What: "the role " + srv.Role.Name + " may not read the rows", Fix: strings.ReplaceAll(grants, "\n", " ")}
}

// unreadableAtStart says what else than a right keeps the first start from reading a
// table. One without a key it reads whole, but for an outbox.
func unreadableAtStart(m *mapper.Mapper, srv *replication.Server, t *catalog.Table) (fault.Problem, bool) {
	outbox := m.Outbox(t)
	switch {
	case outbox && len(t.IdentityColumns) == 0:
		return noKey(t), true
	case outbox && srv.Published != nil && !srv.Published.Update:
		return updatesUnseen(srv, t), true
	}
	return hidden(srv, t)
}

func noKey(t *catalog.Table) fault.Problem {
	return fault.Problem{Check: "snapshot-table", Where: t.QualifiedName(), What: "it has no key by which it could be read in chunks", Fix: "give it a primary key"}
}

// hidden finds a table whose rows a policy may hide.
func hidden(srv *replication.Server, t *catalog.Table) (fault.Problem, bool) {
	return fault.Problem{
		Check: "snapshot-table", Where: t.QualifiedName(),
		What: "row security would hide rows of it from the role " + srv.Role.Name, Fix: "ALTER ROLE " + strconv.Quote(srv.Role.Name) + " BYPASSRLS, as a superuser",
	}, t.RowSecurity
}

// tooMany is a plan that no destination can remember.
func tooMany(tables int) fault.Problem {
	return fault.Problem{
		Check: "snapshot-tables", Where: "routes", What: fmt.Sprintf("the first start would read %d tables, which are too many to be remembered at once", tables),
		Why: fmt.Sprintf("what is left to read is stored with the position, in at most %d KiB", snapshot.MaxState>>10),
		Fix: "snapshot: never in some of the routes, and `walbridge snapshot --tables …` for theirs when the others are done",
	}
}

// updatesUnseen is of an outbox that cannot be read because a row that is updated
// before it is read would be lost without a word.
func updatesUnseen(srv *replication.Server, t *catalog.Table) fault.Problem {
	return fault.Problem{
		Check: "snapshot-table", Where: t.QualifiedName(),
		What: "the publication does not publish its updates, so a row that is updated before it is read would be lost",
		Fix:  "ALTER PUBLICATION " + srv.Published.Name + " SET (publish = 'insert, update, delete, truncate')",
	}
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
