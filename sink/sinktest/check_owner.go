package sinktest

import (
	"context"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/sink"
)

// ownerChecks are about several instances on one destination.
func ownerChecks(h Harness) []check {
	var all []check
	if h.Promises.Fencing {
		all = append(all, check{"fencing", fencing}, check{"fencing_idle", fencingIdle})
		for _, stage := range h.BlockStages {
			all = append(all, check{"fencing_blocked/" + stage, func(e *env) { fencingBlocked(e, stage) }})
		}
	}
	if h.Promises.Exclusive {
		all = append(all, check{"exclusive", exclusive})
		for _, stage := range h.BlockStages {
			all = append(all, check{"exclusive_blocked/" + stage, func(e *env) { exclusiveBlocked(e, stage) }})
		}
	}
	if h.Promises.ManySources {
		all = append(all, check{"sources_apart", sourcesApart})
	}
	return all
}

// fenced fails unless every kind of write of a former owner is refused for that
// reason, also after its first refusal.
func (e *env) fenced(s sink.Sink, src *source, from lsn.Progress) {
	e.t.Helper()
	require.ErrorIs(e.t, src.deliver(e.ctx(), s, from.Position), fault.ErrFenced, "write of a former owner")
	idle := src.at(len(src.txs) - 1)
	idle.Position.End += 0x1000
	require.ErrorIs(e.t, s.Write(e.ctx(), s.NewBatch(), idle), fault.ErrFenced, "empty write of a former owner")
}

// fencing: the newest Open owns the source; who was before can write nothing, and
// takes it back by an Open.
func fencing(e *env) {
	src := e.source(9, 4, 100)
	first, p := e.opened()
	e.deliver(src.part(3), first, p)
	second, p := e.opened()
	sameProgress(e.t, src.at(2), p)
	e.fenced(first, src, p)
	e.deliver(src.part(6), second, p)
	e.fenced(first, src, p)
	e.holds(src.part(6).all()...)
	p = e.open(first)
	sameProgress(e.t, src.at(5), p)
	e.fenced(second, src, p)
	e.deliver(src, first, p)
	sameProgress(e.t, src.at(8), e.open(first))
	e.holds(src.all()...)
}

// part is the source before most of it was written.
func (s *source) part(txs int) *source {
	p := *s
	p.txs = s.txs[:txs]
	return &p
}

// fencingIdle: an Open fences a former owner also on a source without progress,
// and when the new owner writes nothing and is closed.
func fencingIdle(e *env) {
	src := e.source(2, 4, 100)
	first, p := e.opened()
	second, _ := e.opened()
	e.close(second)
	e.fenced(first, src, p)
	e.holds()
	e.finish(src)
}

// fencingBlocked: an Open while the first owner's Write stands still at the stage.
// The write is stored whole before Open answers, or never.
func fencingBlocked(e *env, stage string) {
	src := e.source(6, 6, 1000)
	first, p := e.opened()
	e.deliver(src.part(2), first, p)
	b := e.d.Block(e.t, first, stage)
	defer b.Release()
	wrote := e.started(src.part(3), first, src.at(1))
	await(e, b.Reached, "the write to reach "+stage)
	second := e.sink()
	p = e.openedDuring(second, b)
	if err := await(e, wrote, "the blocked write to end"); err == nil {
		sameProgress(e.t, src.at(2), p)
	}
	e.stored(src, p)
	e.fenced(first, src, p)
	e.deliver(src, second, p)
	sameProgress(e.t, src.at(5), e.open(second))
	e.holds(src.all()...)
}

// started delivers in a goroutine.
func (e *env) started(src *source, s sink.Sink, from lsn.Progress) <-chan error {
	return background(e, func(ctx context.Context) error { return src.deliver(ctx, s, from.Position) })
}

// openedDuring opens an instance while a write stands still, which it lets go on
// as soon as the Open waits for it, or has ended.
func (e *env) openedDuring(s sink.Sink, b *Blocked) lsn.Progress {
	e.t.Helper()
	type answer struct {
		p   lsn.Progress
		err error
	}
	answers := background(e, func(ctx context.Context) answer {
		p, err := s.Open(ctx, sink.Source{Name: SourceName})
		return answer{p, err}
	})
	if b.Waiting != nil {
		poll(e, func() bool { return len(answers) > 0 || b.Waiting() }, "an Open to wait for the write, or to answer")
		b.Release()
	}
	a := await(e, answers, "an Open during a blocked write")
	b.Release()
	require.NoError(e.t, a.err, "open during a blocked write")
	return a.p
}

// exclusive: while the owner lives, an Open of another is refused, as often as it
// is tried, and the owner goes on; afterwards the source can be opened, and its
// former owner writes nothing.
func exclusive(e *env) {
	src := e.source(6, 4, 100)
	first, p := e.opened()
	second := e.sink()
	for i := range 3 {
		e.refused(second)
		e.deliver(src.part(i+1), first, p)
		p = src.at(i)
	}
	require.NoError(e.t, first.Close(e.ctx()), "close")
	p = e.open(second)
	sameProgress(e.t, src.at(2), p)
	require.Error(e.t, src.deliver(e.ctx(), first, p.Position), "write of a former owner")
	e.refused(first)
	e.holds(src.part(3).all()...)
	e.deliver(src, second, p)
	e.holds(src.all()...)
}

func (e *env) refused(s sink.Sink) {
	e.t.Helper()
	_, err := s.Open(e.ctx(), sink.Source{Name: SourceName})
	require.Error(e.t, err, "open of a source that has an owner")
	require.NotErrorIs(e.t, err, fault.ErrFenced, "nobody was fenced")
}

// exclusiveBlocked: an Open of another is refused also while the owner's Write
// stands still, and the write then ends well.
func exclusiveBlocked(e *env, stage string) {
	src := e.source(3, 6, 1000)
	first, p := e.opened()
	b := e.d.Block(e.t, first, stage)
	defer b.Release()
	wrote := e.started(src, first, p)
	await(e, b.Reached, "the write to reach "+stage)
	e.refused(e.sink())
	b.Release()
	require.NoError(e.t, await(e, wrote, "the blocked write to end"), "write")
	sameProgress(e.t, src.at(2), e.open(first))
	e.holds(src.all()...)
}

// sourcesApart: two sources, written in turn, keep their own progress, items and
// owners.
func sourcesApart(e *env) {
	src := e.source(4, 5, 100)
	other := &source{h: e.h, name: "another", txs: NewGenerator(e.seed+1).Txs(4, 5), max: 100}
	s, p := e.opened()
	k := e.sink()
	q, err := k.Open(e.ctx(), sink.Source{Name: other.name})
	require.NoError(e.t, err, "open another source")
	sameProgress(e.t, lsn.Progress{}, q)
	other.eventIDs()
	for i := range 4 {
		e.deliver(src.part(i+1), s, p)
		p = src.at(i)
		require.NoError(e.t, other.part(i+1).deliver(e.ctx(), k, q.Position), "deliver another source")
		q = other.at(i)
	}
	sameProgress(e.t, p, e.open(s))
	e.holds(append(src.all(), other.all()...)...)
}

// eventIDs gives a source's items ids under its own name, as its mapper would.
func (s *source) eventIDs() {
	for _, tx := range s.txs {
		for _, c := range tx.Changes {
			for i := range c {
				c[i].EventID = []byte(s.name + ":" + c[i].ID.String())
			}
		}
	}
}
