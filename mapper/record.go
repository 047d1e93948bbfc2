package mapper

import (
	"bytes"
	"unicode/utf8"

	"github.com/walbridge/walbridge/decoder"
)

// mapRecord makes the records of a change.
func (m *Mapper) mapRecord(c *decoder.Change, r *relation) ([]Item, error) {
	p := r.record
	if c.Op == decoder.OpTruncate {
		return m.mapTruncate(c, p)
	}
	if c.CutSize > 0 {
		return m.deadLetter(c, r, cutRefusal(c))
	}
	if bad := p.check(c); bad != nil {
		return m.deadLetter(c, r, bad)
	}
	if p.debezium != nil {
		m.mapDebezium(c, p)
		return m.items, nil
	}
	if p.keyChanged(c) {
		m.keyChange(c, p)
		return m.items, nil
	}
	rec := &m.records[0]
	*rec = recordPayload{m: m, plan: p, c: c, op: c.Op, after: c.New, before: c.Old}
	rec.key = c.New
	if c.Op == decoder.OpDelete {
		rec.key = c.Old
	}
	m.record(rec, 0)
	return m.items, nil
}

// keyChange makes the two records of an update that changed the key: in the lane
// of the old key the row goes, in that of the new one it comes.
func (m *Mapper) keyChange(c *decoder.Change, p *recordPlan) {
	del, ins := &m.records[0], &m.records[1]
	*del = recordPayload{m: m, plan: p, c: c, op: decoder.OpDelete, before: c.Old, key: c.Old, otherKey: c.New}
	*ins = recordPayload{m: m, plan: p, c: c, op: decoder.OpInsert, after: c.New, key: c.New, otherKey: c.Old}
	m.record(del, 0)
	m.record(ins, 1)
}

// record adds the item of a record.
func (m *Mapper) record(rec *recordPayload, sub uint16) {
	p := rec.plan
	it := m.item(rec.c, KindRecord, sub)
	it.Stream = p.stream
	it.Type = opNames[rec.op]
	it.Key = p.table
	if p.perKey {
		it.Key = m.recordKey(rec)
	}
	switch {
	case rec.c.Read == nil || len(p.key) == 0:
		it.EventID = m.recordID(it)
	case p.perKey:
		it.EventID = m.readID(rec, it.Key)
	default:
		it.EventID = m.readID(rec, m.recordKey(rec))
	}
	it.Payload = rec
	if p.row {
		m.rowItem(it, rec)
	}
}

// rowItem is what the envelope row makes different: no value for a delete, and a
// header that names the columns whose values did not come, since the row has no
// place for it.
func (m *Mapper) rowItem(it *Item, rec *recordPayload) {
	if rec.after == nil {
		it.Payload = nil
		return
	}
	start := len(m.arena)
	list, any := rec.appendUnchanged(m.arena)
	m.arena = list
	if !any {
		return
	}
	names := m.kept(start)
	start = len(m.arena)
	m.arena = append(m.arena, `{"unchanged":`...)
	m.arena = appendString(m.arena, names)
	m.arena = append(m.arena, '}')
	it.Headers = m.kept(start)
}

// recordKey returns schema.table:["key",…].
func (m *Mapper) recordKey(rec *recordPayload) []byte {
	start := len(m.arena)
	m.arena = append(m.arena, rec.plan.keyHead...)
	for i, k := range rec.plan.key {
		sep := byte(',')
		if i == 0 {
			sep = '['
		}
		m.arena = append(m.arena, sep)
		v := rec.keyValue(rec.key, k.index)
		if v.Kind == decoder.ValueNull {
			m.arena = append(m.arena, "null"...)
			continue
		}
		m.arena = m.enc.value(m.arena, k.codec, v.Data)
	}
	m.arena = append(m.arena, ']')
	return m.kept(start)
}

