package decoder

import "github.com/walbridge/walbridge/internal/lsn"

// CommitMessage ends a transaction.
//
//	byte  'C'
//	int8  flags, none defined
//	int64 LSN of the commit record, the Begin message's final LSN
//	int64 end LSN of the commit record
//	int64 time of the commit
//
// Manual: Logical Replication Message Formats, Commit.
type CommitMessage struct {
	CommitLSN  lsn.LSN
	EndLSN     lsn.LSN
	CommitTime lsn.Micros
}

// Kind returns KindCommit.
func (*CommitMessage) Kind() MessageKind { return KindCommit }

func (m *CommitMessage) decode(r *reader) {
	r.flags(0) // as logicalrep_read_commit does
	m.CommitLSN = r.lsn("commit LSN")
	m.EndLSN = r.lsn("end LSN")
	m.CommitTime = r.time("commit time")
}
