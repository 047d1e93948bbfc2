package queue

import (
	"context"
	"slices"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// read brings items into memory: of the log for lanes that have little in hand, of
// parked when they are due. One read at a time; while it runs, handlers have the
// items of the one before.
func (w *worker) read(ctx context.Context) {
	var pause pauses
	r := newItemReader()
	timer := time.NewTimer(w.cfg.Poll)
	defer timer.Stop()
	polled := time.Now()
	for {
		select {
		case <-ctx.Done():
			return
		case <-w.readWake:
		case <-timer.C:
		}
		if time.Since(polled) >= w.cfg.Poll {
			polled = time.Now()
			w.mu.Lock()
			w.wakes++
			w.mu.Unlock()
		}
		next, err := w.readAll(ctx, r)
		if err != nil {
			w.trouble(ctx, "read", err)
			if !pause.wait(ctx) {
				return
			}
			wake(w.readWake)
			continue
		}
		pause.reset()
		timer.Reset(max(min(next, w.cfg.Poll), time.Millisecond))
	}
}

// readAll reads while there is something to read and room for it. It returns the
// time until a parked item is due.
func (w *worker) readAll(ctx context.Context, r *itemReader) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, readWithin)
	defer cancel()
	for ctx.Err() == nil {
		due, next := w.planParked()
		if len(due) > 0 {
			if err := w.readParked(ctx, r, due); err != nil {
				return 0, err
			}
		}
		plan := w.planLog()
		if len(plan.lanes) > 0 {
			if err := w.readLog(ctx, r, plan); err != nil {
				return 0, err
			}
		}
		if len(due) == 0 && len(plan.lanes) == 0 {
			return next, nil
		}
	}
	return 0, nil
}

// readWithin bounds how long reading goes on in one go, and so each read.
const readWithin = 30 * time.Second

// mostParkedRead bounds a read of parked items.
const mostParkedRead = 1000

// planParked takes the parked items that are to be read, and says when the next is
// due.
func (w *worker) planParked() ([]*parked, time.Duration) {
	w.mu.Lock()
	defer w.mu.Unlock()
	next := time.Hour
	now := time.Now()
	var due []*parked
	items, _ := w.inHand()
	room := min(w.cfg.MaxItems-items+100, mostParkedRead) // parked items are the oldest: they may pass the limit a little
	for _, l := range w.order {
		if l.draining {
			continue
		}
		l.ripen(now)
		for len(l.wants) > 0 && len(due) < room {
			if rec := l.wants[0]; l.parked[rec.seq] == rec && rec.phase == wanted {
				due = append(due, rec)
			}
			l.wants = l.wants[1:]
		}
		if at := l.nextDue(); !at.IsZero() {
			next = min(next, max(at.Sub(now), time.Millisecond))
		}
	}
	return due, next
}

// inHand is what all lanes hold. Called with mu held.
func (w *worker) inHand() (items int, bytes int64) {
	for _, l := range w.order {
		items += l.items
		bytes += l.bytes
	}
	return items, bytes
}

const readParkedBytes = 4 << 20

func (w *worker) readParked(ctx context.Context, r *itemReader, due []*parked) error {
	slices.SortFunc(due, func(a, b *parked) int { return int(a.seq - b.seq) })
	seqs := make([]int64, len(due))
	for i, rec := range due {
		seqs[i] = rec.seq
	}
	r.start()
	err := w.do(ctx, "read parked items", func(conn *pgconn.PgConn) error {
		return call(ctx, conn, r.row, "SELECT "+itemColumns+"NULL::bigint, attempts FROM "+w.cfg.table("fetch_parked")+"($1, $2::bigint[], $3) ORDER BY seq",
			w.cfg.Name, seqs, readParkedBytes)
	})
	w.mu.Lock()
	defer w.mu.Unlock()
	arrived := map[int64]*entry{}
	last := int64(-1)
	for _, f := range r.got {
		arrived[f.seq], last = f.entry, f.seq
	}
	for _, rec := range due {
		l := w.lanes[laneOf(rec, arrived)]
		switch e := arrived[rec.seq]; {
		case e != nil && l != nil && l.parked[rec.seq] == rec:
			e.item.Fence = l.gen
			l.arrive(e)
		case err != nil || rec.seq > last && last >= 0: // not read: again
			w.again(rec)
		default:
			w.absent(rec)
		}
	}
	w.started()
	return err
}

func laneOf(rec *parked, arrived map[int64]*entry) int {
	if e := arrived[rec.seq]; e != nil {
		return e.item.Lane
	}
	return -1
}

