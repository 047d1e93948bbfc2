package worktable

import (
	"bytes"
	"encoding/binary"
	"strings"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/migrations"
	"github.com/walbridge/walbridge/sink"
)

// Limits of what a batch keeps over a Reset for the next use.
const (
	maxKeptBytes   = 8 << 20
	maxKeptStreams = 4096
)

// batch holds rows of log and dead letters, encoded.
type batch struct {
	lanes  int
	source func() string // the name; known once the sink was locked or opened

	name string // of the source that the rows bear; empty: no row yet
	buf  []byte // rows of log
	rows []row
	dead []byte // rows of dead_letter
	// letters are where each row of dead begins, and whose it is.
	letters []letter
	// last is where the items of the last change begin.
	last mark
	// commit is the commit LSN of the last item appended.
	commit lsn.LSN

	streams  []string // names that rows refer to by index
	byStream map[string]uint32
	scratch  []byte
}

// row is one row of buf.
type row struct {
	at     int    // offset in buf
	stream uint32 // index in streams
	end    bool   // the last item of its transaction
}

type letter struct {
	at int // offset in dead
	id lsn.ID
}

// mark is a place between two items.
type mark struct{ rows, letters int }

func newBatch(lanes int, source func() string) *batch {
	return &batch{lanes: lanes, source: source, byStream: map[string]uint32{}}
}

// Append encodes the items of one change.
func (b *batch) Append(items []mapper.Item) {
	if len(items) == 0 {
		return
	}
	if b.Items() == 0 {
		b.name = b.source()
	}
	b.last = mark{len(b.rows), len(b.letters)}
	for i := range items {
		b.append(&items[i])
	}
}

func (b *batch) append(it *mapper.Item) {
	b.commit = it.ID.Commit
	switch {
	case it.Kind == mapper.KindDeadLetter:
		b.letters = append(b.letters, letter{len(b.dead), it.ID})
		b.dead = appendLetter(b.dead, it, b.name)
	case it.AllLanes:
		b.appendAllLanes(it)
	default:
		b.appendOne(it, it.ID, b.lane(it), it.EventID)
	}
}

// lane places an item by its key, one without by its id.
func (b *batch) lane(it *mapper.Item) int {
	if len(it.Key) == 0 {
		return migrations.Lane(it.EventID, b.lanes)
	}
	return migrations.Lane(it.Key, b.lanes)
}

func (b *batch) appendOne(it *mapper.Item, id lsn.ID, lane int, eventID []byte) {
	b.rows = append(b.rows, row{at: len(b.buf), stream: b.stream(it.Stream)})
	b.buf = appendRow(b.buf, it, id, lane, eventID, b.name)
}

// appendAllLanes makes a row for each lane, with the lane as sub-number. The id at
// the end of the event's id becomes the row's, so that no two are the same.
func (b *batch) appendAllLanes(it *mapper.Item) {
	var own [lsn.IDLen]byte
	head, found := bytes.CutSuffix(it.EventID, it.ID.Append(own[:0]))
	b.scratch = append(b.scratch[:0], head...)
	if !found {
		b.scratch = append(b.scratch, ':')
	}
	n := len(b.scratch)
	for lane := range b.lanes {
		id := it.ID
		id.Sub = uint16(lane)
		b.scratch = id.Append(b.scratch[:n])
		b.appendOne(it, id, lane, b.scratch)
	}
}

// stream returns the index of a stream's name, mostly that of the row before.
func (b *batch) stream(name string) uint32 {
	if n := len(b.rows); n > 0 {
		if last := b.rows[n-1].stream; b.streams[last] == name {
			return last
		}
	}
	if i, known := b.byStream[name]; known {
		return i
	}
	i := uint32(len(b.streams))
	name = strings.Clone(name)
	b.streams = append(b.streams, name)
	b.byStream[name] = i
	return i
}

