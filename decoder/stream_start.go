package decoder

// StreamStartMessage opens a block of changes of a transaction that is still
// under way. Protocol version 2 and above.
//
//	byte  'S'
//	int32 xid of the transaction, the top one
//	int8  1 for the first block of the transaction, else 0
//
// Manual: Logical Replication Message Formats, Stream Start.
type StreamStartMessage struct {
	Xid   uint32
	First bool
}

// Kind returns KindStreamStart.
func (*StreamStartMessage) Kind() MessageKind { return KindStreamStart }

func (m *StreamStartMessage) decode(r *reader) {
	m.Xid = r.uint32("xid")
	m.First = r.uint8("first segment") == 1
}
