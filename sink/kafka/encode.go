package kafka

import (
	"strconv"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/sink/kafka/recordbatch"
)

// The headers of every record, and of dead letters.
const (
	headerID        = "wb-id"
	headerSource    = "wb-source"
	headerXid       = "wb-xid"
	headerCommitted = "wb-committed-at"

	headerError      = "wb-error"
	headerReason     = "wb-reason"
	headerStream     = "wb-stream"
	headerReplayable = "wb-replayable"
	headerKey        = "wb-key"
	headerSize       = "wb-value-bytes"
)

// encoder makes bodies of items.
type encoder struct {
	body    recordbatch.Body
	headers headers
	scratch []byte
	text    []byte
	times   timeText
}

// item returns the body of an item, valid until the next call: key, value, our own
// headers, those of the item, and of an event its id and type. wb-id comes first.
func (e *encoder) item(it *mapper.Item, id lsn.ID, source string) []byte {
	e.body.Begin(keyOf(it), valueOf(it))
	e.own(it, id, source)
	if it.Headers != nil {
		e.headers.append(&e.body, it.Headers)
	}
	if it.Kind == mapper.KindEvent {
		e.body.Header("id", it.EventID)
	}
	if it.Type != nil {
		e.body.Header("type", it.Type)
	}
	return e.body.End()
}

// letter returns the body of a change that could not be mapped: its key is the id,
// which is in text, its value the raw change.
func (e *encoder) letter(it *mapper.Item, source string) []byte {
	d := it.DeadLetter
	if d == nil {
		d = &mapper.DeadLetter{Reason: "unknown", Error: "no reason was given"}
	}
	e.text = it.ID.Append(e.text[:0])
	e.body.BeginBytes(e.text, d.Raw)
	e.own(it, it.ID, source)
	e.body.HeaderText(headerReason, d.Reason)
	e.body.HeaderText(headerError, d.Error)
	e.body.HeaderText(headerStream, it.Stream)
	e.body.HeaderText(headerReplayable, strconv.FormatBool(d.Replayable))
	return e.body.End()
}

func (e *encoder) own(it *mapper.Item, id lsn.ID, source string) {
	e.scratch = id.Append(e.scratch[:0])
	e.body.Header(headerID, e.scratch)
	e.body.HeaderText(headerSource, source)
	e.scratch = strconv.AppendUint(e.scratch[:0], uint64(it.Xid), 10)
	e.body.Header(headerXid, e.scratch)
	e.scratch = e.times.append(e.scratch[:0], it.CommittedAt)
	e.body.Header(headerCommitted, e.scratch)
}

// keyOf is nil for an item without order: no key, and the empty one.
func keyOf(it *mapper.Item) []byte {
	if len(it.Key) == 0 {
		return nil
	}
	return it.Key
}

// valueOf keeps the nil of a tombstone a nil.
func valueOf(it *mapper.Item) recordbatch.Value {
	if it.Payload == nil {
		return nil
	}
	return it.Payload
}

// timeOf is the record's time in ms since 1970.
func timeOf(it *mapper.Item) int64 {
	at := it.Time
	if at == 0 {
		at = it.CommittedAt
	}
	return at.Time().UnixMilli()
}

// timeLayout has a fixed width, so that times sort as texts.
const timeLayout = "2006-01-02T15:04:05.000000Z"

// timeText remembers the text of the last time: the items of a transaction share
// theirs.
type timeText struct {
	at   lsn.Micros
	text [len(timeLayout) + 8]byte
	n    int
}

func (t *timeText) append(dst []byte, at lsn.Micros) []byte {
	if t.n == 0 || t.at != at {
		start := len(dst)
		dst = at.Time().AppendFormat(dst, timeLayout)
		t.at, t.n = at, copy(t.text[:], dst[start:])
		return dst
	}
	return append(dst, t.text[:t.n]...)
}

// idOf reads the id of an encoded record, which is its first header.
func idOf(p recordbatch.Parsed) lsn.ID {
	id, err := lsn.ParseID(string(p.Header(headerID)))
	if err != nil {
		return lsn.ID{} // no record of ours
	}
	return id
}