// EndTx marks the last row of the transaction of the last item, when the batch has
// one: behind it may be dead letters, which are in no log and bear no mark.
func (b *batch) EndTx() {
	n := len(b.rows)
	if n > 0 && rowID(b.buf[b.rows[n-1].at:]).Commit == b.commit {
		b.rows[n-1].end = true
	}
}

// CarryLast moves the last change's items to next.
func (b *batch) CarryLast(next sink.Batch) (lsn.ID, bool) {
	to, ours := next.(*batch)
	if !ours || b.Items() == 0 {
		return b.lastID()
	}
	if to.Items() == 0 {
		to.name = b.name
	}
	to.last = mark{len(to.rows), len(to.letters)}
	to.commit = b.commit
	for _, r := range b.rows[b.last.rows:] {
		to.rows = append(to.rows, row{at: len(to.buf) + r.at - b.rowsEnd(b.last.rows), stream: to.stream(b.streams[r.stream]), end: r.end})
	}
	to.buf = append(to.buf, b.buf[b.rowsEnd(b.last.rows):]...)
	for _, l := range b.letters[b.last.letters:] {
		to.letters = append(to.letters, letter{len(to.dead) + l.at - b.lettersEnd(b.last.letters), l.id})
	}
	to.dead = append(to.dead, b.dead[b.lettersEnd(b.last.letters):]...)
	b.cut(b.last)
	return b.lastID()
}

// rowsEnd is the offset behind the first n rows.
func (b *batch) rowsEnd(n int) int {
	if n == len(b.rows) {
		return len(b.buf)
	}
	return b.rows[n].at
}

func (b *batch) lettersEnd(n int) int {
	if n == len(b.letters) {
		return len(b.dead)
	}
	return b.letters[n].at
}

// cut drops what lies behind a mark.
func (b *batch) cut(m mark) {
	b.buf, b.dead = b.buf[:b.rowsEnd(m.rows)], b.dead[:b.lettersEnd(m.letters)]
	b.rows, b.letters = b.rows[:m.rows], b.letters[:m.letters]
	b.last = m
}

// lastID is the id of the last item, false when there is none.
func (b *batch) lastID() (lsn.ID, bool) {
	var id lsn.ID
	if n := len(b.rows); n > 0 {
		id = rowID(b.buf[b.rows[n-1].at:])
	}
	if n := len(b.letters); n > 0 && id.Compare(b.letters[n-1].id) < 0 {
		id = b.letters[n-1].id
	}
	return id, b.Items() > 0
}

// patch writes what is known only now into the rows: seq, stream, the mark of a
// transaction's end.
func (b *batch) patch(first int64, streams []int32) {
	for i, r := range b.rows {
		at := b.buf[r.at:]
		binary.BigEndian.PutUint64(at[atSeq:], uint64(first+int64(i)))
		binary.BigEndian.PutUint32(at[atStream:], uint32(streams[r.stream]))
		at[atEnd] = 0
		if r.end {
			at[atEnd] = 1
		}
	}
}

// Items counts rows and dead letters.
func (b *batch) Items() int { return len(b.rows) + len(b.letters) }

// Bytes is what the items take.
func (b *batch) Bytes() int { return len(b.buf) + len(b.dead) + 24*len(b.rows) + 32*len(b.letters) }

// Reset empties the batch and keeps its memory, unless it was much more than this
// use has needed.
func (b *batch) Reset() {
	if cap(b.buf) > maxKeptBytes && len(b.buf) < cap(b.buf)/4 {
		b.buf, b.rows = nil, nil
	}
	if cap(b.dead) > maxKeptBytes {
		b.dead = nil
	}
	if len(b.streams) > maxKeptStreams {
		b.streams = nil
		clear(b.byStream)
	}
	b.buf, b.rows, b.dead, b.letters = b.buf[:0], b.rows[:0], b.dead[:0], b.letters[:0]
	b.name, b.last, b.commit = "", mark{}, 0
}