// again puts parked items back in front of those to be read. Called with mu held.
func (w *worker) again(rec *parked) {
	for _, l := range w.order {
		if l.parked[rec.seq] == rec {
			l.wants = append([]*parked{rec}, l.wants...)
		}
	}
}

func (w *worker) absent(rec *parked) {
	for _, l := range w.order {
		l.absent(rec)
	}
}

// hungry reports whether a read of the log may be due. Called with mu held.
func (w *worker) hungry() bool {
	more := false
	items := 0
	for _, l := range w.order {
		items += l.items
		more = more || l.more || l.seen < w.wakes
	}
	return more && items <= w.cfg.MaxItems/2
}

// readPlan says which lanes are read, from where.
type readPlan struct {
	lanes    []*lane
	numbers  []int64
	after    []int64
	lowest   int64 // of after
	maxItems int
	maxBytes int64
	wakes    uint64
}

const (
	// maxRead bounds the items of one read.
	maxRead = 16_000
	// mostRanges is how many ranges settled above a lane's checkpoint stop its reading,
	// until what holds the checkpoint is done or parked.
	mostRanges = 1000
	// window is how many seqs the function fetch looks through at least unless the log
	// ends before.
	window = 16_384
)

// planLog chooses the lanes that may have more and hold no more than their part:
// all of them are read together, when the worker holds less than half of what it
// may, or one of them nothing.
func (w *worker) planLog() readPlan {
	w.mu.Lock()
	defer w.mu.Unlock()
	p := readPlan{wakes: w.wakes}
	items, bytes := w.inHand()
	p.maxItems, p.maxBytes = min(w.cfg.MaxItems-items, maxRead), min(w.cfg.MaxBytes-bytes, w.cfg.MaxBytes/2)
	if w.stopping || w.full || len(w.order) == 0 || p.maxItems < 1 || p.maxBytes < 1 || w.parkedHere() >= w.cfg.MaxParked {
		return p
	}
	start := items <= w.cfg.MaxItems/2 && bytes <= w.cfg.MaxBytes/2
	for _, l := range w.order {
		if !l.draining && (l.more || l.seen < w.wakes) && l.items <= w.cfg.MaxItems/len(w.order) && l.ranges < mostRanges {
			start = start || l.items == 0
			p.lanes = append(p.lanes, l)
			p.numbers, p.after = append(p.numbers, int64(l.no)), append(p.after, l.scanned)
		}
	}
	if !start || len(p.lanes) == 0 {
		p.lanes = nil
		return p
	}
	p.lowest = slices.Min(p.after)
	return p
}

// parkedHere is the number of parked items of this worker's lanes. Called with mu held.
func (w *worker) parkedHere() int {
	n := 0
	for _, l := range w.order {
		n += len(l.parked)
	}
	return n
}

func (w *worker) readLog(ctx context.Context, r *itemReader, p readPlan) error {
	r.start()
	err := w.do(ctx, "read the log", func(conn *pgconn.PgConn) error {
		return call(ctx, conn, r.row, "SELECT "+itemColumns+"wait_ms, 0 FROM "+w.cfg.table("fetch")+"($1, $2::smallint[], $3::bigint[], $4::integer, $5)",
			w.cfg.Name, p.numbers, p.after, p.maxItems, p.maxBytes)
	})
	if err != nil {
		return err
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	byNo := map[int]*lane{}
	for _, l := range p.lanes {
		if !l.gone {
			byNo[l.no] = l
		}
	}
	for _, f := range r.got {
		if l := byNo[f.lane]; l != nil {
			f.entry.item.Fence = l.gen
			l.add(f.entry, f.keyed, f.wait)
		}
	}
	more := p.more(r)
	for _, l := range byNo {
		l.seen, l.more = p.wakes, more
	}
	for _, f := range r.marks {
		if l := byNo[f.lane]; l != nil {
			l.mark(f.seq)
		}
	}
	w.started()
	return nil
}

// more reports whether the log may go on behind what was read: the read was full,
// in items or perhaps in bytes, or the function looked at its whole window. Without
// any mark the subscription is paused.
func (p *readPlan) more(r *itemReader) bool {
	if len(r.marks) == 0 {
		return false
	}
	return len(r.got) >= p.maxItems || r.bytes > p.maxBytes/4 || r.marks[0].seq-p.lowest >= window
}

// started wakes who has something to do after items came in. Called with mu held.
func (w *worker) started() {
	w.cond.Broadcast()
	for _, l := range w.order {
		if l.pending() {
			wake(w.setWake)
			return
		}
	}
}
