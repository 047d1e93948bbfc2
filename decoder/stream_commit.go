package decoder

import "github.com/walbridge/walbridge/internal/lsn"

// StreamCommitMessage commits a streamed transaction. Protocol version 2 and
// above.
//
//	byte  'c'
//	int32 xid of the transaction
//	int8  flags, none defined
//	int64 LSN of the commit record
//	int64 end LSN of the commit record
//	int64 time of the commit
//
// Manual: Logical Replication Message Formats, Stream Commit.
type StreamCommitMessage struct {
	Xid        uint32
	CommitLSN  lsn.LSN
	EndLSN     lsn.LSN
	CommitTime lsn.Micros
}

// Kind returns KindStreamCommit.
func (*StreamCommitMessage) Kind() MessageKind { return KindStreamCommit }

func (m *StreamCommitMessage) decode(r *reader) {
	m.Xid = r.uint32("xid")
	r.flags(0)
	m.CommitLSN = r.lsn("commit LSN")
	m.EndLSN = r.lsn("end LSN")
	m.CommitTime = r.time("commit time")
}
