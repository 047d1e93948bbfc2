package pipeline

import (
	"bytes"
	"cmp"
	"context"
	"errors"
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
		Refuse: func(schema, name string) string {
			return m.Reads(&catalog.Table{Schema: schema, Name: name, Root: p.covered.root(schema + "." + name)})
		},
		Log: p.log.Named("snapshot"),
	}, state)
}

// beginning is what a bridge that begins does about the rows that are there.
type beginning struct {
	cursors []byte // the state of what is read beside the stream
	// whole are tables that are read before it, with reader; nil: there are none.
	whole  []*snapshot.Table
	reader *snapshot.Whole
	mapper *mapper.Mapper
	broken bool // an earlier start has delivered some of their rows
}

func (b *beginning) close(ctx context.Context) {
	if b != nil && b.reader != nil {
		b.reader.Close(ctx)
	}
}

// firstSnapshot finds what is to be read: the tables whose routes say initial. exported
// is the snapshot of what was visible where the stream begins.
func (p *Pipeline) firstSnapshot(ctx context.Context, srv *replication.Server, exported string) (*beginning, error) {
	tables, err := p.stages.Source.Tables(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the source's tables: %w", err)
	}
	types, err := p.stages.Source.Types(ctx)
	if err != nil {
		return nil, fmt.Errorf("read the source's types: %w", err)
	}
	b := &beginning{broken: p.durable.Position.Inside()}
	if b.mapper, err = p.stages.Mapper(srv, types, tables); err != nil {
		return nil, err
	}
	all := InitialTables(b.mapper, srv, tables)
	if len(all) > 0 {
		for line := range strings.Lines(snapshot.PlanOf(all, p.cfg.Snapshot.RowsPerSecond)) {
			p.log.Info(strings.TrimSpace(line))
		}
	}
	var chunked []*snapshot.Table
	for _, t := range all {
		if t.Whole {
			b.whole = append(b.whole, t)
		} else {
			chunked = append(chunked, t)
		}
	}
	state := snapshot.New(chunked)
	if err := p.freeze(ctx, exported, state.Tables); err != nil {
		return nil, err
	}
	for _, t := range b.whole {
		state.Run++
		t.Run = state.Run
	}
	if b.cursors, err = state.Encode(); err != nil || len(b.whole) == 0 {
		return b, err
	}
	conn, err := p.stages.Source.Connect(ctx)
	if err != nil {
		return nil, err
	}
	b.reader, err = snapshot.OpenWhole(ctx, conn, exported, p.stages.Source.Publication(), p.cfg.Memory.MaxRow)
	return b, err
}

// freeze notes which rows of outboxes were there before the stream: all others are in it.
func (p *Pipeline) freeze(ctx context.Context, exported string, tables []*snapshot.Table) error {
	if !slices.ContainsFunc(tables, func(t *snapshot.Table) bool { return t.Frozen != nil }) {
		return nil
	}
	conn, err := p.stages.Source.Connect(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(context.WithoutCancel(ctx)) }()
	err = snapshot.Freeze(ctx, conn, exported, tables)
	var old *snapshot.AmbiguousError
	if errors.As(err, &old) {
		return fault.Config(fault.Problem{
			Check: "snapshot-xids", Where: old.Table, What: err.Error(),
			Why: "which of its rows are in the stream is known by their transaction ids",
			Fix: "delete the rows that were published, or write the others anew: UPDATE gives a row a new id; or snapshot: never in its route",
		})
	}
	return err
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
		read := &snapshot.Table{Schema: t.Schema, Name: t.Name, Where: where, Estimate: rows, Bytes: bytes}
		if m.Outbox(t) {
			read.Frozen = &snapshot.Frozen{}
		} else {
			read.Whole = len(t.IdentityColumns) == 0
		}
		all = append(all, found{route, read})
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
// table that was never analysed has -1 rows, as one with such a partition.
func SizeOf(t *catalog.Table, tables []catalog.Table) (rows, bytes int64) {
	if t.Kind != 'p' {
		return t.EstRows, t.Bytes
	}
	known := true
	for i := range tables {
		if part := &tables[i]; part.Root == t.QualifiedName() && part.Kind != 'p' {
			rows, bytes, known = rows+part.EstRows, bytes+part.Bytes, known && part.EstRows >= 0
		}
	}
	if !known {
		rows = -1
	}
	return rows, bytes
}

// setCursors takes note of the state of snapshots that is durable.
func (p *Pipeline) setCursors(text []byte) {
	if before := p.cursors.Load(); before == nil || !bytes.Equal(*before, text) {
		p.cursors.Store(&text)
	}
}

// unread are the outboxes, schema.table, of which rows are still to be read: by what is
// durable, since what is not may have to be read again.
func (p *Pipeline) unread() (map[string]bool, error) {
	state, err := snapshot.Decode(*p.cursors.Load())
	if err != nil {
		return nil, err
	}
	names := map[string]bool{}
	for _, t := range state.Tables {
		if t.Frozen != nil {
			names[t.QualifiedName()] = true
		}
	}
	return names, nil
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
