package torture

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/time/rate"
)

// writer is one connection of a workload. It is for one goroutine.
type writer struct {
	id     int
	cfg    Config
	rand   *rand.Rand
	shapes []shape
	tally  *tally
	conn   *pgx.Conn // nil: to be opened
	// temp is the number of a key that only this writer uses.
	temp int
	// incarnation tells the ids of a run's events from those of earlier runs on the
	// same database; eventN and columnN number what must not repeat.
	incarnation, eventN, columnN uint64
	rows                         int64 // changed in the open transaction
	preparable                   bool  // the server allows prepared transactions
}

func newWriter(id int, cfg Config, t *tally) *writer {
	return &writer{
		id: id, cfg: cfg, rand: Rand(cfg.Seed, uint64(id)+1), shapes: shapes(), tally: t,
		temp: -1000 * (id + 1), incarnation: uint64(time.Now().UnixNano()) & 0xFFFF,
	}
}

// run makes transactions until ctx ends.
func (w *writer) run(ctx context.Context, limiter *rate.Limiter) error {
	defer w.leave(context.WithoutCancel(ctx))
	for limiter.Wait(ctx) == nil {
		if w.conn == nil && w.connect(ctx) != nil {
			return nil // only the end of ctx stops it from trying
		}
		if err := w.transaction(ctx); err != nil {
			return err
		}
	}
	return w.finish(context.WithoutCancel(ctx))
}

// finish commits what may be left prepared, on a new connection when there is none.
func (w *writer) finish(ctx context.Context) error {
	if w.conn == nil && w.preparable {
		return w.tryConnect(ctx)
	}
	return w.settle(ctx)
}

func (w *writer) leave(ctx context.Context) {
	if w.conn != nil {
		ctx, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		_ = w.conn.Close(ctx) // nothing is open on it
	}
}

// transaction makes one transaction. An error is one that should not be.
func (w *writer) transaction(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), finishWithin)
	defer cancel()
	w.rows = 0
	kind := draw(w.rand, w.cfg.Kinds)
	end := w.rand.IntN(50)
	err := w.exec(ctx, "BEGIN")
	if err == nil {
		err = w.body(ctx, kind)
	}
	if err != nil {
		return w.failed(ctx, fmt.Errorf("%s: %w", kind, err))
	}
	switch {
	case end < 5:
		err = w.exec(ctx, "ROLLBACK")
		w.tally.rolledBack.Add(1)
	case end == 5 && w.preparable && kind != Nothing:
		return w.commitPrepared(ctx)
	default:
		return w.commit(ctx, "COMMIT")
	}
	return w.failed(ctx, err)
}

// commit ends the transaction for good.
func (w *writer) commit(ctx context.Context, sql string) error {
	err := w.exec(ctx, sql)
	if err == nil {
		w.tally.committed.Add(1)
		w.tally.rows.Add(w.rows)
		return nil
	}
	if w.conn.IsClosed() {
		w.tally.unknown.Add(1)
		w.tally.failed.Add(-1) // failed counts it
	}
	return w.failed(ctx, err)
}

// gid names the prepared transactions of this writer, which outlive a connection.
func (w *writer) gid() string { return fmt.Sprintf("torture_%d_%d", w.incarnation, w.id) }

func (w *writer) commitPrepared(ctx context.Context) error {
	if err := w.exec(ctx, "PREPARE TRANSACTION '"+w.gid()+"'"); err != nil {
		return w.failed(ctx, err)
	}
	return w.commit(ctx, "COMMIT PREPARED '"+w.gid()+"'")
}

// settle commits what a lost connection has left prepared.
func (w *writer) settle(ctx context.Context) error {
	if w.conn == nil || !w.preparable {
		return nil
	}
	var left bool
	if err := w.conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_prepared_xacts WHERE gid = $1)", w.gid()).Scan(&left); err != nil || !left {
		return err
	}
	_, err := w.conn.Exec(ctx, "COMMIT PREPARED '"+w.gid()+"'")
	return err
}

// exec runs one statement of the open transaction.
func (w *writer) exec(ctx context.Context, sql string, args ...any) error {
	tag, err := w.conn.Exec(ctx, sql, args...)
	if err != nil {
		return fmt.Errorf("%.300s: %w", sql, err)
	}
	w.rows += tag.RowsAffected()
	return nil
}

// failed brings the connection into a state for the next transaction and returns
// nil when err is what a concurrent workload on a server under attack meets.
func (w *writer) failed(ctx context.Context, err error) error {
	if err == nil {
		return nil
	}
	w.tally.failed.Add(1)
	if !expected(err) {
		return err
	}
	if !w.conn.IsClosed() {
		if _, err = w.conn.Exec(ctx, "ROLLBACK"); err == nil {
			return nil
		}
	}
	w.leave(ctx)
	w.conn = nil
	return nil
}

// expected reports whether err says nothing about the workload: a conflict with
// another writer, a server that goes away, a lost connection.
func expected(err error) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return true // of the connection
	}
	switch pg.Code[:2] {
	case "40", "57", "08", "53": // deadlock, shutdown, connection, resources
		return true
	}
	switch pg.Code {
	case "23505", "55P03", "25006": // broken key, lock not available, read-only
		return true
	}
	return false
}
