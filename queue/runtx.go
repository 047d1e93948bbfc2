package queue

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// TxHandler writes the effects of items in a transaction. nil commits them together
// with the checkpoint. An error, or a panic, rolls all of it back; then the items
// are tried again by halves, each half in a transaction of its own, until the one
// that fails is alone: that one is parked, the others commit.
//
// tx is READ COMMITTED; it cannot be committed or rolled back by the handler, but
// Begin gives savepoints. It ends with the handler. The items are of one lane,
// sorted by seq. The handler is called from several goroutines, for different lanes,
// which may write the same row: take locks in one order, for instance by sorting.
// Serialization failures, deadlocks and lock time-outs are tried again three times
// before they count as an attempt.
type TxHandler func(ctx context.Context, tx pgx.Tx, items []Item) error

// RunTx is Run with effects in this database: each item takes effect exactly once,
// since effects and checkpoint are one transaction that commits only while the lane
// is this worker's. Lanes go in parallel, a lane's items one batch after the other,
// up to Config.BatchItems each.
func (s *Subscription) RunTx(ctx context.Context, project TxHandler) error {
	m, unregister, err := newMetrics(s.cfg)
	if err != nil {
		return err
	}
	defer unregister()
	w := newWorker(s, m)
	w.ordered, w.inTx = true, true
	handlers := min(s.cfg.Concurrency, max(int(s.pool.Config().MaxConns)-2, 1))
	return w.work(ctx, handlers, func() {
		var pause pauses
		for {
			b := w.takeBatch(1)
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

// projector handles one batch of one lane.
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
// whatever reason, the lane is taken anew, since memory says that it is done.
func (p projector) commit(ctx context.Context, tx pgx.Tx, part []*entry) error {
	l := part[0].lane
	p.mu.Lock()
	if l.gone {
		p.mu.Unlock()
		_ = tx.Rollback(context.WithoutCancel(ctx))
		return errNotItems{ErrLost}
	}
	for _, e := range part {
		l.done(e)
	}
	s := l.snapshot()
	p.mu.Unlock()
	err := ErrLost
	if p.clock.left() > 0 {
		err = p.write(ctx, tx.Conn().PgConn(), []settlement{s})
	}
	if err == nil {
		err = tx.Commit(ctx)
	}
	if err != nil {
		_ = tx.Rollback(context.WithoutCancel(ctx))
		if errors.Is(err, errLostLease) {
			p.metrics.fenced()
		}
		p.dropUnknown([]*lane{l})
		return errNotItems{fmt.Errorf("settle: %w", err)}
	}
	p.settled([]settlement{s}, nil, true)
	return nil
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
