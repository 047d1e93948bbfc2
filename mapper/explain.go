package mapper

import (
	"fmt"
	"slices"
	"strings"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/internal/catalog"
	"github.com/walbridge/walbridge/internal/lsn"
)

// Explanation is what an inserted row of a table becomes.
type Explanation struct {
	Table string `json:"table"`
	Route int    `json:"route"` // index in routes; -1: none takes the table
	// Why says why there is no item: no route, a halt, or the reason of the dead
	// letter. Empty when there is one.
	Why      string   `json:"why,omitempty"`
	Kind     string   `json:"kind,omitempty"` // event, change, dead_letter
	Stream   string   `json:"stream,omitempty"`
	Key      string   `json:"key,omitempty"` // empty: no order
	EventID  string   `json:"event_id,omitempty"`
	Type     string   `json:"type,omitempty"`
	Envelope string   `json:"envelope,omitempty"` // of a change record
	Headers  string   `json:"headers,omitempty"`
	Payload  string   `json:"payload,omitempty"` // JSON; empty: no value
	Notes    []string `json:"notes,omitempty"`   // what else decides about the table
}

// Explain says what becomes of a row that is inserted into a table. row gives the
// row's values by column as PostgreSQL's text; a column that is not in it is NULL.
// A nil row stands for one of made-up values. Positions in the sample are made up.
// It is safe for concurrent use.
func (m *Mapper) Explain(t *catalog.Table, row map[string]string) Explanation {
	e := Explanation{Table: t.QualifiedName()}
	var routed bool
	if e.Route, routed = m.MatchTable(t); !routed {
		e.Why = m.whyUnrouted(t)
		return e
	}
	own, err := New(m.cfg, m.env)
	if err != nil {
		e.Why = err.Error()
		return e
	}
	own.tables.add(t)
	c := sampleChange(t, row)
	items, err := own.Map(c)
	if err != nil {
		e.Why = err.Error()
		return e
	}
	rt := &own.routes[e.Route]
	if rt.changes != nil {
		e.Envelope = rt.changes.Envelope
	}
	e.fill(&items[0])
	e.Notes = notes(t, rt, own.relation(c.Relation))
	return e
}

func (e *Explanation) fill(it *Item) {
	e.Kind, e.Stream, e.Key = it.Kind.String(), it.Stream, string(it.Key)
	e.EventID, e.Type, e.Headers = string(it.EventID), string(it.Type), string(it.Headers)
	if it.Payload != nil {
		e.Payload = string(it.Payload.AppendJSON(nil))
	}
	if it.DeadLetter != nil {
		e.Why = it.DeadLetter.Reason + ": " + it.DeadLetter.Error
	}
}

// whyUnrouted says what came closest.
func (m *Mapper) whyUnrouted(t *catalog.Table) string {
	for i := range m.routes {
		if m.routes[i].excludes(t.Schema, t.Name) {
			return fmt.Sprintf("no route takes the table; routes[%d].exclude keeps it out of that one", i)
		}
	}
	return "no route takes the table: none of the patterns in tables matches its name"
}

// notes says what of a table decides how its changes look.
func notes(t *catalog.Table, rt *route, r *relation) []string {
	var out []string
	if rt.changes == nil {
		return append(out, "only inserts become events; deletes are ignored, updates skipped or a halt (on_update)")
	}
	switch {
	case r.record == nil:
		return out
	case r.record.perKey:
		out = append(out, "commit order per key")
	case rt.changes.Order == orderTable:
		out = append(out, "commit order of the whole table (order: table)")
	default:
		out = append(out, "the table has no key that is known, so its changes are one order (a primary key gives one order per row)")
	}
	toasted := slices.ContainsFunc(t.Columns, func(c catalog.Column) bool { return c.Toastable })
	if toasted && t.Identity != byte(decoder.IdentityFull) {
		out = append(out, "large values that an update leaves alone are not sent (unchanged); REPLICA IDENTITY FULL sends them")
	}
	if !t.SafeToPublish() {
		out = append(out, "UPDATE and DELETE fail on this table once it is published: it has no replica identity")
	}
	return out
}

