package worktable

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/sink"
)

// MaxCursors bounds lsn.Progress.Cursors, in bytes.
const MaxCursors = 64 << 10

// Write makes the batch and the position durable in one transaction, within
// sink.write_timeout. Any error ends the session: the next call is an Open. Errors
// as package sink has them.
func (s *Sink) Write(ctx context.Context, b sink.Batch, to lsn.Progress) error {
	switch {
	case s.fenced:
		return fault.ErrFenced
	case s.conn == nil:
		return errNotOpen
	}
	lastSeq, err := s.write(ctx, b, to)
	if err != nil {
		s.abandon()
		if s.fenced = errors.Is(err, fault.ErrFenced); s.fenced {
			s.epoch = 0
		}
		return err
	}
	s.n++
	s.last = to
	s.upkeep.wrote(s.n, lastSeq)
	return nil
}

func (s *Sink) write(ctx context.Context, b sink.Batch, to lsn.Progress) (lastSeq int64, err error) {
	ours, is := b.(*batch)
	if !is || ours.Items() > 0 && (ours.name != s.src.Name || ours.lanes != s.cfg.Lanes) {
		return 0, errForeign
	}
	if err := s.follows(to); err != nil {
		return 0, err
	}
	ctx, cancel := context.WithTimeoutCause(ctx, s.cfg.WriteTimeout,
		fmt.Errorf("the write took longer than sink.write_timeout (%s)", s.cfg.WriteTimeout))
	defer cancel()
	w := &writing{s: s, b: ours, to: to, told: map[int]struct{}{}}
	if err := w.run(ctx); err != nil {
		var stopped *stoppedError
		if errors.As(err, &stopped) {
			return 0, stopped.err
		}
		return 0, operationError(ctx, "write to the work table", err)
	}
	return w.lastSeq(), nil
}

// follows refuses a position that does not lie after the stored one, and cursors
// that are too large.
func (s *Sink) follows(to lsn.Progress) error {
	if len(to.Cursors) > MaxCursors {
		return fmt.Errorf("cursors of %d bytes: at most %d are stored", len(to.Cursors), MaxCursors)
	}
	if s.n == 0 || s.last.Position.Before(to.Position) || to.Timeline > s.last.Timeline {
		return nil
	}
	return fmt.Errorf("position %s on timeline %d does not lie after the stored one, %s on timeline %d",
		to.Position, to.Timeline, s.last.Position, s.last.Timeline)
}

// writing is one Write.
type writing struct {
	s     *Sink
	b     *batch
	to    lsn.Progress
	first int64 // seq of the batch's first row
	ids   []int32

	bad     []badRow         // in the order of the batch
	told    map[int]struct{} // rows that OnPoison was told of
	refused []byte           // dead letters of the bad rows
}

// stoppedError is what OnPoison returned: the caller gets it as it is.
type stoppedError struct{ err error }

func (e *stoppedError) Error() string { return e.err.Error() }

func (w *writing) lastSeq() int64 {
	if len(w.b.rows) == 0 {
		return 0
	}
	return w.first + int64(len(w.b.rows)) - 1
}

// run tries until the transaction commits, or fails for a reason that another try
// does not change. It tries again only where the server has said that the
// transaction is gone.
func (w *writing) run(ctx context.Context) error {
	if len(w.b.rows) > 0 {
		var err error
		if w.ids, err = w.s.streams.resolve(ctx, w.s.conn.pg, w.b.streams); err != nil {
			return err
		}
	}
	var blockers []blocker
	for careful := false; ; {
		watch := w.s.watch()
		err := w.transaction(ctx, careful)
		if found := watch.stop(); len(found) > 0 {
			blockers = found
		}
		switch {
		case err == nil:
			return nil
		case ctx.Err() != nil:
			return blocked(err, blockers)
		case hasCode(err, codeLockNotAvailable):
			w.s.waiting("the log of the work table", blockers)
		case isMissingPartition(err):
		case !careful && isPoison(err):
			careful = true
		default:
			return err
		}
		if err := w.startOver(ctx, err); err != nil {
			return err
		}
	}
}

