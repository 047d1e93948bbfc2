package workflow

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"unicode/utf8"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// execer is a pool or a transaction.
type execer interface {
	Exec(ctx context.Context, sql string, args ...any) (pgconn.CommandTag, error)
	QueryRow(ctx context.Context, sql string, args ...any) pgx.Row
}

// Start starts an instance of a workflow with a first state, which is a value of
// the workflow's state type or a pointer to one. key names the instance: a key that
// the workflow has already, in any version, running or finished, starts nothing and
// is no error, so that Start may be repeated.
//
// Errors: ErrUnknown, a key that is empty, longer than MaxKey or no text for
// PostgreSQL, a state of another type or beyond MaxState, the database's. After the
// database's it is not known whether the instance was started: repeat it.
func (e *Engine) Start(ctx context.Context, w Workflow, key string, state any) error {
	if err := e.start(ctx, e.pool, w, key, state); err != nil {
		return err
	}
	e.wakeAll(ctx)
	return nil
}

// StartTx is Start in the caller's transaction: the instance is there when that
// commits, and not otherwise. It waits for another transaction that starts the same
// key. Engines find the instance by polling, or after Wake.
func (e *Engine) StartTx(ctx context.Context, tx pgx.Tx, w Workflow, key string, state any) error {
	return e.start(ctx, tx, w, key, state)
}

func (e *Engine) start(ctx context.Context, db execer, w Workflow, key string, state any) error {
	if w == nil || w.definition() == nil {
		return errors.New("start a workflow: it is nil")
	}
	d := w.definition()
	if e.defs[ident{d.name, d.version}] != d {
		return fmt.Errorf("start %s version %d: %w", d.name, d.version, ErrUnknown)
	}
	if err := checkKey(key); err != nil {
		return fmt.Errorf("start %s: %w", d.name, err)
	}
	first, err := d.encode(state)
	if err != nil {
		return fmt.Errorf("start %s %q: %w", d.name, key, err)
	}
	if _, err := db.Exec(ctx, e.sql.start, d.name, d.version, key, d.list(), first); err != nil {
		return fmt.Errorf("start %s %q: %w", d.name, key, err)
	}
	return nil
}

func checkKey(key string) error {
	if key == "" || len(key) > MaxKey || !utf8.ValidString(key) || strings.Contains(key, "\x00") {
		return fmt.Errorf("the key %.50q is not 1 to %d bytes of UTF-8 without NUL", key, MaxKey)
	}
	return nil
}

// SignalOption changes what Signal does.
type SignalOption func(*signal)

// signal is one that is being sent.
type signal struct {
	id *string
}

// SignalID makes a signal idempotent: a second one with this id, the same name and
// the same instance is dropped. At most MaxKey bytes.
func SignalID(id string) SignalOption { return func(s *signal) { s.id = &id } }

// Signal sends a signal to an instance. data is stored as JSON (nil: null), and a
// json.RawMessage as it is. The signal is kept until a Wait of its name consumes it,
// so that it may come before the instance waits; one that no Wait consumes stays.
//
// Errors: ErrNotFound, ErrFinished, ErrSignals, data that is no JSON or beyond
// MaxSignal, the database's.
func (e *Engine) Signal(ctx context.Context, workflow, key, name string, data any, opts ...SignalOption) error {
	err := pgx.BeginTxFunc(ctx, e.pool, readCommitted(e.cfg.Lease), func(tx pgx.Tx) error {
		return e.SignalTx(ctx, tx, workflow, key, name, data, opts...)
	})
	if err != nil {
		return err
	}
	e.wakeAll(ctx)
	return nil
}

// SignalTx is Signal in the caller's transaction, which must be READ COMMITTED: the
// signal is there when that commits. Until then it keeps the instance from being
// taken over and from beginning a wait, so that the transaction should be short. Of
// two transactions that signal one waiting instance, the second waits for the first.
func (e *Engine) SignalTx(ctx context.Context, tx pgx.Tx, workflow, key, name string, data any, opts ...SignalOption) error {
	if err := e.send(ctx, tx, workflow, key, name, data, opts); err != nil {
		return fmt.Errorf("signal %s to %s %q: %w", name, workflow, key, err)
	}
	return nil
}

func (e *Engine) send(ctx context.Context, tx pgx.Tx, workflow, key, name string, data any, opts []SignalOption) error {
	var s signal
	for _, o := range opts {
		o(&s)
	}
	body, err := s.check(name, data)
	if err != nil {
		return err
	}
	id, err := e.signalled(ctx, tx, workflow, key)
	if err != nil {
		return err
	}
	// Its foreign key locks the instance FOR KEY SHARE. The next statement sees what
	// whoever held it before has committed.
	tag, err := tx.Exec(ctx, e.sql.signal, id, name, s.id, body)
	if err != nil || tag.RowsAffected() == 0 {
		return err
	}
	_, err = tx.Exec(ctx, e.sql.wakeWaiting, id, name)
	return err
}

// check returns the data as JSON.
func (s signal) check(name string, data any) (string, error) {
	if !validName.MatchString(name) {
		return "", fmt.Errorf("the name %.50q is not 1 to 100 letters, digits, underscores, hyphens and dots", name)
	}
	if s.id != nil {
		if err := checkKey(*s.id); err != nil {
			return "", fmt.Errorf("the id: %w", err)
		}
	}
	body, err := json.Marshal(data)
	if err != nil {
		return "", fmt.Errorf("encode the data: %w", err)
	}
	if len(body) > MaxSignal {
		return "", fmt.Errorf("the data is %d bytes of JSON, more than %d", len(body), MaxSignal)
	}
	return string(body), nil
}

// signalled finds the instance that a signal is for.
func (e *Engine) signalled(ctx context.Context, tx pgx.Tx, workflow, key string) (int64, error) {
	var id int64
	var status Status
	var isolation string
	err := tx.QueryRow(ctx, e.sql.find, workflow, key).Scan(&id, &status, &isolation)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return 0, ErrNotFound
	case err != nil:
		return 0, err
	case isolation != "read committed" && isolation != "read uncommitted":
		// An older snapshot would not show that the instance waits by now.
		return 0, fmt.Errorf("the transaction is %s and has to be read committed", isolation)
	case status == Completed || status == Compensated:
		return 0, ErrFinished
	}
	var open int
	if err := tx.QueryRow(ctx, e.sql.openSignals, id, MaxSignals).Scan(&open); err != nil {
		return 0, err
	}
	if open >= MaxSignals {
		return 0, ErrSignals
	}
	return id, nil
}
