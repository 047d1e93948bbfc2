package queue

import (
	"time"
)

// settlement is what one settling transaction writes of one lane.
type settlement struct {
	lane       *lane
	n          int64 // of the new checkpoint row
	seq        int64 // everything up to it is settled
	ranges     spans // settled above it
	exceptions []exception
	handled    []int64 // parked items that are done
}

// settled returns the state of the lane as the database keeps it: the seq up to
// which all is settled, and what is settled above. A range spans everything between
// the unfinished items around it, whether it held items of this lane or not, so
// neighbours are merged by construction.
func (l *lane) settled() (seq int64, ranges spans) {
	seq = l.bottom()
	before := l.before.above(seq + 1)
	if l.head == len(l.ring) {
		return seq, l.before.above(seq)
	}
	if l.ahead == 0 && len(before) == 0 {
		return seq, nil
	}
	from, some := seq+2, false // behind the item that is not settled
	for _, e := range l.ring[l.head+1:] {
		if e.phase == finished {
			some = true
			continue
		}
		if some || before.overlap(from, e.item.Seq-1) {
			ranges = ranges.add(from, e.item.Seq-1)
		}
		from, some = e.item.Seq+1, false
	}
	if some || before.overlap(from, l.scanned) {
		ranges = ranges.add(from, l.scanned)
	}
	for _, s := range before.above(l.scanned) {
		ranges = ranges.add(s.low, s.high)
	}
	return seq, ranges
}

// snapshot takes what is to be written of the lane. Exactly one of committed and
// undo follows, or the lane is given up. Until then there is no other.
func (l *lane) snapshot() settlement {
	s := settlement{lane: l, n: l.n + 1, exceptions: l.exceptions, handled: l.handled}
	s.seq, s.ranges = l.settled()
	l.ranges = len(s.ranges)
	l.exceptions, l.handled, l.dirty, l.settling = nil, nil, false, true
	return s
}

// committed notes that a settlement is in the database.
func (l *lane) committed(s settlement, now time.Time) {
	l.settling = false
	l.n, l.stored, l.storedAt = s.n, s.seq, now
	for _, x := range s.exceptions {
		if x.rec == nil || l.parked[x.rec.seq] != x.rec {
			continue
		}
		x.rec.stored = true
		if x.rec.phase == idle {
			x.rec.due = now.Add(x.wait)
			l.arm(x.rec)
		}
	}
}

// undo puts back what a settling transaction that certainly did not commit held.
func (l *lane) undo(s settlement) {
	l.settling, l.dirty = false, true
	l.exceptions = append(s.exceptions, l.exceptions...)
	l.handled = append(s.handled, l.handled...)
}

// pending reports whether the lane has something to settle that should not wait.
func (l *lane) pending() bool {
	return l.dirty || len(l.exceptions) > 0 || len(l.handled) > 0
}

// parkedRow is what the database knows of a parked item, without the item.
type parkedRow struct {
	seq      int64
	key      string
	keyed    bool
	reason   reason
	attempts int
	wait     time.Duration // until it is due; negative or zero: it is
	size     int
}

// restore fills a lane that has just been taken with what the database has of it.
func (l *lane) restore(seq, n int64, settled spans, rows []parkedRow, now time.Time) {
	l.scanned, l.stored, l.storedAt, l.n, l.before = seq, seq, now, n, settled
	for _, row := range rows {
		l.adopt(row, now)
	}
	for _, q := range l.keys {
		l.want(q)
	}
}

// adopt takes a parked item that the database knows and this memory does not.
// Rows come in the order of seq.
func (l *lane) adopt(row parkedRow, now time.Time) {
	q := l.queueOf(row.key, row.keyed)
	rec := &parked{
		seq: row.seq, reason: row.reason, queue: q, attempts: row.attempts, size: row.size,
		due: now.Add(row.wait), stored: true,
	}
	l.parked[rec.seq] = rec
	if rec.holds() {
		q.hold(rec)
	}
	if rec.reason != blocked {
		l.arm(rec)
	}
}

// merge takes over what operators changed in parked. The rows were read while no
// settling transaction of the lane was under way.
func (l *lane) merge(rows []parkedRow, now time.Time) {
	written := map[int64]bool{} // the next settlement writes it, so what the table says is old
	for _, seq := range l.handled {
		written[seq] = true
	}
	for _, x := range l.exceptions {
		written[x.seq] = true
	}
	there := map[int64]parkedRow{}
	for _, row := range rows {
		there[row.seq] = row
	}
	for seq, rec := range l.parked {
		row, ok := there[seq]
		same := ok && (row.reason == rec.reason || rec.reason != dead)
		if !same && rec.stored && rec.phase != inHand && !written[seq] {
			l.unpark(rec) // discarded, or a dead letter that was replayed
			l.forget(rec.queue)
		}
	}
	for _, row := range rows {
		if l.parked[row.seq] == nil && !written[row.seq] {
			l.adopt(row, now)
		}
	}
	for _, q := range l.keys {
		l.want(q)
	}
}
