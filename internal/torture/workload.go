package torture

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"
	"golang.org/x/time/rate"

	"github.com/walbridge/walbridge/internal/pause"
)

// Config is a workload. DSN and Seed are required.
type Config struct {
	// DSN of the database with the tables of Install, as a superuser.
	DSN string
	// Seed decides every choice of every writer; what the writers meet of one another
	// depends on the clock.
	Seed uint64
	// Writers is the number of connections. Defaults to 4.
	Writers int
	// Keys is the number of keys per table: the fewer, the more the writers meet.
	// Defaults to 120.
	Keys int
	// Steps bounds the operations of a transaction. Defaults to 8.
	Steps int
	// LargeRows is the number of rows of a large transaction. Defaults to 3,000.
	LargeRows int
	// Savepoints is the number of subtransactions of one of that kind. Defaults to 200.
	Savepoints int
	// Rate bounds the transactions per second of all writers together; 0: no bound.
	Rate float64
	// Kinds are the kinds of transactions. Defaults to AllKinds.
	Kinds []Kind
}

func (c Config) withDefaults() Config {
	setDefault(&c.Writers, 4)
	setDefault(&c.Keys, 120)
	setDefault(&c.Steps, 8)
	setDefault(&c.LargeRows, 3000)
	setDefault(&c.Savepoints, 200)
	if c.Kinds == nil {
		c.Kinds = AllKinds()
	}
	return c
}

func setDefault(p *int, value int) {
	if *p == 0 {
		*p = value
	}
}

// Workload writes to the tables of Install as long as it runs.
type Workload struct {
	cfg     Config
	limiter *rate.Limiter
	tally   tally
}

// NewWorkload returns a workload that does not run yet.
func NewWorkload(cfg Config) *Workload {
	w := &Workload{cfg: cfg.withDefaults(), limiter: rate.NewLimiter(rate.Inf, 1)}
	if cfg.Rate > 0 {
		w.limiter = rate.NewLimiter(rate.Limit(cfg.Rate), max(1, int(cfg.Rate/10)))
	}
	return w
}

// Counts returns what has been done so far. Safe while Run runs.
func (w *Workload) Counts() Counts { return w.tally.counts() }

// finishWithin bounds the transaction in hand when Run is asked to stop.
const finishWithin = 2 * time.Minute

// Run writes until ctx ends, lets the transactions in hand end, and returns nil. A
// server that goes away is waited for. It returns early with the error of a
// statement that should not fail.
func (w *Workload) Run(ctx context.Context) error {
	if err := w.open(ctx); err != nil {
		return err
	}
	g, gctx := errgroup.WithContext(ctx)
	for id := range w.cfg.Writers {
		g.Go(func() error {
			writer := newWriter(id, w.cfg, &w.tally)
			if err := writer.run(gctx, w.limiter); err != nil {
				return fmt.Errorf("writer %d (seed %d): %w", id, w.cfg.Seed, err)
			}
			return nil
		})
	}
	return g.Wait()
}

// open makes the accounts. A server that goes away meanwhile is waited for.
func (w *Workload) open(ctx context.Context) error {
	for {
		err := w.makeAccounts(ctx)
		var pg *pgconn.PgError
		if err == nil || errors.As(err, &pg) && !strings.HasPrefix(pg.Code, "57P") { // class 57, operator intervention
			return err
		}
		if pause.For(ctx, 50*time.Millisecond) != nil {
			return nil
		}
	}
}

func (w *Workload) makeAccounts(ctx context.Context) error {
	conn, err := connect(ctx, w.cfg.DSN)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, fmt.Sprintf("INSERT INTO load.account SELECT g, 0 FROM generate_series(0, %d) g ON CONFLICT DO NOTHING", Accounts-1))
	if err != nil {
		return fmt.Errorf("make the accounts: %w", err)
	}
	return nil
}