// startOver undoes a transaction that failed, so that another can begin.
func (w *writing) startOver(ctx context.Context, failed error) error {
	if _, err := w.s.conn.exec(ctx, "ROLLBACK"); err != nil {
		return fmt.Errorf("%w; then: %w", failed, err)
	}
	if !isMissingPartition(failed) {
		return nil
	}
	// The next try takes other seqs: a rollback gives none back. So may other writers.
	if err := w.s.makePartitions(ctx, w.lastSeq()+2*int64(len(w.b.rows))); err != nil {
		return fmt.Errorf("%w; then: %w", failed, err)
	}
	return nil
}

// transaction is one try. A careful one finds the rows that the table refuses.
func (w *writing) transaction(ctx context.Context, careful bool) error {
	if err := w.s.reach(ctx, stageBegin); err != nil {
		return err
	}
	w.bad, w.refused = nil, nil
	opening := begin(w.s.sync)
	if careful {
		// Where a deferred constraint would refuse at COMMIT, no row could be named.
		opening += "SET CONSTRAINTS ALL IMMEDIATE; "
	}
	if len(w.b.rows) > 0 {
		if err := w.lockLog(ctx, opening); err != nil {
			return err
		}
		if err := w.copyRows(ctx, careful); err != nil {
			return err
		}
		opening = ""
	}
	if len(w.b.letters)+len(w.bad) > 0 {
		if err := w.copyLetters(ctx, opening); err != nil {
			return err
		}
		opening = ""
	}
	if err := w.s.reach(ctx, stageCommit); err != nil {
		return err
	}
	if err := committed(w.s.conn.exec(ctx, opening+w.finish())); err != nil {
		return err
	}
	return w.s.reach(ctx, stageAck)
}

// lockLog waits for the log, takes the seqs, and writes them into the rows.
func (w *writing) lockLog(ctx context.Context, opening string) error {
	r, err := w.s.conn.exec(ctx, opening+w.s.sql.takeSeqs(len(w.b.rows)))
	if err != nil {
		return err
	}
	v, err := first(r)
	if err != nil {
		return err
	}
	rd := reader{row: [][]byte{[]byte(v)}}
	if w.first = rd.int64(); rd.err != nil {
		return fmt.Errorf("read the first seq: %w", rd.err)
	}
	if w.lastSeq() >= w.s.top.Load() {
		return errPartition
	}
	return w.s.reach(ctx, stageCopy)
}

func (w *writing) copyRows(ctx context.Context, careful bool) error {
	w.b.patch(w.first, w.ids)
	if !careful {
		return w.copyRange(ctx, 0, len(w.b.rows))
	}
	return w.copyCarefully(ctx)
}

// copyRange sends some rows.
func (w *writing) copyRange(ctx context.Context, from, to int) error {
	rows := w.b.buf[w.b.rowsEnd(from):w.b.rowsEnd(to)]
	return w.s.conn.copyFrom(ctx, w.s.sql.copyLog(), []byte(copyHeader), rows, []byte(copyTrailer))
}

// copyLetters sends the dead letters: those of the mapper, and those of the bad rows.
func (w *writing) copyLetters(ctx context.Context, opening string) error {
	if opening != "" {
		if _, err := w.s.conn.exec(ctx, opening); err != nil {
			return err
		}
	}
	err := w.s.conn.copyFrom(ctx, w.s.sql.copyLetters(), []byte(copyHeader), w.b.dead, w.refused, []byte(copyTrailer))
	if err != nil && isPoison(err) {
		return fmt.Errorf("the table dead_letter refuses a dead letter: %s", err) // not %w: it is no poison row of log
	}
	return err
}

// finish is the last message of the transaction.
func (w *writing) finish() string {
	row := batchRow{source: w.s.src.Name, epoch: w.s.epoch, n: w.s.n + 1, to: w.to}
	if len(w.b.rows) > 0 {
		row.firstSeq, row.lastSeq = w.first, w.lastSeq()
	}
	return w.s.sql.finish(row, w.changed())
}

// changed is the progress, when what the source row keeps of it is new.
func (w *writing) changed() *lsn.Progress {
	a, b := &w.s.last, &w.to
	if a.Slot == b.Slot && a.SystemID == b.SystemID && a.Timeline == b.Timeline && a.ConfigHash == b.ConfigHash &&
		a.Phase == b.Phase && bytes.Equal(a.Cursors, b.Cursors) {
		return nil
	}
	return b
}
