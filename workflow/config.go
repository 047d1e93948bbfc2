package workflow

import (
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/walbridge/walbridge/migrations"
)

// Bounds of what is stored. Beyond them is an error, never a cut.
const (
	// MaxKey is the longest key of an instance, in bytes.
	MaxKey = 512
	// MaxState is the largest state as JSON, in bytes.
	MaxState = 4 << 20
	// MaxSignal is the largest data of a signal as JSON, in bytes.
	MaxSignal = 256 << 10
	// MaxSignals is how many signals that no wait has consumed an instance keeps,
	// about: signals that are sent at the same moment do not see each other.
	MaxSignals = 1000
	// MaxSteps is the largest number of steps of a workflow.
	MaxSteps = 256
)

// maxError is how much of an error's text is kept in a row, in bytes.
const maxError = 8 << 10

// Config says how an engine works. The zero value works.
type Config struct {
	// Schema is where the tables are. Defaults to walbridge.
	Schema string

	// Lease is how long an instance belongs to an engine that does not renew it.
	// After a crash it is taken over when the lease has run out, so that a short one
	// means a quick take-over and a long one tolerates longer pauses of the process
	// and the network. It does not limit a step: it is renewed, three times in its
	// time, while the engine lives. From 1 s on. Defaults to 30 s.
	Lease time.Duration

	// Concurrency is how many instances an engine works on at once. Defaults to 10.
	// Steps in transactions are further limited by the pool, of which one connection
	// is kept for the engine itself.
	Concurrency int

	// Poll is how often an engine looks for work when nobody wakes it, which bounds
	// how late a timer fires after a restart, and how long work from StartTx and
	// SignalTx waits. From 10 ms on. Defaults to 1 s.
	Poll time.Duration

	// MaxAttempts is how often a step or a compensation is tried, unless the step
	// says otherwise. Defaults to 20.
	MaxAttempts int

	// FirstBackoff is the pause after the first failed attempt; it doubles with each
	// further one, up to MaxBackoff, less a random part of at most a quarter.
	// Defaults to 1 s and 10 min.
	FirstBackoff, MaxBackoff time.Duration

	// StopWithin is how long steps may go on after Run's context has ended; then
	// their contexts end. An interrupted step is no failed attempt. A database that does
	// not answer can delay the end by one lease more. Defaults to 10 s.
	StopWithin time.Duration

	// HaltAfter is how long an instance of a workflow, version or list of steps that
	// this engine does not have may be due before it is halted, so that programs
	// which have it take it first, as in the middle of a deploy. Defaults to 1 min.
	HaltAfter time.Duration

	// Logger gets what an operator would want to know. Nil: silent.
	Logger *slog.Logger

	// Registerer gets the metrics, whose names begin with walbridge_workflow_. Engines
	// may share one. Nil: none.
	Registerer prometheus.Registerer
}

func (c Config) withDefaults() Config {
	set(&c.Schema, migrations.DefaultSchema)
	set(&c.Lease, 30*time.Second)
	set(&c.Concurrency, 10)
	set(&c.Poll, time.Second)
	set(&c.MaxAttempts, 20)
	set(&c.FirstBackoff, time.Second)
	set(&c.MaxBackoff, max(10*time.Minute, c.FirstBackoff))
	set(&c.StopWithin, 10*time.Second)
	set(&c.HaltAfter, time.Minute)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c
}

func set[T comparable](field *T, value T) {
	var zero T
	if *field == zero {
		*field = value
	}
}

// validate returns all that is wrong with a configuration.
func (c Config) validate() error {
	var errs []error
	at := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("workflow.Config: "+format, args...))
		}
	}
	if err := migrations.CheckSchema(c.Schema); err != nil {
		at(false, "Schema: %w", err)
	}
	at(c.Lease >= time.Second, "Lease is %v, less than 1s", c.Lease)
	at(c.Concurrency > 0, "Concurrency is %d, less than 1", c.Concurrency)
	at(c.Poll >= 10*time.Millisecond, "Poll is %v, less than 10ms", c.Poll)
	at(c.MaxAttempts > 0, "MaxAttempts is %d, less than 1", c.MaxAttempts)
	at(c.FirstBackoff > 0, "FirstBackoff is %v", c.FirstBackoff)
	at(c.MaxBackoff >= c.FirstBackoff, "MaxBackoff is %v, less than FirstBackoff, which is %v", c.MaxBackoff, c.FirstBackoff)
	at(c.StopWithin > 0, "StopWithin is %v", c.StopWithin)
	at(c.HaltAfter > 0, "HaltAfter is %v", c.HaltAfter)
	return errors.Join(errs...)
}
