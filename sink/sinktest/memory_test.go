package sinktest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/sink"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var stages = []string{string(StageBegin), string(StageStore), string(StageAck)}

// memoryHarness is the harness of sinks on a Memory, each given to wrap first.
func memoryHarness(wrap func(*MemorySink) sink.Sink) Harness {
	return Harness{
		Promises:    Promises{AtomicPosition: true, ExactlyOnce: true, Fencing: true, ManySources: true},
		Lanes:       3,
		CrashStages: stages,
		BlockStages: stages,
		New:         func(testing.TB) Destination { return memoryDestination(wrap) },
	}
}

func memoryDestination(wrap func(*MemorySink) sink.Sink) Destination {
	m := NewMemory(3)
	m.Refuse(func(s Stored) (string, bool) { return "test_refused", string(s.Payload) == `"poison"` })
	inner := map[sink.Sink]*MemorySink{}
	return Destination{
		Sink: func(testing.TB) sink.Sink {
			k := m.Sink()
			s := wrap(k)
			inner[s] = k
			return s
		},
		Read:     func(testing.TB) []Stored { return m.Items() },
		Progress: func(_ testing.TB, source string) lsn.Progress { return m.Progress(source) },
		Poison:   func(it *mapper.Item) { it.Payload = JSON(`"poison"`) },
		Crash:    func(_ testing.TB, s sink.Sink, stage string) { inner[s].kill(Stage(stage)) },
		Block:    func(_ testing.TB, s sink.Sink, stage string) *Blocked { return m.stall(Stage(stage), inner[s]) },
		Save: func(testing.TB) func(testing.TB) {
			n := len(m.Writes())
			return func(testing.TB) { m.Forget(SourceName, len(m.Writes())-n) }
		},
	}
}

func TestMemoryKeepsTheLaw(t *testing.T) {
	Run(t, memoryHarness(func(s *MemorySink) sink.Sink { return s }))
}

// memoryOpen returns an open sink on a Memory, and a batch of one item.
func memoryOpen(t *testing.T) (*Memory, *MemorySink, sink.Batch) {
	m := NewMemory(1)
	s := m.Sink()
	_, err := s.Open(t.Context(), sink.Source{Name: "shop"})
	require.NoError(t, err)
	b := s.NewBatch()
	tx := NewGenerator(1).Tx(1)
	tx.Changes[0].scribble(b.Append)
	return m, s, b
}

var somewhere = lsn.Progress{Phase: lsn.PhaseStreaming, Position: lsn.Position{End: 0x100}}

func TestMemoryFaults(t *testing.T) {
	cut := errors.New("cut")
	for stage, stored := range map[Stage]int{StageBegin: 0, StageStore: 0, StageAck: 1} {
		m, s, b := memoryOpen(t)
		m.FailAt(stage, cut)
		require.ErrorIs(t, s.Write(t.Context(), b, somewhere), cut, stage)
		require.Len(t, m.Writes(), stored, stage)
		require.ErrorIs(t, s.Write(t.Context(), b, somewhere), errNotOpen, "Open comes first")
	}
	m, s, _ := memoryOpen(t)
	m.FailAt(StageOpen, cut)
	_, err := s.Open(t.Context(), sink.Source{Name: "shop"})
	require.ErrorIs(t, err, cut)
}

func TestMemoryStallEndsWithItsContext(t *testing.T) {
	m, s, b := memoryOpen(t)
	stalled := m.StallAt(StageStore)
	ctx, cancel := context.WithCancel(t.Context())
	wrote := make(chan error, 1)
	go func() { wrote <- s.Write(ctx, b, somewhere) }()
	<-stalled.Reached
	cancel()
	require.ErrorIs(t, <-wrote, context.Canceled)
	stalled.Release()
	require.Empty(t, m.Writes())
}

func TestMemoryFenceForgetStore(t *testing.T) {
	m, s, b := memoryOpen(t)
	m.Fence("shop")
	require.ErrorIs(t, s.Write(t.Context(), b, somewhere), fault.ErrFenced)
	m.Store(Written{Source: "shop", To: somewhere})
	m.Store(Written{Source: "other", To: somewhere})
	p, err := s.Open(t.Context(), sink.Source{Name: "shop"})
	require.NoError(t, err)
	require.Equal(t, somewhere, p)
	m.Forget("shop", 1)
	require.Equal(t, lsn.Progress{}, m.Progress("shop"))
	require.Equal(t, somewhere, m.Progress("other"))
}

func TestMemoryWait(t *testing.T) {
	m, s, b := memoryOpen(t)
	waited := make(chan error, 1)
	go func() { waited <- m.Wait(t.Context(), func() bool { return len(m.Items()) > 0 }) }()
	require.NoError(t, s.Write(t.Context(), b, somewhere))
	require.NoError(t, <-waited)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	require.ErrorIs(t, m.Wait(ctx, func() bool { return false }), context.Canceled)
}

func TestMemoryLock(t *testing.T) {
	m := NewMemory(1)
	first, err := m.Sink().Lock(t.Context(), "shop", time.Hour, nil)
	require.NoError(t, err)
	other, err := m.Sink().Lock(t.Context(), "other", time.Hour, nil)
	require.NoError(t, err)
	for _, letGo := range []func(){func() { require.NoError(t, first.Unlock(t.Context())) }, func() { m.DropLock("shop") }} {
		asked, got := make(chan string, 1), make(chan sink.Lock, 1)
		go func() {
			l, _ := m.Sink().Lock(t.Context(), "shop", time.Hour, func(owner string) { asked <- owner })
			got <- l
		}()
		require.NotEmpty(t, <-asked)
		letGo()
		require.NotNil(t, <-got)
	}
	select {
	case <-other.Lost():
		t.Fatal("the lock of another name was lost")
	default:
	}
	require.NoError(t, first.Unlock(t.Context()), "twice")
	ctx, cancel := context.WithCancel(t.Context())
	_, err = m.Sink().Lock(ctx, "shop", time.Hour, func(string) { cancel() })
	require.ErrorIs(t, err, context.Canceled, "still owned by the last that got it")
}

func TestMemoryDropLockClosesLost(t *testing.T) {
	m := NewMemory(1)
	l, err := m.Sink().Lock(t.Context(), "shop", time.Hour, nil)
	require.NoError(t, err)
	m.DropLock("shop")
	m.DropLock("shop")
	<-l.Lost()
	require.NoError(t, l.Unlock(t.Context()))
}

// Two generators of one seed agree, and all kinds come up.
func TestGenerator(t *testing.T) {
	h := Harness{Lanes: 2}.withDefaults()
	seed := Seed(t)
	a := &source{h: h, name: SourceName, txs: NewGenerator(seed).Txs(200, 20)}
	b := &source{h: h, name: SourceName, txs: NewGenerator(seed).Txs(200, 20)}
	all := a.all()
	between(t, h, all, b.all(), b.all())
	seen := map[string]bool{}
	for i, s := range all {
		seen[s.Kind.String()+" "+s.Type] = true
		require.Equal(t, s.Kind == mapper.KindDeadLetter, s.DeadLetter != nil)
		if i > 0 {
			require.Negative(t, all[i-1].ID.Compare(s.ID), "ids rise")
		}
	}
	for _, want := range []string{"change insert", "change update", "change delete", "change read", "change truncate", "event OrderPaid", "dead_letter "} {
		require.Contains(t, seen, want)
	}
}
