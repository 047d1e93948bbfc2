package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/walbridge/walbridge/internal/catalog"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/pause"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/replication"
	"github.com/walbridge/walbridge/sink"
)

// Stages are what a pipeline joins, made by the caller.
type Stages struct {
	Source *replication.Source
	Sink   sink.Sink
	// SinkStatus names the sink for the status.
	SinkStatus status.Sink
	// Mapper makes the mapper of one session: it is told today's types and tables of
	// the source.
	Mapper func(srv *replication.Server, types catalog.Types, tables []catalog.Table) (*mapper.Mapper, error)
	// Check looks at the source before the first start: problems that are no warnings
	// end the process, warnings are shown. nil: nothing to check beyond what a start
	// finds by itself.
	Check func(srv *replication.Server, tables []catalog.Table) []fault.Problem
	// Own reports whether a table is one that the bridge writes to, which no route takes
	// whatever it says. nil: there is none.
	Own func(*catalog.Table) bool
	Log hclog.Logger
	// Metrics may be nil: then nothing is registered.
	Metrics prometheus.Registerer
	Version string
}

// Pipeline is one bridge. Run it once; Status may be called at any time, by anybody.
type Pipeline struct {
	cfg     Config
	stages  Stages
	log     hclog.Logger
	metrics *metrics
	totals  totals
	pos     positions
	lag     lagMeter
	letters *letterbox
	rates   rateMeter
	backoff *lockedBackoff
	asked   atomic.Bool // somebody waits for the position to move
	// horizons are what pruning goes by. Owned by the pruner of the session under way.
	horizons horizons
	// cursors are those of durable, for whoever asks.
	cursors atomic.Pointer[[]byte]
	covered coverage
	// signs: the key that requests are signed with is durable.
	signs atomic.Bool

	// durable is what the sink holds, as far as known. Owned by Run's goroutine but
	// while a writer runs, which owns it then.
	durable lsn.Progress
	// started: a replication session has begun in this process. Before that, what only
	// the configuration can cure ends the process.
	started bool
	// slotMade: this process has just made the slot, over a session that may still count.
	slotMade bool
	// failedKey and failed count messages that failed to decode in the same way.
	failedKey string
	failed    int

	mu    sync.Mutex // guards view
	view  view
	begun time.Time
}

// New returns a pipeline that has not started. The error is a *fault.ConfigError, or
// of registering the metrics.
func New(cfg Config, stages Stages) (*Pipeline, error) {
	cfg = cfg.WithDefaults()
	if problems := cfg.Validate(); len(problems) > 0 {
		return nil, &fault.ConfigError{Problems: problems}
	}
	p := &Pipeline{cfg: cfg, stages: stages, log: stages.Log, begun: time.Now(), backoff: newLockedBackoff()}
	m, err := newMetrics(stages.Metrics, cfg.Bridge, &gauges{p})
	if err != nil {
		return nil, fmt.Errorf("register metrics: %w", err)
	}
	p.metrics = m
	p.covered.log = p.log
	p.letters = &letterbox{cfg: cfg.OnError, now: time.Now, count: p.countLetter}
	p.setState(status.StateStarting, "")
	return p, nil
}

func (p *Pipeline) countLetter(reason string) {
	p.metrics.deadLetters.WithLabelValues(reason).Inc()
	p.totals.deadLetters.Add(1)
}

// Run runs the bridge until ctx ends, and returns nil then: what was taken has been
// delivered and confirmed, within StopWithin. A halt keeps it up, not ready, until
// ctx ends; with ExitOnHalt it is returned. Before the first replication session of
// the process has begun, a *fault.ConfigError is returned at once.
func (p *Pipeline) Run(ctx context.Context) error {
	for {
		err := p.own(ctx)
		switch {
		case ctx.Err() != nil && !decided(err):
			p.setState(status.StateStopped, "")
			return nil
		case errors.Is(err, fault.ErrFenced):
			p.log.Warn("another process has taken over; waiting for ownership", "bridge", p.cfg.Bridge)
			p.metrics.reconnects.WithLabelValues("fenced").Inc()
		case err != nil:
			return p.stay(ctx, err)
		}
	}
}

