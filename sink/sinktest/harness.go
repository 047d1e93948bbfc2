// Package sinktest is the law of a sink: Run checks each sentence of the contract
// in package sink, and each promise that a sink claims beyond it, on a destination
// that the caller gives. It also holds Memory, a correct sink in memory whose
// faults are at hand, for the tests of what writes to a sink.
//
// The suite knows no sink. What differs between destinations (how to read what is
// stored, where a write can be stopped, how one dies) is in a Harness. A claim
// that a harness gives no means to check is a failure, not a skipped check.
package sinktest

import (
	"testing"
	"time"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/sink"
)

// Promises are what a sink claims beyond the contract.
type Promises struct {
	// AtomicPosition: items and their position become visible in one step. Without
	// it items may be visible whose position is not stored yet, never the reverse.
	AtomicPosition bool
	// ExactlyOnce: when the caller goes on from what Open answered, each item is
	// stored once, whatever failed before.
	ExactlyOnce bool
	// Fencing: a second Open makes each later Write of the first owner fail with
	// fault.ErrFenced, also one that is under way.
	Fencing bool
	// Exclusive: a second Open is refused while the first owner lives, which is not
	// disturbed by it. For destinations that cannot be fenced.
	Exclusive bool
	// ManySources: sources of several names share the destination without touching
	// each other's items and progress.
	ManySources bool
	// PerKeyOrder: only the items of one key and stream are in order, not all.
	PerKeyOrder bool
}

// Harness is a kind of destination, as the suite needs to know it.
type Harness struct {
	Promises Promises
	// Lanes is the number of items that one of all lanes becomes. Defaults to 1.
	Lanes int
	// Keeps is given what a sink was handed and returns what of it the destination
	// keeps: it clears the fields that have no place there and normalizes the others.
	// nil: everything is kept as it came.
	Keeps func(Stored) Stored
	// CrashStages and BlockStages name the steps of a write at which it can be ended
	// as by a kill, and held.
	CrashStages, BlockStages []string
	// Within bounds each step of a check. Defaults to 20 s.
	Within time.Duration
	// New makes an empty destination, gone when the test ends.
	New func(t testing.TB) Destination
}

// Destination is one place to store in, with the hands that the suite has on it.
// What a destination cannot do is nil.
type Destination struct {
	// Sink returns a new instance, not open, on the destination: another process of
	// the same configuration. The suite closes it.
	Sink func(t testing.TB) sink.Sink
	// Read returns what is visible to consumers, in the order in which they see it,
	// dead letters among it or behind it. nil: the destination keeps no items.
	Read func(t testing.TB) []Stored
	// Progress returns what is stored for a source, without opening it.
	Progress func(t testing.TB, source string) lsn.Progress
	// Poison turns an item into one that the destination refuses for good.
	Poison func(it *mapper.Item)
	// Crash makes the next Write of s end at the stage as a kill of its process
	// would end it: the Write returns some error, and s is used no more.
	Crash func(t testing.TB, s sink.Sink, stage string)
	// Block makes the next Write of s stand still at the stage.
	Block func(t testing.TB, s sink.Sink, stage string) *Blocked
	// Save notes what the destination holds, position included; restore takes it
	// back to that, as a failover to a standby that lagged would. No instance is open
	// meanwhile.
	Save func(t testing.TB) (restore func(t testing.TB))
}

// Blocked is a write that stands still, or will.
type Blocked struct {
	Reached <-chan struct{} // closed when the write has come to the stage
	Release func()          // lets it go on; safe to call twice
	// Waiting reports whether an Open waits for the write to end. nil: an Open never
	// waits for one; it fences the write or ends it.
	Waiting func() bool
}

// Stored is one item or dead letter, as it was read from a destination.
type Stored struct {
	Source      string
	ID          lsn.ID
	Kind        mapper.Kind
	Stream      string
	Key         []byte // nil: none
	EventID     string
	Type        string
	Payload     []byte // JSON text; nil: there is none, which is not the JSON null
	Headers     []byte // nil: none
	CommittedAt lsn.Micros
	Time        lsn.Micros
	AvailableAt lsn.Micros
	Xid         uint32
	TxEnd       bool
	DeadLetter  *mapper.DeadLetter // of KindDeadLetter alone
	// Whole is all that the destination holds of the item, when that is one text: two
	// deliveries of an item must be equal in it. nil: the fields above are all.
	Whole []byte
}

func (h Harness) withDefaults() Harness {
	if h.Lanes == 0 {
		h.Lanes = 1
	}
	if h.Within == 0 {
		h.Within = 20 * time.Second
	}
	if h.Keeps == nil {
		h.Keeps = func(s Stored) Stored { return s }
	}
	return h
}
