package queue

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// TxHandler writes the effects of items in a transaction. nil commits them together
// with the checkpoint. An error, or a panic, rolls all of it back; then the items
// are tried again by halves, each half in a transaction of its own, until the one
// that fails is alone: that one is parked, the others commit.
//
// tx is READ COMMITTED; it cannot be committed or rolled back by the handler, but
// Begin gives savepoints. It ends with the handler. The items are sorted by seq. The
// handler is called from several goroutines, for items of different lanes, so for
// different keys, which may still write the same row: take locks in one order, for
// instance by sorting.
// Serialization failures, deadlocks and lock time-outs are tried again three times
// before they count as an attempt.
type TxHandler func(ctx context.Context, tx pgx.Tx, items []Item) error

// RunTx is Run with effects in this database: each item takes effect exactly once,
// since effects and checkpoint are one transaction that commits only while its lanes
// are this worker's. A batch has up to Config.BatchItems of some of the lanes; other
// lanes go in parallel, a lane's items one batch after the other.
func (s *Subscription) RunTx(ctx context.Context, project TxHandler) error {
	m, unregister, err := newMetrics(s.cfg)
	if err != nil {
		return err
	}
	defer unregister()
	w := newWorker(s, m)
	w.ordered, w.inTx = true, true
	w.handlers = min(s.cfg.Concurrency, max(int(s.pool.Config().MaxConns)-2, 1))
	return w.work(ctx, w.handlers, func() {
		var pause pauses
		for {
			b := w.takeBatch()
			if b == nil {
				return
			}
			p := projector{b, project}
			b.exec, b.settles = p.exec, true
			b.run()
			if !b.broken {
				pause.reset()
			} else if !pause.wait(w.taking) {
				return
			}
		}
	})
}

// projector handles one batch.
type projector struct {
	*batch
	project TxHandler
}

// mostTries is how often a transaction is tried that others got in the way of.
const mostTries = 4

func (p projector) exec(ctx context.Context, part []*entry) error {
	conn, err := p.pool.Acquire(ctx)
	if err != nil {
		return errNotItems{err}
	}
	defer conn.Release()
	for try := 1; ; try++ {
		err = p.once(ctx, conn.Conn(), part)
		if try == mostTries || !inTheWay(err) || ctx.Err() != nil {
			return err
		}
	}
}

// once is one transaction: effects, checkpoint, fence, COMMIT.
func (p projector) once(ctx context.Context, conn *pgx.Conn, part []*entry) error {
	tx, err := conn.BeginTx(ctx, pgx.TxOptions{BeginQuery: fmt.Sprintf(
		"BEGIN ISOLATION LEVEL READ COMMITTED; SET LOCAL idle_in_transaction_session_timeout = %d", p.cfg.Lease.Milliseconds())})
	if err != nil {
		return errNotItems{fmt.Errorf("begin: %w", err)}
	}
	at := p.metrics.start()
	err = safely(func() error { return p.project(ctx, boundTx{tx}, itemsOf(part)) })
	p.metrics.handled(at)
	if err == nil {
		// What the handler put off until COMMIT must fail here, where it is known to be
		// the items' fault.
		_, err = conn.Exec(ctx, "SET CONSTRAINTS ALL IMMEDIATE")
	}
	if err != nil {
		err = blame(err, conn)
		_ = tx.Rollback(context.WithoutCancel(ctx)) // a session that cannot roll back is closed, which does
		return err
	}
	if conn.PgConn().TxStatus() != 'T' {
		p.fail(errors.New("RunTx: the handler has ended the transaction itself: its effects and the checkpoint are not one"))
		return errNotItems{errors.New("the transaction is gone")}
	}
	return p.commit(ctx, tx, part)
}

// commit settles the part as the last thing in the transaction. When that fails, for
// whatever reason, its lanes are taken anew, since memory says that it is done.
func (p projector) commit(ctx context.Context, tx pgx.Tx, part []*entry) error {
	all, lanes := p.finish(part)
	if all == nil {
		_ = tx.Rollback(context.WithoutCancel(ctx))
		return errNotItems{ErrLost}
	}
	err := ErrLost
	if p.clock.left() > 0 {
		err = p.write(ctx, tx.Conn().PgConn(), all)
	}
	if err == nil {
		err = tx.Commit(ctx)
	}
	if err != nil {
		_ = tx.Rollback(context.WithoutCancel(ctx))
		if errors.Is(err, errLostLease) {
			p.metrics.fenced()
		}
		p.dropUnknown(lanes)
		return errNotItems{fmt.Errorf("settle: %w", err)}
	}
	p.settled(all, nil, true)
	return nil
}

// finish marks the part as done in memory and takes what is to be written of its
// lanes; nothing when one of them is lost.
func (p projector) finish(part []*entry) ([]settlement, []*lane) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var lanes []*lane
	for _, l := range p.lanes {
		if slices.ContainsFunc(part, func(e *entry) bool { return e.lane == l }) {
			lanes = append(lanes, l)
		}
	}
	if slices.ContainsFunc(lanes, func(l *lane) bool { return l.gone }) {
		return nil, nil
	}
	for _, e := range part {
		e.lane.done(e)
	}
	all := make([]settlement, len(lanes))
	for i, l := range lanes {
		all[i] = l.snapshot()
	}
	return all, lanes
}

// boundTx is a transaction that ends with the handler.
type boundTx struct{ pgx.Tx }

var errBound = errors.New("RunTx commits or rolls back when the handler has returned")

// Commit refuses.
func (boundTx) Commit(context.Context) error { return errBound }

// Rollback refuses; a handler that wants it returns an error.
func (boundTx) Rollback(context.Context) error { return errBound }

// inTheWay reports whether a transaction failed since others ran beside it.
func inTheWay(err error) bool {
	var pg *pgconn.PgError
	var notItems errNotItems
	if !errors.As(err, &pg) || errors.As(err, &notItems) {
		return false
	}
	return pg.Code == "40001" || pg.Code == "40P01" || pg.Code == "55P03"
}

// blame says whether an error is the items' fault. It is not when the session is
// gone or the server has trouble of its own: resources (53), an administrator or a
// restart (57, but a cancelled statement), the system (58), a lost connection (08), the
// time-out of a session that stood still (25P03).
func blame(err error, conn *pgx.Conn) error {
	if conn.IsClosed() {
		return errNotItems{err}
	}
	var pg *pgconn.PgError
	if !errors.As(err, &pg) || pg.Code == "57014" {
		return err
	}
	switch pg.Code[:min(2, len(pg.Code))] {
	case "08", "53", "57", "58":
		return errNotItems{err}
	}
	if pg.Code == "25P03" {
		return errNotItems{err}
	}
	return err
}