// stay holds the process up with a halt.
func (p *Pipeline) stay(ctx context.Context, err error) error {
	var config *fault.ConfigError
	if errors.As(err, &config) {
		if !p.started {
			return err
		}
		err = haltOf(config)
	}
	var halt *fault.Halt
	if !errors.As(err, &halt) {
		return err
	}
	p.setHalt(halt)
	p.log.Error("halted: an operator must decide", "rule", halt.Rule, "error", halt.Error())
	for _, w := range halt.Ways {
		p.log.Error("way out", "rule", halt.Rule, "do", w.Text, "commands", w.Commands)
	}
	if p.cfg.ExitOnHalt {
		return err
	}
	<-ctx.Done()
	return nil
}

// haltOf makes a halt of what only the configuration can cure, for a bridge that has
// run with it before: something was changed under it.
func haltOf(e *fault.ConfigError) *fault.Halt {
	h := &fault.Halt{
		Rule: "configuration",
		What: "the source or the destination no longer fits the configuration: " + e.Error(),
		Why:  "The bridge was running and cannot go on as it is configured. Nothing is lost: the slot keeps what has not been delivered.",
		Ways: []fault.Way{{Text: "See what is missing, mend it, and start the bridge again.", Commands: []string{"walbridge doctor", "walbridge run"}}},
	}
	for _, problem := range e.Problems {
		if problem.Fix != "" {
			h.Ways = append(h.Ways, fault.Way{Text: problem.What, Commands: []string{problem.Fix}})
		}
	}
	return h
}

// own becomes the owner of the name and runs the bridge until it is no more.
func (p *Pipeline) own(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer p.closeSink(ctx) // after the keeper, who would take its lock's end for a loss
	defer p.covered.forget()
	locker, ok := p.stages.Sink.(sink.Locker)
	if !ok {
		if err := p.retry(ctx, p.awaitSlot); err != nil {
			return err
		}
		return p.owned(ctx)
	}
	keeper, err := p.lock(ctx, locker, cancel)
	if err != nil {
		return err
	}
	defer keeper.release()
	return p.owned(ctx)
}

// owned opens the sink and runs one session after the other.
func (p *Pipeline) owned(ctx context.Context) error {
	if err := p.retry(ctx, p.openSink); err != nil {
		return err
	}
	return p.retry(ctx, p.attempt)
}

func (p *Pipeline) closeSink(ctx context.Context) {
	closing, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Second)
	defer cancel()
	if err := p.stages.Sink.Close(closing); err != nil {
		p.log.Warn("closing the sink", "error", err)
	}
}

// retry calls f until it is done, is decided, or ctx has ended.
func (p *Pipeline) retry(ctx context.Context, f func(context.Context) error) error {
	for {
		err := f(ctx)
		if err == nil || decided(err) {
			return err
		}
		if ctx.Err() != nil {
			return context.Cause(ctx)
		}
		wait := p.backoff.NextBackOff()
		p.trouble(err, wait)
		if err := pause.For(ctx, wait); err != nil {
			return err
		}
	}
}

// trouble shows an error that is tried again, and what comes next.
func (p *Pipeline) trouble(err error, wait time.Duration) {
	reason := fault.Reason(err)
	p.metrics.reconnects.WithLabelValues(reason).Inc()
	p.totals.reconnects.Add(1)
	p.setState(status.StateBackoff, fmt.Sprintf("%v; trying again", err))
	p.log.Warn("trying again", "reason", reason, "error", err, "in", wait.Round(time.Millisecond))
}

func (p *Pipeline) openSink(ctx context.Context) error {
	got, err := p.stages.Sink.Open(ctx, p.sinkSource())
	if err != nil {
		return fmt.Errorf("open the sink: %w", err)
	}
	p.durable = got
	p.pos.reset(got.Position.End)
	return nil
}

func (p *Pipeline) sinkSource() sink.Source {
	return sink.Source{Name: p.cfg.Bridge, OnPoison: p.letters.refused, OnMark: p.askMark}
}

// askMark makes the next keepalive's position be stored, and the server send one.
func (p *Pipeline) askMark() {
	p.asked.Store(true)
	if stream := p.current().stream; stream != nil {
		stream.Ask()
	}
}
