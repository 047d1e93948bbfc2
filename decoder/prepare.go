package decoder

import "github.com/walbridge/walbridge/internal/lsn"

// PrepareMessage ends a transaction that BeginPrepareMessage opened. Whether it
// commits, CommitPrepared or RollbackPrepared says later.
//
//	byte   'P'
//	int8   flags, none defined
//	int64  LSN of the prepare record
//	int64  end LSN of the prepare record
//	int64  time of the prepare
//	int32  xid of the transaction
//	string its gid
//
// Manual: Logical Replication Message Formats, Prepare.
type PrepareMessage struct {
	PrepareLSN  lsn.LSN
	EndLSN      lsn.LSN
	PrepareTime lsn.Micros
	Xid         uint32
	GID         []byte
}

// Kind returns KindPrepare.
func (*PrepareMessage) Kind() MessageKind { return KindPrepare }

func (m *PrepareMessage) decode(r *reader) {
	r.flags(0)
	m.PrepareLSN = r.lsn("prepare LSN")
	m.EndLSN = r.lsn("end LSN")
	m.PrepareTime = r.time("prepare time")
	m.Xid = r.uint32("xid")
	m.GID = r.string("gid")
}
