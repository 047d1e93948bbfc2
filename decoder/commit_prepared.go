package decoder

import "github.com/walbridge/walbridge/internal/lsn"

// CommitPreparedMessage is COMMIT PREPARED. It carries no rows: they came before
// PrepareMessage.
//
//	byte   'K'
//	int8   flags, none defined
//	int64  LSN of the commit record
//	int64  end LSN of the commit record
//	int64  time of the commit
//	int32  xid of the transaction
//	string its gid
//
// Manual: Logical Replication Message Formats, Commit Prepared.
type CommitPreparedMessage struct {
	CommitLSN  lsn.LSN
	EndLSN     lsn.LSN
	CommitTime lsn.Micros
	Xid        uint32
	GID        []byte
}

// Kind returns KindCommitPrepared.
func (*CommitPreparedMessage) Kind() MessageKind { return KindCommitPrepared }

func (m *CommitPreparedMessage) decode(r *reader) {
	r.flags(0)
	m.CommitLSN = r.lsn("commit LSN")
	m.EndLSN = r.lsn("end LSN")
	m.CommitTime = r.time("commit time")
	m.Xid = r.uint32("xid")
	m.GID = r.string("gid")
}
