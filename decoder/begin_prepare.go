package decoder

import "github.com/walbridge/walbridge/internal/lsn"

// BeginPrepareMessage opens a transaction that ends in PREPARE TRANSACTION.
// Protocol version 3 and above, or any version with a slot that was created with
// TWO_PHASE.
//
//	byte   'b'
//	int64  LSN of the prepare record
//	int64  end LSN of the prepare record
//	int64  time of the prepare
//	int32  xid of the transaction
//	string its gid
//
// Manual: Logical Replication Message Formats, Begin Prepare.
type BeginPrepareMessage struct {
	PrepareLSN  lsn.LSN
	EndLSN      lsn.LSN
	PrepareTime lsn.Micros
	Xid         uint32
	GID         []byte
}

// Kind returns KindBeginPrepare.
func (*BeginPrepareMessage) Kind() MessageKind { return KindBeginPrepare }

func (m *BeginPrepareMessage) decode(r *reader) {
	m.PrepareLSN = r.lsn("prepare LSN")
	m.EndLSN = r.lsn("end LSN")
	m.PrepareTime = r.time("prepare time")
	m.Xid = r.uint32("xid")
	m.GID = r.string("gid")
}
