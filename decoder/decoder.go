package decoder

import (
	"fmt"

	"github.com/walbridge/walbridge/internal/lsn"
)

// Stats counts what a Decoder has dropped because the sink has it.
type Stats struct {
	// SkippedTransactions were durable, whole, before the session began.
	SkippedTransactions uint64
	// SkippedChanges are the first changes of the transaction that the position lies
	// inside. Those of skipped transactions are not counted.
	SkippedChanges uint64
	// SkippedMessages are logical messages outside transactions.
	SkippedMessages uint64
}

// Decoder follows the messages of one replication session and turns them into
// changes. A new session needs a new Decoder: a session that was cut has left a
// transaction open, and in a new one the server describes every relation again.
//
// What it returns is valid until the next Decode, DecodeCut or More; relations
// are valid for good. It is not safe for concurrent use. An error is its end: it
// returns the same one again.
type Decoder struct {
	parser Parser
	cache  cache
	names  interner // of origins and prefixes, which repeat
	stats  Stats
	err    error

	from    lsn.Position
	fromXid uint32
	// resume: from lies inside a transaction, and that has not begun yet.
	resume bool

	// floor is the end of the last transaction or of the last message outside of
	// them: whatever comes lies at or after it.
	floor lsn.LSN
	at    lsn.LSN // where the message under way came from
	tx    Tx
	// open: tx has begun and not ended. current: the last step was about tx, the one
	// that ended it included.
	open, current bool
	// skip: the sink has tx whole.
	skip bool
	// seq is how many changes tx has had. Those with a number below keep are durable.
	seq, keep uint64

	change Change
	// rest are the relations of a truncate that change has not been yet, the last ones
	// of those numbered.
	rest []uint32
}

// Config says where a session begins. Its zero value is the beginning of the log.
type Config struct {
	// From is the sink's position; the session was started at its End. Transactions
	// that end at or before it are dropped; of the one that it lies inside, the changes
	// that are durable.
	From lsn.Position
	// Xid is that of the transaction that From lies inside, as lsn.Progress has it. The
	// lower 32 bits are compared with what the server sends; 0 is not compared.
	Xid uint64
}

// New returns the decoder of a session that has not received anything yet.
func New(cfg Config) *Decoder {
	return &Decoder{
		cache:   newCache(),
		names:   newInterner(),
		from:    cfg.From,
		fromXid: uint32(cfg.Xid),
		resume:  cfg.From.Inside(),
	}
}

// Decode takes the next message. walStart is the LSN that it came with, which is
// used in errors; the server sends 0 with some messages.
//
// Errors, none of which goes away when it is tried again: *WireError,
// *SequenceError, *UnsupportedMessageError, *UnknownRelationError, *ColumnsError,
// *IncompleteTransactionError, *PositionError, ErrTooManyChanges, each wrapped
// with the position.
func (d *Decoder) Decode(data []byte, walStart lsn.LSN) (Step, error) {
	if d.err != nil {
		return StepNone, d.err
	}
	d.at = walStart
	m, err := d.parser.Parse(data)
	if err != nil {
		return StepNone, d.fail(err, walStart)
	}
	step, err := d.take(m)
	if err != nil {
		return StepNone, d.fail(err, walStart)
	}
	return step, nil
}

// take is what message m comes to where the session is.
func (d *Decoder) take(m Message) (Step, error) {
	d.rest, d.current = nil, d.open
	switch m := m.(type) {
	case *InsertMessage:
		return d.row(OpInsert, m.Relation, row{new: m.New})
	case *UpdateMessage:
		return d.row(OpUpdate, m.Relation, row{old: m.Old, new: m.New, oldIsKey: m.OldIsKey})
	case *DeleteMessage:
		return d.row(OpDelete, m.Relation, row{old: m.Old, oldIsKey: m.OldIsKey})
	case *BeginMessage:
		return d.begin(m)
	case *CommitMessage:
		return d.commit(m)
	case *RelationMessage:
		d.cache.putRelation(m)
		return StepNone, nil
	case *TypeMessage:
		d.cache.putType(m)
		return StepNone, nil
	case *OriginMessage:
		return d.origin(m)
	case *TruncateMessage:
		return d.truncate(m)
	case *LogicalMessage:
		return d.message(m, 0)
	}
	return StepNone, &UnsupportedMessageError{m.Kind()}
}

// Mark takes the position of a keepalive: the server has sent all that committed
// before it. It fails, with an *IncompleteTransactionError, when the transaction
// that the sink's position lies inside is then still to come: a position moved to
// walEnd would leave the sink with a part of it for good.
func (d *Decoder) Mark(walEnd lsn.LSN) error {
	if d.err != nil || !d.resume || walEnd <= d.from.Commit {
		return d.err
	}
	return d.fail(d.incomplete(walEnd, 0), walEnd)
}

// Change returns the change of the last step. It has a meaning after StepChange,
// and after More has returned true.
func (d *Decoder) Change() *Change { return &d.change }

// Tx returns the transaction that the last step was about, nil when that was
// outside of transactions. Its Origin is known from the first change on.
func (d *Decoder) Tx() *Tx {
	if !d.current {
		return nil
	}
	return &d.tx
}

// InTx reports whether a transaction has begun and not ended, also one that is
// skipped.
func (d *Decoder) InTx() bool { return d.open }

// Stats returns what has been dropped so far.
func (d *Decoder) Stats() Stats { return d.stats }

// fail makes err the decoder's end, and says where that was.
func (d *Decoder) fail(err error, at lsn.LSN) error {
	d.rest = nil
	if d.open {
		d.err = fmt.Errorf("decode at %s, in the transaction committed at %s (xid %d) after %d changes: %w",
			at, d.tx.Commit, d.tx.Xid, d.seq, err)
		return d.err
	}
	d.err = fmt.Errorf("decode at %s: %w", at, err)
	return d.err
}
