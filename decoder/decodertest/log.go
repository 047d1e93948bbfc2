package decodertest

import (
	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/internal/lsn"
)

// recordAlign is what PostgreSQL aligns WAL records to (MAXALIGN).
const recordAlign = 8

// Frame is a message with the LSN that it comes with.
type Frame struct {
	Start lsn.LSN
	Data  []byte
}

// Log stands in for the history of a server: transactions and messages at
// positions that rise as in WAL, which Frames sends as a session that was started
// somewhere would get them. Make it with NewLog.
type Log struct {
	enc  Encoder
	next lsn.LSN
	xid  uint32
	// units are what is decoded at once: a transaction at its commit record, or a
	// message outside of transactions.
	units []unit
	open  *unit
}

// unit begins at the LSN of its commit record, or of the message's record.
type unit struct {
	start, end lsn.LSN
	at         lsn.Micros
	xid        uint32
	origin     string
	changes    []change
}

// change is a message with the relations that must have been described before it.
type change struct {
	at    lsn.LSN
	rels  []*decoder.Relation
	data  []byte
	plain bool // a message outside of transactions: no Begin, no Commit
}

// NewLog makes a log whose first record is at start.
func NewLog(start lsn.LSN) *Log { return &Log{next: start, xid: 700} }

// record takes room for a record and returns where it begins and ends. A record
// begins where the one before ended.
func (l *Log) record(size int) (start, end lsn.LSN) {
	start = l.next
	l.next += lsn.LSN((size + recordAlign - 1) / recordAlign * recordAlign)
	return start, l.next
}

// Begin opens a transaction and returns its xid. A commit of an open one is up to
// the caller.
func (l *Log) Begin() uint32 {
	l.xid++
	l.open = &unit{xid: l.xid}
	return l.xid
}

// Origin gives the open transaction an origin.
func (l *Log) Origin(name string) { l.open.origin = name }

// Insert adds a row to the open transaction.
func (l *Log) Insert(rel *decoder.Relation, row []decoder.Value) {
	l.add([]*decoder.Relation{rel}, l.enc.Insert(rel.OID, row))
}

// Update adds an update to the open transaction; marker as in Encoder.Update.
func (l *Log) Update(rel *decoder.Relation, marker byte, old, row []decoder.Value) {
	l.add([]*decoder.Relation{rel}, l.enc.Update(rel.OID, marker, old, row))
}

// Delete adds a delete to the open transaction; marker as in Encoder.Delete.
func (l *Log) Delete(rel *decoder.Relation, marker byte, old []decoder.Value) {
	l.add([]*decoder.Relation{rel}, l.enc.Delete(rel.OID, marker, old))
}

// Truncate adds a truncate to the open transaction.
func (l *Log) Truncate(rels ...*decoder.Relation) {
	oids := make([]uint32, len(rels))
	for i, rel := range rels {
		oids[i] = rel.OID
	}
	l.add(rels, l.enc.Truncate(false, false, oids...))
}

// Message adds a transactional message to the open transaction.
func (l *Log) Message(prefix string, content []byte) {
	_, end := l.record(48 + len(prefix) + len(content))
	l.open.changes = append(l.open.changes, change{at: end, data: l.enc.Message(true, end, prefix, content)})
}

// MessageOutside writes a message that belongs to no transaction and returns the
// end of its record. It may be called while a transaction is open.
func (l *Log) MessageOutside(prefix string, content []byte) lsn.LSN {
	start, end := l.record(48 + len(prefix) + len(content))
	l.units = append(l.units, unit{start: start, end: end, changes: []change{
		{at: end, data: l.enc.Message(false, end, prefix, content), plain: true},
	}})
	return end
}

// Commit ends the open transaction and returns the LSN and the end of its commit
// record.
func (l *Log) Commit(at lsn.Micros) (commit, end lsn.LSN) {
	l.open.start, l.open.end = l.record(48)
	l.open.at = at
	l.units = append(l.units, *l.open)
	commit, end = l.open.start, l.open.end
	l.open = nil
	return commit, end
}

// Idle is WAL that has nothing for us; it returns the end of it.
func (l *Log) Idle(size int) lsn.LSN {
	_, end := l.record(size)
	return end
}

// End is the end of the log.
func (l *Log) End() lsn.LSN { return l.next }

func (l *Log) add(rels []*decoder.Relation, data []byte) {
	start, _ := l.record(len(data) + 40)
	l.open.changes = append(l.open.changes, change{at: start, rels: rels, data: data})
}

// Frames returns what a session gets that is started at from: every transaction
// whose commit record does not begin before it, every message outside of
// transactions whose record does not, and before the first row of each relation
// its description, again when it is another one.
func (l *Log) Frames(from lsn.LSN) []Frame {
	var frames []Frame
	told := map[uint32]*decoder.Relation{}
	for _, u := range l.units {
		if u.start >= from {
			frames = l.appendUnit(frames, u, told)
		}
	}
	return frames
}

func (l *Log) appendUnit(frames []Frame, u unit, told map[uint32]*decoder.Relation) []Frame {
	if len(u.changes) == 1 && u.changes[0].plain {
		return append(frames, Frame{u.changes[0].at, u.changes[0].data})
	}
	frames = append(frames, Frame{u.start, l.enc.Begin(u.start, u.at, u.xid)})
	if u.origin != "" {
		frames[len(frames)-1].Start = 0 // not the last write of the callback
		frames = append(frames, Frame{u.start, l.enc.Origin(u.start, u.origin)})
	}
	for _, c := range u.changes {
		for _, rel := range c.rels {
			if told[rel.OID] != rel {
				frames = l.appendRelation(frames, rel)
				told[rel.OID] = rel
			}
		}
		frames = append(frames, Frame{c.at, c.data})
	}
	return append(frames, Frame{u.end, l.enc.Commit(u.start, u.end, u.at)})
}

func (l *Log) appendRelation(frames []Frame, rel *decoder.Relation) []Frame {
	for _, c := range rel.Columns {
		if c.TypeName != "" {
			frames = append(frames, Frame{0, l.enc.Type(c.TypeOID, c.TypeNamespace, c.TypeName)})
		}
	}
	return append(frames, Frame{0, l.enc.Relation(rel)})
}
