package decoder

import "github.com/walbridge/walbridge/internal/lsn"

// OriginMessage says that a transaction was replicated to the server from
// elsewhere. It follows Begin, or the first StreamStart of a transaction.
//
//	byte   'O'
//	int64  LSN of the commit on the origin server; 0 in a stream
//	string name of the origin
//
// Manual: Logical Replication Message Formats, Origin.
type OriginMessage struct {
	CommitLSN lsn.LSN
	Name      []byte
}

// Kind returns KindOrigin.
func (*OriginMessage) Kind() MessageKind { return KindOrigin }

func (m *OriginMessage) decode(r *reader) {
	m.CommitLSN = r.lsn("origin LSN")
	m.Name = r.string("origin name")
}
