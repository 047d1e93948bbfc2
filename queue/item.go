package queue

import (
	"encoding/json"
	"fmt"
	"time"
)

// Kinds of items.
const (
	KindEvent  = "event"  // a domain event: its meaning is the application's that wrote it
	KindChange = "change" // an observed change of a row
)

// LSN is a place in the write-ahead log of a source. It prints as PostgreSQL
// prints it.
type LSN uint64

// String returns the form of pg_lsn, such as 0/1924E78.
func (l LSN) String() string { return fmt.Sprintf("%X/%X", uint64(l)>>32, uint32(l)) }

// Position says where an item comes from: the commit record of its transaction
// in a source, the number of the change in the transaction, and the number of the
// item of that change.
type Position struct {
	Source string
	LSN    LSN
	TxSeq  int64
	Sub    int32
}

// Item is one piece of work. Its memory is the handler's: it is never written to
// again. Items that were read together share one block of memory, so what is kept
// for long should be cloned.
type Item struct {
	// Seq is the order of the log. It has gaps.
	Seq int64
	// ID is the same at every delivery and differs between items: the
	// idempotency_key of the log.
	ID     string
	Stream string
	// Key orders the item: the items of a key are handled one after the other.
	// Empty for an item without order.
	Key  string
	Kind string // KindEvent or KindChange
	// Type is the event's type, or insert, update, delete, truncate, and read for a row
	// that was read.
	Type string
	// Payload is nil when there is none.
	Payload json.RawMessage
	// Headers is a JSON object of strings, nil when there is none. See Header.
	Headers  json.RawMessage
	Position Position
	// CommittedAt is the commit time of the source transaction, CreatedAt the
	// item's own time.
	CommittedAt, CreatedAt time.Time
	// Attempt counts from 1.
	Attempt int
	// Lane and Fence are for outside systems that can refuse a late worker: Fence
	// rises with every take-over of the lane.
	Lane  int
	Fence int64
}

// Decode parses the payload into v, as json.Unmarshal does. An item without
// payload is an error. The error is a *DeadError, since the same bytes never
// parse any better: a handler that returns it has the item buried at once.
func (it Item) Decode(v any) error {
	if it.Payload == nil {
		return Dead(fmt.Errorf("decode item %d: it has no payload", it.Seq))
	}
	if err := json.Unmarshal(it.Payload, v); err != nil {
		return Dead(fmt.Errorf("decode item %d: %w", it.Seq, err))
	}
	return nil
}

// Header returns a header, empty when there is none of that name. It parses the
// headers at each call.
func (it Item) Header(name string) string {
	if it.Headers == nil {
		return ""
	}
	var all map[string]any
	if json.Unmarshal(it.Headers, &all) != nil {
		return ""
	}
	value, _ := all[name].(string)
	return value
}
