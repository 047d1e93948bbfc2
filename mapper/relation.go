package mapper

import (
	"fmt"
	"slices"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/internal/fault"
)

// route is a compiled Route. Immutable but for the state of its mask.
type route struct {
	index           int
	tables, exclude []pattern
	stream          template // none for an inbox
	outbox          *Outbox
	inbox           bool
	changes         *Changes
	columns         *Columns
	extras          []extra
	mask            *mask // nil: nothing is masked
}

// key returns the route's place in the file, for messages.
func (r *route) key() string { return fmt.Sprintf("routes[%d]", r.index) }

// relation is what a route means for one description of a table. Immutable.
type relation struct {
	rel     *decoder.Relation
	learned int // Mapper.learned when it was made
	// At most one of these is set; none: no route takes the table.
	event  *eventPlan
	record *recordPlan
	halt   *fault.Halt // the table cannot be mapped as the route says

	unknown Unknown  // what should be asked for
	lacks   bool     // it has types that are asked for next, when unknown is the table
	named   []string // columns that the route names and that the table has, or once had
}

// relation returns the plan for a relation, made when it is met for the first
// time or the types are new. One plan is kept per OID, so that the memory is
// bounded by the number of tables, however often they change.
func (m *Mapper) relation(rel *decoder.Relation) *relation {
	if m.latest != nil && m.latest.rel == rel {
		return m.latest
	}
	r := m.relations[rel.OID]
	if r == nil || r.rel != rel || r.learned != m.learned {
		r = m.resolve(rel, r)
		m.relations[rel.OID] = r
	}
	m.latest = r
	return r
}

// resolve finds the route of a relation and what it means for it. before is the
// plan for the table's previous description, if there was one.
func (m *Mapper) resolve(rel *decoder.Relation, before *relation) *relation {
	r := &relation{rel: rel, learned: m.learned}
	index, wild := m.match(rel.Namespace, rel.Name, m.tables.of(rel).root)
	if m.tables.ask(rel.OID, index >= 0) {
		r.unknown = UnknownTable
	}
	if index < 0 {
		return r
	}
	m.codecs.stale = false
	rt := &m.routes[index]
	if rt.changes == nil {
		r.event = m.planEvent(rt, rel)
		r.lacksTypes(m, before)
		return r
	}
	var once []string
	if before != nil {
		once = before.named
	}
	if r.named, r.halt = namedColumns(rt, rel, wild, once); r.halt != nil {
		return r
	}
	if r.record, r.halt = m.planRecord(rt, rel); r.halt != nil {
		r.record = nil
	}
	r.lacksTypes(m, before)
	return r
}

// lacksTypes notes that the plan had to do without types that the set lacks. They miss
// only once, so that a plan whose table was asked for first hands it on.
func (r *relation) lacksTypes(m *Mapper, before *relation) {
	lacks := m.codecs.stale || before != nil && before.lacks
	switch {
	case r.unknown == UnknownTable:
		r.lacks = lacks
	case lacks:
		r.unknown = UnknownTypes
	}
}

func qualified(rel *decoder.Relation) string { return rel.Namespace + "." + rel.Name }

// columnIndex returns where a column is in the tuples, -1 when there is none.
func columnIndex(rel *decoder.Relation, name string) int {
	for i := range rel.Columns {
		if rel.Columns[i].Name == name {
			return i
		}
	}
	return -1
}

// namedColumns returns the columns of the route's lists that the table has or, in
// once, had. One that it lacks is a halt, unless the route matched by a wildcard
// and the table was never seen with it: a column renamed from password to secret
// must not leave because the list still says password.
func namedColumns(rt *route, rel *decoder.Relation, wild bool, once []string) ([]string, *fault.Halt) {
	if rt.columns == nil {
		return nil, nil
	}
	var all, named []string
	all = append(append(all, rt.columns.Include...), rt.columns.Exclude...)
	for name := range rt.columns.Mask {
		all = append(all, name)
	}
	for _, name := range all {
		if columnIndex(rel, name) >= 0 {
			named = append(named, name)
			continue
		}
		if !wild || slices.Contains(once, name) {
			return once, columnHalt(rt, rel, name)
		}
	}
	return named, nil
}
