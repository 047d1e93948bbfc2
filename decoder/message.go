package decoder

import "github.com/walbridge/walbridge/internal/lsn"

// LogicalMessage is what pg_logical_emit_message wrote. A transactional one comes
// in its transaction; any other comes at once, before the Begin of the
// transaction that it was written in, and also if that is rolled back.
//
//	byte   'M'
//	int32  xid, only in a stream
//	int8   flags: 1 = transactional
//	int64  LSN, the end of the message's record
//	string prefix
//	int32  length of the content, then so many bytes
//
// Manual: Logical Replication Message Formats, Message.
type LogicalMessage struct {
	Xid           uint32 // 0 outside a stream
	Transactional bool
	LSN           lsn.LSN
	Prefix        []byte
	Content       []byte
}

// Kind returns KindMessage.
func (*LogicalMessage) Kind() MessageKind { return KindMessage }

func (m *LogicalMessage) decode(r *reader, inStream bool) {
	m.Xid = r.streamXid(inStream)
	m.Transactional = r.flags(1) != 0
	m.LSN = r.lsn("message LSN")
	m.Prefix = r.string("prefix")
	m.Content = r.bytes("length of the content", r.uint32("length of the content"))
}
