package sinktest

import (
	"bytes"
	"context"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/sink"
)

// claimsHaveMeans: a harness gives the means to check what it claims.
func claimsHaveMeans(e *env) {
	p := e.h.Promises
	require.NotNil(e.t, e.d.Sink, "Destination.Sink")
	if p.AtomicPosition || p.ExactlyOnce {
		require.NotEmpty(e.t, e.h.CrashStages, "atomic or exactly once, and no stage to crash at")
		require.NotEmpty(e.t, e.h.BlockStages, "atomic or exactly once, and no stage to block at")
		require.NotNil(e.t, e.d.Read, "atomic or exactly once, and nothing to read with")
	}
	if p.Fencing {
		require.NotEmpty(e.t, e.h.BlockStages, "fencing, and no stage to block at")
	}
	require.False(e.t, p.Fencing && p.Exclusive, "fencing and exclusive")
	require.Equal(e.t, len(e.h.CrashStages) > 0, e.d.Crash != nil, "crash stages and Crash go together")
	require.Equal(e.t, len(e.h.BlockStages) > 0, e.d.Block != nil, "block stages and Block go together")
}

// freshSource: a source never seen has no progress, however often it is opened.
func freshSource(e *env) {
	s, p := e.opened()
	sameProgress(e.t, lsn.Progress{}, p)
	sameProgress(e.t, lsn.Progress{}, e.open(s))
	_, p = e.reopened(s)
	sameProgress(e.t, lsn.Progress{}, p)
	e.holds()
}

// lives is the progress of a bridge's life: the slot about to be made, a snapshot
// with its cursors, inside a transaction, a halt.
func lives() []lsn.Progress {
	base := lsn.Progress{SystemID: 0xFFFF_0000_1234_5678, Timeline: 1, Slot: "walbridge_shop", ConfigHash: "e3b0c44298fc1c149afbf4c8996fb924"}
	slotNew, snapshot, inside, extreme := base, base, base, base
	slotNew.Phase = lsn.PhaseNew
	every := make([]byte, 64<<10)
	for i := range every {
		every[i] = byte(i)
	}
	snapshot.Phase, snapshot.Position, snapshot.Cursors = lsn.PhaseStreaming, lsn.Position{End: 0x1924E78}, every
	inside.Phase, inside.Cursors = lsn.PhaseStreaming, []byte("\x00{}")
	inside.Position = lsn.Position{End: 0x1924E78, LastTxEnd: 0x1924E70, Commit: 0xFF_19250000, Seq: 0xFFFF_FFFE, Sub: 0xFFFF}
	inside.Xid, inside.CommitTime = 0x7F_FFFF_FFFF, time.Date(2026, 3, 29, 1, 59, 59, 999_999_000, time.UTC)
	extreme.Phase, extreme.Timeline = lsn.PhaseStreaming, 0x7FFF_FFFF
	extreme.Position = lsn.Position{End: 0xFFFFFFFF_FFFFFFF8, LastTxEnd: 0xFFFFFFFF_FFFFFFF0}
	extreme.Xid, extreme.CommitTime = 700, time.Date(2000, 1, 1, 0, 0, 0, 0, time.UTC)
	return []lsn.Progress{slotNew, snapshot, inside, extreme}
}

// progressRoundTrip: Open answers what was written, all of it, to this instance
// and to another.
func progressRoundTrip(e *env) {
	s, _ := e.opened()
	for _, want := range lives() {
		want.Cursors = bytes.Clone(want.Cursors)
		e.write(s, s.NewBatch(), want)
		sameProgress(e.t, want, e.open(s))
		var got lsn.Progress
		s, got = e.reopened(s)
		sameProgress(e.t, want, got)
	}
}

// progressCleared: what a later progress has no more is gone.
func progressCleared(e *env) {
	s, _ := e.opened()
	for _, p := range lives()[:3] {
		e.write(s, s.NewBatch(), p)
	}
	plain := lsn.Progress{SystemID: 7, Timeline: 1, Slot: "s", Phase: lsn.PhaseStreaming, Position: lsn.Position{End: 0x200_00000000}}
	e.write(s, s.NewBatch(), plain)
	_, got := e.reopened(s)
	sameProgress(e.t, plain, got)
}

// emptyBatch: an empty batch moves the position, and stores nothing else.
func emptyBatch(e *env) {
	s, p := e.opened()
	src := e.source(2, 3, 100)
	e.deliver(src, s, p)
	idle := src.at(1)
	for range 3 {
		idle.Position.End += 0x100
		e.write(s, s.NewBatch(), idle)
	}
	used := s.NewBatch()
	src.txs[0].Changes[0].scribble(used.Append)
	used.Reset()
	idle.Position.End += 0x100
	e.write(s, used, idle)
	_, got := e.reopened(s)
	sameProgress(e.t, idle, got)
	e.holds(src.all()...)
}

