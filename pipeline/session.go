package pipeline

import (
	"context"
	"errors"
	"fmt"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/internal/catalog"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/pause"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/replication"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/snapshot"
)

// session is one replication connection with everything that lives as long as it:
// decoder and relation cache (never reused, since the server sends everything anew),
// mapper, handoff, writer.
type session struct {
	p       *Pipeline
	stream  *replication.Stream
	chain   *chain
	handoff *handoff
	writer  *writer
	// snapshots reads rows that are older than the stream.
	snapshots *snapshot.Session
	pruner    *pruner // nil: no route prunes
	// newTable tells, without waiting, that the stream has brought a table that is new.
	newTable chan struct{}
}

// session streams from the durable position until the stream or a stage fails, or
// ctx ends: then, within StopWithin, what was taken is delivered and confirmed.
func (p *Pipeline) session(ctx context.Context, srv *replication.Server, m *mapper.Mapper, tables []catalog.Table) error {
	// work outlives ctx, which only asks to stop.
	work, cancel := context.WithCancelCause(context.WithoutCancel(ctx))
	defer cancel(nil)

	state, err := snapshot.Decode(p.durable.Cursors)
	if err != nil {
		return cursorsHalt(err)
	}
	p.signs.Store(len(state.Secret) > 0)
	p.look(ctx, m)
	stream, err := p.stages.Source.Stream(work, replication.StreamConfig{
		From:          p.durable.Position.End,
		Confirmed:     p.pos.Confirmed,
		MaxFrameBytes: int(p.cfg.Memory.MaxRow),
	})
	if err != nil {
		return p.startFailed(ctx, err)
	}
	p.started = true
	p.setCursors(p.durable.Cursors)
	s := p.newSession(srv, m, tables, stream, state)
	s.pruner = s.newPruner(srv, tables)
	p.setStream(stream, s.snapshots)
	defer p.setStream(nil, nil)
	p.setState(status.StateStreaming, "")
	p.log.Info("streaming", "slot", p.durable.Slot, "from", p.durable.Position.End, "system_id", srv.SystemID, "timeline", srv.Timeline)

	err = s.run(ctx, work, cancel)
	p.durable = s.writer.durable
	return err
}

func (p *Pipeline) newSession(srv *replication.Server, m *mapper.Mapper, tables []catalog.Table, stream *replication.Stream, state snapshot.State) *session {
	h := newHandoff(p.stages.Sink, p.cfg.Memory.Limit/4)
	s := &session{p: p, stream: stream, handoff: h, snapshots: p.newSnapshots(m, state), newTable: make(chan struct{}, 1)}
	s.chain = &chain{
		cfg: p.cfg, frames: stream, handoff: h, mapper: m, snapshots: s.snapshots,
		decoder:   decoder.New(decoder.Config{From: p.durable.Position, Xid: p.durable.Xid}),
		tally:     newTally(p.metrics, &p.totals),
		letters:   p.letters,
		confirmed: p.pos.Confirmed,
		retained:  p.retained,
		asked:     &p.asked,
		idle:      func() { p.lag.reached(s.reached(), time.Now()) },
		now:       time.Now,
		widen:     xidWidener{last: srv.NextXid},
		at:        p.durable,
		lastPut:   time.Now(),
		types: func(ctx context.Context) error {
			types, err := p.stages.Source.Types(ctx)
			if err == nil {
				m.SetTypes(types)
			}
			return err
		},
	}
	s.chain.table = s.newTableReader(srv, tables)
	s.writer = &writer{
		sink: p.stages.Sink, source: p.sinkSource(), handoff: h, positions: &p.pos, backoff: p.backoff, durable: p.durable,
		confirm: func() { stream.Wake(); s.snapshots.Durable(p.pos.Confirmed()) },
		stored:  p.stored,
		rested:  func() { p.lag.reached(s.reached(), time.Now()) },
		trouble: p.trouble,
		recovered: func() {
			p.log.Info("the sink answers again")
			p.setState(status.StateStreaming, "")
		},
	}
	return s
}

// run starts the session's goroutines and reads in this one. The first failure, or
// the request to stop, interrupts the reader; then the writer gets to finish what is
// whole, and the stream is closed as well as the cause allows.
func (s *session) run(ctx, work context.Context, cancel context.CancelCauseFunc) error {
	var g errgroup.Group
	writing, stopWriting := context.WithCancelCause(work)
	watching, stopWatching := context.WithCancel(work)
	g.Go(func() error {
		err := s.writer.run(writing)
		if !errors.Is(err, errDrained) {
			s.stream.Interrupt()
		}
		return nil // what it was is in the handoff
	})
	g.Go(func() error { s.watch(watching); return nil })
	g.Go(func() error { return s.snapshots.Run(watching) })
	g.Go(func() error { s.cover(watching); return nil })
	if s.pruner != nil {
		g.Go(func() error { s.pruner.run(watching); return nil })
	}
	stopAsked := context.AfterFunc(ctx, func() {
		s.stream.Interrupt()
		time.AfterFunc(s.p.cfg.StopWithin, func() { cancel(errStopTimeout) })
	})
	unblock := context.AfterFunc(work, func() { s.stream.Abort(context.Cause(work)) })

	err := s.chain.run(work)
	stopWatching()
	drained := s.drain(work, err)
	stopWriting(errDrained)
	_ = g.Wait()
	stopAsked()
	unblock()
	return s.leave(ctx, work, err, drained)
}

var (
	errDrained     = errors.New("drained")
	errStopTimeout = errors.New("the stop took longer than it may")
)

// drainWithin bounds how long a failed session waits for the sink to store what was
// handed over; what it has not by then is read again.
const drainWithin = 10 * time.Second

