package mapper

import (
	"bytes"
	"fmt"
	"slices"

	"github.com/walbridge/walbridge/decoder"
)

// An outbox without a table: SELECT pg_logical_emit_message(true, 'prefix', '{…}'). The
// members of the JSON object are what the columns of an outbox row are; nothing is
// written but the WAL.

// messageSchema stands where the schema of a table would, the prefix where its name.
const messageSchema = "pg_logical_message"

// messagePlan is how the messages of a prefix become events.
type messagePlan struct {
	event *eventPlan
	rel   *decoder.Relation
	row   []decoder.Value // reused
}

// planMessages makes the plans of all routes of messages.
func (m *Mapper) planMessages() {
	m.messages = make(map[string]*messagePlan)
	for i := range m.routes {
		rt := &m.routes[i]
		for _, prefix := range m.cfg.Routes[i].Messages {
			if m.messages[prefix] == nil { // the first route wins
				m.messages[prefix] = m.planMessage(rt, prefix)
			}
		}
	}
}

// planMessage plans for a table that has all columns which the route names. Payload and
// headers are JSON, the others text.
func (m *Mapper) planMessage(rt *route, prefix string) *messagePlan {
	o := rt.outbox
	p := &messagePlan{rel: &decoder.Relation{Namespace: messageSchema, Name: prefix}}
	add := func(name string, oid uint32) {
		if name != "" && columnIndex(p.rel, name) < 0 {
			p.rel.Columns = append(p.rel.Columns, decoder.Column{Name: name, TypeOID: oid, TypeMod: -1})
		}
	}
	const oidText = 25
	payload := uint32(oidJSON)
	if o.PayloadFormat != formatJSON {
		payload = oidText
	}
	add(o.Payload, payload)
	add(orName(o.Headers, "headers"), oidJSON)
	for _, name := range []string{o.ID, o.Key, o.Timestamp, orName(o.AvailableAt, "available_at")} {
		add(name, oidText)
	}
	if _, isMember := o.typeMember(); !isMember {
		add(o.Type, oidText)
	}
	for _, part := range rt.stream {
		if part.variable {
			add(part.text, oidText)
		}
	}
	for _, e := range rt.extras {
		add(e.column, oidText)
	}
	p.event = m.planEvent(rt, p.rel)
	p.row = make([]decoder.Value, len(p.rel.Columns))
	return p
}

func orName(name, standard string) string {
	if name == "" {
		return standard
	}
	return name
}

// TakesMessages reports whether a route takes logical messages of a prefix. Those outside
// of transactions are nobody's: they are there though their transaction may have been
// rolled back, and on servers before 17 they may be lost in a crash.
func (m *Mapper) TakesMessages(prefix string) bool { return m.messages[prefix] != nil }

// mapMessage makes the event of a logical message. One that no route takes is none.
func (m *Mapper) mapMessage(c *decoder.Change) ([]Item, error) {
	p := m.messages[c.Prefix]
	switch {
	case p == nil:
		m.counts.unrouted.Add(1)
		return nil, nil
	case c.CutSize > 0:
		return m.messageLetter(c, cutRefusal(c))
	}
	if bad := m.messageRow(p, c.Content); bad != nil {
		return m.messageLetter(c, bad)
	}
	it := m.item(c, KindEvent, 0)
	if bad := m.fillEvent(it, p.event, p.row); bad != nil {
		return m.messageLetter(c, bad)
	}
	return m.items, nil
}

// messageRow makes a row of the members of a message. A member that is null, or not
// there, is NULL; of several with one name the last counts.
func (m *Mapper) messageRow(p *messagePlan, content []byte) *refusal {
	if i := skipSpace(content, 0); i >= len(content) || content[i] != '{' || !m.enc.scan.valid(content) {
		return refuse(ReasonPayloadNotJSON, "the message is no JSON object")
	}
	for i := range p.row {
		p.row[i] = decoder.Value{Kind: decoder.ValueNull}
	}
	walk := m.enc.scan.membersOf(content)
	for walk.next() {
		for i := range p.rel.Columns {
			if m.sameName(walk.name, []byte(p.rel.Columns[i].Name)) {
				p.row[i] = m.memberValue(&p.rel.Columns[i], walk.value)
			}
		}
	}
	return nil
}

// memberValue is a member as the text of a column.
func (m *Mapper) memberValue(col *decoder.Column, value []byte) decoder.Value {
	switch {
	case string(value) == "null":
		return decoder.Value{Kind: decoder.ValueNull}
	case value[0] == '"' && col.TypeOID != oidJSON:
		start := len(m.arena)
		m.arena = appendUnquoted(m.arena, value)
		return decoder.Value{Kind: decoder.ValueText, Data: postgresTime(m.kept(start))}
	}
	return decoder.Value{Kind: decoder.ValueText, Data: value}
}

// postgresTime writes a time in ISO 8601 as PostgreSQL does, in place; other texts stay
// as they are.
func postgresTime(s []byte) []byte {
	const form = "0000-00-00T00:00:00"
	if len(s) < len(form) || s[10] != 'T' || !bytes.HasSuffix(s, []byte("Z")) {
		return s
	}
	text := slices.Concat(s[:10], []byte(" "), s[11:len(s)-1], []byte("+00"))
	if _, isTime := parseTimestamp(text); !isTime {
		return s
	}
	return text
}

// messageLetter makes the dead letter of a message.
func (m *Mapper) messageLetter(c *decoder.Change, why *refusal) ([]Item, error) {
	m.items = m.items[:0]
	it := m.item(c, KindDeadLetter, 0)
	it.EventID = m.recordID(it)
	it.Type = opNames[c.Op]
	it.DeadLetter = &DeadLetter{
		Reason: why.reason, Error: fmt.Sprintf("message %.100q: %s", c.Prefix, why.text),
		Raw: EncodeRaw(c, nil), Replayable: c.CutSize == 0,
	}
	return m.items, nil
}
