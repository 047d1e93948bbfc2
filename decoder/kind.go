package decoder

import "fmt"

// MessageKind is the first byte of a message, which says what it is.
type MessageKind byte

// The messages of protocol versions 1 to 4 (logicalproto.h: LogicalRepMsgType).
const (
	KindBegin            MessageKind = 'B'
	KindCommit           MessageKind = 'C'
	KindOrigin           MessageKind = 'O'
	KindRelation         MessageKind = 'R'
	KindType             MessageKind = 'Y'
	KindInsert           MessageKind = 'I'
	KindUpdate           MessageKind = 'U'
	KindDelete           MessageKind = 'D'
	KindTruncate         MessageKind = 'T'
	KindMessage          MessageKind = 'M'
	KindStreamStart      MessageKind = 'S' // from version 2 on
	KindStreamStop       MessageKind = 'E'
	KindStreamCommit     MessageKind = 'c'
	KindStreamAbort      MessageKind = 'A'
	KindBeginPrepare     MessageKind = 'b' // from version 3 on
	KindPrepare          MessageKind = 'P'
	KindCommitPrepared   MessageKind = 'K'
	KindRollbackPrepared MessageKind = 'r'
	KindStreamPrepare    MessageKind = 'p'
)

// String returns the name of the message as the manual has it, without blanks;
// for a byte that is no message, the byte.
func (k MessageKind) String() string {
	switch k {
	case KindBegin:
		return "Begin"
	case KindCommit:
		return "Commit"
	case KindOrigin:
		return "Origin"
	case KindRelation:
		return "Relation"
	case KindType:
		return "Type"
	case KindInsert:
		return "Insert"
	case KindUpdate:
		return "Update"
	case KindDelete:
		return "Delete"
	case KindTruncate:
		return "Truncate"
	case KindMessage:
		return "Message"
	}
	return k.laterString()
}

// laterString names the messages of versions 2 and 3.
func (k MessageKind) laterString() string {
	switch k {
	case KindStreamStart:
		return "StreamStart"
	case KindStreamStop:
		return "StreamStop"
	case KindStreamCommit:
		return "StreamCommit"
	case KindStreamAbort:
		return "StreamAbort"
	case KindBeginPrepare:
		return "BeginPrepare"
	case KindPrepare:
		return "Prepare"
	case KindCommitPrepared:
		return "CommitPrepared"
	case KindRollbackPrepared:
		return "RollbackPrepared"
	case KindStreamPrepare:
		return "StreamPrepare"
	}
	return fmt.Sprintf("0x%02X", byte(k))
}
