package sinktest

import (
	"context"
	"errors"
	"fmt"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/sink"
)

// redelivery: items that are handed over again, since their write failed before,
// are the same to the byte, however they are cut into batches.
func redelivery(e *env) {
	e.needs(e.d.Crash != nil, "a kill between two steps")
	src := e.source(4, 10, 1000)
	for _, stage := range e.h.CrashStages {
		e.d = e.h.New(e.t)
		src.max, src.together = 1000, 0
		s, p := e.opened()
		e.crashed(src, s, p, 2, stage)
		src.max, src.together = e.h.Lanes+2, 3
		e.finish(src)
	}
}

// model: a source is delivered with a fault at a random write again and again,
// until all of it is stored: after each Open the destination holds what belongs to
// the position, in the end each item, once where that is claimed.
func model(e *env) {
	src := e.source(25, 9, e.h.Lanes+5)
	steps := 0
	for done := false; !done; steps++ {
		require.Less(e.t, steps, 400, "no progress, seed %d", e.seed)
		src.together = 1 + e.rng.IntN(4)
		s, p := e.opened()
		e.stored(src, p)
		err := e.faulty(src, s, p)
		done = err == nil
		e.close(s)
	}
	e.t.Logf("delivered in %d runs", steps)
	e.finish(src)
}

var errStop = errors.New("a fault of the test")

// faulty delivers until its fault comes, at one of the next writes.
func (e *env) faulty(src *source, s sink.Sink, from lsn.Progress) error {
	e.t.Helper()
	at, kind := 1+e.rng.IntN(6), e.rng.IntN(4)
	writes := 0
	return src.run(s, from.Position, func(b sink.Batch, to lsn.Progress) error {
		if writes++; writes < at {
			e.write(s, b, to)
			return nil
		}
		return errors.Join(errStop, e.fault(kind, src, s, b, to))
	})
}

// fault writes the batch with a fault of the kind.
func (e *env) fault(kind int, src *source, s sink.Sink, b sink.Batch, to lsn.Progress) error {
	stages := e.h.CrashStages
	if kind < 2 && len(stages) > 0 {
		stage := stages[e.rng.IntN(len(stages))]
		e.d.Crash(e.t, s, stage)
		err := s.Write(e.ctx(), b, to)
		require.Error(e.t, err, "a write that was killed at %s", stage)
		return err
	}
	if kind == 2 {
		ctx, cancel := context.WithCancel(e.ctx())
		cancel()
		return s.Write(ctx, b, to)
	}
	if e.h.Promises.Fencing {
		second, p := e.opened()
		e.stored(src, p)
		err := s.Write(e.ctx(), b, to)
		require.Error(e.t, err, "write of a former owner")
		e.close(second)
		return err
	}
	return fmt.Errorf("stopped before the write to %s", to.Position)
}
