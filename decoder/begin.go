package decoder

import "github.com/walbridge/walbridge/internal/lsn"

// BeginMessage opens a transaction, which follows whole: everything up to its
// Commit belongs to it.
//
//	byte  'B'
//	int64 LSN of the commit record
//	int64 time of the commit
//	int32 xid of the transaction, the top one
//
// Manual: Logical Replication Message Formats, Begin.
type BeginMessage struct {
	FinalLSN   lsn.LSN
	CommitTime lsn.Micros
	Xid        uint32
}

// Kind returns KindBegin.
func (*BeginMessage) Kind() MessageKind { return KindBegin }

func (m *BeginMessage) decode(r *reader) {
	m.FinalLSN = r.lsn("final LSN")
	m.CommitTime = r.time("commit time")
	m.Xid = r.uint32("xid")
}
