package sinktest

import (
	"context"
	"errors"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/sink"
)

// faultChecks end and hold writes at the harness's stages.
func faultChecks(h Harness) []check {
	var all []check
	for _, stage := range h.CrashStages {
		all = append(all,
			check{"crash/" + stage, func(e *env) { crash(e, stage) }},
			check{"crash_one_item/" + stage, func(e *env) { crashOne(e, stage) }},
			check{"crash_first_write/" + stage, func(e *env) { crashFirst(e, stage) }},
			check{"crash_inside_transaction/" + stage, func(e *env) { crashInside(e, stage) }})
	}
	for _, stage := range h.BlockStages {
		all = append(all,
			check{"slow_write/" + stage, func(e *env) { slowWrite(e, stage) }},
			check{"visible_with_position/" + stage, func(e *env) { visible(e, stage) }},
			check{"unknown_result/" + stage, func(e *env) { unknownResult(e, stage) }},
			check{"same_batch_again/" + stage, func(e *env) { sameBatchAgain(e, stage) }})
	}
	return append(all, check{"lost_data", lostData})
}

// crashed delivers with a kill at the stage of the n-th write, and returns what a
// new instance answers after it.
func (e *env) crashed(src *source, s sink.Sink, from lsn.Progress, n int, stage string) lsn.Progress {
	e.t.Helper()
	writes := 0
	err := src.run(s, from.Position, func(b sink.Batch, to lsn.Progress) error {
		if writes++; writes == n {
			e.d.Crash(e.t, s, stage)
			err := s.Write(e.ctx(), b, to)
			require.Error(e.t, err, "a write that was killed at %s", stage)
			return errors.Join(errKilled, err)
		}
		return s.Write(e.ctx(), b, to)
	})
	require.ErrorIs(e.t, err, errKilled)
	s, p := e.reopened(s)
	e.stored(src, p)
	e.close(s)
	return p
}

var errKilled = errors.New("killed by the test")

// crash: after a kill at the stage either the whole batch is stored with its
// position, or neither is; going on from the answer stores all.
func crash(e *env, stage string) {
	src := e.source(6, 8, 1000)
	s, p := e.opened()
	p = e.crashed(src, s, p, 4, stage)
	require.Contains(e.t, []lsn.Position{src.at(2).Position, src.at(3).Position}, p.Position)
	e.finish(src)
}

// crashFirst: a kill in the first write of all.
func crashFirst(e *env, stage string) {
	src := e.source(2, 8, 1000)
	s, p := e.opened()
	p = e.crashed(src, s, p, 1, stage)
	if p.Phase == lsn.PhaseNone {
		sameProgress(e.t, lsn.Progress{}, p)
	} else {
		sameProgress(e.t, src.at(0), p)
	}
	e.finish(src)
}

// crashOne: a kill in a write of one item.
func crashOne(e *env, stage string) {
	src := e.source(0, 1, 1000)
	for range 4 {
		src.txs = append(src.txs, e.plain(1, e.record).txs...)
	}
	s, p := e.opened()
	e.crashed(src, s, p, 3, stage)
	e.finish(src)
}

// crashInside: kills in a transaction larger than a batch, each resumed from
// inside it.
func crashInside(e *env, stage string) {
	src := e.plain(30, e.record, e.gen.KeyChange, e.event, e.truncate, e.event)
	src.max = e.h.Lanes + 4
	for range 3 {
		s, p := e.opened()
		before := p
		p = e.crashed(src, s, p, 2, stage)
		require.True(e.t, before.Position.Before(p.Position), "position after a write that returned nil: %s, before it %s", p.Position, before.Position)
	}
	e.finish(src)
}

// slowWrite: a write that stands still for a while and goes on is a write like any
// other; it does not return nil before all is stored.
func slowWrite(e *env, stage string) {
	src := e.source(4, 8, 1000)
	s, p := e.opened()
	e.deliver(src.part(2), s, p)
	b := e.d.Block(e.t, s, stage)
	defer b.Release()
	wrote := e.started(src.part(3), s, src.at(1))
	await(e, b.Reached, "the write to reach "+stage)
	if len(wrote) > 0 {
		e.holds(src.part(3).all()...)
	}
	b.Release()
	require.NoError(e.t, await(e, wrote, "the slow write to end"), "write")
	e.deliver(src, s, src.at(2))
	sameProgress(e.t, src.at(3), e.open(s))
	e.holds(src.all()...)
}

