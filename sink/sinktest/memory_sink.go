package sinktest

import (
	"context"
	"errors"
	"fmt"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/sink"
)

// MemorySink is a sink on a Memory. It is stricter than the contract asks: after
// any error of Write it refuses all but Open and Close.
type MemorySink struct {
	m     *Memory
	src   sink.Source
	epoch uint64 // 0: not open
	dead  bool   // killed: nothing works any more
}

// Sink returns a new instance, not open, as another process would have one.
func (m *Memory) Sink() *MemorySink { return &MemorySink{m: m} }

// errDead is what a killed instance answers.
var errDead = errors.New("this instance was killed")

// errNotOpen is what a write gets that no Open came before.
var errNotOpen = errors.New("not open: Open comes before Write, and after each error of it")

// Open makes this instance the owner of the source and returns its progress.
func (s *MemorySink) Open(ctx context.Context, src sink.Source) (lsn.Progress, error) {
	s.epoch = 0
	if s.dead {
		return lsn.Progress{}, errDead
	}
	if err := s.m.comeTo(ctx, StageOpen, s); err != nil {
		return lsn.Progress{}, fmt.Errorf("open: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return lsn.Progress{}, fmt.Errorf("open: %w", err)
	}
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	s.m.owners[src.Name]++
	s.src, s.epoch = src, s.m.owners[src.Name]
	return s.m.progress(src.Name), nil
}

// NewBatch returns an empty batch.
func (s *MemorySink) NewBatch() sink.Batch { return &memoryBatch{lanes: s.m.lanes} }

// Write stores the batch and the position in one step.
func (s *MemorySink) Write(ctx context.Context, b sink.Batch, to lsn.Progress) error {
	if s.dead {
		return errDead
	}
	if s.epoch == 0 {
		return errNotOpen
	}
	err := s.write(ctx, b.(*memoryBatch), to)
	if err != nil && !errors.Is(err, fault.ErrFenced) {
		s.epoch = 0
	}
	return err
}

func (s *MemorySink) write(ctx context.Context, b *memoryBatch, to lsn.Progress) error {
	if err := s.m.comeTo(ctx, StageBegin, s); err != nil {
		return fmt.Errorf("begin: %w", err)
	}
	items, err := s.bury(b.encoded(s.src.Name))
	if err != nil {
		return err
	}
	if err := s.m.comeTo(ctx, StageStore, s); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if err := ctx.Err(); err != nil {
		return fmt.Errorf("store: %w", err)
	}
	if err := s.commit(Written{s.src.Name, to, items}); err != nil {
		return err
	}
	return s.m.comeTo(ctx, StageAck, s)
}

// commit is the one step: whether this instance is the owner and the position
// lies ahead is asked under the lock that the items are added under.
func (s *MemorySink) commit(w Written) error {
	s.m.mu.Lock()
	defer s.m.mu.Unlock()
	if s.m.owners[w.Source] != s.epoch {
		return fault.ErrFenced
	}
	old := s.m.progress(w.Source)
	if old.Phase != lsn.PhaseNone && !old.Position.Before(w.To.Position) && w.To.Timeline <= old.Timeline {
		return fmt.Errorf("position %s does not lie after the stored %s", w.To.Position, old.Position)
	}
	s.m.add(w)
	return nil
}

// bury turns the items that the destination refuses into dead letters.
func (s *MemorySink) bury(items []Stored) ([]Stored, error) {
	s.m.mu.Lock()
	refuse := s.m.refuse
	s.m.mu.Unlock()
	if refuse == nil {
		return items, nil
	}
	for i, it := range items {
		reason, refused := refuse(it)
		if it.Kind == mapper.KindDeadLetter || !refused {
			continue
		}
		err := fmt.Errorf("item %s is refused: %s", it.ID, reason)
		if tell := s.src.OnPoison; tell != nil {
			if stop := tell(sink.Poison{ID: it.ID, Stream: it.Stream, Reason: reason, Err: err}); stop != nil {
				return nil, stop
			}
		}
		items[i].Kind = mapper.KindDeadLetter
		items[i].DeadLetter = &mapper.DeadLetter{Reason: reason, Error: err.Error(), Raw: it.Payload, Replayable: true}
	}
	return items, nil
}

// Close ends the instance; Open begins it anew.
func (s *MemorySink) Close(context.Context) error {
	s.epoch = 0
	return nil
}

// kill makes the next Write end at the stage, and with it the instance.
func (s *MemorySink) kill(stage Stage) {
	s.m.at(stage, s, func(context.Context) error {
		s.dead = true
		return errDead
	})
}
