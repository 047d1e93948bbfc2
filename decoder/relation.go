package decoder

import "fmt"

// RelationMessage describes a table. It precedes the first change of it in a
// session and comes again, often unchanged, after anything that invalidates the
// server's cache of the table.
//
//	byte   'R'
//	int32  xid, only in a stream
//	int32  OID
//	string namespace, empty for pg_catalog
//	string name
//	int8   replica identity: d n f i
//	int16  number of columns, then for each
//	         int8   flags: 1 = part of the replica identity
//	         string name
//	         int32  OID of the type
//	         int32  type modifier
//
// Manual: Logical Replication Message Formats, Relation.
type RelationMessage struct {
	Xid       uint32 // 0 outside a stream
	OID       uint32
	Namespace []byte // as on the wire: empty is pg_catalog
	Name      []byte
	Identity  ReplicaIdentity
	Columns   []RelationColumn
}

// RelationColumn is one column of a RelationMessage.
type RelationColumn struct {
	Key     bool
	Name    []byte
	TypeOID uint32
	TypeMod int32
}

// relationColumnSize is the least that a column takes on the wire.
const relationColumnSize = 1 + 1 + 4 + 4

// Kind returns KindRelation.
func (*RelationMessage) Kind() MessageKind { return KindRelation }

func (m *RelationMessage) decode(r *reader, inStream bool) {
	m.Xid = r.streamXid(inStream)
	m.OID = r.uint32("relation OID")
	m.Namespace = r.string("namespace")
	m.Name = r.string("relation name")
	m.Identity = ReplicaIdentity(r.uint8("replica identity"))
	switch m.Identity {
	case IdentityDefault, IdentityNothing, IdentityFull, IdentityIndex:
	default:
		r.fail(r.off-1, "replica identity", "one of d, n, f, i", fmt.Sprintf("0x%02X", byte(m.Identity)))
	}
	m.decodeColumns(r)
}

func (m *RelationMessage) decodeColumns(r *reader) {
	n := int(r.uint16("number of columns"))
	clear(m.Columns)
	m.Columns = m.Columns[:0]
	if most := r.left() / relationColumnSize; n > most {
		r.fail(r.off-2, "number of columns", fmt.Sprintf("at most %d, for the bytes left", most), fmt.Sprint(n))
		return
	}
	for range n {
		m.Columns = append(m.Columns, RelationColumn{
			Key:     r.uint8("column flags")&1 != 0, // other bits are left alone, as in logicalrep_read_attrs
			Name:    r.string("column name"),
			TypeOID: r.uint32("column type"),
			TypeMod: int32(r.uint32("column type modifier")),
		})
	}
}
