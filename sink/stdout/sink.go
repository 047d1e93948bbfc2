package stdout

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/statefile"
)

// Sink prints items. It is a sink.Locker too.
type Sink struct {
	keeper *statefile.Keeper
	cfg    Config
	colour bool
	out    *output
	// opened: an Open has answered, and no Write has failed since.
	opened bool
	// pending is the result of a write that was given up and goes on, nil when there
	// is none.
	pending <-chan error
	closed  chan struct{}
	close   sync.Once
}

// Options are what a Sink takes from its process.
type Options struct {
	// Out is where the lines go: os.Stdout. A regular file is flushed before the position
	// is stored.
	Out io.Writer
	// Terminal: Out is a terminal, so the pretty format has colours.
	Terminal bool
	// At is called at the steps of the state file's replacement; nil but in tests.
	At func(statefile.Step) error
}

var (
	_ sink.Sink   = (*Sink)(nil)
	_ sink.Locker = (*Sink)(nil)
)

// New returns a sink that is not open. The configuration is taken as it is, without
// its defaults.
func New(cfg Config, o Options) *Sink {
	return &Sink{
		keeper: statefile.NewKeeper(statefile.File{Path: cfg.State, At: o.At}),
		cfg:    cfg, colour: o.Terminal, out: newOutput(o.Out), closed: make(chan struct{}),
	}
}

// OutputClosed is closed when the reader of the output has gone. The bridge has no
// use any more: its process should end, and say so in one line.
func (s *Sink) OutputClosed() <-chan struct{} { return s.closed }

// Open takes the lock of the state file and returns the position in it. It waits for
// a write that was given up. Errors: ErrOutputClosed, *fault.ConfigError, *fault.Halt
// for a state file that cannot be read, or transient: another process has the lock.
func (s *Sink) Open(ctx context.Context, src sink.Source) (lsn.Progress, error) {
	s.opened = false
	if err := s.settle(ctx); err != nil {
		return lsn.Progress{}, err
	}
	select {
	case <-s.closed:
		return lsn.Progress{}, ErrOutputClosed
	default:
	}
	p, err := s.keeper.Open(ctx, src.Name)
	s.opened = err == nil
	return p, err
}

// settle waits for the write that was given up to end, whatever comes of it: the
// state file says.
func (s *Sink) settle(ctx context.Context) error {
	if s.pending == nil {
		return nil
	}
	select {
	case <-s.pending:
		s.pending = nil
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the output to take a write that was given up: %w", context.Cause(ctx))
	}
}

// NewBatch returns an empty batch.
func (s *Sink) NewBatch() sink.Batch {
	if s.cfg.Format == FormatPretty {
		return &prettyBatch{colour: s.colour}
	}
	return &lineBatch{}
}

// Write prints the batch and then stores the position. A reader that does not read
// holds it; when ctx ends meanwhile Write returns, and the output goes on in the
// background until the next Open has waited for it. Errors: ErrOutputClosed,
// fault.ErrFenced when the lock was given up, or transient.
func (s *Sink) Write(ctx context.Context, b sink.Batch, to lsn.Progress) error {
	if !s.opened {
		return errors.New("not open: Open comes before Write, and after each error of it")
	}
	err := s.write(ctx, b.(printable), to)
	s.opened = err == nil
	if errors.Is(err, ErrOutputClosed) {
		s.close.Do(func() { close(s.closed) })
		return err
	}
	if err != nil && !errors.Is(err, fault.ErrFenced) {
		return fault.Transient("output", err)
	}
	return err
}

func (s *Sink) write(ctx context.Context, b printable, to lsn.Progress) error {
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("print: %w", context.Cause(ctx))
	}
	if err := s.keeper.Check(to); err != nil {
		return err
	}
	done := make(chan error, 1)
	go func() { done <- s.print(b.text(), to) }()
	select {
	case err := <-done:
		return err
	case <-ctx.Done():
		b.lend()
		s.pending = done
		return fmt.Errorf("print: %w", context.Cause(ctx))
	}
}

func (s *Sink) print(text []byte, to lsn.Progress) error {
	if err := s.out.write(text, s.keeper.Durable()); err != nil {
		return err
	}
	return s.keeper.Store(to)
}

// Lock waits for the lock of the state file: see statefile.Keeper.
func (s *Sink) Lock(ctx context.Context, name string, takeoverAfter time.Duration, waiting func(owner string)) (sink.Lock, error) {
	return s.keeper.Lock(ctx, name, takeoverAfter, waiting)
}

// Close gives up the state file. It waits for a write that was given up, as long as
// ctx lasts: with a reader that never reads the goroutine of that write stays until
// the process ends.
func (s *Sink) Close(ctx context.Context) error {
	s.opened = false
	if err := s.settle(ctx); err != nil {
		return err
	}
	s.keeper.Close()
	return nil
}
