package workflow

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// move is what becomes of an instance; see sqlMove.
type move struct {
	state                    *string // nil: as it is
	step                     int
	undoing                  bool
	status                   Status
	attempts, failures, lost int
	waitingFor               *string
	reason, lastError, halt  *string // reason nil: as it is; the others are set
	held                     bool    // the lease is kept
	at                       *time.Time
	after                    time.Duration // when at is nil
}

// stay is the move that changes nothing but the attempts and gives the lease back.
func (in *instance) stay() move {
	return move{step: in.step, undoing: in.undoing, status: in.running(), attempts: in.attempts, failures: in.failures, lost: in.lost}
}

// running is the status of an instance that has something to do.
func (in *instance) running() Status {
	if in.undoing {
		return Compensating
	}
	return Running
}

// completed is the move after a step, or a compensation, has succeeded. The next
// one's first attempt counts as begun with it.
func (in *instance) completed(state string) move {
	m := move{state: &state, step: in.step + 1, undoing: in.undoing, status: in.running(), attempts: 1, held: true}
	last := m.step == len(in.def.steps)
	if in.undoing {
		m.step = in.def.undoable(in.step)
		last = m.step < 0
	}
	if !last {
		return m
	}
	m.status, m.held, m.attempts = Completed, false, 0
	if in.undoing {
		m.status, m.step = Compensated, in.step
	}
	return m
}

// settle stores an outcome in a transaction of its own.
func (r *runner) settle(in *instance, rec *record, m move) (bool, error) {
	return r.settleWith(in, func(context.Context, pgx.Tx) (*record, move, error) { return rec, m, nil })
}

// settleWith stores an outcome that is decided within its transaction.
func (r *runner) settleWith(in *instance, decide func(context.Context, pgx.Tx) (*record, move, error)) (bool, error) {
	if in.lease.lost() {
		return false, ErrLeaseLost
	}
	ctx, cancel := r.storing(0)
	defer cancel()
	tx, err := r.e.pool.BeginTx(ctx, readCommitted(r.e.cfg.Lease))
	if err != nil {
		return false, fmt.Errorf("begin to store a step: %w", err)
	}
	defer rollback(tx)
	rec, m, err := decide(ctx, tx)
	if err != nil {
		return false, err
	}
	return r.settleIn(ctx, tx, in, rec, m)
}

// storeWithin bounds the storing of an outcome when the engine's patience is over.
const storeWithin = 5 * time.Second

// storing is a context for storing an outcome, after more time for something else.
// It does not end with the steps' contexts: what they did, and what an engine that
// stops gives back, is stored after that.
func (r *runner) storing(more time.Duration) (context.Context, context.CancelFunc) {
	d := r.e.cfg.Lease + more
	if r.hard.Err() != nil {
		d = min(d, storeWithin)
	}
	return context.WithTimeout(context.WithoutCancel(r.hard), d)
}

// settleIn stores an outcome in a transaction, moves the instance, which is the
// fence, and commits. Afterwards in is as it is stored.
//
// Errors: ErrLeaseLost, and nothing is stored; one that refused reports, and nothing
// is stored; any other, and it is not known.
func (r *runner) settleIn(ctx context.Context, tx pgx.Tx, in *instance, rec *record, m move) (bool, error) {
	b := &pgx.Batch{}
	if rec != nil {
		rec.queue(b, r.e.sql, in)
	}
	var status Status
	var cancelled *string
	m.queue(b, r.e.sql, in).QueryRow(func(row pgx.Row) error { return row.Scan(&status, &cancelled) })
	err := tx.SendBatch(ctx, b).Close()
	if errors.Is(err, pgx.ErrNoRows) {
		return false, ErrLeaseLost
	}
	if err != nil {
		return false, fmt.Errorf("store a step: %w", err)
	}
	r.e.points(pointSaved, in)
	if in.lease.lost() {
		return false, ErrLeaseLost
	}
	if err := tx.Commit(ctx); err != nil {
		return false, fmt.Errorf("commit a step: %w", err)
	}
	r.moved(in, rec, m, status)
	return in.apply(m, status, cancelled), nil
}

// apply makes in what was stored, and reports whether it is still ours.
func (in *instance) apply(m move, status Status, cancelled *string) bool {
	in.doubts = 0
	kept := m.held || m.status == Completed && status == Running
	if m.step != in.step || m.undoing != in.undoing {
		in.begun = false
	}
	in.step, in.undoing, in.cancel = m.step, m.undoing, cancelled
	in.attempts, in.failures, in.lost = m.attempts, m.failures, m.lost
	if m.state != nil {
		in.state = *m.state
	}
	if m.reason != nil {
		in.reason = *m.reason
	}
	return kept
}

func (m move) queue(b *pgx.Batch, sql statements, in *instance) *pgx.QueuedQuery {
	return b.Queue(sql.move, in.id, in.generation, m.state, m.step, m.undoing, string(m.status),
		m.attempts, m.failures, m.lost, m.waitingFor, m.reason, m.lastError, m.held, m.at, micros(m.after), m.halt)
}

// refused reports whether the server has rolled a transaction back for a reason that
// lies in the step: its data, or another transaction in its way. After others, such
// as an administrator's end of the session or a lost connection, a commit may have
// happened (postgres.c, ProcessInterrupts; syncrep.c, SyncRepWaitForLSN).
func refused(err error) bool {
	var pg *pgconn.PgError
	if errors.Is(err, pgx.ErrTxCommitRollback) {
		return true
	}
	if !errors.As(err, &pg) || len(pg.Code) != 5 {
		return false
	}
	switch pg.Code[:2] {
	case "21", "22", "23", "25", "2D", "40", "42", "44", "54", "P0":
		return true
	}
	return pg.Code == "55P03" // lock_timeout
}

// transient reports whether the server's answer may be another one soon.
func transient(pg *pgconn.PgError) bool {
	switch pg.Code[:min(2, len(pg.Code))] {
	case "08", "40", "53", "57", "58":
		return true
	}
	return false
}
