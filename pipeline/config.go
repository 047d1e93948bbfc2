package pipeline

import (
	"fmt"
	"time"

	"github.com/walbridge/walbridge/internal/fault"
)

// Config is what the pipeline needs to know beside its stages' own settings.
type Config struct {
	// Bridge is the bridge's name: the source's name in the sink.
	Bridge  string
	Batch   Batch
	Memory  Memory
	OnError OnError
	// Snapshot bounds the reading of rows that are older than the stream.
	Snapshot Snapshot
	// TakeoverAfter is how long the owner of the name must be silent before this
	// process takes over. Defaults to 10 s; at least 5 s, since an owner shows a sign
	// of life every few seconds.
	TakeoverAfter time.Duration
	// StopWithin bounds an asked-for stop: what is in flight then has this long to
	// become durable. A stop that runs out of it loses nothing; the next start reads
	// the rest again. Defaults to 20 s.
	StopWithin time.Duration
	// PruneEvery is how often the pruner of outboxes looks. Defaults to a minute, which is
	// as exact as the ages of rows are.
	PruneEvery time.Duration
	// ExitOnHalt makes Run return a halt instead of staying up with it.
	ExitOnHalt bool
}

// Batch says when a batch is full and how long it may wait.
type Batch struct {
	// MaxBytes ends a batch at the next commit; a transaction that alone is larger is
	// split. Defaults to 4 MiB.
	MaxBytes int64 `yaml:"max_bytes"`
	// MaxItems likewise. Defaults to 10,000.
	MaxItems int `yaml:"max_items"`
	// Wait is the time after its first item at which a batch is handed over at the
	// latest, at the next commit; in catch-up it is 25 ms at least. While the socket has
	// nothing more to read it is handed over at once, so this is no delay of a quiet
	// stream. Defaults to 5 ms.
	Wait time.Duration `yaml:"wait"`
}

// Memory bounds what the bridge holds.
type Memory struct {
	// Limit in bytes, of which every buffer is a share. The program also sets the Go
	// runtime's soft limit to it. Defaults to 128 MiB, at least 32 MiB.
	Limit int64 `yaml:"limit"`
	// MaxRow in bytes: a row above it becomes a dead letter that names it. Defaults to
	// a quarter of Limit, which is also the most it may be.
	MaxRow int64 `yaml:"max_row"`
}

// Snapshot bounds the reading of rows.
type Snapshot struct {
	// Parallel is how many tables are read at a time, each over a connection of its own.
	// Defaults to 2.
	Parallel int `yaml:"parallel"`
	// RowsPerSecond bounds the reading of all tables together. Defaults to 0: no bound.
	RowsPerSecond int `yaml:"rows_per_second"`
}

// The policies of OnError.
const (
	PolicyDeadLetter = "dead_letter"
	PolicyHalt       = "halt"
)

// OnError says what becomes of an item that can never be stored.
type OnError struct {
	// Policy is dead_letter (keep it aside and go on) or halt. Defaults to dead_letter.
	Policy string `yaml:"policy"`
	// MaxPerMinute dead letters within any minute are taken as a fault of the
	// configuration: the bridge halts. Defaults to 60.
	MaxPerMinute int `yaml:"max_per_minute"`
}

// WithDefaults returns a copy in which each zero value is its default.
func (c Config) WithDefaults() Config {
	setDefault(&c.Batch.MaxBytes, 4<<20)
	setDefault(&c.Batch.MaxItems, 10_000)
	setDefault(&c.Batch.Wait, 5*time.Millisecond)
	setDefault(&c.Memory.Limit, 128<<20)
	setDefault(&c.Memory.MaxRow, c.Memory.Limit/4)
	setDefault(&c.OnError.Policy, PolicyDeadLetter)
	setDefault(&c.OnError.MaxPerMinute, 60)
	setDefault(&c.Snapshot.Parallel, 2)
	setDefault(&c.TakeoverAfter, 10*time.Second)
	setDefault(&c.StopWithin, 20*time.Second)
	setDefault(&c.PruneEvery, time.Minute)
	return c
}

func setDefault[T comparable](p *T, value T) {
	var zero T
	if *p == zero {
		*p = value
	}
}

// Validate returns all that is wrong with the configuration, defaults filled in.
func (c Config) Validate() []fault.Problem {
	var all []fault.Problem
	bad := func(ok bool, where, what, fix string) {
		if !ok {
			all = append(all, fault.Problem{Check: "config", Where: where, What: what, Fix: fix})
		}
	}
	bad(c.Bridge != "", "name", "missing", "give the bridge a name")
	bad(c.Batch.MaxBytes >= 1<<10, "batch.max_bytes", fmt.Sprintf("%d bytes is less than 1 KiB", c.Batch.MaxBytes), "4MiB is the default")
	bad(c.Batch.MaxBytes <= c.Memory.Limit/8, "batch.max_bytes",
		fmt.Sprintf("%d bytes is more than an eighth of memory.limit (%d)", c.Batch.MaxBytes, c.Memory.Limit), "raise memory.limit or lower batch.max_bytes")
	bad(c.Batch.MaxItems >= 1, "batch.max_items", fmt.Sprintf("%d is less than 1", c.Batch.MaxItems), "10000 is the default")
	bad(c.Batch.Wait >= 0 && c.Batch.Wait <= time.Minute, "batch.wait", fmt.Sprintf("%v is not between 0 and 1m", c.Batch.Wait), "5ms is the default")
	bad(c.Memory.Limit >= 32<<20, "memory.limit", fmt.Sprintf("%d bytes is less than 32 MiB", c.Memory.Limit), "128MiB is the default")
	bad(c.Memory.MaxRow >= 64<<10 && c.Memory.MaxRow <= c.Memory.Limit/4, "memory.max_row",
		fmt.Sprintf("%d bytes is not between 64 KiB and a quarter of memory.limit (%d)", c.Memory.MaxRow, c.Memory.Limit/4), "leave it out, or raise memory.limit")
	bad(c.OnError.Policy == PolicyDeadLetter || c.OnError.Policy == PolicyHalt, "on_error.policy",
		fmt.Sprintf("%q is neither dead_letter nor halt", c.OnError.Policy), "dead_letter is the default")
	bad(c.OnError.MaxPerMinute >= 1, "on_error.max_per_minute", fmt.Sprintf("%d is less than 1", c.OnError.MaxPerMinute), "to halt at the first, set on_error.policy: halt")
	bad(c.Snapshot.Parallel >= 1 && c.Snapshot.Parallel <= 32, "snapshot.parallel", fmt.Sprintf("%d is not between 1 and 32", c.Snapshot.Parallel), "2 is the default")
	bad(c.Snapshot.RowsPerSecond >= 0, "snapshot.rows_per_second", fmt.Sprintf("%d is negative", c.Snapshot.RowsPerSecond), "0 is the default: no bound")
	bad(c.TakeoverAfter >= 5*time.Second, "takeover_after", fmt.Sprintf("%v is less than 5s", c.TakeoverAfter), "10s is the default")
	bad(c.StopWithin > 0, "stop_within", fmt.Sprintf("%v is not positive", c.StopWithin), "20s is the default")
	return all
}