// drain lets the writer finish what was handed over before the chain ended with err.
func (s *session) drain(work context.Context, err error) error {
	if failed := s.handoff.failed(); failed != nil {
		return failed
	}
	if !errors.Is(err, errStopped) {
		var cancel context.CancelFunc
		work, cancel = context.WithTimeout(work, drainWithin)
		defer cancel()
	}
	return s.handoff.drain(work)
}

// leave closes the stream and says why the session ended. The handshake makes sure
// that the server has stored the last confirmed position: a closed socket alone
// loses it nine times in ten.
func (s *session) leave(ctx, work context.Context, err, drained error) error {
	if failed := s.handoff.failed(); failed != nil {
		err = failed
	}
	polite := errors.Is(err, errStopped) || decided(err) && !errors.Is(err, fault.ErrFenced)
	if polite && work.Err() == nil {
		closing, cancel := context.WithTimeout(work, 5*time.Second)
		defer cancel()
		if serr := s.stream.Stop(closing); serr != nil {
			s.p.log.Warn("ending the replication session", "error", serr)
		}
	}
	_ = s.stream.Close()
	switch {
	case errors.Is(err, errStopped):
		if drained != nil {
			s.p.log.Warn("stopped before all that was read had become durable; the next start reads it again", "error", drained)
		}
		return context.Cause(ctx)
	case work.Err() != nil:
		return context.Cause(work)
	case decided(err):
		return err
	}
	return s.p.streamFailed(err)
}

// watch keeps the sentinel session: samples for the lag, and the early word that the
// publisher is shutting down, at which the stream is closed at once, because a
// walsender whose client does not read waits for ever.
func (s *session) watch(ctx context.Context) {
	wait := newBackoff()
	for ctx.Err() == nil {
		err := s.p.stages.Source.Watch(ctx, time.Second, func(sample replication.Sample) {
			wait.Reset()
			s.p.lag.add(sample, time.Now(), s.reached())
		})
		if errors.Is(err, replication.ErrShutdown) {
			s.p.log.Info("the source is shutting down; closing the replication connection")
			s.stream.Abort(err)
			return
		}
		if ctx.Err() != nil {
			return
		}
		s.p.log.Warn("the session that samples the source ended; trying again", "error", err)
		if pause.For(ctx, wait.NextBackOff()) != nil {
			return
		}
	}
}

// reached is how far the bridge is for the lag: what is confirmed, or, when nothing
// is pending, what was read.
func (s *session) reached() lsn.LSN {
	if s.handoff.idle() && s.chain.quiet.Load() {
		return max(s.stream.Received(), s.p.pos.Confirmed())
	}
	return s.p.pos.Confirmed()
}

// calm reports that the session streams without trouble and is not far behind: nobody
// should make more WAL for it otherwise.
func (s *session) calm() bool {
	sample, fresh := s.p.lag.sample(time.Now())
	return fresh && sample.WAL.Sub(s.reached()) < pruneBehind && s.p.current().state == status.StateStreaming
}

// retained is how much WAL the server keeps for the slot, by the newest sample.
func (p *Pipeline) retained() int64 {
	sample, fresh := p.lag.sample(time.Now())
	if !fresh || sample.Slot == nil || sample.Slot.RestartLSN == 0 {
		return 0
	}
	return sample.WAL.Sub(sample.Slot.RestartLSN)
}

// startFailed sorts an error of START_REPLICATION: a slot that a dead process's
// walsender still holds is freed by its owner, which this process is. Without a lock
// that says so the slot itself is the lock, and somebody else has it now.
func (p *Pipeline) startFailed(ctx context.Context, err error) error {
	if _, locks := p.stages.Sink.(sink.Locker); !locks && fault.Reason(err) == replication.ReasonSlotActive {
		return fmt.Errorf("%w: %s", fault.ErrFenced, err)
	}
	if fault.Reason(err) == replication.ReasonSlotActive {
		if ended, terr := p.stages.Source.TerminateZombie(ctx); terr != nil {
			p.log.Warn("the slot is held by another session", "error", terr)
		} else if ended {
			p.log.Info("ended the walsender that an earlier session had left on the slot")
		}
	}
	if p.slotMade && noFreeSender(err) {
		p.slotMade = false
		// not %w: the sender that made the slot may not have left yet, so it is worth a try
		return fault.Transient(replication.ReasonBusy, fmt.Errorf("start replication: %s", err))
	}
	return fmt.Errorf("start replication: %w", err)
}

func noFreeSender(err error) bool {
	var config *fault.ConfigError
	return errors.As(err, &config) && len(config.Problems) == 1 && config.Problems[0].Check == "free-sender"
}

// streamFailed counts errors that come again at the same place: an error that the
// next try cannot cure is a halt.
func (p *Pipeline) streamFailed(err error) error {
	var undecoded *decodeError
	if errors.As(err, &undecoded) {
		return p.undecodable(undecoded)
	}
	return p.stages.Source.Recurring(err, p.pos.Confirmed())
}

// stored keeps the figures of a parcel that has become durable.
func (p *Pipeline) stored(parcel *parcel, took time.Duration) {
	now := time.Now()
	p.setCursors(parcel.to.Cursors)
	if len(parcel.to.Cursors) > 0 {
		p.signs.Store(true)
	}
	p.metrics.write.Observe(took.Seconds())
	if n := parcel.batch.Items(); n > 0 {
		p.metrics.batchItems.Observe(float64(n))
		p.metrics.batchBytes.Observe(float64(parcel.batch.Bytes()))
		p.metrics.bytes.WithLabelValues("stored").Add(float64(parcel.batch.Bytes()))
		p.totals.batches.Add(1)
	}
	server := p.lag.serverNow(now)
	for _, commit := range parcel.commits {
		p.metrics.delivery.Observe(max(0, server.Sub(commit.Time()).Seconds()))
	}
}
