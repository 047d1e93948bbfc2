package pipeline

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/replication"
	"github.com/walbridge/walbridge/sink"
)

// attempt looks at the server, proves that the sink's position belongs to it, and
// streams. It returns when the session has ended.
func (p *Pipeline) attempt(ctx context.Context) error {
	if p.started {
		p.setState(status.StateBackoff, "connecting again")
	}
	srv, err := p.stages.Source.Inspect(ctx)
	if err != nil {
		return fmt.Errorf("look at the source: %w", err)
	}
	tables, err := p.stages.Source.Tables(ctx)
	if err != nil {
		return fmt.Errorf("read the source's tables: %w", err)
	}
	types, err := p.stages.Source.Types(ctx)
	if err != nil {
		return fmt.Errorf("read the source's types: %w", err)
	}
	p.setServer(srv)
	if p.durable.Phase == lsn.PhaseStreaming {
		// What concerns a stored position is a halt, whatever else is wrong: a server that
		// is the wrong one lacks the publication, too.
		if _, err := replication.Reconcile(srv, p.durable); err != nil {
			return err
		}
	}
	if !p.started && p.stages.Check != nil {
		if err := p.check(p.stages.Check(srv, tables)); err != nil {
			return err
		}
	}
	if err := p.reconcile(ctx, srv); err != nil {
		return err
	}
	m, err := p.stages.Mapper(srv, types, tables)
	if err != nil {
		return err
	}
	return p.session(ctx, srv, m, tables)
}

// check sorts the preflight's findings.
func (p *Pipeline) check(found []fault.Problem) error {
	var errs, warnings []fault.Problem
	for _, f := range found {
		if f.Warning && slices.Contains(replication.CoverageChecks(), f.Check) {
			continue // the session's own comparison says it, and when it is so no more
		}
		if f.Warning {
			warnings = append(warnings, f)
			p.log.Warn("preflight", "check", f.Check, "where", f.Where, "what", f.What, "fix", f.Fix)
			continue
		}
		errs = append(errs, f)
	}
	p.setWarnings(warnings)
	if len(errs) > 0 {
		return &fault.ConfigError{Problems: errs}
	}
	return nil
}

// reconcile brings the stored progress and the server together, or finds that they
// do not fit (protocol rules R1 and R4).
func (p *Pipeline) reconcile(ctx context.Context, srv *replication.Server) error {
	decision, err := replication.Reconcile(srv, p.durable)
	if err != nil {
		return err
	}
	hash := NumberingHash(p.stages.Source.Numbering())
	if p.durable.Phase == lsn.PhaseStreaming && p.durable.Position.Inside() && p.durable.ConfigHash != hash {
		return numberingChanged(p.durable)
	}
	if decision.Action == replication.FirstStart {
		return p.firstStart(ctx, srv, decision, hash)
	}
	next := decision.Progress
	next.ConfigHash = hash
	if !decision.Moved {
		p.durable.ConfigHash = hash // stored with the next write
		return nil
	}
	return p.store(ctx, next)
}

// firstStart makes the slot. The order matters: a crash at any point leaves either
// nothing, or phase new in the sink, by which the next start knows that a slot it
// finds was made by us and has never been read.
func (p *Pipeline) firstStart(ctx context.Context, srv *replication.Server, decision replication.Decision, hash string) error {
	fresh := lsn.Progress{SystemID: srv.SystemID, Timeline: srv.Timeline, Slot: srv.SlotName, Phase: lsn.PhaseNew, ConfigHash: hash}
	if p.durable.Phase == lsn.PhaseNone {
		if err := p.store(ctx, fresh); err != nil {
			return err
		}
	}
	if decision.DropOwnSlot {
		p.log.Info("dropping the slot that an unfinished first start has left; it was never read", "slot", srv.SlotName)
		if err := p.dropOwnSlot(ctx, srv); err != nil {
			return fmt.Errorf("drop the unfinished slot: %w", err)
		}
	}
	var begin *beginning
	at, err := p.stages.Source.CreateSlotWith(ctx, func(ctx context.Context, exported string) (err error) {
		begin, err = p.firstSnapshot(ctx, srv, exported)
		return err
	})
	defer begin.close(ctx)
	if err != nil {
		return fmt.Errorf("create the replication slot: %w", err)
	}
	p.slotMade = true
	p.log.Info("created the replication slot", "slot", srv.SlotName, "lsn", at)
	fresh.Cursors = begin.cursors
	fresh.Phase = lsn.PhaseStreaming
	fresh.Position = lsn.Position{End: at}
	if begin.reader != nil {
		return p.copyWhole(ctx, begin, fresh)
	}
	return p.store(ctx, fresh)
}

