package pipeline

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/walbridge/walbridge/internal/catalog"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/replication"
	"github.com/walbridge/walbridge/snapshot"
)

// newSnapshots makes what reads rows during one session.
func (p *Pipeline) newSnapshots(m *mapper.Mapper, state snapshot.State) *snapshot.Session {
	return snapshot.NewSession(snapshot.Config{
		Bridge: p.cfg.Bridge, Connect: p.stages.Source.Connect, Publication: p.stages.Source.Publication(),
		Parallel: p.cfg.Snapshot.Parallel, RowsPerSecond: p.cfg.Snapshot.RowsPerSecond,
		ChunkBytes: int(min(1<<20, p.cfg.Batch.MaxBytes/2)), ChunkRows: p.cfg.Batch.MaxItems, MaxRow: p.cfg.Memory.MaxRow,
		Refuse: func(schema, name string) string { return m.Reads(&catalog.Table{Schema: schema, Name: name}) },
		Log:    p.log.Named("snapshot"),
	}, state)
}

// firstSnapshot is the state of a bridge that begins: the tables whose routes say
// initial are to be read.
func (p *Pipeline) firstSnapshot(ctx context.Context, srv *replication.Server) ([]byte, error) {
	tables, err := p.stages.Source.Tables(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the source's tables: %w", err)
	}
	m, err := p.stages.Mapper(srv, nil, tables)
	if err != nil {
		return nil, err
	}
	state := snapshot.New(InitialTables(m, srv, tables))
	if len(state.Tables) > 0 {
		for line := range strings.Lines(snapshot.PlanOf(state.Tables, p.cfg.Snapshot.RowsPerSecond)) {
			p.log.Info(strings.TrimSpace(line))
		}
	}
	return state.Encode()
}

// InitialTables are the tables that a first start reads, in the order of their routes
// and then of their names: those that are streamed under their own name, whose route
// says initial.
func InitialTables(m *mapper.Mapper, srv *replication.Server, tables []catalog.Table) []*snapshot.Table {
	type found struct {
		route int
		table *snapshot.Table
	}
	var all []found
	for i := range tables {
		t := &tables[i]
		where, ok := m.Initial(t)
		if !ok || !Streamed(srv, t) {
			continue
		}
		route, _ := m.MatchTable(t)
		rows, bytes := SizeOf(t, tables)
		all = append(all, found{route, &snapshot.Table{Schema: t.Schema, Name: t.Name, Where: where, Estimate: rows, Bytes: bytes}})
	}
	slices.SortStableFunc(all, func(a, b found) int {
		return cmp.Or(cmp.Compare(a.route, b.route), cmp.Compare(a.table.QualifiedName(), b.table.QualifiedName()))
	})
	var list []*snapshot.Table
	for _, f := range all {
		list = append(list, f.table)
	}
	return list
}

// Streamed reports whether a table's changes come under its own name: of a partitioned
// table and its partitions, only the one or the others do.
func Streamed(srv *replication.Server, t *catalog.Table) bool {
	return srv.Published != nil && slices.ContainsFunc(srv.Published.Tables, func(p replication.PublishedTable) bool {
		return p.Schema == t.Schema && p.Name == t.Name
	})
}

// SizeOf is what the catalog estimates, of a partitioned table that of its partitions. A
// table that was never analysed has -1 rows.
func SizeOf(t *catalog.Table, tables []catalog.Table) (rows, bytes int64) {
	if t.Kind != 'p' {
		return t.EstRows, t.Bytes
	}
	for i := range tables {
		if part := &tables[i]; part.Root == t.QualifiedName() && part.Kind != 'p' {
			rows, bytes = rows+max(0, part.EstRows), bytes+part.Bytes
		}
	}
	return rows, bytes
}

func cursorsHalt(err error) *fault.Halt {
	return &fault.Halt{
		Rule: "snapshot-state",
		What: "the destination holds a state of snapshots that cannot be read: " + err.Error(),
		Why:  "Going on without it would leave out rows that were to be read, silently.",
		Ways: []fault.Way{{Text: "Run the version of walbridge that wrote it, or a newer one.", Commands: []string{"walbridge version", "walbridge run"}}},
		Err:  err,
	}
}
