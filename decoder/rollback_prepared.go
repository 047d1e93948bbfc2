package decoder

import "github.com/walbridge/walbridge/internal/lsn"

// RollbackPreparedMessage is ROLLBACK PREPARED.
//
//	byte   'r'
//	int8   flags, none defined
//	int64  end LSN of the prepare record
//	int64  end LSN of the rollback record
//	int64  time of the prepare
//	int64  time of the rollback
//	int32  xid of the transaction
//	string its gid
//
// Manual: Logical Replication Message Formats, Rollback Prepared.
type RollbackPreparedMessage struct {
	PrepareEndLSN  lsn.LSN
	RollbackEndLSN lsn.LSN
	PrepareTime    lsn.Micros
	RollbackTime   lsn.Micros
	Xid            uint32
	GID            []byte
}

// Kind returns KindRollbackPrepared.
func (*RollbackPreparedMessage) Kind() MessageKind { return KindRollbackPrepared }

func (m *RollbackPreparedMessage) decode(r *reader) {
	r.flags(0)
	m.PrepareEndLSN = r.lsn("prepare end LSN")
	m.RollbackEndLSN = r.lsn("rollback end LSN")
	m.PrepareTime = r.time("prepare time")
	m.RollbackTime = r.time("rollback time")
	m.Xid = r.uint32("xid")
	m.GID = r.string("gid")
}
