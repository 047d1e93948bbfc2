package decoder

import (
	"fmt"

	"github.com/walbridge/walbridge/internal/lsn"
)

// WireError says that the bytes of a message are not what the protocol says they
// are. It holds no value of a row.
type WireError struct {
	Message MessageKind
	Offset  int    // of the field in the message, whose first byte is 0
	Field   string // what was being read
	Want    string
	Got     string
}

// Error is one line.
func (e *WireError) Error() string {
	return fmt.Sprintf("%s message, byte %d, %s: want %s, got %s", e.Message, e.Offset, e.Field, e.Want, e.Got)
}

// SequenceError says that a message came where the protocol does not have it, or
// with a position that does not follow the one before.
type SequenceError struct {
	Message MessageKind
	What    string
	// Before is the position that the session was at, Now the one that the message
	// brought; zero where the message has none.
	Before, Now lsn.LSN
}

// Error is one line with both positions.
func (e *SequenceError) Error() string {
	return fmt.Sprintf("%s message out of order: %s (before: %s, now: %s)", e.Message, e.What, e.Before, e.Now)
}

// UnsupportedMessageError is a message of a streamed or a prepared transaction,
// which a Decoder does not take: the one may be rolled back after it was
// delivered, the other is complete only when it is committed.
type UnsupportedMessageError struct {
	Message MessageKind
}

// Error says what to do about it.
func (e *UnsupportedMessageError) Error() string {
	switch e.Message {
	case KindBeginPrepare, KindPrepare, KindCommitPrepared, KindRollbackPrepared:
		return fmt.Sprintf("%s message: the replication slot was created with two_phase, and such a slot sends prepared "+
			"transactions to every client; use a slot created without it (from PostgreSQL 18 on it can be "+
			"switched off with ALTER_REPLICATION_SLOT)", e.Message)
	}
	return fmt.Sprintf("%s message: the server streams transactions that are not committed yet; "+
		"start replication with the option streaming off", e.Message)
}

// UnknownRelationError says that a row names a relation that this session has not
// described.
type UnknownRelationError struct {
	Message MessageKind
	OID     uint32
}

// Error names the relation's OID.
func (e *UnknownRelationError) Error() string {
	return fmt.Sprintf("%s message: the server sent no Relation message for the relation with OID %d in this session", e.Message, e.OID)
}

// ColumnsError says that a row has not as many columns as its relation, so that
// no value of it can be told to belong to a column.
type ColumnsError struct {
	Message  MessageKind
	Relation *Relation
	Tuple    string // "new" or "old"
	Got      int
}

// Error names the table and both numbers.
func (e *ColumnsError) Error() string {
	return fmt.Sprintf("%s message: the %s row of %s.%s has %d columns, its Relation message %d",
		e.Message, e.Tuple, e.Relation.Namespace, e.Relation.Name, e.Got, len(e.Relation.Columns))
}

// IncompleteTransactionError says that the rest of the transaction that the
// sink's position lies inside does not come: the server sent another one first,
// or fewer changes of it than the sink has. What the sink has of it cannot be
// completed. An operator must decide.
type IncompleteTransactionError struct {
	// Want is the commit LSN of that transaction; Got that of the one that came, or the
	// LSN of a message outside transactions or of a keepalive.
	Want, Got       lsn.LSN
	WantXid, GotXid uint32 // 0: not known
	Seq             uint32 // number of the last change that the sink has
	Changes         uint32 // how many the server sent of the transaction, when Got is Want
}

// Error is one line with both transactions.
func (e *IncompleteTransactionError) Error() string {
	if e.Want == e.Got && (e.WantXid == 0 || e.WantXid == e.GotXid) {
		return fmt.Sprintf("the sink has the transaction committed at %s (xid %d) up to change %d, and the server "+
			"sends only %d changes of it, numbered from 0", e.Got, e.GotXid, e.Seq, e.Changes)
	}
	return fmt.Sprintf("the sink has the transaction committed at %s (xid %d) only up to change %d, and the server "+
		"goes on at %s (xid %d)", e.Want, e.WantXid, e.Seq, e.Got, e.GotXid)
}

// PositionError says that the sink's position lies inside a commit record, where
// no transaction ends: it is not a position of this server's log.
type PositionError struct {
	From        lsn.LSN
	Commit, End lsn.LSN // of the transaction around it
}

// Error is one line with all three positions.
func (e *PositionError) Error() string {
	return fmt.Sprintf("position %s is no end of a transaction: it lies inside the commit record from %s to %s", e.From, e.Commit, e.End)
}

// CutError says that a message which was too large to keep is not a row or a logical
// message, or that not even its beginning was kept.
type CutError struct {
	Message MessageKind
	Size    int64 // of the whole message, in bytes
	Kept    int   // bytes that were kept
}

// Error names the message and both sizes.
func (e *CutError) Error() string {
	return fmt.Sprintf("%s message of %d bytes is too large: the %d bytes kept of it do not do", e.Message, e.Size, e.Kept)
}
