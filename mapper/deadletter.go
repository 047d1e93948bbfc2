package mapper

import (
	"fmt"

	"github.com/walbridge/walbridge/decoder"
)

// The reasons of dead letters. They are the label of walbridge_dead_letters_total.
const (
	ReasonColumnMissing      = "column_missing"           // the table lacks a column that an event is made of
	ReasonIDNull             = "id_null"                  // an event's id is NULL or empty
	ReasonPayloadNull        = "payload_null"             // an event's payload is NULL, and no tombstone asked for
	ReasonPayloadNotJSON     = "payload_not_json"         // payload_format json, and it is not
	ReasonPayloadNotText     = "payload_not_text"         // payload_format text, and the bytes are not UTF-8
	ReasonStreamNull         = "stream_null"              // a column of the stream's name is NULL, or the name is empty
	ReasonTypeMissing        = "type_missing"             // format cloudevents, and the event has no type
	ReasonHeadersInvalid     = "headers_invalid"          // the headers are no JSON object of strings
	ReasonTimestampInvalid   = "timestamp_invalid"        // the time column is infinity, BC, or no timestamp
	ReasonAvailableAtInvalid = "available_at_invalid"     // likewise
	ReasonInvalidUTF8        = "invalid_utf8"             // a text is not valid UTF-8
	ReasonBinaryValue        = "binary_value_unsupported" // a value came in binary form
	ReasonKeyMissing         = "key_missing"              // the value of a key column did not come
	ReasonColumnWithheld     = "column_withheld"          // a replayed dead letter lacks a value that today's routes need
	ReasonRowTooLarge        = "row_too_large"            // above memory.max_row
	ReasonPayloadNotBytes    = "payload_not_bytes"        // payload_format bytes, and the member of a message is no bytea in hex
	ReasonMessageInvalid     = "message_invalid"          // the content of a message is no JSON object
	ReasonNotTransactional   = "message_not_transactional"
	ReasonSnapshotInDoubt    = "snapshot_in_doubt" // the row of an outbox was updated before it was read
	ReasonMalformedChange    = "malformed_change"  // no server sends such a change
)

// refusal says why a change cannot become what its route says.
type refusal struct{ reason, text string }

// refuse makes a refusal. Its text must not hold a value: it goes to logs.
func refuse(reason, format string, args ...any) *refusal {
	return &refusal{reason, fmt.Sprintf(format, args...)}
}

func cutRefusal(c *decoder.Change) *refusal {
	if c.Op == decoder.OpMessage {
		return refuse(ReasonRowTooLarge, "it has %d bytes, which is above memory.max_row", c.CutSize)
	}
	return refuse(ReasonRowTooLarge, "the row has %d bytes, which is above memory.max_row", c.CutSize)
}

// deadLetter makes the dead letter of a change the only item.
func (m *Mapper) deadLetter(c *decoder.Change, r *relation, why *refusal) ([]Item, error) {
	m.items = m.items[:0]
	it := m.item(c, KindDeadLetter, 0)
	it.EventID = m.recordID(it)
	it.Type = opNames[c.Op]
	raw := rawWriter{dst: make([]byte, 0, 1024)}
	if r != nil && r.record != nil {
		it.Stream = r.record.stream
		raw.withheld, raw.mask = r.record.withheld, r.record.route.mask
	}
	it.DeadLetter = &DeadLetter{
		Reason: why.reason, Error: origin(c) + ": " + why.text,
		Raw: raw.change(c), Replayable: c.CutSize == 0 && why.reason != ReasonMalformedChange,
	}
	return m.items, nil
}

// origin names what a change came from.
func origin(c *decoder.Change) string {
	if c.Relation == nil {
		return fmt.Sprintf("message %.100q", c.Prefix) // anybody may write one
	}
	return "table " + qualified(c.Relation)
}

// opNames are the types of records. Never written to.
var opNames = func() (names [256][]byte) {
	for i := range names {
		names[i] = []byte(decoder.Op(i).String())
	}
	return names
}()
