package decoder

import "fmt"

// TruncateMessage empties tables, all of those that one TRUNCATE names or reaches
// and that are published.
//
//	byte  'T'
//	int32 xid, only in a stream
//	int32 number of relations
//	int8  flags: 1 = CASCADE, 2 = RESTART IDENTITY
//	int32 OID of a relation, for each
//
// Manual: Logical Replication Message Formats, Truncate.
type TruncateMessage struct {
	Xid             uint32 // 0 outside a stream
	Cascade         bool
	RestartIdentity bool
	Relations       []uint32
}

// Kind returns KindTruncate.
func (*TruncateMessage) Kind() MessageKind { return KindTruncate }

func (m *TruncateMessage) decode(r *reader, inStream bool) {
	m.Xid = r.streamXid(inStream)
	at := r.off
	n := r.uint32("number of relations")
	flags := r.uint8("flags") // other bits are left alone, as in logicalrep_read_truncate
	m.Cascade, m.RestartIdentity = flags&1 != 0, flags&2 != 0
	m.Relations = m.Relations[:0]
	if most := r.left() / 4; uint64(n) > uint64(most) {
		r.fail(at, "number of relations", fmt.Sprintf("at most %d, for the bytes left", most), fmt.Sprint(n))
		return
	}
	for range n {
		m.Relations = append(m.Relations, r.uint32("relation OID"))
	}
}
