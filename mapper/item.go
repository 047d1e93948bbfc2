package mapper

import "github.com/walbridge/walbridge/internal/lsn"

// Kind says whose contract an item keeps.
type Kind uint8

// The kinds of items.
const (
	KindEvent      Kind = iota + 1 // a domain event: its contract is the application's
	KindRecord                     // a change record: its contract is the table's schema
	KindDeadLetter                 // what could not be mapped, with its reason
)

// String returns the name in the log's kind column; a dead letter is in no log.
func (k Kind) String() string {
	switch k {
	case KindEvent:
		return "event"
	case KindRecord:
		return "change"
	case KindDeadLetter:
		return "dead_letter"
	}
	return "unknown"
}

// Item is one event, change record or dead letter on its way to a sink. It and
// all it holds are valid until the next call of the mapper that made it: a sink
// encodes it at once and keeps nothing.
type Item struct {
	ID     lsn.ID
	Kind   Kind
	Stream string // topic, or the stream column of the work table; of a dead letter what is known of it
	// Key orders: items of one key are delivered in commit order. nil: the item has
	// no order, and the sink places it by EventID.
	Key []byte
	// EventID identifies the item for good: an event's outbox id, else
	// "<bridge>:<ID>". With AllLanes it ends in ID, whose sub-number is 0 there, and
	// the sink writes that of the lane in its place.
	EventID []byte
	Type    []byte // event type, nil for an event without; or the operation
	// Payload writes the value. nil: there is none (a tombstone), which is not the
	// JSON null.
	Payload Payload
	// Headers is a JSON object of strings, nil when there are none.
	Headers     []byte
	CommittedAt lsn.Micros
	// Time is the item's own time: that of an outbox's timestamp column, else
	// CommittedAt.
	Time lsn.Micros
	// AvailableAt: not before this time; 0: at once.
	AvailableAt lsn.Micros
	Xid         uint32
	// AllLanes: a truncate; the sink makes one item for each lane or partition of it,
	// with the lane as ID.Sub.
	AllLanes bool
	// DeadLetter is set for KindDeadLetter alone.
	DeadLetter *DeadLetter
}

// Payload writes an item's value straight into the destination's own format.
type Payload interface {
	// AppendJSON appends the value as JSON text, or with Env.Raw an event's payload of text
	// or bytes as it is. It cannot fail: what could is found
	// when the item is made. JSON from json columns comes as it is and may hold line
	// breaks. It may be called more than once, by the goroutine that calls the mapper.
	AppendJSON(dst []byte) []byte
}

// DeadLetter says why a change could not be mapped, and keeps it whole.
type DeadLetter struct {
	Reason string // stable, snake_case, one of the Reason constants
	Error  string // what is wrong, for people, with the column and the table, without values
	// Raw is the change as JSON, enough to map it again (DecodeRaw); cut for a row
	// above memory.max_row.
	Raw []byte
	// Replayable is false for what was cut, and for what no server sends.
	Replayable bool
}
