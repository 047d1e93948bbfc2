package mapper

import (
	"slices"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/internal/fault"
)

// recordPlan is how the changes of one description of a table become records.
// Immutable.
type recordPlan struct {
	route  *route
	stream string
	// columns are those that leave, in the order of the tuples.
	columns []recordColumn
	// key is the table's key in the order of the tuples; empty: it has none.
	key []keyPart
	// perKey: items are ordered by the key. Otherwise all have the table's name as key.
	perKey   bool
	table    []byte // schema.table
	keyHead  []byte // schema.table:
	heads    [decoder.OpRead + 1][]byte
	row      bool          // envelope row
	debezium *debeziumPlan // envelope debezium; nil: another
	withheld []policy      // by column of the tuples, for dead letters; nil: all leave
}

// recordColumn is a column that leaves.
type recordColumn struct {
	index   int
	name    string
	label   []byte // ,"name":
	codec   *codec
	mask    *mask // nil: the value itself leaves
	wireKey bool  // part of the replica identity: in the tuples that are keys
}

// keyPart is a column of the key.
type keyPart struct {
	index int
	codec *codec // of Item.Key, the same whatever the route's settings
}

// policy is what a dead letter keeps of a column.
type policy uint8

const (
	policyKeep policy = iota
	policyMask
	policyDrop
)

// planRecord makes the plan, or the halt that stands in its way.
func (m *Mapper) planRecord(rt *route, rel *decoder.Relation) (*recordPlan, *fault.Halt) {
	name := qualified(rel)
	p := &recordPlan{
		route: rt, table: []byte(name), keyHead: []byte(name + ":"), row: rt.changes.Envelope == envelopeRow,
		stream: rt.streamOf(m.env.Bridge, rel.Namespace, rel.Name),
	}
	keys := m.keyColumns(rel)
	p.perKey = len(keys) > 0 && rt.changes.Order == orderKey
	for i := range rel.Columns {
		p.addColumn(m, rel, i)
	}
	for _, i := range keys {
		if p.perKey && p.withheld != nil && p.withheld[i] != policyKeep {
			return nil, keyHalt(rt, rel, rel.Columns[i].Name)
		}
		p.key = append(p.key, keyPart{i, keyColumn(&rel.Columns[i])})
	}
	p.makeHeads(rel)
	if rt.changes.Envelope == envelopeDebezium {
		m.planDebezium(p, rel, keys)
		p.perKey = len(keys) > 0
	}
	return p, nil
}

// addColumn decides about the i-th column of the relation.
func (p *recordPlan) addColumn(m *Mapper, rel *decoder.Relation, i int) {
	col := &rel.Columns[i]
	what := p.route.policy(col.Name)
	if what != policyKeep && p.withheld == nil {
		p.withheld = make([]policy, len(rel.Columns))
	}
	if p.withheld != nil {
		p.withheld[i] = what
	}
	if what == policyDrop {
		return
	}
	c := recordColumn{index: i, name: col.Name, label: label(col.Name), wireKey: col.Key}
	c.codec = m.codecs.column(col, p.route.numbers())
	if what == policyMask {
		c.mask = p.route.mask
	}
	p.columns = append(p.columns, c)
}

// policy says what becomes of a column by the route's lists.
func (r *route) policy(column string) policy {
	if r.columns == nil {
		return policyKeep
	}
	if _, masked := r.columns.Mask[column]; masked {
		return policyMask
	}
	if slices.Contains(r.columns.Exclude, column) || len(r.columns.Include) > 0 && !slices.Contains(r.columns.Include, column) {
		return policyDrop
	}
	return policyKeep
}

// numbers is the route's number format.
func (r *route) numbers() numberFormat {
	nf := defaultNumbers()
	nf.debezium = r.changes.Envelope == envelopeDebezium
	switch r.changes.Numeric {
	case numericString:
		nf.numeric = formNumericText
	case numericNumber:
		nf.numeric = formNumericAny
	}
	if r.changes.Int64 == int64String {
		nf.int8 = formText
	}
	return nf
}

// keyColumns returns the columns that key the rows of a relation, in the order of
// the tuples: what the stream marks, but with REPLICA IDENTITY FULL, where it marks
// all, what the catalog says. A column of the catalog that the relation lacks means
// that the two are of different times, and then there is no key.
func (m *Mapper) keyColumns(rel *decoder.Relation) []int {
	var keys []int
	if rel.Identity != decoder.IdentityFull {
		for i := range rel.Columns {
			if rel.Columns[i].Key {
				keys = append(keys, i)
			}
		}
		return keys
	}
	for _, name := range m.tables.key(rel) {
		i := columnIndex(rel, name)
		if i < 0 {
			return nil
		}
		keys = append(keys, i)
	}
	slices.Sort(keys)
	return keys
}

// makeHeads writes what every record of an operation begins with.
func (p *recordPlan) makeHeads(rel *decoder.Relation) {
	for op := decoder.OpInsert; op <= decoder.OpRead; op++ {
		h := append([]byte(`{"op":"`), op.String()...)
		h = appendString(append(h, `","schema":`...), []byte(rel.Namespace))
		h = appendString(append(h, `,"table":`...), []byte(rel.Name))
		p.heads[op] = append(h, `,"key":`...)
	}
}
