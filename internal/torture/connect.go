package torture

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// connect opens a connection of a writer. The simple protocol takes every
// parameter as an untyped literal and keeps no plan over a change of a table.
func connect(ctx context.Context, dsn string) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("read the DSN: %w", err)
	}
	cfg.DefaultQueryExecMode = pgx.QueryExecModeSimpleProtocol
	cfg.ConnectTimeout = 5 * time.Second
	cfg.RuntimeParams["application_name"] = "torture"
	cfg.RuntimeParams["deadlock_timeout"] = "20ms" // deadlocks are part of the work
	cfg.RuntimeParams["lock_timeout"] = "20s"
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect a writer: %w", err)
	}
	return conn, nil
}

// connect tries until there is a connection or ctx ends, whose error it returns.
func (w *writer) connect(ctx context.Context) error {
	pause := time.NewTicker(50 * time.Millisecond)
	defer pause.Stop()
	for {
		if err := w.tryConnect(ctx); err == nil {
			w.tally.reconnects.Add(1)
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-pause.C:
		}
	}
}

func (w *writer) tryConnect(ctx context.Context) error {
	conn, err := connect(ctx, w.cfg.DSN)
	if err != nil {
		return err
	}
	w.conn = conn
	err = conn.QueryRow(ctx, "SELECT current_setting('max_prepared_transactions')::int > 0").Scan(&w.preparable)
	if err == nil {
		err = w.settle(ctx)
	}
	if err != nil {
		w.leave(ctx)
		w.conn = nil
	}
	return err
}
