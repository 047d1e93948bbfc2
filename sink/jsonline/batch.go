package jsonline

import (
	"strconv"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/sink"
)

// Batch is a sink.Batch of lines. It grows to the largest batch it has held and
// then appends without allocating, dead letters aside. The zero value is empty.
type Batch struct {
	buf   []byte
	items int
	last  line // the last line
	// change is the last change, of no items when there is none or it was carried
	// away.
	change change
	times  timeText
}

// line is where the mark of a transaction's end goes in a line.
type line struct {
	id   lsn.ID
	mark int // index of the false of tx_end; 0: it is true already, or there is no line
}

// change is where the lines of a change begin, and the line before them.
type change struct {
	start  int
	items  int
	before line
}

// Lines returns the lines, each with its line break. They are valid until the
// batch changes.
func (b *Batch) Lines() []byte { return b.buf }

// Append encodes the items of one change, a line each.
func (b *Batch) Append(items []mapper.Item) {
	if len(items) == 0 {
		return
	}
	b.change = change{start: len(b.buf), items: len(items), before: b.last}
	for i := range items {
		b.append(&items[i])
	}
	b.items += len(items)
}

// EndTx sets tx_end of the last line.
func (b *Batch) EndTx() {
	at := b.last.mark
	if at == 0 {
		return
	}
	copy(b.buf[at:], "true")
	b.buf = append(b.buf[:at+len("true")], b.buf[at+len("false"):]...)
	b.last.mark = 0
}

// CarryLast moves the lines of the last change to next, a *Batch.
func (b *Batch) CarryLast(next sink.Batch) (lsn.ID, bool) {
	to, c := next.(*Batch), b.change
	if c.items > 0 {
		to.buf = append(to.buf[:0], b.buf[c.start:]...)
		to.items, to.last = c.items, b.last
		if to.last.mark > 0 {
			to.last.mark -= c.start
		}
		to.change = change{items: c.items}
		b.buf, b.items, b.last = b.buf[:c.start], b.items-c.items, c.before
		b.change = change{}
	}
	return b.last.id, b.items > 0
}

// Items returns the number of lines.
func (b *Batch) Items() int { return b.items }

// Bytes returns the length of the lines.
func (b *Batch) Bytes() int { return len(b.buf) }

// Reset empties the batch and keeps its memory.
func (b *Batch) Reset() {
	*b = Batch{buf: b.buf[:0], times: b.times}
}

// Abandon empties the batch and leaves its memory, which somebody else still reads.
func (b *Batch) Abandon() {
	b.buf = nil
	b.Reset()
}

func (b *Batch) append(it *mapper.Item) {
	dst := append(b.buf, `{"id":"`...)
	dst = it.ID.Append(dst)
	dst = append(append(append(dst, `","kind":"`...), it.Kind.String()...), `","stream":`...)
	dst = appendString(dst, it.Stream)
	dst = appendText(dst, `,"key":`, it.Key)
	dst = appendText(dst, `,"type":`, it.Type)
	dst = appendText(dst, `,"event_id":`, it.EventID)
	dst = b.times.append(append(dst, `,"committed_at":`...), it.CommittedAt)
	if it.Time != 0 && it.Time != it.CommittedAt {
		dst = appendTime(append(dst, `,"time":`...), it.Time)
	}
	dst = strconv.AppendUint(append(dst, `,"xid":`...), uint64(it.Xid), 10)
	if it.Headers != nil {
		dst = append(dst, `,"headers":`...)
		from := len(dst)
		dst = compact(append(dst, it.Headers...), from)
	}
	if it.AvailableAt != 0 {
		dst = appendTime(append(dst, `,"available_at":`...), it.AvailableAt)
	}
	dst = append(dst, `,"tx_end":`...)
	b.last = line{id: it.ID, mark: len(dst)}
	dst = append(dst, `false`...)
	dst = appendValue(dst, it)
	b.buf = append(dst, '}', '\n')
}

// appendValue appends the payload, or the rest of a dead letter.
func appendValue(dst []byte, it *mapper.Item) []byte {
	if d := it.DeadLetter; d != nil {
		return appendDeadLetter(dst, d)
	}
	if it.Payload == nil {
		return dst
	}
	dst = append(dst, `,"payload":`...)
	from := len(dst)
	return compact(it.Payload.AppendJSON(dst), from)
}

func appendDeadLetter(dst []byte, d *mapper.DeadLetter) []byte {
	dst = appendString(append(dst, `,"reason":`...), d.Reason)
	dst = appendString(append(dst, `,"error":`...), d.Error)
	dst = append(dst, `,"replayable":`...)
	if d.Replayable {
		dst = append(dst, `true`...)
	} else {
		dst = append(dst, `false`...)
	}
	if d.Raw == nil {
		return dst
	}
	return appendJSON(append(dst, `,"raw":`...), d.Raw)
}

// appendText appends a member of text, unless there is none.
func appendText(dst []byte, name string, text []byte) []byte {
	if text == nil {
		return dst
	}
	return appendString(append(dst, name...), text)
}

// timeLayout has a fixed width, so that times sort as texts.
const timeLayout = `"2006-01-02T15:04:05.000000Z"`

func appendTime(dst []byte, at lsn.Micros) []byte {
	return at.Time().AppendFormat(dst, timeLayout)
}

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
		dst = appendTime(dst, at)
		t.at, t.n = at, copy(t.text[:], dst[start:])
		return dst
	}
	return append(dst, t.text[:t.n]...)
}
