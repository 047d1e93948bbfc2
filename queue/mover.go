package queue

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// The mover: rows that applications insert into inbox, in the work table's own
// database, become items of the log. What it promises is kept by the function
// move_inbox, whose state is in the database; this is only who calls it, and when.

const (
	moveItems = 2000 // rows of one transaction
	movePause = 5 * time.Millisecond
	moveIdle  = 100 * time.Millisecond
	// markPause is the mean time between two positions that were asked for, at least.
	markPause  = 100 * time.Millisecond
	pruneItems = 1000
	pruneCalls = 20 // between two renewals
	// dedupeWindow is how long idempotency keys are kept.
	dedupeWindow = 7 * 24 * time.Hour
)

// moved is what one call says.
type moved struct {
	rows, gaps, waits int
	more              bool
}

// asked makes the next moves store how far they are, though nothing was moved: two,
// since a position lies before the end of what had been flushed, which only the commit
// of the first moves beyond what the waiter had read. It never puts off a step that is
// due earlier.
func (k *keeper) asked(timer *time.Timer) {
	if !k.mine || !k.moves || k.marks == 2 {
		return
	}
	k.marks = 2
	if at := k.markAt(); at.Before(k.stepAt) {
		k.stepAt = at
		timer.Reset(time.Until(at))
	}
}

// markAt is when the next position that is asked for may be stored. Two may follow each
// other at once, a third comes two pauses after the first: so they are few, however many
// wait.
func (k *keeper) markAt() time.Time { return k.marked[0].Add(2 * markPause) }

// move appends what has arrived, and returns the pause until it looks again.
func (k *keeper) move(ctx context.Context) (time.Duration, error) {
	var m moved
	mark := k.marks > 0 && !time.Now().Before(k.markAt())
	err := k.call(ctx, func(v [][]byte) error {
		m = moved{int32Of(v[0]), int32Of(v[2]), int32Of(v[3]), boolOf(v[1])}
		return nil
	}, "SELECT moved, more, gaps, waits_for FROM "+k.cfg.table("move_inbox")+"($1, $2)", moveItems, mark)
	switch {
	case isCode(err, codeLockBusy):
		return movePause, nil // another writer has the log, in turn
	case lacksPartition(err):
		return 0, k.partitions(ctx)
	case err != nil:
		return 0, err
	}
	if mark {
		k.marks--
		k.marked = [2]time.Time{k.marked[1], time.Now()}
	}
	if m.gaps > manyGaps != k.waiting {
		k.waiting = !k.waiting
		if k.waiting {
			k.log.Warn("inbox_waits", "gaps", m.gaps, "transactions", m.waits,
				"next", "a transaction that has written to inbox is open for long; what others insert is moved all the same")
		}
	}
	if m.rows == 0 && k.marks > 0 {
		return min(moveIdle, max(movePause, time.Until(k.markAt()))), nil
	}
	if m.rows == 0 {
		return moveIdle, nil
	}
	if err := k.tell(ctx); err != nil || m.more {
		return 0, err
	}
	return movePause, nil
}

// manyGaps is from where on gaps are worth a word.
const manyGaps = 1000

// lacksPartition reports whether log has no partition for a row: a violated CHECK
// without a name (execPartition.c, ExecFindPartition).
func lacksPartition(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == codeCheckViolation && pg.ConstraintName == ""
}

// prune deletes rows of inbox whose keys are no longer kept.
func (k *keeper) prune(ctx context.Context) error {
	for range pruneCalls {
		deleted := 0
		err := k.call(ctx, func(v [][]byte) error {
			deleted, k.pruned = int32Of(v[0]), int64Of(v[1])
			return nil
		}, "SELECT deleted, upto FROM "+k.cfg.table("prune_inbox")+"($1::interval, $2, $3::integer)", dedupeWindow, k.pruned, pruneItems)
		if err != nil || deleted < pruneItems {
			return err
		}
	}
	return nil
}
