package mapper

import (
	"unicode/utf8"

	"github.com/walbridge/walbridge/decoder"
)

// eventPayload writes an event's value.
type eventPayload struct {
	m    *Mapper
	plan *eventPlan
	row  []decoder.Value
	// data is the payload: JSON, or the text or bytes that become a string.
	data []byte
	form payloadForm
}

// AppendJSON appends the payload, in its envelope when the route has one.
func (p *eventPayload) AppendJSON(dst []byte) []byte {
	if len(p.plan.envelope) == 0 && p.m.env.Raw {
		return p.appendRaw(dst)
	}
	if len(p.plan.envelope) == 0 {
		return p.appendData(dst)
	}
	dst = p.appendData(append(dst, `{"payload":`...))
	for i := range p.plan.envelope {
		x := &p.plan.envelope[i]
		dst = append(dst, x.label...)
		value := text(p.row, x.column)
		if value == nil {
			dst = append(dst, "null"...)
			continue
		}
		dst = p.m.enc.value(dst, x.codec, value)
	}
	return append(dst, '}')
}

// appendRaw appends the payload for destinations whose values are bytes.
func (p *eventPayload) appendRaw(dst []byte) []byte {
	if p.form == payloadByteaBytes {
		dst, _ = appendBytea(dst, p.data) // checked when the item was made
		return dst
	}
	return append(dst, p.data...)
}

func (p *eventPayload) appendData(dst []byte) []byte {
	switch p.form {
	case payloadText, payloadByteaText:
		return appendString(dst, p.data)
	case payloadBytes:
		return appendBase64(dst, p.data)
	case payloadByteaBytes:
		dst, _ = appendByteaBase64(dst, p.data) // checked when the item was made
		return dst
	}
	return append(dst, p.data...)
}

// payload gives the item its value.
func (m *Mapper) payload(it *Item, p *eventPlan, row []decoder.Value) *refusal {
	m.event = eventPayload{m: m, plan: p, row: row, form: p.form}
	value := text(row, p.payload)
	if value == nil {
		if p.route.outbox == nil || !p.route.outbox.TombstoneOnNullPayload {
			return refuse(ReasonPayloadNull, "the payload is NULL")
		}
		return nil
	}
	var bad *refusal
	if m.event.data, bad = m.payloadData(p.form, value); bad != nil {
		return bad
	}
	it.Payload = &m.event
	return nil
}

// payloadData brings a payload into the shape that its form writes, and checks it.
func (m *Mapper) payloadData(form payloadForm, value []byte) ([]byte, *refusal) {
	ok := true
	switch form {
	case payloadTextJSON:
		ok = m.enc.scan.valid(value)
	case payloadByteaJSON:
		value, ok = m.bytea(value)
		ok = ok && m.enc.scan.valid(value)
	case payloadByteaText:
		if value, ok = m.bytea(value); !ok || !utf8.Valid(value) {
			return nil, refuse(ReasonPayloadNotText, "the bytes of the payload are not UTF-8")
		}
	case payloadByteaBytes:
		if !isHexBytea(value) {
			return nil, refuse(ReasonMalformedChange, "the payload is not bytea in its hex form")
		}
	}
	if !ok {
		return nil, refuse(ReasonPayloadNotJSON, "the payload is not JSON")
	}
	return value, nil
}

// bytea returns the bytes of the hex form.
func (m *Mapper) bytea(hex []byte) (data []byte, ok bool) {
	start := len(m.arena)
	m.arena, ok = appendBytea(m.arena, hex)
	return m.kept(start), ok
}
