package decoder

import "fmt"

// UpdateMessage is a changed row. The old row comes whole ('O') with replica
// identity full, as its key ('K') when the update changed the key, else not.
//
//	byte      'U'
//	int32     xid, only in a stream
//	int32     OID of the relation
//	byte      'K' or 'O', may be absent
//	TupleData the old key or row, when that byte is there
//	byte      'N'
//	TupleData the new row
//
// Manual: Logical Replication Message Formats, Update.
type UpdateMessage struct {
	Xid      uint32 // 0 outside a stream
	Relation uint32
	OldIsKey bool    // Old holds the columns of the replica identity, NULL for the rest
	Old      []Value // nil: none was sent
	New      []Value
}

// Kind returns KindUpdate.
func (*UpdateMessage) Kind() MessageKind { return KindUpdate }

func (m *UpdateMessage) decode(r *reader, p *Parser) {
	m.Xid = r.streamXid(p.inStream)
	m.Relation = r.uint32("relation OID")
	m.OldIsKey, m.Old, m.New = false, nil, nil
	switch marker := r.uint8("row marker"); marker {
	case 'N':
		p.oldRow = drop(p.oldRow)
	case 'K', 'O':
		p.oldRow = r.tuple(p.oldRow)
		m.OldIsKey, m.Old = marker == 'K', p.oldRow
		if r.marker('N'); r.cut {
			return
		}
	default:
		r.fail(r.off-1, "row marker", "one of K, O, N", fmt.Sprintf("0x%02X", marker))
	}
	p.newRow = r.tuple(p.newRow)
	m.New = p.newRow
}
