package decoder

// TypeMessage names a type that is not built in. It precedes the first Relation
// message with a column of it. A domain comes with its own OID and the name of
// the type that it is over (proto.c: logicalrep_write_typ); an array with the
// name of the array type, such as _mood.
//
//	byte   'Y'
//	int32  xid, only in a stream
//	int32  OID
//	string namespace, empty for pg_catalog
//	string name
//
// Manual: Logical Replication Message Formats, Type.
type TypeMessage struct {
	Xid       uint32 // 0 outside a stream
	OID       uint32
	Namespace []byte // as on the wire: empty is pg_catalog
	Name      []byte
}

// Kind returns KindType.
func (*TypeMessage) Kind() MessageKind { return KindType }

func (m *TypeMessage) decode(r *reader, inStream bool) {
	m.Xid = r.streamXid(inStream)
	m.OID = r.uint32("type OID")
	m.Namespace = r.string("namespace")
	m.Name = r.string("type name")
}
