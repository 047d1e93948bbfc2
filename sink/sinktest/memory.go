package sinktest

import (
	"bytes"
	"context"
	"slices"
	"sync"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/mapper"
)

// Stage is a step of a sink in memory at which a fault can be put.
type Stage string

// The stages, in their order.
const (
	StageOpen  Stage = "open"  // of Open, before it does anything
	StageBegin Stage = "begin" // of Write, before it looks at the batch
	StageStore Stage = "store" // of Write: all is ready, nothing stored
	StageAck   Stage = "ack"   // of Write: all is stored, the caller does not know it yet
)

// Memory is a destination in memory. It keeps what the suite asks of a sink that
// is atomic, exactly once and fencing, and takes faults. Sink gives the sinks on
// it. Its methods may be called at any time, from any goroutine.
type Memory struct {
	mu      sync.Mutex // guards what follows
	lanes   int
	writes  []Written
	owners  map[string]uint64 // by source: the epoch of its newest owner
	faults  map[Stage][]trap
	refuse  func(Stored) (string, bool)
	locks   map[string]*memoryLock
	changed chan struct{} // closed and made anew at each change
}

// Written is one write as a Memory holds it.
type Written struct {
	Source string
	To     lsn.Progress
	Items  []Stored
}

// trap is a fault for one use: a call, and the sink that it waits for, nil for any.
type trap struct {
	of *MemorySink
	do func(context.Context) error
}

// NewMemory returns an empty destination on which an item of all lanes becomes as
// many items.
func NewMemory(lanes int) *Memory {
	return &Memory{
		lanes: lanes, owners: map[string]uint64{}, faults: map[Stage][]trap{},
		locks: map[string]*memoryLock{}, changed: make(chan struct{}),
	}
}

// FailAt makes the next call of any sink that comes to the stage return err from
// there. At StageAck the batch is stored all the same.
func (m *Memory) FailAt(stage Stage, err error) {
	m.at(stage, nil, func(context.Context) error { return err })
}

// StallAt makes the next call of any sink that comes to the stage stand still until
// it is released or its context ends, the error of which it then returns.
func (m *Memory) StallAt(stage Stage) *Blocked { return m.stall(stage, nil) }

func (m *Memory) stall(stage Stage, of *MemorySink) *Blocked {
	reached, released := make(chan struct{}), make(chan struct{})
	m.at(stage, of, func(ctx context.Context) error {
		close(reached)
		select {
		case <-released:
			return nil
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	})
	return &Blocked{Reached: reached, Release: sync.OnceFunc(func() { close(released) })}
}

func (m *Memory) at(stage Stage, of *MemorySink, do func(context.Context) error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.faults[stage] = append(m.faults[stage], trap{of, do})
}

// comeTo runs the first fault of the stage that is meant for the sink, if there is
// one.
func (m *Memory) comeTo(ctx context.Context, stage Stage, s *MemorySink) error {
	m.mu.Lock()
	list := m.faults[stage]
	i := slices.IndexFunc(list, func(f trap) bool { return f.of == nil || f.of == s })
	if i < 0 {
		m.mu.Unlock()
		return nil
	}
	do := list[i].do
	m.faults[stage] = slices.Delete(list, i, i+1)
	m.mu.Unlock()
	return do(ctx)
}

// Refuse makes the destination refuse for good each item for which refuse returns a
// reason and true: it is reported as poison and stored as a dead letter.
func (m *Memory) Refuse(refuse func(Stored) (reason string, refused bool)) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.refuse = refuse
}

// Forget loses the newest n writes of a source, as a failover to a standby that
// lagged does. Nobody is told.
func (m *Memory) Forget(source string, n int) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for i := len(m.writes) - 1; i >= 0 && n > 0; i-- {
		if m.writes[i].Source == source {
			m.writes = slices.Delete(m.writes, i, i+1)
			n--
		}
	}
	m.wake()
}

// Fence makes every open sink of the source a former owner, as an Open in another
// process does.
func (m *Memory) Fence(source string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.owners[source]++
}

// Store puts a write there by hand, such as the progress that a test begins with.
func (m *Memory) Store(w Written) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.add(w)
}

func (m *Memory) add(w Written) {
	w.To.Cursors = bytes.Clone(w.To.Cursors)
	m.writes = append(m.writes, w)
	m.wake()
}

func (m *Memory) wake() {
	close(m.changed)
	m.changed = make(chan struct{})
}

// Writes returns all writes, in order. What they hold must not be changed.
func (m *Memory) Writes() []Written {
	m.mu.Lock()
	defer m.mu.Unlock()
	return slices.Clone(m.writes)
}

// Items returns all items and dead letters, in order. What they hold must not be
// changed.
func (m *Memory) Items() []Stored {
	var all []Stored
	for _, w := range m.Writes() {
		all = append(all, w.Items...)
	}
	return all
}

// DeadLetters returns the dead letters among Items.
func (m *Memory) DeadLetters() []Stored {
	return slices.DeleteFunc(m.Items(), func(s Stored) bool { return s.Kind != mapper.KindDeadLetter })
}

// Progress returns what is stored for a source, PhaseNone when nothing is.
func (m *Memory) Progress(source string) lsn.Progress {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.progress(source)
}

func (m *Memory) progress(source string) lsn.Progress {
	for _, w := range slices.Backward(m.writes) {
		if w.Source == source {
			p := w.To
			p.Cursors = bytes.Clone(p.Cursors)
			return p
		}
	}
	return lsn.Progress{}
}

// Wait returns when cond holds, which is asked again after each change of what is
// stored, or with the context's error.
func (m *Memory) Wait(ctx context.Context, cond func() bool) error {
	for {
		m.mu.Lock()
		changed := m.changed
		m.mu.Unlock()
		if cond() {
			return nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}
