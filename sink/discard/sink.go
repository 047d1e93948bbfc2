package discard

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/jsonline"
	"github.com/walbridge/walbridge/sink/statefile"
)

// The forms that items are encoded in.
const (
	FormJSON      = "json"      // the lines of the stdout sink
	FormWorktable = "worktable" // the rows of the work table
)

// Config is the section sink.discard of the configuration.
type Config struct {
	// Form is the form that items are encoded in, json or worktable. Defaults to json.
	Form string `yaml:"form"`
	// State is the file that keeps the position, relative to the working directory; see
	// the stdout sink. Defaults to walbridge.state. To New, empty means that no position
	// is kept and every Open begins anew.
	State string `yaml:"state"`
}

// WithDefaults fills in what is not set.
func (c Config) WithDefaults() Config {
	if c.Form == "" {
		c.Form = FormJSON
	}
	if c.State == "" {
		c.State = "walbridge.state"
	}
	return c
}

// Validate returns what is wrong with the section.
func (c Config) Validate() []fault.Problem {
	if slices.Contains([]string{"", FormJSON, FormWorktable}, c.Form) {
		return nil
	}
	return []fault.Problem{{
		Check: "config", Where: "sink.discard.form", What: fmt.Sprintf("%q is no form", c.Form), Fix: "json or worktable",
	}}
}

// Sink drops items. It is a sink.Locker too. Its counts may be read at any time.
type Sink struct {
	keeper   *statefile.Keeper
	newBatch func() sink.Batch
	items    atomic.Int64
	bytes    atomic.Int64
}

var (
	_ sink.Sink   = (*Sink)(nil)
	_ sink.Locker = (*Sink)(nil)
)

// Options are what a Sink takes from its process.
type Options struct {
	// Worktable makes the batches of FormWorktable. This package knows no other sink, so
	// the program hands over the encoder of that one.
	Worktable func() sink.Batch
	// At is called at the steps of the state file's replacement; nil but in tests.
	At func(statefile.Step) error
}

// New returns a sink that is not open. The configuration is taken as it is, without
// its defaults. An error: the form has no encoder.
func New(cfg Config, o Options) (*Sink, error) {
	s := &Sink{
		keeper:   statefile.NewKeeper(statefile.File{Path: cfg.State, At: o.At}),
		newBatch: func() sink.Batch { return &jsonline.Batch{} },
	}
	if cfg.Form == FormWorktable {
		if o.Worktable == nil {
			return nil, errors.New("the form worktable has no encoder")
		}
		s.newBatch = o.Worktable
	}
	return s, nil
}

// Open takes the lock of the state file and returns the position in it. Errors:
// *fault.ConfigError, *fault.Halt for a state file that cannot be read, or
// transient: another process has the lock.
func (s *Sink) Open(ctx context.Context, src sink.Source) (lsn.Progress, error) {
	return s.keeper.Open(ctx, src.Name)
}

// NewBatch returns an empty batch of the configured form.
func (s *Sink) NewBatch() sink.Batch { return s.newBatch() }

// Write counts the batch and stores the position. Errors: fault.ErrFenced when the
// lock was given up, or transient.
func (s *Sink) Write(ctx context.Context, b sink.Batch, to lsn.Progress) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("store the position: %w", context.Cause(ctx))
	}
	if err := s.keeper.Check(to); err != nil {
		return err
	}
	if err := s.keeper.Store(to); err != nil {
		return err
	}
	s.items.Add(int64(b.Items()))
	s.bytes.Add(int64(b.Bytes()))
	return nil
}

// Items returns the number of items that were written.
func (s *Sink) Items() int64 { return s.items.Load() }

// Bytes returns the length of what they were encoded to.
func (s *Sink) Bytes() int64 { return s.bytes.Load() }

// Lock waits for the lock of the state file: see statefile.Keeper.
func (s *Sink) Lock(ctx context.Context, name string, takeoverAfter time.Duration, waiting func(owner string)) (sink.Lock, error) {
	return s.keeper.Lock(ctx, name, takeoverAfter, waiting)
}

// Close gives up the state file.
func (s *Sink) Close(context.Context) error {
	s.keeper.Close()
	return nil
}
