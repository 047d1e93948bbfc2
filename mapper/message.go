package mapper

import (
	"strings"
	"unicode/utf8"

	"github.com/walbridge/walbridge/decoder"
)

// messagePlan is how the messages of one prefix become events: the members of their
// content are the columns of an outbox row. Its rows are reused.
type messagePlan struct {
	route   *route
	event   *eventPlan
	members []messageMember
	row     []decoder.Value
}

// messageMember is a member of the content that an event is made of.
type messageMember struct {
	name []byte
	// whole: the value stays JSON. Else a string is its text, as a column's value is.
	whole bool
}

// messageSchema stands where the schema of a table would, the prefix where its name.
const messageSchema = "pg_logical_message"

// wholeMark ends the names of columns that stand for a member as JSON, which no
// configuration can write.
const wholeMark = "\x00"

// planMessages makes the plans of all prefixes; the first route that names one takes it.
func (m *Mapper) planMessages(cfg *Config) {
	m.messages = make(map[string]*messagePlan)
	for i := range cfg.Routes {
		for _, prefix := range cfg.Routes[i].Messages {
			if m.messages[prefix] == nil {
				m.messages[prefix] = m.planMessage(&m.routes[i], prefix)
			}
		}
	}
}

func (m *Mapper) planMessage(rt *route, prefix string) *messagePlan {
	rel := &decoder.Relation{Namespace: messageSchema, Name: prefix}
	event := newEventPlan(rt)
	b := planBuilder{eventPlan: event, rel: rel, message: true}
	b.outbox(m, rt)
	event.headersTrust = true
	p := &messagePlan{route: rt, event: event, row: make([]decoder.Value, len(rel.Columns))}
	for _, c := range rel.Columns {
		name, whole := strings.CutSuffix(c.Name, wholeMark)
		p.members = append(p.members, messageMember{[]byte(name), whole})
	}
	return p
}

// mapMessage makes the event of a logical message.
func (m *Mapper) mapMessage(c *decoder.Change) ([]Item, error) {
	p := m.messages[c.Prefix]
	if p == nil {
		m.counts.unrouted.Add(1)
		return nil, nil
	}
	if bad := p.check(m, c); bad != nil {
		return m.deadLetter(c, nil, bad)
	}
	it := m.item(c, KindEvent, 0)
	if bad := m.fillEvent(it, p.event, p.row); bad != nil {
		return m.deadLetter(c, nil, bad)
	}
	return m.items, nil
}

// check finds what keeps a message from becoming an event, and reads it into the row.
func (p *messagePlan) check(m *Mapper, c *decoder.Change) *refusal {
	switch {
	case !c.Transactional:
		return refuse(ReasonNotTransactional, "it was written outside of its transaction, so it is there also when that was rolled back; write it with transactional => true")
	case c.CutSize > 0:
		return cutRefusal(c)
	case !utf8.Valid(c.Content):
		return refuse(ReasonInvalidUTF8, "the content is not valid UTF-8")
	case !m.enc.scan.valid(c.Content):
		return refuse(ReasonMessageInvalid, "the content is not JSON")
	}
	return p.read(m, c.Content)
}

// read fills the row from valid JSON. Of several members with one name the last counts.
func (p *messagePlan) read(m *Mapper, content []byte) *refusal {
	for i := range p.row {
		p.row[i] = decoder.Value{Kind: decoder.ValueNull}
	}
	walk := m.enc.scan.membersOf(content)
	for walk.next() {
		for i := range p.members {
			if m.sameName(walk.name, p.members[i].name) {
				p.row[i] = m.memberValue(walk.value, p.members[i].whole)
			}
		}
	}
	if walk.bad {
		return refuse(ReasonMessageInvalid, "the content is not a JSON object")
	}
	if i := p.event.payload; p.event.form == payloadByteaBytes && p.row[i].Kind == decoder.ValueText && !isHexBytea(p.row[i].Data) {
		return refuse(ReasonPayloadNotBytes, `the payload is not a string like "\\x0aff", as to_jsonb writes bytea`)
	}
	return nil
}

// memberValue is a member's value as that of a column: null is NULL.
func (m *Mapper) memberValue(value []byte, whole bool) decoder.Value {
	switch {
	case value[0] == 'n':
		return decoder.Value{Kind: decoder.ValueNull}
	case whole || value[0] != '"':
		return decoder.Value{Kind: decoder.ValueText, Data: value}
	}
	if inner := value[1 : len(value)-1]; plainPrefix(inner) == len(inner) {
		return decoder.Value{Kind: decoder.ValueText, Data: inner}
	}
	start := len(m.arena)
	m.arena = appendUnquoted(m.arena, value)
	return decoder.Value{Kind: decoder.ValueText, Data: m.kept(start)}
}

// TakesMessages reports whether a route takes messages of the prefix. It is safe for
// concurrent use.
func (m *Mapper) TakesMessages(prefix string) bool { return m.messages[prefix] != nil }