// positionOrder: a position that does not lie after the stored one is refused, and
// nothing of its batch is stored.
func positionOrder(e *env) {
	s, p := e.opened()
	src := e.source(3, 3, 100)
	e.deliver(src, s, p)
	last := src.at(2)
	last.Position.Commit, last.Position.Seq, last.Position.Sub = last.Position.End+0x100, 5, 1
	e.write(s, s.NewBatch(), last)
	behind := []func(*lsn.Position){
		func(*lsn.Position) {},
		func(p *lsn.Position) { p.Sub-- },
		func(p *lsn.Position) { p.Seq, p.Sub = 4, 9 },
		func(p *lsn.Position) { p.Commit, p.Seq = p.Commit-8, 9 },
		func(p *lsn.Position) { p.Commit, p.Seq, p.Sub = 0, 0, 0 },
		func(p *lsn.Position) { p.End, p.Commit, p.Seq, p.Sub = p.End-8, 0, 0, 0 },
		func(p *lsn.Position) { *p = lsn.Position{} },
	}
	for i, move := range behind {
		to := last
		move(&to.Position)
		b := s.NewBatch()
		if i%2 == 1 {
			e.gen.Tx(1).Changes[0].scribble(b.Append)
		}
		require.Error(e.t, s.Write(e.ctx(), b, to), "position %s written after %s", to.Position, last.Position)
		sameProgress(e.t, last, e.open(s))
		e.holds(src.all()...)
	}
	last.Position.Sub++
	e.write(s, s.NewBatch(), last)
	_, got := e.reopened(s)
	sameProgress(e.t, last, got)
}

// positionBack: a position moves back with a higher timeline, and forward from
// there.
func positionBack(e *env) {
	s, p := e.opened()
	src := e.source(2, 3, 100)
	e.deliver(src, s, p)
	fork := src.at(1)
	fork.Timeline, fork.Position.End = fork.Timeline+1, fork.Position.End-0x10
	e.write(s, s.NewBatch(), fork)
	sameProgress(e.t, fork, e.open(s))
	require.Error(e.t, s.Write(e.ctx(), s.NewBatch(), fork), "the same position on the same timeline")
	s, got := e.reopened(s)
	sameProgress(e.t, fork, got)
	fork.Position.End += 8
	e.write(s, s.NewBatch(), fork)
	same := fork
	same.Timeline++
	e.write(s, s.NewBatch(), same)
	_, got = e.reopened(s)
	sameProgress(e.t, same, got)
}

// writeBeforeOpen: an instance that was never opened writes nothing.
func writeBeforeOpen(e *env) {
	s := e.sink()
	src := e.source(1, 3, 100)
	require.Error(e.t, src.deliver(e.ctx(), s, lsn.Position{}), "write without Open")
	_, p := e.reopened(s)
	sameProgress(e.t, lsn.Progress{}, p)
	e.holds()
}

// closeWritesNothing: what was appended and not written is not stored by Close,
// and an instance can be closed that was never opened.
func closeWritesNothing(e *env) {
	require.NoError(e.t, e.d.Sink(e.t).Close(e.ctx()), "close before Open")
	s, _ := e.opened()
	src := e.source(1, 3, 100)
	b := s.NewBatch()
	for _, c := range src.txs[0].Changes {
		c.scribble(b.Append)
	}
	b.EndTx()
	require.NoError(e.t, s.Close(e.ctx()), "close")
	_, p := e.opened()
	sameProgress(e.t, lsn.Progress{}, p)
	e.holds()
}

// cancelledWrite: a Write whose context has ended returns, and what it did is what
// Open then says; when it returned nil, it has written.
func cancelledWrite(e *env) {
	s, p := e.opened()
	src := e.source(4, 4, 100)
	dead, cancel := context.WithCancel(context.Background())
	cancel()
	writes := 0
	err := src.run(s, p.Position, func(b sink.Batch, to lsn.Progress) error {
		if writes++; writes < 3 {
			return s.Write(e.ctx(), b, to)
		}
		err := s.Write(dead, b, to)
		got := e.open(s)
		if err == nil {
			sameProgress(e.t, to, got)
		}
		e.stored(src, got)
		return context.Canceled
	})
	require.ErrorIs(e.t, err, context.Canceled)
	e.close(s)
	e.finish(src)
}

// cancelledOpen: an Open whose context has ended does no harm.
func cancelledOpen(e *env) {
	s, p := e.opened()
	src := e.source(3, 3, 100)
	e.deliver(src, s, p)
	dead, cancel := context.WithCancel(context.Background())
	cancel()
	if p, err := s.Open(dead, sink.Source{Name: SourceName}); err == nil {
		sameProgress(e.t, src.at(2), p)
	}
	sameProgress(e.t, src.at(2), e.open(s))
	e.close(s)
	e.finish(src)
}
