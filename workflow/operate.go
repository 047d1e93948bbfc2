package workflow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
)

// Info is what is stored of an instance.
type Info struct {
	ID           int64 // rises with the time of starting
	Workflow     string
	Version      int
	Key          string
	Status       Status
	Step         string // the step that is next, or, while Compensating or Failed, undone next; empty at the end
	Attempts     int    // of that step, begun ones
	WaitingFor   string // a signal's name; empty: none
	Owner        string // the engine that has it; empty: none
	Reason       string // why it is or was compensated
	LastError    string // of the last attempt that failed, or why it is halted
	CancelReason string // of Cancel
	// AvailableAt is the time of the next attempt or of the end of a wait, and the end
	// of the lease while Owner is set; nil when there is nothing to do.
	AvailableAt *time.Time
	CreatedAt   time.Time
	UpdatedAt   time.Time
	FinishedAt  *time.Time // nil: not finished
}

// StepInfo is what is stored of a step that has an outcome.
type StepInfo struct {
	N            int // from 0
	Name         string
	Kind         string // tx, activity, wait, sleep
	Status       string // retrying, completed, failed, undoing, compensated, undo_failed
	Attempts     int
	LastError    string
	NextAt       *time.Time // of the next attempt, of the step or its compensation; nil: none
	StartedAt    *time.Time // begin of the first attempt that is recorded
	FinishedAt   *time.Time
	UndoAttempts int
	UndoError    string
	UndoneAt     *time.Time
}

// Details is an instance with its state and steps.
type Details struct {
	Info
	State json.RawMessage
	Steps []StepInfo // those that have an outcome, in their order
}

// Filter chooses instances; zero fields choose all.
type Filter struct {
	Workflow string
	Status   Status
	Before   int64 // an ID: older ones only, for the next page
	Limit    int   // at most 1000. Defaults to 100
}

// scan reads sqlColumns, and what follows them.
func (i *Info) scan(row pgx.Row, more ...any) error {
	var n int
	var list string
	err := row.Scan(append([]any{&i.ID, &i.Workflow, &i.Version, &i.Key, &i.Status, &n, &list, &i.Attempts, &i.WaitingFor, &i.Owner, &i.Reason,
		&i.LastError, &i.CancelReason, &i.AvailableAt, &i.CreatedAt, &i.UpdatedAt, &i.FinishedAt}, more...)...)
	if err != nil {
		return err
	}
	if steps := strings.Fields(list); i.FinishedAt == nil && n >= 0 && n < len(steps) {
		i.Step, _, _ = strings.Cut(steps[n], "=")
	}
	return nil
}

// List returns instances, the newest first. Failed and halted ones are found by an
// index, others by reading from the newest on.
func (e *Engine) List(ctx context.Context, f Filter) ([]Info, error) {
	limit := min(max(f.Limit, 0), 1000)
	set(&limit, 100)
	rows, err := e.pool.Query(ctx, e.sql.list, f.Before, f.Workflow, string(f.Status), limit)
	if err != nil {
		return nil, fmt.Errorf("list workflow instances: %w", err)
	}
	list, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (i Info, err error) {
		err = i.scan(row)
		return i, err
	})
	if err != nil {
		return nil, fmt.Errorf("list workflow instances: %w", err)
	}
	return list, nil
}

// Show returns an instance with its state and steps, all of one moment.
//
// Errors: ErrNotFound, the database's.
func (e *Engine) Show(ctx context.Context, workflow, key string) (Details, error) {
	var d Details
	opts := pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}
	err := pgx.BeginTxFunc(ctx, e.pool, opts, func(tx pgx.Tx) error {
		var state string
		err := d.scan(tx.QueryRow(ctx, e.sql.show, workflow, key), &state)
		if errors.Is(err, pgx.ErrNoRows) {
			return ErrNotFound
		}
		if err != nil {
			return err
		}
		d.State = json.RawMessage(state)
		rows, err := tx.Query(ctx, e.sql.showSteps, d.ID)
		if err != nil {
			return err
		}
		d.Steps, err = pgx.CollectRows(rows, pgx.RowToStructByPos[StepInfo])
		return err
	})
	if err != nil {
		return Details{}, fmt.Errorf("show %s %q: %w", workflow, key, err)
	}
	return d, nil
}

// Cancel compensates an instance: no further step is begun, the context of the
// activity or transaction at hand ends with ErrCancelled (it may complete all the
// same, and is compensated then), and what is done is undone. It returns when that
// is decided, not when it is done. One that is compensated already is left as it is;
// a halted one is compensated when it is resumed.
//
// Errors: ErrNotFound, ErrFinished, the database's.
func (e *Engine) Cancel(ctx context.Context, workflow, key, reason string) error {
	return e.operate(ctx, "cancel", e.sql.cancel, workflow, key, text(reason))
}

// Resume tries again at once: a failed compensation, a halted instance, a step that
// waits for its next attempt. Attempts that failed are forgotten. An instance that
// an engine has at hand, or that waits for a signal or a time, is left as it is.
//
// Errors: ErrNotFound, ErrFinished, the database's.
func (e *Engine) Resume(ctx context.Context, workflow, key string) error {
	return e.operate(ctx, "resume", e.sql.resume, workflow, key)
}

func (e *Engine) operate(ctx context.Context, doing, sql, workflow, key string, more ...any) error {
	tag, err := e.pool.Exec(ctx, sql, append([]any{workflow, key}, more...)...)
	if err == nil && tag.RowsAffected() == 0 {
		err = e.there(ctx, workflow, key)
	}
	if err != nil {
		return fmt.Errorf("%s %s %q: %w", doing, workflow, key, err)
	}
	e.wakeAll(ctx)
	return nil
}

// there says why a statement did not find an instance.
func (e *Engine) there(ctx context.Context, workflow, key string) error {
	var id int64
	var status Status
	var isolation string
	err := e.pool.QueryRow(ctx, e.sql.find, workflow, key).Scan(&id, &status, &isolation)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return ErrNotFound
	case err == nil && (status == Completed || status == Compensated):
		return ErrFinished
	}
	return err
}

// pruneMost bounds one transaction of Prune.
const pruneMost = 1000

// Prune deletes instances that have completed or were compensated longer ago than
// keep, with their steps, timers and signals, and returns how many; their keys may
// be started again. What waits for an operator is kept. The engine never prunes by
// itself. Like Cancel and Resume it leaves a row in the table operation.
func (e *Engine) Prune(ctx context.Context, keep time.Duration) (int64, error) {
	var all int64
	for {
		var gone int64
		if err := e.pool.QueryRow(ctx, e.sql.pruneSome, micros(keep), pruneMost).Scan(&gone); err != nil {
			return all, fmt.Errorf("prune workflow instances: %w", err)
		}
		all += gone
		if gone < pruneMost {
			return all, nil
		}
	}
}
