// Package sink is the contract of a destination. The packages below it are the
// destinations; sinktest is the law they keep.
//
// A sink stores batches of items together with the position they reach. It never
// reads from the source and never decides what an error means: the pipeline does.
package sink

import (
	"context"
	"time"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/mapper"
)

// Sink is one destination. Open, Write and Close are called by one goroutine at
// a time; NewBatch and a batch's methods may be called by another meanwhile.
type Sink interface {
	// Open fences every older writer of the source and returns what is durable, a
	// Progress with PhaseNone for a source never seen. It waits for a write of unknown
	// result to end, one way or the other, before it answers. Every reconnect is an
	// Open, also after any error of Write. Blocks; bounded by ctx.
	//
	// Errors: *fault.ConfigError, *fault.Halt, or transient.
	Open(ctx context.Context, src Source) (lsn.Progress, error)

	// NewBatch returns an empty batch. Batches are reused by Reset and outlive an Open;
	// the pipeline makes as many as may be in flight, and no more.
	NewBatch() Batch

	// Write makes the batch and the position durable in one step and returns nil only
	// when they are. An empty batch moves the position alone. A position that does not
	// lie after the stored one is refused, except with a higher timeline.
	//
	// Errors: fault.ErrFenced: a newer owner has opened the source. *fault.Halt or what
	// OnPoison returned: nothing was written. Any other: the result is unknown; Open
	// before anything else, and where its answer says that the batch is not stored,
	// write the same batch again.
	Write(ctx context.Context, b Batch, to lsn.Progress) error

	// Close ends the sink's connections. Nothing is written by it.
	Close(ctx context.Context) error
}

// Source says whose items a sink is opened for.
type Source struct {
	Name string // the bridge's name
	// OnPoison is told of each item that the destination refuses for good, before its
	// dead letter is stored with the batch. An error abandons the write, which then
	// returns it. nil: every item may be refused.
	OnPoison func(Poison) error
	// OnMark is told that somebody waits for the position to move: where the stream is
	// then stored although nothing came. From any goroutine, again and again; it must
	// not block. nil: nobody wants to know.
	OnMark func()
}

// Poison is an item that the destination refuses for good.
type Poison struct {
	ID     lsn.ID
	Stream string
	Reason string // stable, snake_case
	Err    error
}

// Batch collects encoded items. It is for one goroutine at a time.
type Batch interface {
	// Append encodes the items of one change, dead letters among them. It keeps none
	// of their memory.
	Append(items []mapper.Item)
	// EndTx marks the last item appended as the last of its transaction. Without an
	// item of that transaction in the batch it does nothing.
	EndTx()
	// CarryLast moves the items of the last change to next, which is empty: a batch
	// that is full inside a transaction keeps its last item back, so that EndTx still
	// finds it. It returns the id of the last item that stays, and false when none does.
	CarryLast(next Batch) (lsn.ID, bool)
	Items() int // dead letters included
	Bytes() int // memory held
	// Reset empties the batch and keeps its memory, within bounds.
	Reset()
}

// Locker is a sink that can say which process of a name is the owner.
type Locker interface {
	// Lock blocks until this process owns the name: at once when nobody does, else
	// when the owner lets go, or shows no sign of life for takeoverAfter. waiting is
	// told, about once a second, whom it waits for. Lost is closed when the lock is
	// lost.
	Lock(ctx context.Context, name string, takeoverAfter time.Duration, waiting func(owner string)) (Lock, error)
}

// Lock is the ownership of a name.
type Lock interface {
	// Lost is closed when the lock's session has ended.
	Lost() <-chan struct{}
	// Unlock lets go. Safe to call twice.
	Unlock(ctx context.Context) error
}
