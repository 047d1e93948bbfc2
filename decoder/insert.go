package decoder

import "fmt"

// InsertMessage is a new row.
//
//	byte      'I'
//	int32     xid, only in a stream
//	int32     OID of the relation
//	byte      'N'
//	TupleData the row
//
// Manual: Logical Replication Message Formats, Insert.
type InsertMessage struct {
	Xid      uint32 // 0 outside a stream
	Relation uint32
	New      []Value
}

// Kind returns KindInsert.
func (*InsertMessage) Kind() MessageKind { return KindInsert }

func (m *InsertMessage) decode(r *reader, p *Parser) {
	m.Xid = r.streamXid(p.inStream)
	m.Relation = r.uint32("relation OID")
	r.marker('N')
	p.newRow = r.tuple(p.newRow)
	m.New = p.newRow
}

// marker reads the byte that announces a row.
func (r *reader) marker(want byte) {
	if got := r.uint8("row marker"); got != want {
		r.fail(r.off-1, "row marker", string(want), fmt.Sprintf("0x%02X", got))
	}
}
