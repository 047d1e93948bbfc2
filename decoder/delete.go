package decoder

import "fmt"

// DeleteMessage is a removed row: all of it ('O') with replica identity full,
// else its key ('K').
//
//	byte      'D'
//	int32     xid, only in a stream
//	int32     OID of the relation
//	byte      'K' or 'O'
//	TupleData the old key or row
//
// Manual: Logical Replication Message Formats, Delete.
type DeleteMessage struct {
	Xid      uint32 // 0 outside a stream
	Relation uint32
	OldIsKey bool // Old holds the columns of the replica identity, NULL for the rest
	Old      []Value
}

// Kind returns KindDelete.
func (*DeleteMessage) Kind() MessageKind { return KindDelete }

func (m *DeleteMessage) decode(r *reader, p *Parser) {
	m.Xid = r.streamXid(p.inStream)
	m.Relation = r.uint32("relation OID")
	marker := r.uint8("row marker")
	if marker != 'K' && marker != 'O' {
		r.fail(r.off-1, "row marker", "one of K, O", fmt.Sprintf("0x%02X", marker))
	}
	p.oldRow = r.tuple(p.oldRow)
	m.OldIsKey, m.Old = marker == 'K', p.oldRow
}
