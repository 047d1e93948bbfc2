// Package mapper turns row changes into items by the configured routes.
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
	Stream string // topic, or the stream column of the work table
	// Key orders: items of one key are delivered in commit order. nil: the item has
	// no order, and the sink places it by EventID.
	Key []byte
	// EventID identifies the item for good: an event's outbox id, else
	// "<bridge>:<ID>".
	EventID []byte
	Type    []byte // event type, or the operation
	// Payload writes the value. nil: there is none (a tombstone), which is not the
	// JSON null.
	Payload Payload
	// Headers is a JSON object of strings, nil when there are none.
	Headers     []byte
	CommittedAt lsn.Micros
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
	// AppendJSON appends the value as JSON text. It cannot fail: what could is found
	// when the item is made.
	AppendJSON(dst []byte) []byte
}

// DeadLetter says why a change could not be mapped, and keeps it whole.
type DeadLetter struct {
	Reason string // stable, snake_case, such as "payload_not_json"
	Error  string // what is wrong, for people, with the column and the table
	// Raw is the change as JSON, enough to map it again (DecodeRaw); cut for a row
	// above memory.max_row.
	Raw []byte
	// Replayable is false for what was cut.
	Replayable bool
}
