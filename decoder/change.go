package decoder

import "github.com/walbridge/walbridge/internal/lsn"

// Op is what happened to a row.
type Op uint8

// The operations. OpRead is a row read by a snapshot, not an event of the stream.
const (
	OpInsert Op = iota + 1
	OpUpdate
	OpDelete
	OpTruncate
	OpMessage
	OpRead
)

// String returns the name that users see: insert, update, delete, truncate,
// message, read.
func (o Op) String() string {
	names := [...]string{"", "insert", "update", "delete", "truncate", "message", "read"}
	if int(o) < len(names) && o > 0 {
		return names[o]
	}
	return "unknown"
}

// ReplicaIdentity is what the server sends of the old row (pg_class.relreplident).
type ReplicaIdentity byte

// The replica identities.
const (
	IdentityDefault ReplicaIdentity = 'd' // the primary key
	IdentityNothing ReplicaIdentity = 'n'
	IdentityFull    ReplicaIdentity = 'f' // the whole old row
	IdentityIndex   ReplicaIdentity = 'i' // the columns of a unique index
)

// Relation describes a table as it was when its changes were written. It is
// immutable: a change of the table gives a new Relation, an unchanged repetition
// of the message gives the one there was. So a pointer to it identifies the
// description, and may be kept for as long as the caller likes.
type Relation struct {
	OID       uint32
	Namespace string // never empty: the wire's "" is pg_catalog
	Name      string
	Identity  ReplicaIdentity
	Columns   []Column // in the order of the tuples
}

// Column is one column of a relation.
type Column struct {
	Name    string
	TypeOID uint32
	TypeMod int32 // -1: none
	// Key: the column is part of the replica identity. With IdentityFull every column is.
	Key bool
	// TypeNamespace and TypeName come from a Type message, which the server sends for
	// types that are not built in; empty otherwise. A domain bears its base type's name.
	TypeNamespace string
	TypeName      string
}

// ValueKind is how a column's value came.
type ValueKind byte

// The kinds of values, as pgoutput marks them.
const (
	ValueNull      ValueKind = 'n'
	ValueUnchanged ValueKind = 'u' // a TOAST value that the update left alone: absent, not NULL
	ValueText      ValueKind = 't'
	ValueBinary    ValueKind = 'b'
)

// Value is one column's value. Data aliases the frame; nil but for text and binary.
type Value struct {
	Kind ValueKind
	Data []byte
}

// Tx is the transaction that a change belongs to.
type Tx struct {
	Commit     lsn.LSN // LSN of the commit record, known from Begin on
	End        lsn.LSN // end of the commit record; 0 until the Commit has come
	CommitTime lsn.Micros
	Xid        uint32
	Origin     string // name of the replication origin; empty: written here
}

// Change is one row change, one table of a truncate, or one logical message,
// bound to its relation and its transaction. It and all it holds are valid until
// the decoder's next call; the relation for good.
type Change struct {
	// ID has Sub 0. That of a message outside transactions is (LSN-1, 0): its LSN
	// may be the commit LSN of the transaction that follows, whereas no record begins
	// at the byte before, so that ids stay unique and rising.
	ID       lsn.ID
	Op       Op
	Relation *Relation // nil for a message
	Tx       *Tx       // nil for a message outside transactions, and for a row that was read
	// New is the row after an insert, update or read; Old the row, or its key, before
	// an update or delete. nil when the server sent none. Both in Relation.Columns' order.
	New, Old []Value
	// OldIsKey: Old holds only the identity's columns; the others are NULL on the
	// wire and mean absent (protocol rule R9).
	OldIsKey bool
	// Cascade and RestartIdentity are the flags of a truncate.
	Cascade, RestartIdentity bool
	// LSN is where the change of a row is in the WAL, which rows of one COPY share; 0:
	// not known. That of a logical message is the end of its record: one outside
	// transactions is durable, as a transaction is, when the position's End has reached
	// it.
	LSN lsn.LSN
	// Prefix, Content and Transactional are a logical message's. Transactional: it came in its transaction.
	Prefix        string
	Content       []byte
	Transactional bool
	// Read is set for OpRead alone.
	Read *Read
	// CutSize is the length in bytes of the whole message when it was larger than
	// memory.max_row: New and Old then hold only the columns that came whole before the
	// limit, Content is nil, and the change can only become a dead letter. 0: the change
	// is whole.
	CutSize int64
}

// Read says of a row that a snapshot read which reading it was.
type Read struct {
	// Run names the reading, such as 3, or 3.2 where some rows are read once more. With
	// the table and the key it identifies the row that was read, and a reading that is
	// repeated after a crash has the same name.
	Run string
	// At is the commit time of the place in the stream that the row is put at.
	At lsn.Micros
	// Salt keys the hash that stands for the row's key in ids where the key must not
	// leave the bridge.
	Salt []byte
}