// dropOwnSlot drops what an unfinished first start has left, the session of a process
// that was killed meanwhile first.
func (p *Pipeline) dropOwnSlot(ctx context.Context, srv *replication.Server) error {
	if srv.Slot.Active {
		if _, err := p.stages.Source.TerminateZombie(ctx); err != nil {
			return err
		}
	}
	return p.stages.Source.DropSlot(ctx)
}

// store writes a progress without items.
func (p *Pipeline) store(ctx context.Context, to lsn.Progress) error {
	return p.write(ctx, p.stages.Sink.NewBatch(), to)
}

// write writes a batch outside a session.
func (p *Pipeline) write(ctx context.Context, batch sink.Batch, to lsn.Progress) error {
	if err := p.stages.Sink.Write(ctx, batch, to); err != nil {
		if decided(err) {
			return err
		}
		// The result is unknown: open again before anything else.
		if err := p.openSink(ctx); err != nil {
			return err
		}
		return fmt.Errorf("store the position: %w", err)
	}
	p.durable = to
	p.pos.reset(to.Position.End)
	p.backoff.Reset()
	return nil
}

// NumberingHash covers what decides the numbers of changes in a transaction: the
// plugin's options, the publication among them (replication.Source.Numbering), and
// the way the decoder counts.
func NumberingHash(options string) string {
	sum := sha256.Sum256([]byte("count 1\x00" + options))
	return hex.EncodeToString(sum[:8])
}

func numberingChanged(at lsn.Progress) *fault.Halt {
	return &fault.Halt{
		Rule: "numbering-changed",
		What: "the publication was changed in the configuration while a large transaction was half delivered",
		Why:  "Its changes would be numbered differently now, so that some would be left out or repeated.",
		Facts: []fault.Fact{
			{Name: "position", Value: at.Position.String()},
			{Name: "transaction", Value: fmt.Sprint(at.Xid)},
		},
		Ways: []fault.Way{{
			Text:     "Start once more with the publication that was configured before; when the transaction is through (`walbridge status`), change it.",
			Commands: []string{"walbridge run", "walbridge status"},
		}},
	}
}

// Prepare does what the first Run does before it streams: it makes the slot and
// stores its consistent point as the position. A bridge that has a position is left
// as it is. It returns the position. It owns the name meanwhile, and waits for it.
func (p *Pipeline) Prepare(ctx context.Context) (lsn.LSN, error) {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer p.closeSink(ctx)
	if locker, ok := p.stages.Sink.(sink.Locker); ok {
		keeper, err := p.lock(ctx, locker, cancel)
		if err != nil {
			return 0, err
		}
		defer keeper.release()
	} else if err := p.awaitSlot(ctx); err != nil {
		return 0, err
	}
	if err := p.openSink(ctx); err != nil {
		return 0, err
	}
	srv, err := p.stages.Source.Inspect(ctx)
	if err != nil {
		return 0, fmt.Errorf("look at the source: %w", err)
	}
	if err := p.reconcile(ctx, srv); err != nil {
		return 0, err
	}
	return p.durable.Position.End, nil
}
