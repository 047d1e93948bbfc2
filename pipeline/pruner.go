package pipeline

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/walbridge/walbridge/internal/catalog"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/pause"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/replication"
)

const (
	// pruneTables is how often the source's tables are read: partitions come and go.
	pruneTables = 10 * time.Minute
	// pruneBehind is how much WAL the bridge may be behind for it to make more.
	pruneBehind = 32 << 20
	// pruneRest is how often longer than a pass over a table the rest after it is.
	pruneRest = 9
	// pruneAgain is how long a table is left alone after an error.
	pruneAgain = 10 * time.Minute
)

// The pages that one statement looks at: more while statements are quick.
const (
	prunePages    = 64
	pruneMinPages = 16
	pruneMaxPages = 4096
	pruneSlow     = 500 * time.Millisecond
	pruneQuick    = 50 * time.Millisecond
)

// pruner deletes rows of outboxes that are proven to be relayed, for as long as a
// replication session lasts: so never during a halt, and never by a standby. It keeps
// out of the way: small transactions, rows that are locked are left, a rest after each
// of them and after each pass, and none while the bridge is behind. An outbox whose rows
// of before the stream are being read is left alone: they are not relayed yet.
type pruner struct {
	source pruneSource
	mapper *mapper.Mapper
	log    hclog.Logger
	// place is the session's: LSNs of another say nothing about what is confirmed.
	place     replication.Place
	confirmed func() lsn.LSN
	// calm reports that the bridge is not behind and has no trouble.
	calm    func() bool
	deleted func(table string, rows int64)
	// unread are the outboxes of which rows are still to be read.
	unread func() (map[string]bool, error)
	every  time.Duration
	now    func() time.Time

	known   *horizons // outlives the session
	pending pending
	tables  []mapper.Pruned
	looked  time.Time // when tables was read
	due     map[uint32]pruneState
}

// pruneState is what is known of a table between passes.
type pruneState struct {
	next time.Time
	// done is the old horizon of the last pass that went over the whole table: without a
	// column for the age the same one finds nothing.
	done replication.Horizon
}

// pruneSource is what a pruner needs of replication.Source.
type pruneSource interface {
	Horizon(ctx context.Context) (replication.Horizon, error)
	Tables(ctx context.Context) ([]catalog.Table, error)
	Pruner(ctx context.Context) (*replication.Pruner, error)
}

// newPruner returns nil when no route prunes.
func (s *session) newPruner(srv *replication.Server, tables []catalog.Table) *pruner {
	p := s.p
	span := s.chain.mapper.MaxPrune()
	if span == 0 {
		return nil
	}
	p.horizons.span = span
	pr := &pruner{
		source: p.stages.Source, mapper: s.chain.mapper, log: p.log.Named("prune"), place: replication.Place{SystemID: srv.SystemID, Timeline: srv.Timeline},
		confirmed: p.pos.Confirmed, calm: s.calm, every: p.cfg.PruneEvery, now: time.Now, known: &p.horizons, due: make(map[uint32]pruneState),
		unread:  p.unread,
		deleted: func(table string, rows int64) { p.metrics.pruned.WithLabelValues(table).Add(float64(rows)) },
	}
	pr.setTables(tables)
	return pr
}

// run prunes until ctx ends.
func (p *pruner) run(ctx context.Context) {
	for {
		if err := p.round(ctx); err != nil && ctx.Err() == nil {
			p.log.Warn("pruning outboxes; trying again", "error", err, "in", p.every)
		}
		if pause.For(ctx, p.every) != nil {
			return
		}
	}
}

// round takes a horizon, and goes over the tables that are due.
func (p *pruner) round(ctx context.Context) error {
	h, err := p.source.Horizon(ctx)
	if err != nil {
		return err
	}
	if h.Place != p.place {
		return fmt.Errorf("SQL reaches a server of cluster %d on timeline %d, the stream comes from cluster %d on timeline %d", h.SystemID, h.Timeline, p.place.SystemID, p.place.Timeline)
	}
	p.pending.add(horizonAt{h, p.now()})
	p.pending.confirmed(p.confirmed(), p.known)
	if p.now().Sub(p.looked) >= pruneTables {
		tables, err := p.source.Tables(ctx)
		if err != nil {
			return err
		}
		p.setTables(tables)
	}
	unread, err := p.unread()
	if err != nil {
		return err
	}
	for i := range p.tables {
		if t := p.tables[i].Table; !unread[t.QualifiedName()] && !unread[t.Root] {
			p.table(ctx, &p.tables[i])
		}
	}
	return nil
}

func (p *pruner) setTables(tables []catalog.Table) {
	p.tables, p.looked = p.mapper.Prunes(tables), p.now()
}

// table goes over one table, if there may be something to delete.
func (p *pruner) table(ctx context.Context, t *mapper.Pruned) {
	state, now := p.due[t.Table.OID], p.now()
	relayed, old := p.known.newest(p.place, now.Add(-t.Age))
	if t.Column == "" {
		relayed = old
	}
	if now.Before(state.next) || relayed == (replication.Horizon{}) || t.Column == "" && old == state.done {
		return
	}
	pass := prunePass{pruner: p, what: replication.Prunable{
		Table: t.Table, Relayed: relayed, Old: old, Column: t.Column, Zoned: t.Zoned, Age: t.Age,
	}}
	whole, err := pass.run(ctx)
	if pass.rows > 0 {
		p.log.Info("deleted relayed rows", "table", t.Table.QualifiedName(), "rows", pass.rows)
	}
	state.next = p.now().Add(pruneRest * pass.took)
	switch {
	case err != nil && ctx.Err() == nil:
		state.next = p.now().Add(pruneAgain)
		p.log.Warn("relayed rows are not deleted", "table", t.Table.QualifiedName(), "error", err, "trying again in", pruneAgain)
	case whole:
		state.done = old
	}
	p.due[t.Table.OID] = state
}

// prunePass is one way through a table.
type prunePass struct {
	*pruner
	what replication.Prunable
	rows int64
	took time.Duration // by the server
}

// run reports whether it has seen the whole table.
func (p *prunePass) run(ctx context.Context) (whole bool, err error) {
	conn, err := p.source.Pruner(ctx)
	if err != nil {
		return false, err
	}
	defer conn.Close()
	if why, err := conn.Refused(ctx, p.what.Table); err != nil || why != "" {
		return false, cmp.Or(err, errors.New(why))
	}
	end, err := conn.Pages(ctx, p.what.Table)
	if err != nil {
		return false, err
	}
	whole = true
	pages := int64(prunePages)
	for first := int64(0); first < end; {
		if !p.calm() {
			return false, nil
		}
		began := time.Now()
		rows, err := conn.Delete(ctx, p.what, first, pages)
		took := time.Since(began)
		p.took += took
		switch {
		case errors.Is(err, replication.ErrPruneBusy):
			whole = false
		case err != nil:
			return false, err
		}
		p.rows += rows
		p.deleted(p.what.Table.QualifiedName(), rows)
		if rows < replication.MaxPruned {
			first += pages
		}
		pages = nextPages(pages, took)
		if err := pause.For(ctx, took); err != nil {
			return false, err
		}
	}
	return whole, nil
}

// nextPages is how many pages the next statement looks at.
func nextPages(pages int64, took time.Duration) int64 {
	switch {
	case took > pruneSlow:
		return max(pages/2, pruneMinPages)
	case took < pruneQuick:
		return min(pages*2, pruneMaxPages)
	}
	return pages
}