// visible: while a write stands still at the stage, consumers see what belongs to
// the position that is stored: no item less, and for an atomic sink none more.
func visible(e *env, stage string) {
	e.needs(e.d.Progress != nil, "the stored progress without an Open")
	src := e.source(4, 8, 1000)
	s, p := e.opened()
	e.deliver(src.part(2), s, p)
	b := e.d.Block(e.t, s, stage)
	defer b.Release()
	wrote := e.started(src.part(3), s, src.at(1))
	await(e, b.Reached, "the write to reach "+stage)
	during := e.d.Progress(e.t, SourceName)
	require.Contains(e.t, []lsn.Position{src.at(1).Position, src.at(2).Position}, during.Position)
	e.stored(src, during)
	b.Release()
	require.NoError(e.t, await(e, wrote, "the blocked write to end"), "write")
	sameProgress(e.t, src.at(2), e.d.Progress(e.t, SourceName))
	e.stored(src, src.at(2))
}

// unknownResult: a caller that gives up a write which stands still gets an error in
// time. What Open then answers is final: the write is stored by then, or never.
func unknownResult(e *env, stage string) {
	src := e.source(5, 8, 1000)
	s, p := e.opened()
	e.deliver(src.part(2), s, p)
	b := e.d.Block(e.t, s, stage)
	defer b.Release()
	ctx, giveUp := context.WithCancel(e.ctx())
	defer giveUp()
	wrote := background(e, func(context.Context) error { return src.part(3).deliver(ctx, s, src.at(1).Position) })
	await(e, b.Reached, "the write to reach "+stage)
	giveUp()
	err := await(e, wrote, "a write that was given up")
	p = e.openedDuring(s, b)
	if err == nil {
		sameProgress(e.t, src.at(2), p)
	}
	e.stored(src, p)
	sameProgress(e.t, p, e.open(s))
	e.deliver(src, s, p)
	sameProgress(e.t, src.at(4), e.open(s))
	e.holds(src.all()...)
}

// sameBatchAgain: a batch whose write was given up is whole: where Open says that it
// is not stored, it can be written once more.
func sameBatchAgain(e *env, stage string) {
	src := e.source(4, 8, 1000)
	s, p := e.opened()
	e.deliver(src.part(2), s, p)
	batch := s.NewBatch()
	for _, c := range src.txs[2].Changes {
		c.scribble(batch.Append)
	}
	batch.EndTx()
	b := e.d.Block(e.t, s, stage)
	defer b.Release()
	ctx, giveUp := context.WithCancel(e.ctx())
	defer giveUp()
	wrote := background(e, func(context.Context) error { return s.Write(ctx, batch, src.at(2)) })
	await(e, b.Reached, "the write to reach "+stage)
	giveUp()
	_ = await(e, wrote, "a write that was given up")
	if p := e.openedDuring(s, b); p.Position != src.at(2).Position {
		sameProgress(e.t, src.at(1), p)
		e.write(s, batch, src.at(2))
	}
	batch.Reset()
	e.deliver(src, s, src.at(2))
	sameProgress(e.t, src.at(3), e.open(s))
	e.holds(src.all()...)
}

// lostData: a destination that has lost what it confirmed says so by its position,
// to an instance that was there before as well as to another; what is lost can be
// written again.
func lostData(e *env) {
	e.needs(e.d.Save != nil, "to save and restore what it holds")
	src := e.source(6, 6, 100)
	s, p := e.opened()
	e.deliver(src.part(3), s, p)
	e.close(s)
	restore := e.d.Save(e.t)
	s, p = e.opened()
	e.deliver(src, s, p)
	require.NoError(e.t, s.Close(e.ctx()))
	restore(e.t)
	sameProgress(e.t, src.at(2), e.open(s))
	s, p = e.reopened(s)
	sameProgress(e.t, src.at(2), p)
	e.holds(src.part(3).all()...)
	e.close(s)
	e.finish(src)
}
