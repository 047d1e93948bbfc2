package worktable

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/sink"
)

// badRow is a row that the table refuses.
type badRow struct {
	i      int // index in the batch's rows
	reason string
	err    error
}

// copyCarefully finds the rows that the table refuses, tells of each in order, and
// stores the others. Finding leaves the good rows behind savepoints, so that a row
// is judged beside those before it; then all of that is undone and the good rows
// are sent once more, in one COPY, in order, with their marks right.
func (w *writing) copyCarefully(ctx context.Context) error {
	if _, err := w.s.conn.exec(ctx, "SAVEPOINT walbridge_all"); err != nil {
		return err
	}
	if err := w.find(ctx, 0, len(w.b.rows)); err != nil {
		return err
	}
	if _, err := w.s.conn.exec(ctx, "ROLLBACK TO SAVEPOINT walbridge_all; RELEASE SAVEPOINT walbridge_all"); err != nil {
		return err
	}
	w.moveMarks()
	for _, b := range w.bad {
		w.refused = appendRefused(w.refused, w.row(b.i), b.reason, b.err.Error())
	}
	return w.copyGood(ctx)
}

// find searches some rows by halving, the first ones first.
func (w *writing) find(ctx context.Context, from, to int) error {
	err := w.try(ctx, from, to)
	reason, poison := poisonReason(err)
	switch {
	case !poison:
		return err
	case to-from == 1:
		return w.refuse(badRow{from, reason, plain(err)})
	}
	middle := from + (to-from)/2
	if err := w.find(ctx, from, middle); err != nil {
		return err
	}
	return w.find(ctx, middle, to)
}

// try copies some rows behind a savepoint; after an error that says something
// about a row the transaction is as it was before.
func (w *writing) try(ctx context.Context, from, to int) error {
	if _, err := w.s.conn.exec(ctx, "SAVEPOINT walbridge_try"); err != nil {
		return err
	}
	err := w.copyRange(ctx, from, to)
	after := "RELEASE SAVEPOINT walbridge_try"
	if err != nil {
		if !isPoison(err) {
			return err
		}
		after = "ROLLBACK TO SAVEPOINT walbridge_try; " + after
	}
	if _, rerr := w.s.conn.exec(ctx, after); rerr != nil {
		return rerr
	}
	return err
}

// refuse tells of a row, once.
func (w *writing) refuse(b badRow) error {
	w.bad = append(w.bad, b)
	if _, told := w.told[b.i]; told || w.s.src.OnPoison == nil {
		return nil
	}
	w.told[b.i] = struct{}{}
	f := fields(w.row(b.i))
	err := w.s.src.OnPoison(sink.Poison{ID: rowID(w.row(b.i)), Stream: string(f[fieldStream]), Reason: b.reason, Err: b.err})
	if err != nil {
		return &stoppedError{err}
	}
	return nil
}

// plain says what the server said, without DETAIL, which quotes the row.
func plain(err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return err
	}
	text := fmt.Sprintf("%s (SQLSTATE %s)", pg.Message, pg.Code)
	if pg.ConstraintName != "" {
		text += fmt.Sprintf(", constraint %q", pg.ConstraintName)
	}
	return errors.New(text)
}

// row is one encoded row.
func (w *writing) row(i int) []byte { return w.b.buf[w.b.rowsEnd(i):w.b.rowsEnd(i+1)] }

// moveMarks gives the mark of a bad row to the last good row of its transaction in
// the batch.
func (w *writing) moveMarks() {
	bad := map[int]bool{}
	for _, b := range w.bad {
		bad[b.i] = true
	}
	for _, b := range w.bad {
		if !w.b.rows[b.i].end {
			continue
		}
		commit := rowID(w.row(b.i)).Commit
		for i := b.i - 1; i >= 0 && rowID(w.row(i)).Commit == commit; i-- {
			if !bad[i] {
				w.row(i)[atEnd] = 1
				break
			}
		}
	}
}

// copyGood sends all rows but the bad ones.
func (w *writing) copyGood(ctx context.Context) error {
	if len(w.bad) == len(w.b.rows) {
		return nil
	}
	parts := [][]byte{[]byte(copyHeader)}
	from := 0
	for _, b := range w.bad {
		parts = append(parts, w.b.buf[w.b.rowsEnd(from):w.b.rowsEnd(b.i)])
		from = b.i + 1
	}
	parts = append(parts, w.b.buf[w.b.rowsEnd(from):], []byte(copyTrailer))
	return w.s.conn.copyFrom(ctx, w.s.sql.copyLog(), parts...)
}
