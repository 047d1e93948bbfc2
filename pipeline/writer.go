package pipeline

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/pause"
	"github.com/walbridge/walbridge/sink"
)

// writer makes parcels durable, one after the other. A sink that fails does not
// end the replication session: the writer opens it again until it answers, and
// its answer says whether the parcel has to be written again.
type writer struct {
	sink      sink.Sink
	source    sink.Source
	handoff   *handoff
	positions *positions
	backoff   backoff.BackOff
	// durable is what the sink has said last. Owned by the writer while it runs.
	durable lsn.Progress
	// confirm tells the stream that the confirmed position has moved.
	confirm func()
	// stored, rested, trouble and recovered keep metrics and status.
	stored    func(p *parcel, took time.Duration)
	rested    func() // after each parcel
	trouble   func(err error, next time.Duration)
	recovered func()
}

// run writes until ctx ends or a write is decided to have failed for good. Then it
// fails the handoff, so that nobody waits for it.
func (w *writer) run(ctx context.Context) error {
	for {
		p, err := w.handoff.take(ctx)
		if err != nil {
			return err
		}
		if err := w.write(ctx, p); err != nil {
			w.handoff.fail(err)
			return err
		}
		w.handoff.done()
		w.rested()
	}
}

func (w *writer) write(ctx context.Context, p *parcel) error {
	w.positions.written.Store(uint64(p.to.Position.End))
	begun := time.Now()
	for {
		err := w.sink.Write(ctx, p.batch, p.to)
		if err != nil {
			err = w.resolve(ctx, p, err)
		}
		switch {
		case errors.Is(err, errWriteAgain):
			continue
		case err != nil:
			return err
		}
		w.durable = p.to
		w.backoff.Reset()
		w.positions.confirmed.Store(uint64(p.to.Position.End))
		w.confirm()
		w.stored(p, time.Since(begun))
		return nil
	}
}

// errWriteAgain: the sink is open and does not have the parcel.
var errWriteAgain = errors.New("write again")

// resolve finds out what became of a write that failed. nil: it is stored.
func (w *writer) resolve(ctx context.Context, p *parcel, failed error) error {
	if decided(failed) {
		return failed
	}
	for {
		wait := w.backoff.NextBackOff()
		w.trouble(failed, wait)
		if err := pause.For(ctx, wait); err != nil {
			return err
		}
		got, err := w.sink.Open(ctx, w.source)
		switch {
		case err == nil:
			w.recovered()
			return w.compare(got, p)
		case decided(err):
			return err
		case ctx.Err() != nil:
			return context.Cause(ctx)
		}
		failed = err
	}
}

// compare says what an Open's answer means for the parcel in hand.
func (w *writer) compare(got lsn.Progress, p *parcel) error {
	switch {
	case got.Position == p.to.Position && got.Timeline == p.to.Timeline:
		return nil
	case got.Position == w.durable.Position && got.Timeline == w.durable.Timeline:
		return errWriteAgain
	case got.Position.Before(w.durable.Position):
		return sinkLostData(w.durable, got)
	}
	return fault.ErrFenced
}

// decided reports whether an error says by itself what has to follow; any other is
// worth another try.
func decided(err error) bool {
	var halt *fault.Halt
	var config *fault.ConfigError
	return errors.As(err, &halt) || errors.As(err, &config) || errors.Is(err, fault.ErrFenced)
}

func sinkLostData(confirmed, got lsn.Progress) *fault.Halt {
	return &fault.Halt{
		Rule: "sink-lost-data",
		What: "the destination has a position behind one it had reported as durable",
		Why: "What lies between the two was confirmed to the source, which may have discarded it. " +
			"A failover to a standby that had not received it, or a restored backup, does this.",
		Facts: []fault.Fact{
			{Name: "confirmed", Value: confirmed.Position.String()},
			{Name: "destination has", Value: got.Position.String()},
		},
		Ways: []fault.Way{
			{Text: "If the lost part can come back (the old primary, a newer backup), bring it back and start the bridge again.", Commands: []string{"walbridge run"}},
			{Text: "Else start over under a new name (the old one stays halted), after emptying or reconciling what the destination holds: the changes between the two positions are not in the stream any more.", Commands: []string{"walbridge teardown", "walbridge setup", "walbridge run"}},
		},
	}
}

// newBackoff waits a random time between nothing and an interval that doubles from
// 0.2 s to 30 s, so that many bridges do not come back at once.
func newBackoff() *backoff.ExponentialBackOff {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval = 100 * time.Millisecond // the jitter of 1 makes it 0 to 0.2 s
	b.RandomizationFactor = 1
	b.Multiplier = 2
	b.MaxInterval = 15 * time.Second
	b.Reset()
	return b
}
