package decoder

import "github.com/walbridge/walbridge/internal/lsn"

// StreamAbortMessage rolls back a streamed transaction or a subtransaction of
// it. Protocol version 2 and above.
//
//	byte  'A'
//	int32 xid of the transaction
//	int32 xid of the subtransaction; the same for the whole transaction
//	int64 LSN of the abort, only with streaming parallel (version 4)
//	int64 time of the abort, likewise
//
// Manual: Logical Replication Message Formats, Stream Abort.
type StreamAbortMessage struct {
	Xid       uint32
	SubXid    uint32
	AbortLSN  lsn.LSN    // 0: not sent
	AbortTime lsn.Micros // 0: not sent
}

// Kind returns KindStreamAbort.
func (*StreamAbortMessage) Kind() MessageKind { return KindStreamAbort }

func (m *StreamAbortMessage) decode(r *reader) {
	m.Xid = r.uint32("xid")
	m.SubXid = r.uint32("subtransaction's xid")
	m.AbortLSN, m.AbortTime = 0, 0
	if r.left() == 0 {
		return
	}
	m.AbortLSN = r.lsn("abort LSN")
	m.AbortTime = r.time("abort time")
}
