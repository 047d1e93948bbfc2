package workflow

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/walbridge/walbridge/migrations"
)

// Engine starts, signals and runs instances of the workflows it was given. All its
// methods may be called by several goroutines at once. Any number of engines, in
// any number of processes, share the instances of a schema.
type Engine struct {
	pool    *pgxpool.Pool
	cfg     Config
	defs    map[ident]*definition
	order   []*definition
	sql     statements
	log     *slog.Logger
	metrics *metrics
	name    string // as owner
	wake    chan struct{}
	running atomic.Bool
	told    atomic.Int64 // when the last notification was sent, in ns of the Unix epoch
	points  func(point string, in *instance)
}

// New makes an engine over a pool, which stays the caller's and must outlive it. It
// reads and writes nothing. A program that only starts and signals workflows makes
// one too, and does not call Run.
//
// Errors: all mistakes of the configuration and the definitions at once, a pool of
// fewer than two connections, a metric that the registerer refuses.
func New(pool *pgxpool.Pool, cfg Config, workflows ...Workflow) (*Engine, error) {
	cfg = cfg.withDefaults()
	e := &Engine{
		pool: pool, cfg: cfg, defs: map[ident]*definition{}, sql: newStatements(cfg.Schema), log: cfg.Logger,
		name: ownerName(), wake: make(chan struct{}, 1), points: func(string, *instance) {},
	}
	errs := []error{cfg.validate()}
	if pool == nil || pool.Config().MaxConns < 2 {
		errs = append(errs, errors.New("workflow.New: the pool has fewer than 2 connections"))
	}
	for _, w := range workflows {
		errs = append(errs, e.register(w))
	}
	if err := errors.Join(errs...); err != nil {
		return nil, err
	}
	var err error
	if e.metrics, err = newMetrics(cfg.Registerer); err != nil {
		return nil, fmt.Errorf("register the metrics of workflows: %w", err)
	}
	return e, nil
}

func (e *Engine) register(w Workflow) error {
	if w == nil || w.definition() == nil {
		return errors.New("workflow.New: a workflow is nil")
	}
	d := w.definition()
	if err := d.validate(); err != nil {
		return err
	}
	id := ident{d.name, d.version}
	if e.defs[id] != nil {
		return fmt.Errorf("workflow %q version %d is given twice", d.name, d.version)
	}
	e.defs[id] = d
	e.order = append(e.order, d)
	return nil
}

// ownerName tells people which process has an instance.
func ownerName() string {
	host, err := os.Hostname()
	if err != nil {
		host = "unknown"
	}
	return fmt.Sprintf("%.100s/%d/%s", host, os.Getpid(), rand.Text()[:8])
}

// Run works on instances until ctx ends, and returns nil then: it takes no new ones,
// lets the steps at hand end within Config.StopWithin, ends their contexts after
// that, and waits for them. What it gives back is free for others at once. It
// outlives losses of the database and goes on when it is back.
//
// Errors: *migrations.Incompatible, or that of the server, when the schema does not
// fit; an engine that runs already.
func (e *Engine) Run(ctx context.Context) error {
	if !e.running.CompareAndSwap(false, true) {
		return errors.New("run workflows: this engine runs already")
	}
	defer e.running.Store(false)
	if err := e.checkSchema(ctx); err != nil {
		return err
	}
	newRunner(e).run(ctx)
	return nil
}

// checkSchema compares the schema's version with ours. It waits for a server that
// cannot be reached; what the server itself says is final.
func (e *Engine) checkSchema(ctx context.Context) error {
	for n := 1; ; n++ {
		var version, from int
		err := e.pool.QueryRow(ctx, e.sql.version).Scan(&version, &from)
		if err == nil {
			err = migrations.Compatible(version, from)
		}
		if err == nil || ctx.Err() != nil {
			return nil
		}
		var own *migrations.Incompatible
		var pg *pgconn.PgError
		if errors.As(err, &own) || errors.As(err, &pg) && !transient(pg) {
			return fmt.Errorf("check the schema of workflows: %w", err)
		}
		e.log.Warn("the database of workflows cannot be reached; trying again", "error", err)
		pause(ctx, e.claimBackoff(n))
	}
}

// claimBackoff is the pause after n failures to reach the database.
func (e *Engine) claimBackoff(n int) time.Duration {
	return backoff(n, 100*time.Millisecond, 10*time.Second)
}

// pause waits unless the context ends.
func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// poke wakes this engine's own Run.
func (e *Engine) poke() {
	select {
	case e.wake <- struct{}{}:
	default: // it is awake already
	}
}
