package queue

import (
	"cmp"
	"container/heap"
	"slices"
	"strings"
	"time"
)

// reason says why an item is parked.
type reason string

const (
	retry     reason = "retry"     // failed; its time is due
	blocked   reason = "blocked"   // follows one that failed
	scheduled reason = "scheduled" // not before its time; holds nothing, is not held
	replayed  reason = "replayed"  // put back by an operator; holds nothing, is not held
	dead      reason = "dead"      // a dead letter that blocks its key
)

// parked is what the owner of a lane keeps of a parked item.
type parked struct {
	seq      int64
	reason   reason
	queue    *keyQueue
	attempts int
	size     int
	due      time.Time // on this process's clock; zero: as soon as it is first
	stored   bool      // in the database, as it is here
	phase    parkedPhase
}

type parkedPhase uint8

const (
	idle   parkedPhase = iota
	wanted             // to be read from the table
	inHand             // read: there is an entry
)

// holds reports whether the later items of the key wait for this one.
func (p *parked) holds() bool {
	return p.queue.keyed && (p.reason == retry || p.reason == blocked || p.reason == dead)
}

// hold adds an item that holds the key.
func (q *keyQueue) hold(rec *parked) {
	at, _ := slices.BinarySearchFunc(q.holding, rec.seq, func(p *parked, seq int64) int { return cmp.Compare(p.seq, seq) })
	q.holding = slices.Insert(q.holding, at, rec)
}

// exception is what a settling transaction does to one item beside the checkpoint.
type exception struct {
	rec      *parked // nil: it is only buried
	seq      int64
	stream   string
	what     reason // retry, blocked, scheduled, dead
	attempts int
	wait     time.Duration // before the next attempt
	err      string
	block    bool
}

// park moves an item in hand to parked. x holds what is known of the reason.
func (l *lane) park(e *entry, why reason, x exception) {
	rec := e.rec
	x.seq, x.stream, x.what, x.attempts = e.item.Seq, e.item.Stream, why, e.item.Attempt
	if why == blocked || why == scheduled {
		x.attempts = 0 // none was made
	}
	if rec == nil {
		rec = &parked{seq: e.item.Seq, reason: why, queue: e.queue, size: e.size}
		l.parked[rec.seq] = rec
		l.keep(e.queue)
		if rec.holds() {
			rec.queue.hold(rec)
		}
	} else if rec.holds() {
		rec.reason = why // a follower that failed itself, or died
	}
	rec.attempts, rec.stored, rec.phase = x.attempts, false, idle
	x.rec = rec
	l.exceptions = append(l.exceptions, x)
	l.stop(e)
}

// keep gives a key memory of its own, since a parked item can outlive by far the
// block that the key was read into.
func (l *lane) keep(q *keyQueue) {
	if q.keyed && len(q.holding) == 0 {
		delete(l.keys, q.key)
		q.key = strings.Clone(q.key)
		l.keys[q.key] = q
	}
}

// unpark forgets a parked item, and lets the next of its key go on.
func (l *lane) unpark(rec *parked) {
	delete(l.parked, rec.seq)
	rec.phase, rec.stored = idle, false
	if i := slices.Index(rec.queue.holding, rec); i >= 0 {
		rec.queue.holding = slices.Delete(rec.queue.holding, i, i+1)
	}
	l.want(rec.queue)
}

// fail decides about a running item whose handler failed.
func (l *lane) fail(e *entry, v verdict, message string) {
	q := e.queue
	x := exception{wait: v.after, err: message}
	loose := !q.keyed || e.rec != nil && !e.rec.holds()
	switch {
	case v.dead && l.block && !loose:
		x.block = true
		l.park(e, dead, x)
		l.follow(q)
	case v.dead:
		l.bury(e, x)
	default:
		l.park(e, retry, x)
		if !loose {
			l.follow(q)
		}
	}
	l.offer(q)
	l.forget(q)
}

// bury makes a dead letter that holds nothing.
func (l *lane) bury(e *entry, x exception) {
	x.seq, x.stream, x.what, x.attempts = e.item.Seq, e.item.Stream, dead, e.item.Attempt
	l.exceptions = append(l.exceptions, x)
	l.stop(e)
	if e.rec != nil {
		l.unpark(e.rec)
	}
}

