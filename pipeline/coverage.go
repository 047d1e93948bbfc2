package pipeline

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/walbridge/walbridge/internal/catalog"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pause"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/replication"
)

// coverage is what the last comparison of routes, publication and tables has found. It
// outlives sessions, so that a warning is logged once and not after each reconnect.
type coverage struct {
	log hclog.Logger

	mu    sync.Mutex // guards what follows
	found *replication.Coverage
	roots map[string]string   // of partitions, by name
	tried map[string]addition // attempts to publish that failed, by the table's name
	told  map[string]struct{} // what was logged and is still so
	blind bool                // the last comparison failed
}

// addition is an attempt to publish a table that failed.
type addition struct {
	at  time.Time
	why string
}

// set takes a comparison in.
func (c *coverage) set(found *replication.Coverage, tables []replication.CoveredTable) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.found, c.blind = found, false
	c.roots = make(map[string]string)
	for i := range tables {
		if t := &tables[i]; t.Root != "" {
			c.roots[t.QualifiedName()] = t.Root
		}
	}
	tried := make(map[string]addition)
	for i := range found.Additions {
		name := found.Additions[i].Table.QualifiedName()
		if a, ok := c.tried[name]; ok {
			tried[name] = a
		}
	}
	c.tried = tried
	c.tell()
}

// tell logs what is new, and what is no longer so. A table that is about to be published
// is a matter of the attempt. The caller holds mu.
func (c *coverage) tell() {
	attempted := make(map[string]struct{})
	for i := range c.found.Additions {
		attempted[c.found.Additions[i].Table.QualifiedName()] = struct{}{}
	}
	now := make(map[string]struct{})
	for _, p := range c.found.Problems {
		if _, skip := attempted[p.Where]; skip && p.Check == "not-published" {
			continue
		}
		key := p.Check + " " + p.Where
		now[key] = struct{}{}
		if _, again := c.told[key]; !again {
			c.log.Warn("coverage", "check", p.Check, "where", p.Where, "what", p.What, "fix", p.Fix)
		}
	}
	for _, key := range slices.Sorted(maps.Keys(c.told)) {
		if _, still := now[key]; !still {
			c.log.Info("coverage: no longer so", "what", key)
		}
	}
	c.told = now
}

// failed takes note of a comparison that could not be made. What the last one has found
// stays.
func (c *coverage) failed(err error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !c.blind {
		c.log.Warn("the routes could not be compared with the publication; trying again", "error", err)
	}
	c.blind = true
}

// refused takes note of a table that could not be published.
func (c *coverage) refused(table string, err error, now time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if _, again := c.tried[table]; !again {
		c.log.Warn("a table could not be published; trying again at the next comparison", "table", table, "error", err)
	}
	c.tried[table] = addition{now, err.Error()}
}

// triedAt is when the last attempt to publish a table failed; zero: there was none.
func (c *coverage) triedAt(table string) time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.tried[table].at
}

// forget is for a process that is the owner no more.
func (c *coverage) forget() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.found, c.roots, c.tried, c.told, c.blind = nil, nil, nil, nil, false
}

// root is the topmost table above a partition, by what was seen last.
func (c *coverage) root(table string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.roots[table]
}

// additions are the tables to be published.
func (c *coverage) additions() []replication.Addition {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.found == nil {
		return nil
	}
	return c.found.Additions
}

// status returns the counts, nil when they are not known, the warnings, and why the
// bridge is not ready.
func (c *coverage) status() (counts *status.Tables, warnings []fault.Problem, notReady string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	f := c.found
	if f == nil {
		return nil, nil, ""
	}
	for _, p := range f.Problems {
		if a, ok := c.tried[p.Where]; ok && p.Check == "not-published" {
			p.Why = "the last attempt to add it failed: " + a.why
		}
		warnings = append(warnings, p)
	}
	return &status.Tables{Published: f.Published, Unpublished: f.Unpublished, Unrouted: f.Unrouted, NoIdentity: f.NoIdentity, Vanished: f.Vanished}, warnings, f.NotReady
}

// look compares the routes with the publication and the tables.
func (p *Pipeline) look(ctx context.Context, m *mapper.Mapper) {
	c, err := p.stages.Source.Covered(ctx)
	if err != nil {
		if ctx.Err() == nil {
			p.covered.failed(err)
		}
		return
	}
	p.covered.set(p.stages.Source.Cover(c, m.Names(), func(t *catalog.Table) replication.Routed {
		if p.stages.Own != nil && p.stages.Own(t) {
			return replication.Routed{}
		}
		_, taken := m.MatchTable(t)
		_, read := m.Initial(t)
		return replication.Routed{Taken: taken, Wild: taken && m.Wild(t), Read: read && !m.Outbox(t), Asks: m.Asks(t)}
	}), c.Tables)
}

// lookRest is the least time between two comparisons, however many tables are new.
const lookRest = time.Second

// cover looks again and again, until ctx ends, and publishes what may be. The session has
// looked once when it begins.
func (s *session) cover(ctx context.Context) {
	every := time.NewTicker(s.p.stages.Source.CoverageInterval())
	defer every.Stop()
	for {
		if s.publish(ctx) > 0 {
			s.p.look(ctx, s.chain.mapper)
		}
		if pause.For(ctx, lookRest) != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-every.C:
		case <-s.newTable:
		}
		s.p.look(ctx, s.chain.mapper)
	}
}
