package workflow

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// busyFor is the pause when a signal is being sent in a transaction that takes long.
const busyFor = time.Second

// wait does a step of waiting: it goes on with a signal that is there or when the
// time is over, and else puts the instance down until then.
//
// No signal is missed. Sending one locks the instance FOR KEY SHARE (by the foreign
// key) until its commit, and then wakes the instance if it waits for it. Here the
// instance is locked FOR UPDATE before signals are read: whoever sent before has
// committed and is seen; whoever comes after sees that the instance waits.
func (r *runner) wait(in *instance, st *step) (bool, error) {
	on, err := r.settleWith(in, func(ctx context.Context, tx pgx.Tx) (*record, move, error) {
		if err := r.lockForWait(ctx, tx, in, st); err != nil {
			return nil, move{}, err
		}
		return r.decideWait(ctx, tx, in, st)
	})
	if busy(err) {
		return r.giveBack(in, busyFor, in.attempts-1)
	}
	return on, err
}

// busy reports whether another transaction was in the way.
func busy(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "55P03" || strings.HasPrefix(pg.Code, "40"))
}

func (r *runner) lockForWait(ctx context.Context, tx pgx.Tx, in *instance, st *step) error {
	if _, err := tx.Exec(ctx, fmt.Sprintf("SET LOCAL lock_timeout = %d", busyFor.Milliseconds())); err != nil {
		return err
	}
	var id int64
	err := tx.QueryRow(ctx, r.e.sql.lock, in.id, in.generation).Scan(&id)
	if errors.Is(err, pgx.ErrNoRows) {
		return ErrLeaseLost
	}
	if err != nil {
		return fmt.Errorf("begin a wait: %w", err)
	}
	if _, err := tx.Exec(ctx, r.e.sql.timer, in.id, in.step, micros(st.duration)); err != nil {
		return fmt.Errorf("set a timer: %w", err)
	}
	return nil
}

func (r *runner) decideWait(ctx context.Context, tx pgx.Tx, in *instance, st *step) (*record, move, error) {
	rec := &record{n: in.step, st: st, outcome: recordDone, attempt: 1, begun: time.Now()}
	if st.kind == kindWait {
		got, err := r.consume(ctx, tx, in, st)
		if err != nil {
			return nil, move{}, err
		}
		if got {
			return rec, in.completed(in.state), nil
		}
	}
	var firesAt time.Time
	var over bool
	if err := tx.QueryRow(ctx, r.e.sql.timerState, in.id, in.step).Scan(&firesAt, &over); err != nil {
		return nil, move{}, fmt.Errorf("read a timer: %w", err)
	}
	if !over {
		return nil, in.waiting(st, firesAt), nil
	}
	if _, err := tx.Exec(ctx, r.e.sql.fired, in.id, in.step); err != nil {
		return nil, move{}, fmt.Errorf("mark a timer: %w", err)
	}
	if st.kind == kindSleep || st.goOn {
		return rec, in.completed(in.state), nil
	}
	rec.outcome, rec.err = recordFailed, stored(ErrTimeout.Error())
	return rec, in.timedOut(st, rec), nil
}

// consume takes the oldest signal that the step waits for, if there is one.
func (r *runner) consume(ctx context.Context, tx pgx.Tx, in *instance, st *step) (bool, error) {
	var n int64
	var data string
	err := tx.QueryRow(ctx, r.e.sql.next, in.id, st.name).Scan(&n, &data)
	if errors.Is(err, pgx.ErrNoRows) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look for a signal: %w", err)
	}
	if _, err := tx.Exec(ctx, r.e.sql.consume, n, in.step); err != nil {
		return false, fmt.Errorf("consume a signal: %w", err)
	}
	in.signals[st.name] = []byte(data)
	return true, nil
}

// waiting is the move that puts an instance down.
func (in *instance) waiting(st *step, until time.Time) move {
	m := in.stay()
	m.status, m.attempts, m.failures, m.lost, m.at = Waiting, 0, 0, 0, &until
	m.after = st.duration // so that a short one is looked for before the next poll
	if st.kind == kindWait {
		m.waitingFor = &st.name
	}
	return m
}

// timedOut is the move of a wait that was in vain.
func (in *instance) timedOut(st *step, rec *record) move {
	reason := fmt.Sprintf("step %s: %v", st.name, ErrTimeout)
	m := move{undoing: true, status: Compensating, reason: &reason, lastError: rec.err, step: in.def.undoable(in.step), attempts: 1, held: true}
	if m.step < 0 {
		m.status, m.held, m.step, m.attempts = Compensated, false, in.step, 0
	}
	return m
}
