package decoder

import "github.com/walbridge/walbridge/internal/lsn"

// DecodeCut takes a message of size bytes that was too large to keep, of which
// data is the head. It counts as any other; a change of it has CutSize set, and
// the columns that came whole. A message that is no row and no logical message,
// or of which less than its relation was kept, is a *CutError. Otherwise as
// Decode.
func (d *Decoder) DecodeCut(data []byte, size int64, walStart lsn.LSN) (Step, error) {
	if size <= int64(len(data)) {
		return d.Decode(data, walStart)
	}
	if d.err != nil {
		return StepNone, d.err
	}
	d.at = walStart
	step, err := d.takeCut(data, size)
	if err != nil {
		return StepNone, d.fail(err, walStart)
	}
	return step, nil
}

func (d *Decoder) takeCut(data []byte, size int64) (Step, error) {
	if err := checkHead(data, size); err != nil {
		return StepNone, err
	}
	m, err := d.parser.parseHead(data, size)
	if err != nil {
		return StepNone, err
	}
	d.rest, d.current = nil, d.open
	switch m := m.(type) {
	case *InsertMessage:
		return d.row(OpInsert, m.Relation, row{new: m.New, cutSize: size})
	case *UpdateMessage:
		return d.row(OpUpdate, m.Relation, row{old: m.Old, new: m.New, oldIsKey: m.OldIsKey, cutSize: size})
	case *DeleteMessage:
		return d.row(OpDelete, m.Relation, row{old: m.Old, oldIsKey: m.OldIsKey, cutSize: size})
	case *LogicalMessage:
		return d.message(m, size)
	}
	return StepNone, &CutError{m.Kind(), size, len(data)}
}

// checkHead makes sure that what was kept says what the message is about: of a
// row its type and relation; of a logical message type, flags and LSN.
func checkHead(data []byte, size int64) error {
	if len(data) == 0 {
		return &CutError{Size: size}
	}
	kind, least := MessageKind(data[0]), 0
	switch kind {
	case KindInsert, KindUpdate, KindDelete:
		least = 1 + 4
	case KindMessage:
		least = 1 + 1 + 8
	}
	if least == 0 || len(data) < least {
		return &CutError{kind, size, len(data)}
	}
	return nil
}