// sampleChange makes the insert of a row.
func sampleChange(t *catalog.Table, row map[string]string) *decoder.Change {
	rel := &decoder.Relation{OID: t.OID, Namespace: t.Schema, Name: t.Name, Identity: decoder.ReplicaIdentity(t.Identity)}
	c := &decoder.Change{
		ID: lsn.ID{Commit: 0x1924E48}, Op: decoder.OpInsert, Relation: rel,
		Tx: &decoder.Tx{Commit: 0x1924E48, End: 0x1924E78, CommitTime: 757382400_000000, Xid: 745},
	}
	for _, col := range t.Columns {
		key := t.Identity == byte(decoder.IdentityFull) || slices.Contains(t.IdentityColumns, col.Name)
		rel.Columns = append(rel.Columns, decoder.Column{Name: col.Name, TypeOID: col.TypeOID, TypeMod: -1, Key: key})
		v := decoder.Value{Kind: decoder.ValueText, Data: []byte(sampleText(&col))}
		if row != nil {
			given, ok := row[col.Name]
			v.Data = []byte(given)
			if !ok {
				v = decoder.Value{Kind: decoder.ValueNull}
			}
		}
		c.New = append(c.New, v)
	}
	return c
}

// sampleText makes up a value of a column's type.
func sampleText(col *catalog.Column) string {
	switch col.TypeOID {
	case oidBool:
		return "t"
	case oidInt2, oidInt4, oidInt8, oidNumeric, oidFloat4, oidFloat8:
		return "42"
	case oidJSON, oidJSONB:
		return `{"sample": true}`
	case oidBytea:
		return `\x77616c`
	case oidTimestamp:
		return "2024-01-01 00:00:00"
	case oidTimestamptz:
		return "2024-01-01 00:00:00+00"
	}
	switch {
	case col.TypeName == "uuid":
		return "0f8fad5b-d9cb-469f-a165-70867728950e"
	case col.TypeName == "date":
		return "2024-01-01"
	case strings.HasSuffix(col.TypeName, "[]"):
		return "{}"
	}
	return "sample"
}

// ExplainMessages says what becomes of a message of each prefix that a route takes, in
// the order of the routes; Table is "message:" and the prefix. content is that of the
// message; nil stands for made-up members. It is safe for concurrent use.
func (m *Mapper) ExplainMessages(content []byte) []Explanation {
	var all []Explanation
	for i := range m.cfg.Routes {
		for _, prefix := range m.cfg.Routes[i].Messages {
			all = append(all, m.explainMessage(i, prefix, content))
		}
	}
	return all
}

func (m *Mapper) explainMessage(route int, prefix string, content []byte) Explanation {
	e := Explanation{Table: MessageTable(prefix), Route: route}
	own, err := New(m.cfg, m.env)
	if err != nil {
		e.Why = err.Error()
		return e
	}
	if content == nil {
		content = own.messages[prefix].sample()
	}
	c := sampleChange(&catalog.Table{}, nil)
	c.Op, c.Relation, c.New = decoder.OpMessage, nil, nil
	c.Prefix, c.Content, c.LSN, c.Transactional = prefix, content, c.ID.Commit-8, true
	items, err := own.Map(c)
	if err != nil {
		e.Why = err.Error()
		return e
	}
	e.fill(&items[0])
	e.Notes = []string{"only transactional messages become events"}
	return e
}

// MessageTable is how explanations name the messages of a prefix, where tables have
// their names.
func MessageTable(prefix string) string { return "message:" + prefix }

// sample makes up a content.
func (p *messagePlan) sample() []byte {
	var dst []byte
	for i, member := range p.members {
		dst = append(appendString(append(dst, ','), member.name), ':')
		switch {
		case i == p.event.payload && p.event.form == payloadByteaBytes:
			dst = append(dst, `"\\x77616c"`...)
		case i == p.event.timestamp || i == p.event.availableAt:
			dst = append(dst, `"2024-01-01T00:00:00Z"`...)
		case member.whole:
			dst = append(dst, `{"sample":"true"}`...)
		default:
			dst = append(dst, `"sample"`...)
		}
	}
	return closeObject(dst, 0)
}
