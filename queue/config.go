package queue

import (
	"errors"
	"fmt"
	"log/slog"
	"regexp"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/walbridge/walbridge/migrations"
)

// Start is where a new subscription begins, and where a reset one does. The zero
// value is Beginning.
type Start struct{ text string }

// Beginning is the first item that the log still holds.
func Beginning() Start { return Start{} }

// End is behind the last item that the log holds now.
func End() Start { return Start{"end"} }

// After is behind a seq: the first item is the next one above it. A seq below 0
// is taken as 0.
func After(seq int64) Start { return Start{strconv.FormatInt(max(seq, 0), 10)} }

// String returns the form that the SQL functions take.
func (s Start) String() string {
	if s.text == "" {
		return "beginning"
	}
	return s.text
}

// OnDead says what becomes of the later items of a key when one of its items is
// dead. The zero value is Continue.
type OnDead int

// What happens after a dead letter.
const (
	Continue OnDead = iota // the later items of the key go on
	Block                  // they wait until the dead letter is replayed or discarded
)

// Config describes a subscription and how this process works on it. Only Name and
// Streams are required.
type Config struct {
	// Name is the subscription: workers of one name share its work, each item goes
	// to one of them. Letters, digits and _ . - only, at most 100.
	Name string
	// Streams are the streams to read: exact names, prefix.* for all that begin with
	// "prefix.", or * for all. At least one.
	Streams []string
	// From is where the subscription begins when it does not exist yet. Defaults to
	// Beginning.
	From Start
	// Schema is where the work table is. Defaults to walbridge.
	Schema string

	// MaxAttempts is after how many attempts an item is a dead letter, 1 to 1000.
	// Defaults to 20.
	MaxAttempts int
	// RetryAfter is the pause after the first failed attempt; it doubles with each,
	// up to RetryAtMost, and is shortened by up to half at random. At least 1 ms.
	// Default to 1 s and 10 min.
	RetryAfter, RetryAtMost time.Duration
	// OnDead defaults to Continue.
	OnDead OnDead
	// MaxParked and MaxParkedBytes bound what the subscription holds back: beyond
	// either, its lanes read no further until it is less. At least 1 item and 1 MiB.
	// Default to 100,000 and 256 MiB.
	MaxParked      int
	MaxParkedBytes int64

	// Lease is for how long a worker that is no longer heard of keeps its lanes; it
	// is renewed three times in its length. Between 1 s and 1 h. Defaults to 30 s. A
	// handler may take longer: the lease is renewed while it works.
	Lease time.Duration
	// Concurrency is the number of handlers that run at once: of items in Run, of
	// batches in RunBatch and RunTx, where each needs a connection of the pool. 1 to
	// 10,000. Defaults to 16; in RunTx to at most the pool's size less 2.
	Concurrency int
	// BatchItems is the most that RunBatch and RunTx hand over at once, 1 to 100,000.
	// Defaults to 1000.
	BatchItems int
	// MaxItems and MaxBytes bound what the worker holds in memory, read or in hand;
	// one read may pass MaxBytes by an item. At least 100 items and 64 KiB. Default
	// to 50,000 and 64 MiB.
	MaxItems int
	MaxBytes int64
	// SettleEvery is how long results wait to be written together while there is
	// more to do; without more they are written at once. After a crash, what was
	// finished within it is repeated. Between 1 ms and a third of Lease. Defaults
	// to 50 ms.
	SettleEvery time.Duration
	// Poll is how often the log is looked at when nobody notifies. Between 10 ms and
	// 1 h. Defaults to 1 s.
	Poll time.Duration
	// StopWithin is how long handlers that run when the context ends may go on
	// before their own context ends. At most an hour; negative: not at all. Defaults
	// to 10 s.
	StopWithin time.Duration

	// Logger is told what an operator would want to know. nil: nobody is.
	Logger *slog.Logger
	// Metrics is where metrics are registered while a worker runs. nil: nowhere. They
	// have the label subscription, so one Registerer serves several subscriptions,
	// but only one worker of each.
	Metrics prometheus.Registerer
}