// mapTruncate tells every lane that the table's rows are gone.
func (m *Mapper) mapTruncate(c *decoder.Change, p *recordPlan) ([]Item, error) {
	switch p.route.changes.Truncate {
	case truncateIgnore:
		m.counts.truncates.Add(1)
		return nil, nil
	case wordHalt:
		return nil, truncateHalt(p.route, c)
	}
	rec := &m.records[0]
	*rec = recordPayload{m: m, plan: p, c: c, op: c.Op}
	it := m.item(c, KindRecord, 0)
	it.Stream, it.Key, it.Type, it.AllLanes = p.stream, p.table, opNames[c.Op], true
	it.EventID = m.recordID(it)
	if !p.row {
		it.Payload = rec
	}
	if p.debezium != nil {
		it.Key, it.AllLanes = nil, false // one record, without a key
	}
	return m.items, nil
}

// keyChanged reports whether an update gave the row another key.
func (p *recordPlan) keyChanged(c *decoder.Change) bool {
	if c.Op != decoder.OpUpdate || c.Old == nil {
		return false
	}
	for _, k := range p.key {
		o, n := &c.Old[k.index], &c.New[k.index]
		if n.Kind == decoder.ValueUnchanged {
			continue // the old tuple comes for a key that is stored out of line, too
		}
		if o.Kind != n.Kind || !bytes.Equal(o.Data, n.Data) {
			return true
		}
	}
	return false
}

// check finds what keeps a change from becoming a record, nil when nothing does.
func (p *recordPlan) check(c *decoder.Change) *refusal {
	if bad := checkTuples(c); bad != nil {
		return bad
	}
	for i := range p.columns {
		col := &p.columns[i]
		if c.New != nil {
			if bad := col.check(&c.New[col.index]); bad != nil {
				return bad
			}
		}
		if c.Old != nil && (col.wireKey || !c.OldIsKey) {
			if bad := col.check(&c.Old[col.index]); bad != nil {
				return bad
			}
		}
	}
	return p.checkKey(c)
}

// checkTuples checks that a change has the tuples that its operation must have.
func checkTuples(c *decoder.Change) *refusal {
	columns := len(c.Relation.Columns)
	needNew := c.Op == decoder.OpInsert || c.Op == decoder.OpUpdate || c.Op == decoder.OpRead
	needOld := c.Op == decoder.OpDelete
	if !needNew && !needOld {
		return refuse(ReasonMalformedChange, "%s is no operation on a row", c.Op)
	}
	if needNew != (c.New != nil) || needOld && c.Old == nil ||
		c.New != nil && len(c.New) != columns || c.Old != nil && len(c.Old) != columns {
		return refuse(ReasonMalformedChange, "%s has tuples of %d and %d values, the table has %d columns", c.Op, len(c.New), len(c.Old), columns)
	}
	return nil
}

func (col *recordColumn) check(v *decoder.Value) *refusal {
	switch v.Kind {
	case decoder.ValueText:
		if col.codec.form == formText || col.codec.form >= formJSON {
			if col.mask == nil && !utf8.Valid(v.Data) {
				return refuse(ReasonInvalidUTF8, "column %q is not valid UTF-8", col.name)
			}
		}
		return nil
	case decoder.ValueNull, decoder.ValueUnchanged:
		return nil
	case decoder.ValueBinary:
		return refuse(ReasonBinaryValue, "column %q came in binary form", col.name)
	case valueMasked:
		if col.mask != nil {
			return nil
		}
		return refuse(ReasonColumnWithheld, "column %q was masked when the dead letter was made, so its value is not known", col.name)
	case valueDropped:
		return refuse(ReasonColumnWithheld, "column %q was excluded when the dead letter was made, so its value is not known", col.name)
	}
	return refuse(ReasonMalformedChange, "column %q has a value of the unknown kind %q", col.name, v.Kind)
}

// checkKey checks that the values of the key have come: an unchanged one that is
// stored out of line comes in the old tuple.
func (p *recordPlan) checkKey(c *decoder.Change) *refusal {
	for _, k := range p.key {
		missing := c.Op == decoder.OpDelete && c.Old[k.index].Kind == decoder.ValueUnchanged ||
			c.New != nil && c.New[k.index].Kind == decoder.ValueUnchanged && (c.Old == nil || c.Old[k.index].Kind == decoder.ValueUnchanged)
		if missing {
			return refuse(ReasonKeyMissing, "the value of the key column %q did not come", c.Relation.Columns[k.index].Name)
		}
	}
	return nil
}
