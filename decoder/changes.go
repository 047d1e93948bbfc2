package decoder

import (
	"errors"
	"math"

	"github.com/walbridge/walbridge/internal/lsn"
)

// ErrTooManyChanges says that a transaction has more changes than 32 bits can
// number.
var ErrTooManyChanges = errors.New("the transaction has more than 4294967296 changes")

// row is what an insert, update or delete says of a row.
type row struct {
	old, new []Value
	oldIsKey bool
	cutSize  int64 // as in Change
}

// row numbers a row change and binds it to its relation.
func (d *Decoder) row(op Op, oid uint32, r row) (Step, error) {
	rel, err := d.relation(op, oid)
	if err != nil {
		return StepNone, err
	}
	if err := checkColumns(op, rel, r); err != nil {
		return StepNone, err
	}
	seq, err := d.number(op, 1)
	if err != nil || !d.wanted(seq) {
		return StepNone, err
	}
	d.change = Change{
		ID: lsn.ID{Commit: d.tx.Commit, Seq: uint32(seq)}, Op: op, Relation: rel, Tx: &d.tx,
		New: r.new, Old: r.old, OldIsKey: r.oldIsKey, CutSize: r.cutSize, LSN: d.at,
	}
	return StepChange, nil
}

// truncate numbers a change for each relation; the first that the sink lacks is
// the step's, More has the others.
func (d *Decoder) truncate(m *TruncateMessage) (Step, error) {
	for _, oid := range m.Relations {
		if _, err := d.relation(OpTruncate, oid); err != nil {
			return StepNone, err
		}
	}
	if _, err := d.number(OpTruncate, len(m.Relations)); err != nil {
		return StepNone, err
	}
	d.rest = m.Relations
	d.change = Change{
		ID: lsn.ID{Commit: d.tx.Commit}, Op: OpTruncate, Tx: &d.tx,
		Cascade: m.Cascade, RestartIdentity: m.RestartIdentity, LSN: d.at,
	}
	if !d.More() {
		return StepNone, nil
	}
	return StepChange, nil
}

// More makes Change the next relation of the same truncate and reports whether
// there was one. It is false after every other step.
func (d *Decoder) More() bool {
	for len(d.rest) > 0 {
		oid, seq := d.rest[0], d.seq-uint64(len(d.rest))
		d.rest = d.rest[1:]
		if d.wanted(seq) {
			d.change.Relation, d.change.ID.Seq = d.cache.relation(oid), uint32(seq)
			return true
		}
	}
	return false
}

// message gives a logical message; cutSize is as in Change.
func (d *Decoder) message(m *LogicalMessage, cutSize int64) (Step, error) {
	if !m.Transactional {
		return d.messageOutside(m, cutSize)
	}
	seq, err := d.number(OpMessage, 1)
	if err != nil || !d.wanted(seq) {
		return StepNone, err
	}
	d.setMessage(m, cutSize)
	d.change.ID, d.change.Tx = lsn.ID{Commit: d.tx.Commit, Seq: uint32(seq)}, &d.tx
	return StepChange, nil
}

// messageOutside gives a message that belongs to no transaction. The server sends
// it when it comes upon it in the log, so all that committed before it is there
// already, and so it was in the session in which the sink's position was made.
func (d *Decoder) messageOutside(m *LogicalMessage, cutSize int64) (Step, error) {
	switch {
	case d.open:
		return StepNone, &SequenceError{m.Kind(), "it is outside transactions, and one is under way", d.tx.Commit, m.LSN}
	case m.LSN <= d.floor:
		return StepNone, &SequenceError{m.Kind(), "its LSN is not after the end of what came before", d.floor, m.LSN}
	case d.resume && m.LSN > d.from.Commit:
		return StepNone, d.incomplete(m.LSN, 0)
	}
	d.floor = m.LSN
	if m.LSN <= max(d.from.End, d.from.Commit) {
		d.stats.SkippedMessages++
		return StepNone, nil
	}
	d.setMessage(m, cutSize)
	d.change.ID = lsn.ID{Commit: m.LSN - 1}
	return StepChange, nil
}

func (d *Decoder) setMessage(m *LogicalMessage, cutSize int64) {
	d.change = Change{
		Op: OpMessage, Prefix: d.names.intern(m.Prefix), Content: m.Content,
		LSN: m.LSN, Transactional: m.Transactional, CutSize: cutSize,
	}
	if cutSize != 0 {
		d.change.Content = nil
	}
}

// number gives n changes of the open transaction their numbers and returns the
// first. All changes are numbered, also those that are then dropped.
func (d *Decoder) number(op Op, n int) (uint64, error) {
	if !d.open {
		return 0, &SequenceError{op.kind(), "no transaction has begun", d.floor, 0}
	}
	first := d.seq
	if first+uint64(n) > math.MaxUint32+1 {
		return 0, ErrTooManyChanges
	}
	d.seq += uint64(n)
	return first, nil
}

// wanted reports whether the sink lacks change seq of the open transaction.
func (d *Decoder) wanted(seq uint64) bool {
	if d.skip {
		return false
	}
	if seq < d.keep {
		d.stats.SkippedChanges++
		return false
	}
	return true
}

func (d *Decoder) relation(op Op, oid uint32) (*Relation, error) {
	if rel := d.cache.relation(oid); rel != nil {
		return rel, nil
	}
	return nil, &UnknownRelationError{op.kind(), oid}
}

// checkColumns compares the row with its relation. The server writes both by the
// same rule (proto.c: logicalrep_should_publish_column), so a difference means
// that values would get the wrong names.
func checkColumns(op Op, rel *Relation, r row) error {
	want := len(rel.Columns)
	for _, t := range [...]struct {
		name   string
		values []Value
	}{{"new", r.new}, {"old", r.old}} {
		if got := len(t.values); t.values != nil && got != want && (r.cutSize == 0 || got > want) {
			return &ColumnsError{op.kind(), rel, t.name, got}
		}
	}
	return nil
}

// kind returns the message that brings changes of the operation.
func (o Op) kind() MessageKind {
	switch o {
	case OpInsert:
		return KindInsert
	case OpUpdate:
		return KindUpdate
	case OpDelete:
		return KindDelete
	case OpTruncate:
		return KindTruncate
	}
	return KindMessage
}
