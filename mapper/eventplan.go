package mapper

import (
	"fmt"
	"strings"

	"github.com/walbridge/walbridge/decoder"
)

// eventPlan is how the rows of one description of an outbox become events. A
// column that the table lacks has the index -1. Immutable.
type eventPlan struct {
	route   *route
	missing *refusal // a column that an event is made of is not there; nil: all are

	id, idElse  int // idElse serves when id is NULL
	key         int
	typ         int
	typeMember  []byte // member of the payload with the type, where the column does not say; nil: none
	payload     int
	headers     int
	timestamp   int
	availableAt int

	stream     []streamPart
	streamElse string // where a column of the stream's name is NULL; empty: that is a dead letter

	cloud       []byte // the attribute source; nil: no CloudEvents
	contentType []byte // of their data

	form         payloadForm
	headersTrust bool // the headers column is JSON by its type
	headerExtras []extraColumn
	envelope     []extraColumn
	used         []int // the columns that are looked at, each once
}

// streamPart is literal text, or a column.
type streamPart struct {
	text   string
	column int // -1: text
}

// extraColumn is a further column of the outbox.
type extraColumn struct {
	column int // -1: value is a constant
	label  []byte
	name   []byte
	codec  *codec
	value  []byte
}

// payloadForm is how the payload's text becomes JSON.
type payloadForm uint8

const (
	payloadJSON       payloadForm = iota // JSON by the column's type: as it is
	payloadTextJSON                      // text that must be JSON
	payloadByteaJSON                     // bytes that must be JSON
	payloadText                          // a string
	payloadByteaText                     // bytes that must be a string
	payloadBytes                         // text, in base64
	payloadByteaBytes                    // bytes, in base64
)

// planEvent makes the plan of an outbox or inbox route for a table.
func (m *Mapper) planEvent(rt *route, rel *decoder.Relation) *eventPlan {
	p := newEventPlan(rt)
	b := planBuilder{eventPlan: p, rel: rel}
	if rt.inbox {
		b.inbox()
	} else {
		b.outbox(m, rt)
	}
	if p.headers >= 0 {
		p.headersTrust = isJSONColumn(&rel.Columns[p.headers])
	}
	return p
}

func newEventPlan(rt *route) *eventPlan {
	return &eventPlan{route: rt, id: -1, idElse: -1, key: -1, typ: -1, payload: -1, headers: -1, timestamp: -1, availableAt: -1}
}

// planBuilder looks up columns.
type planBuilder struct {
	*eventPlan
	rel *decoder.Relation
	// message: the columns are the members of a message. Any may be there, so one that is
	// asked for is added.
	message bool
}

// optional returns a column's index, or -1.
func (b *planBuilder) optional(name string) int {
	i := columnIndex(b.rel, name)
	if i < 0 && b.message {
		i = b.addMember(name)
	}
	if i < 0 {
		return i
	}
	for _, have := range b.used {
		if have == i {
			return i
		}
	}
	b.used = append(b.used, i)
	return i
}

// addMember adds a column for a member: text, or JSON where it stays whole.
func (b *planBuilder) addMember(name string) int {
	col := decoder.Column{Name: name, TypeOID: oidText, TypeMod: -1}
	if strings.HasSuffix(name, wholeMark) {
		col.TypeOID = oidJSONB
	}
	b.rel.Columns = append(b.rel.Columns, col)
	return len(b.rel.Columns) - 1
}

// whole is the name of a column whose value is JSON, which for a message is the
// member's value as it stands.
func (b *planBuilder) whole(name string) string {
	if b.message {
		return name + wholeMark
	}
	return name
}

// required is optional for a column that events cannot do without. key is the key
// of the configuration that names it.
func (b *planBuilder) required(name, key string) int {
	i := b.optional(name)
	if i < 0 && b.missing == nil {
		b.missing = refuse(ReasonColumnMissing, "there is no column %q, which %s names", name, key)
	}
	return i
}

// chosen is a column that the configuration may name, or the one of the default
// name if the table has it.
func (b *planBuilder) chosen(name, standard, key string) int {
	if name == "" {
		return b.optional(standard)
	}
	return b.required(name, key)
}

