package mapper

import "github.com/walbridge/walbridge/decoder"

// CloudEvents 1.0 in binary mode: the event's attributes are headers with the prefix of
// the Kafka protocol binding (section 3.2), the payload is the value. Where and how an
// event happened follows from the row alone, so that a redelivery has the same ones.

// cloudPrefix begins the names of attributes; headers of that prefix in the outbox row
// are left out, since they would be attributes.
const cloudPrefix = "ce_"

// cloudSource is the attribute source of a table's events, /bridge/schema/table.
func cloudSource(bridge string, rel *decoder.Relation) []byte {
	var source []byte
	for _, segment := range []string{bridge, rel.Namespace, rel.Name} {
		source = appendSegment(append(source, '/'), segment)
	}
	return source
}

// appendSegment appends a part of a path, escaped but for unreserved characters (RFC 3986
// section 2.3).
func appendSegment(dst []byte, s string) []byte {
	const digits = "0123456789ABCDEF"
	for _, c := range []byte(s) {
		switch {
		case c >= 'a' && c <= 'z', c >= 'A' && c <= 'Z', c >= '0' && c <= '9', c == '-', c == '.', c == '_', c == '~':
			dst = append(dst, c)
		default:
			dst = append(dst, '%', digits[c>>4], digits[c&0xF])
		}
	}
	return dst
}

// contentTypes are those of payloads, by payload_format.
var contentTypes = map[string]string{formatJSON: "application/json", formatText: "text/plain; charset=utf-8", formatBytes: "application/octet-stream"}

// cloudHeaders appends the attributes of an event to its headers.
func (m *Mapper) cloudHeaders(it *Item, p *eventPlan) *refusal {
	if len(it.Type) == 0 {
		return refuse(ReasonTypeMissing, "the event has no type, which a CloudEvent must have")
	}
	start := len(m.arena)
	trace := m.otherHeaders(it.Headers)
	m.cloudAttribute("specversion", []byte("1.0"))
	m.cloudAttribute("id", it.EventID)
	m.cloudAttribute("source", p.cloud)
	m.cloudAttribute("type", it.Type)
	if len(it.Key) > 0 {
		m.cloudAttribute("subject", it.Key)
		m.cloudAttribute("partitionkey", it.Key)
	}
	var buf [64]byte
	if it.Time != 0 { // a row that was read has no time
		m.cloudAttribute("time", it.Time.Time().AppendFormat(buf[:0], isoMicros))
	}
	m.cloudAttribute("sequence", it.ID.Append(buf[:0]))
	if trace != nil {
		m.arena = append(append(m.arena, `,"`+cloudPrefix+`traceparent":`...), trace...)
	}
	m.arena = append(m.arena, `,"content-type":`...)
	m.arena = appendString(m.arena, p.contentType)
	m.arena = closeObject(m.arena, start)
	it.Headers = m.kept(start)
	return nil
}

func (m *Mapper) cloudAttribute(name string, value []byte) {
	m.arena = append(append(append(m.arena, `,"`+cloudPrefix...), name...), `":`...)
	m.arena = appendString(m.arena, value)
}

// otherHeaders appends the headers that are no attributes, and returns the value of
// traceparent (extension Distributed Tracing), nil when there is none.
func (m *Mapper) otherHeaders(headers []byte) (trace []byte) {
	walk := m.enc.scan.membersOf(headers)
	for headers != nil && walk.next() {
		name := walk.name[1 : len(walk.name)-1]
		if len(name) >= len(cloudPrefix) && string(name[:len(cloudPrefix)]) == cloudPrefix || string(name) == "content-type" {
			continue
		}
		if string(name) == "traceparent" {
			trace = walk.value
		}
		m.arena = append(append(append(append(m.arena, ','), walk.name...), ':'), walk.value...)
	}
	return trace
}
