package mapper

import (
	"unicode/utf8"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/internal/lsn"
)

// mapEvent makes the event of an inserted row. Other changes of an outbox are no
// events.
func (m *Mapper) mapEvent(c *decoder.Change, r *relation) ([]Item, error) {
	p := r.event
	switch c.Op {
	case decoder.OpUpdate:
		if p.route.outbox != nil && p.route.outbox.OnUpdate == wordHalt {
			return nil, updateHalt(p.route, c)
		}
		m.counts.updates.Add(1)
		return nil, nil
	case decoder.OpDelete:
		m.counts.deletes.Add(1)
		return nil, nil
	case decoder.OpTruncate:
		m.counts.truncates.Add(1)
		return nil, nil
	}
	if bad := p.check(c); bad != nil {
		return m.deadLetter(c, r, bad)
	}
	it := m.item(c, KindEvent, 0)
	if bad := m.fillEvent(it, p, c.New); bad != nil {
		return m.deadLetter(c, r, bad)
	}
	return m.items, nil
}

// Doubt returns the dead letter of an update of which snapshot.Session.Change says that
// nobody can tell whether the row's event was delivered: none for what is no outbox.
// It is kept as the insert of the row as it is now, which makes the event when it is
// replayed. The items are valid as those of Map.
func (m *Mapper) Doubt(c *decoder.Change) ([]Item, error) {
	m.reset()
	r := m.relation(c.Relation)
	if r.event == nil {
		return nil, nil
	}
	row := *c
	row.Op, row.Old, row.OldIsKey = decoder.OpInsert, nil, false
	return m.deadLetter(&row, r, refuse(ReasonSnapshotInDoubt, "the row was updated while the rows of the outbox are read, so whether its event was delivered is not known; replay it if it was not"))
}

// check finds what keeps any row like this one from becoming an event.
func (p *eventPlan) check(c *decoder.Change) *refusal {
	if c.CutSize > 0 {
		return cutRefusal(c)
	}
	if p.missing != nil {
		return p.missing
	}
	if bad := checkTuples(c); bad != nil {
		return bad
	}
	for _, i := range p.used {
		v, name := &c.New[i], c.Relation.Columns[i].Name
		switch v.Kind {
		case decoder.ValueNull:
		case decoder.ValueText:
			if !utf8.Valid(v.Data) {
				return refuse(ReasonInvalidUTF8, "column %q is not valid UTF-8", name)
			}
		case decoder.ValueBinary:
			return refuse(ReasonBinaryValue, "column %q came in binary form", name)
		case valueMasked, valueDropped:
			return refuse(ReasonColumnWithheld, "column %q was masked or excluded when the dead letter was made, so its value is not known", name)
		default:
			return refuse(ReasonMalformedChange, "column %q has a value of the kind %q in a new row", name, v.Kind)
		}
	}
	return nil
}

// fillEvent fills the item from a checked row.
func (m *Mapper) fillEvent(it *Item, p *eventPlan, row []decoder.Value) *refusal {
	it.EventID = text(row, p.id)
	if it.EventID == nil {
		it.EventID = text(row, p.idElse)
	}
	if len(it.EventID) == 0 {
		return refuse(ReasonIDNull, "the id is NULL or empty")
	}
	if key := text(row, p.key); len(key) > 0 {
		it.Key = key
	}
	if bad := m.payload(it, p, row); bad != nil {
		return bad
	}
	if bad := m.stream(it, p, row); bad != nil {
		return bad
	}
	m.eventType(it, p, row)
	if bad := eventTimes(it, p, row); bad != nil {
		return bad
	}
	if bad := m.headers(it, p, row); bad != nil || p.cloud == nil {
		return bad
	}
	return m.cloudHeaders(it, p)
}

// text returns a column's value, nil for NULL and for a column that is not there;
// the empty string is not nil.
func text(row []decoder.Value, column int) []byte {
	if column < 0 || row[column].Kind == decoder.ValueNull {
		return nil
	}
	if data := row[column].Data; data != nil {
		return data
	}
	return []byte{}
}

// stream names the item's stream.
func (m *Mapper) stream(it *Item, p *eventPlan, row []decoder.Value) *refusal {
	var name []byte
	start := len(m.arena)
	for i := range p.stream {
		value := text(row, p.stream[i].column)
		switch {
		case p.stream[i].column < 0:
			m.arena = append(m.arena, p.stream[i].text...)
		case value == nil && p.streamElse != "":
			it.Stream = p.streamElse
			return nil
		case value == nil:
			return refuse(ReasonStreamNull, "the stream's name is made of a column that is NULL")
		default:
			m.arena = append(m.arena, value...)
		}
	}
	name = m.arena[start:]
	if len(name) == 0 {
		return refuse(ReasonStreamNull, "the stream's name is empty")
	}
	it.Stream = m.streams.name(name)
	return nil
}

// eventType finds the type in its column, else in the payload's member.
func (m *Mapper) eventType(it *Item, p *eventPlan, row []decoder.Value) {
	if it.Type = text(row, p.typ); it.Type != nil || p.typeMember == nil {
		return
	}
	value := m.member(m.event.data, p.typeMember)
	switch {
	case len(value) == 0 || value[0] == '{' || value[0] == '[' || string(value) == "null":
	case value[0] == '"':
		start := len(m.arena)
		m.arena = appendUnquoted(m.arena, value)
		it.Type = m.kept(start)
	default:
		it.Type = value
	}
}

// member returns the value of a member of a JSON object, nil when there is none.
// Of several with one name the last counts, as for everyone who reads JSON.
func (m *Mapper) member(object, name []byte) (value []byte) {
	walk := m.enc.scan.membersOf(object)
	for walk.next() {
		if m.sameName(walk.name, name) {
			value = walk.value
		}
	}
	return value
}

// sameName compares a member's name as it is written, quotes included, with a name.
func (m *Mapper) sameName(written, name []byte) bool {
	inner := written[1 : len(written)-1]
	if string(inner) == string(name) {
		return true
	}
	if plainPrefix(inner) == len(inner) {
		return false
	}
	start := len(m.arena)
	m.arena = appendUnquoted(m.arena, written)
	same := string(m.arena[start:]) == string(name)
	m.arena = m.arena[:start]
	return same
}

// eventTimes fills the item's own time and the time before which it waits.
func eventTimes(it *Item, p *eventPlan, row []decoder.Value) *refusal {
	var ok bool
	if it.Time, ok = timeOr(row, p.timestamp, it.CommittedAt); !ok {
		return refuse(ReasonTimestampInvalid, "the time column is infinity, BC or no timestamp")
	}
	if it.AvailableAt, ok = timeOr(row, p.availableAt, 0); !ok {
		return refuse(ReasonAvailableAtInvalid, "available_at is infinity, BC or no timestamp")
	}
	return nil
}

// timeOr reads a time column, or gives what stands for NULL.
func timeOr(row []decoder.Value, column int, null lsn.Micros) (t lsn.Micros, ok bool) {
	value := text(row, column)
	if value == nil {
		return null, true
	}
	return parseTimestamp(value)
}