// WithDefaults fills in what is not given.
//
//arch:flat
func (c Config) WithDefaults() Config {
	def(&c.Schema, migrations.DefaultSchema)
	def(&c.MaxAttempts, 20)
	def(&c.RetryAfter, time.Second)
	def(&c.RetryAtMost, max(10*time.Minute, c.RetryAfter))
	def(&c.MaxParked, 100_000)
	def(&c.MaxParkedBytes, 256<<20)
	def(&c.Lease, 30*time.Second)
	def(&c.Concurrency, 16)
	def(&c.BatchItems, 1000)
	def(&c.MaxItems, 50_000)
	def(&c.MaxBytes, 64<<20)
	def(&c.SettleEvery, 50*time.Millisecond)
	def(&c.Poll, time.Second)
	def(&c.StopWithin, 10*time.Second)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

// def sets what is not set.
func def[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

var (
	nameOf   = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,100}$`)
	streamOf = regexp.MustCompile(`^(\*|[^*\x00]+?(\.\*)?)$`)
)

// Validate returns all that is wrong with a Config that has its defaults, joined;
// nil when nothing is.
func (c Config) Validate() error {
	var all []error
	check := func(ok bool, field string, value any, want string) {
		if !ok {
			all = append(all, fmt.Errorf("queue.Config.%s: %v: %s", field, value, want))
		}
	}
	check(nameOf.MatchString(c.Name), "Name", strconv.Quote(c.Name), "letters, digits, _ . - only, 1 to 100 of them")
	check(len(c.Streams) > 0, "Streams", c.Streams, "name at least one stream")
	for _, s := range c.Streams {
		check(streamOf.MatchString(s) && len(s) <= 250, "Streams", strconv.Quote(s), "an exact name, prefix.* or *")
	}
	check(migrations.CheckSchema(c.Schema) == nil, "Schema", strconv.Quote(c.Schema), "letters, digits, _ and -, at most 48")
	check(c.OnDead == Continue || c.OnDead == Block, "OnDead", c.OnDead, "Continue or Block")
	within(check, "MaxAttempts", c.MaxAttempts, 1, 1000)
	within(check, "RetryAfter", c.RetryAfter, time.Millisecond, c.RetryAtMost)
	within(check, "RetryAtMost", c.RetryAtMost, time.Millisecond, 30*24*time.Hour)
	within(check, "MaxParked", c.MaxParked, 1, 100_000_000)
	within(check, "MaxParkedBytes", c.MaxParkedBytes, 1<<20, 1<<40)
	within(check, "Lease", c.Lease, time.Second, time.Hour)
	within(check, "Concurrency", c.Concurrency, 1, 10_000)
	within(check, "BatchItems", c.BatchItems, 1, 100_000)
	within(check, "MaxItems", c.MaxItems, 100, 10_000_000)
	within(check, "MaxBytes", c.MaxBytes, 64<<10, 1<<40)
	within(check, "SettleEvery", c.SettleEvery, time.Millisecond, c.Lease/3)
	within(check, "Poll", c.Poll, 10*time.Millisecond, time.Hour)
	check(c.StopWithin <= time.Hour, "StopWithin", c.StopWithin, "at most 1h")
	return errors.Join(all...)
}

func within[T int | int64 | time.Duration](check func(bool, string, any, string), field string, v, low, high T) {
	check(low <= v && v <= high, field, v, fmt.Sprintf("between %v and %v", low, high))
}

// settings are what the database is told, as JSON: for the short form of the
// protocol, for support queries, and for max_parked, which it counts.
func (c Config) settings() string {
	onDead := "continue"
	if c.OnDead == Block {
		onDead = "block"
	}
	return fmt.Sprintf(`{"max_attempts":%d,"backoff_min_ms":%d,"backoff_max_ms":%d,"on_dead":%q,"max_parked":%d,"max_parked_bytes":%d}`,
		c.MaxAttempts, c.RetryAfter.Milliseconds(), c.RetryAtMost.Milliseconds(), onDead, c.MaxParked, c.MaxParkedBytes)
}

// table returns a qualified name of the schema.
func (c *Config) table(name string) string { return migrations.Ident(c.Schema) + "." + name }
