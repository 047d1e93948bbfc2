package queue

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/migrations"
)

// settleLoop writes what is finished: all lanes of the worker in one statement, one
// such statement at a time.
func (w *worker) settleLoop(ctx context.Context) {
	var pause pauses
	timer := time.NewTimer(w.cfg.SettleEvery)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.setWake:
		case <-timer.C:
		}
		due, wait := w.planSettle(false)
		timer.Reset(wait)
		if len(due) == 0 {
			continue
		}
		if err := w.settle(ctx, due); err != nil {
			w.trouble(ctx, "settle", err)
			if !pause.wait(ctx) {
				return
			}
			wake(w.setWake)
			continue
		}
		pause.reset()
	}
}

// settleAll writes what is finished, now. What fails is logged.
func (w *worker) settleAll(ctx context.Context) {
	for range 3 {
		due, _ := w.planSettle(true)
		if len(due) == 0 {
			return
		}
		if err := w.settle(ctx, due); err != nil {
			w.log.Warn("settle_failed", "err", err, "next", "what was finished last is repeated")
		}
	}
}

const (
	// markEvery is how often a lane without items writes how far it has looked.
	markEvery = time.Minute
	// settlePause is the least time between two settlements of an idle worker.
	settlePause = 5 * time.Millisecond
)

// planSettle takes a snapshot of each lane that has something to write, when it is
// time: at once when the handlers have nothing to do, else every SettleEvery.
func (w *worker) planSettle(now bool) ([]settlement, time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	t := time.Now()
	var lanes []*lane
	busy := false
	for _, l := range w.order {
		busy = busy || l.items > 0 && !l.draining
		switch {
		case l.settling || l.claimed && w.inTx:
		case l.pending(), l.scanned > l.stored && l.items == 0 && (now || t.Sub(l.storedAt) > markEvery):
			lanes = append(lanes, l)
		}
	}
	if len(lanes) == 0 {
		return nil, w.cfg.Poll
	}
	pause := settlePause
	if busy {
		pause = w.cfg.SettleEvery
	}
	if left := pause - t.Sub(w.lastWrite); left > 0 && !now {
		return nil, left
	}
	w.lastWrite = t
	all := make([]settlement, len(lanes))
	for i, l := range lanes {
		all[i] = l.snapshot()
	}
	return all, w.cfg.SettleEvery
}

// settle writes settlements over a connection of the pool. A worker that ends waits
// for it, since a settlement that is cut off is in doubt.
func (w *worker) settle(ctx context.Context, all []settlement) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), max(min(w.clock.left(), callWithin), time.Millisecond))
	defer cancel()
	sent := false
	err := w.do(ctx, "settle", func(conn *pgconn.PgConn) error {
		if w.clock.left() <= 0 {
			return ErrLost
		}
		sent = true
		return w.write(ctx, conn, all)
	})
	w.settled(all, err, sent)
	return err
}

// settled notes what became of a settling transaction. Unless it is certain that
// nothing of it was written, or when an operator took away an item that was in hand,
// the lanes are taken anew, with what the database has.
func (w *worker) settled(all []settlement, err error, sent bool) {
	if err != nil && sent && (!rolledBack(err) || isCode(err, migrations.CodeNoItem)) {
		var lanes []*lane
		for _, s := range all {
			lanes = append(lanes, s.lane)
		}
		w.log.Warn("settle_unknown", "err", err, "next", "the lanes are taken anew, what was finished last may be repeated")
		w.dropUnknown(lanes)
		return
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	now := time.Now()
	for _, s := range all {
		if err == nil {
			s.lane.committed(s, now)
		} else {
			s.lane.undo(s)
		}
	}
	if errors.Is(err, errLostLease) {
		w.metrics.fenced()
		w.suspect = true
		w.kick()
	}
	w.settledWakes()
}

// settledWakes wakes who waited for a settlement. Called with mu held.
func (w *worker) settledWakes() {
	wants := false
	for _, l := range w.order {
		if l.draining && l.empty() {
			w.kick()
		}
		wants = wants || len(l.wants) > 0 || len(l.due) > 0
	}
	if wants {
		wake(w.readWake)
	}
	if w.inTx {
		w.cond.Broadcast()
	}
}

// exceptionJSON is an exception as the function settle takes it.
type exceptionJSON struct {
	Lane     int    `json:"lane"`
	Seq      int64  `json:"seq"`
	Stream   string `json:"stream"`
	What     reason `json:"what"`
	Attempts int    `json:"attempts"`
	AfterMS  int64  `json:"after_ms"`
	Error    string `json:"error"`
	Block    bool   `json:"block"`
}

// write is the settling statement: checkpoints, exceptions, and the fence as the
// last thing it does. The lanes are in ascending order, so that two never wait for
// each other.
func (w *worker) write(ctx context.Context, conn *pgconn.PgConn, all []settlement) error {
	slices.SortFunc(all, func(a, b settlement) int { return a.lane.no - b.lane.no })
	var numbers, generations, ns, seqs, handled []int64
	var ranges []string
	var exceptions []exceptionJSON
	for _, s := range all {
		numbers, generations = append(numbers, int64(s.lane.no)), append(generations, s.lane.gen)
		ns, seqs, ranges = append(ns, s.n), append(seqs, s.seq), append(ranges, s.ranges.String())
		handled = append(handled, s.handled...)
		for _, x := range s.exceptions {
			exceptions = append(exceptions, exceptionJSON{
				s.lane.no, x.seq, x.stream, x.what, x.attempts, x.wait.Milliseconds(), x.err, x.block,
			})
		}
	}
	var done, doc any // NULL spares the function a look at parked
	if len(handled) > 0 {
		done = handled
	}
	if len(exceptions) > 0 {
		text, err := json.Marshal(exceptions)
		if err != nil {
			return fmt.Errorf("encode exceptions: %w", err)
		}
		doc = text
	}
	return call(ctx, conn, nil, "SELECT "+w.cfg.table("settle")+
		"($1, $2::smallint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::text[]::int8multirange[], $7::bigint[], $8::json)",
		w.cfg.Name, numbers, generations, ns, seqs, ranges, done, doc)
}

// maxMessage bounds what is stored of an error, in bytes before those that no text
// may hold are replaced.
const maxMessage = 4096

// messageOf is an error as text that every database takes.
func messageOf(err error) string {
	text := err.Error()
	if len(text) > maxMessage {
		text = text[:maxMessage]
	}
	return strings.ReplaceAll(strings.ToValidUTF8(text, "\uFFFD"), "\x00", "\uFFFD")
}