// follow parks what waits behind an item that has just been parked; what came from
// parked is there already. Items whose order is their time stay.
func (l *lane) follow(q *keyQueue) {
	e := q.first
	q.first, q.last = nil, nil
	for e != nil {
		next := e.next
		switch {
		case e.rec != nil && !e.rec.holds():
			q.push(e)
		case e.rec != nil:
			e.rec.phase = idle
			l.stop(e)
		default:
			l.park(e, blocked, exception{})
		}
		e = next
	}
}

// mostWanted bounds how many parked items of a key are read at once.
const mostWanted = 64

// want asks for the parked items of a key that may go on: its first, and what
// follows it without a pause.
func (l *lane) want(q *keyQueue) {
	for i, rec := range q.holding {
		if i == mostWanted || !rec.stored || rec.reason == dead || rec.reason == retry {
			return // a retry waits for its time, in the heap
		}
		l.ask(rec)
	}
}

func (l *lane) ask(rec *parked) {
	if rec.phase == idle && rec.stored {
		rec.phase = wanted
		l.wants = append(l.wants, rec)
	}
}

// arm makes a parked item that is stored go on when it is time.
func (l *lane) arm(rec *parked) {
	switch rec.reason {
	case dead:
	case blocked:
		l.want(rec.queue)
	default:
		heap.Push(&l.due, dueItem{rec.due, rec})
	}
}

// ripen asks for the parked items whose time has come.
func (l *lane) ripen(now time.Time) {
	for len(l.due) > 0 && !l.due[0].at.After(now) {
		it := heap.Pop(&l.due).(dueItem)
		rec := it.rec
		if l.parked[rec.seq] != rec || !rec.stored || rec.phase != idle || !rec.due.Equal(it.at) {
			continue // an older entry of it
		}
		if !rec.holds() || rec.queue.holding[0] == rec {
			l.ask(rec)
		}
	}
}

// nextDue is when ripen has something to do; zero when nothing is due.
func (l *lane) nextDue() time.Time {
	if len(l.due) == 0 {
		return time.Time{}
	}
	return l.due[0].at
}

// arrive takes an item that was read from parked.
func (l *lane) arrive(e *entry) {
	rec := l.parked[e.item.Seq]
	if rec == nil || rec.phase != wanted {
		return
	}
	if i := slices.Index(rec.queue.holding, rec); i > 0 && rec.queue.holding[i-1].phase != inHand {
		rec.phase = idle // the one before it has failed meanwhile; when that is over, want asks again
		return
	}
	rec.phase = inHand
	e.lane, e.rec, e.queue = l, rec, rec.queue
	l.items++
	l.bytes += int64(e.size)
	e.queue.push(e)
	if l.ordered {
		l.arrived = append(l.arrived, e)
	}
	l.offer(e.queue)
}

// absent notes that a parked item is no longer in the table: it was discarded.
func (l *lane) absent(rec *parked) {
	if l.parked[rec.seq] == rec && rec.phase == wanted {
		l.unpark(rec)
		l.forget(rec.queue)
	}
}

// dueItem is an entry of the heap. Entries that no longer hold are left in it.
type dueItem struct {
	at  time.Time
	rec *parked
}

// dueHeap is a heap by time, then seq.
type dueHeap []dueItem

func (h dueHeap) Len() int { return len(h) }
func (h dueHeap) Less(i, j int) bool {
	if h[i].at.Equal(h[j].at) {
		return h[i].rec.seq < h[j].rec.seq
	}
	return h[i].at.Before(h[j].at)
}
func (h dueHeap) Swap(i, j int) { h[i], h[j] = h[j], h[i] }

// Push is for container/heap.
func (h *dueHeap) Push(x any) { *h = append(*h, x.(dueItem)) }

// Pop is for container/heap.
func (h *dueHeap) Pop() any {
	old := *h
	last := old[len(old)-1]
	*h = old[:len(old)-1]
	return last
}