// payloadColumn finds the payload. In a message bytes are as to_jsonb writes bytea.
func (b *planBuilder) payloadColumn(o *Outbox, key string) int {
	if o.PayloadFormat == formatJSON {
		return b.required(b.whole(o.Payload), key)
	}
	i := b.required(o.Payload, key)
	if b.message && o.PayloadFormat == formatBytes {
		b.rel.Columns[i].TypeOID = oidBytea
	}
	return i
}

// headersColumn finds the headers.
func (b *planBuilder) headersColumn(o *Outbox, key string) int {
	if b.message {
		name := o.Headers
		or(&name, "headers")
		return b.required(b.whole(name), key)
	}
	return b.chosen(o.Headers, "headers", key)
}

// inbox plans for walbridge.inbox, whose columns are fixed.
func (b *planBuilder) inbox() {
	at := b.route.key() + ".inbox"
	b.id, b.idElse = b.required("idempotency_key", at), b.required("id", at)
	b.key = b.required("partition_key", at)
	b.payload = b.required("payload", at)
	b.typ, b.typeMember = b.required("type", at), []byte("type")
	b.stream = []streamPart{{column: b.required("stream", at)}}
	b.streamElse = "inbox"
	b.headers = b.required("headers", at)
	b.availableAt = b.required("available_at", at)
	b.chooseForm(formatJSON)
}

func (b *planBuilder) outbox(m *Mapper, rt *route) {
	o, at := rt.outbox, rt.key()
	b.id = b.required(o.ID, at+".outbox.id")
	b.key = b.required(o.Key, at+".outbox.key")
	b.payload = b.payloadColumn(o, at+".outbox.payload")
	if member, ok := o.typeMember(); ok {
		b.typeMember = []byte(member)
	} else {
		b.typ = b.required(o.Type, at+".outbox.type")
	}
	for _, p := range rt.stream {
		if !p.variable {
			b.stream = append(b.stream, streamPart{text: p.text, column: -1})
			continue
		}
		b.stream = append(b.stream, streamPart{column: b.required(p.text, at+".stream")})
	}
	if o.Timestamp != "" {
		b.timestamp = b.required(o.Timestamp, at+".outbox.timestamp")
	}
	b.headers = b.headersColumn(o, at+".outbox.headers")
	b.availableAt = b.chosen(o.AvailableAt, "available_at", at+".outbox.available_at")
	for i, e := range rt.extras {
		b.extra(m, e, fmt.Sprintf("%s.outbox.extra[%d]", at, i))
	}
	b.chooseForm(o.PayloadFormat)
	if o.Format == formatCloudEvents {
		b.cloud, b.contentType = cloudSource(m.env.Bridge, b.rel), []byte(contentTypes[o.PayloadFormat])
		if len(b.envelope) > 0 {
			b.contentType = []byte(contentTypes[formatJSON])
		}
	}
	if o.PayloadFormat == formatBytes && !(m.env.Raw && len(b.envelope) == 0) {
		b.headerExtras = append(b.headerExtras, extraColumn{column: -1, name: []byte(contentEncoding), label: label(contentEncoding), value: []byte("base64")})
	}
}

func (b *planBuilder) extra(m *Mapper, e extra, key string) {
	column := e.column
	if e.envelope {
		column = b.whole(column)
	}
	i := b.required(column, key)
	if i < 0 {
		return
	}
	x := extraColumn{column: i, name: []byte(e.name), label: label(e.name)}
	if !e.envelope {
		b.headerExtras = append(b.headerExtras, x)
		return
	}
	x.codec = m.codecs.column(&b.rel.Columns[i], defaultNumbers())
	b.envelope = append(b.envelope, x)
}

// chooseForm finds how payloads of the column's type become the format.
func (b *planBuilder) chooseForm(format string) {
	if b.payload < 0 {
		return
	}
	col := &b.rel.Columns[b.payload]
	isBytes := isByteaColumn(col)
	switch {
	case format == formatText && isBytes:
		b.form = payloadByteaText
	case format == formatText:
		b.form = payloadText
	case format == formatBytes && isBytes:
		b.form = payloadByteaBytes
	case format == formatBytes:
		b.form = payloadBytes
	case isBytes:
		b.form = payloadByteaJSON
	case isJSONColumn(col):
		b.form = payloadJSON
	default:
		b.form = payloadTextJSON
	}
}
