package queue

import (
	"cmp"
	"context"
	"slices"
	"time"
)

// A lane's state in its owner's memory. It is the truth while the lease holds:
// only the owner's own transactions change what the database has of it, but for
// operators, whose changes are merged (merge.go). Nothing here locks, waits or reads
// a clock: the worker's mutex guards it.
//
//	          read                    start            done
//	log ───────────────▶ waiting ───────────▶ running ──────▶ finished ─▶ settled
//	 │ held, or not due     ▲  ▲ │ its head fails │ fails
//	 ▼                      │  │ ▼                ▼
//	 └──────────────────▶ parked (blocked, scheduled, retry, dead)
//
// One rule decides what may start: no parked item of its key has a lower seq. So
// what is read while its key is held goes to parked at once, and what waits behind
// an item that fails follows it.

// entry is an item in the worker's memory.
type entry struct {
	item  Item
	lane  *lane
	queue *keyQueue
	next  *entry  // in queue's waiting list
	rec   *parked // what it is in parked; nil: it came from the log
	size  int
	phase phase
}

type phase uint8

const (
	waiting phase = iota
	running
	finished
)

// keyQueue is what the worker knows of a key: the items that wait, in order, and
// those that hold it from parked. An item without a key has a queue of its own.
type keyQueue struct {
	key         string
	keyed       bool
	first, last *entry
	running     int
	holding     []*parked // ascending by seq
	ready       bool      // in the lane's ready list
}

// lane is a lane that this worker owns.
type lane struct {
	no     int
	gen    int64           // its fence
	n      int64           // of its latest checkpoint row
	ctx    context.Context // of its handlers
	cancel context.CancelCauseFunc
	block  bool // Config.OnDead is Block
	// ordered: items start in the order of the log, for batches, instead of each when
	// its key may go on.
	ordered bool

	scanned int64    // everything up to it has been read
	ring    []*entry // read from the log and not below the checkpoint, by seq
	head    int      // the first of ring that counts
	ahead   int      // finished entries of ring
	before  spans    // settled above the checkpoint by an earlier owner
	keys    map[string]*keyQueue
	ready   []*keyQueue // may start, oldest first; not used when ordered
	rhead   int
	arrived []*entry // read from parked and not started yet; only when ordered
	parked  map[int64]*parked
	due     dueHeap
	wants   []*parked // to be read from parked

	exceptions []exception // not in any settling transaction yet
	handled    []int64     // parked items that were handled, likewise
	dirty      bool        // something finished since the last snapshot
	stored     int64       // the checkpoint's seq
	storedAt   time.Time   // when it was written

	items, running int   // in hand, of them running
	bytes          int64 // in hand

	ranges   int    // of the last settlement
	seen     uint64 // the number of wake-ups that the last read knew
	more     bool   // the last read did not reach the end
	settling bool   // in a settling transaction
	claimed  bool   // a batch of it is being handled
	draining bool   // starts nothing more, is given up when it is empty
	gone     bool   // no longer ours: nothing of it is settled
}

func newLane(no int, gen int64, block, ordered bool) *lane {
	return &lane{
		no: no, gen: gen, block: block, ordered: ordered, more: true,
		keys: map[string]*keyQueue{}, parked: map[int64]*parked{},
	}
}

// queueOf returns the queue of an item.
func (l *lane) queueOf(key string, keyed bool) *keyQueue {
	if !keyed {
		return &keyQueue{}
	}
	q := l.keys[key]
	if q == nil {
		q = &keyQueue{key: key, keyed: true}
		l.keys[key] = q
	}
	return q
}

// held reports whether a parked item of the key has a lower seq.
func (q *keyQueue) held(seq int64) bool { return len(q.holding) > 0 && q.holding[0].seq < seq }

// push appends to the waiting.
func (q *keyQueue) push(e *entry) {
	e.next, e.phase = nil, waiting
	if q.last == nil {
		q.first, q.last = e, e
		return
	}
	q.last.next, q.last = e, e
}

// pop takes the first of the waiting.
func (q *keyQueue) pop() *entry {
	e := q.first
	if q.first = e.next; q.first == nil {
		q.last = nil
	}
	e.next = nil
	return e
}

// add takes an item that was read from the log. wait is how long it is not to be
// handled yet. Items come in the order of seq.
func (l *lane) add(e *entry, keyed bool, wait time.Duration) {
	seq := e.item.Seq
	if seq <= l.scanned || l.before.has(seq) || l.parked[seq] != nil {
		return
	}
	l.scanned = seq
	l.ring = append(l.ring, e)
	e.lane, e.queue = l, l.queueOf(e.item.Key, keyed)
	l.items++
	l.bytes += int64(e.size)
	switch {
	case wait > 0:
		l.park(e, scheduled, exception{wait: wait})
	case e.queue.held(seq):
		l.park(e, blocked, exception{})
	default:
		e.queue.push(e)
		l.offer(e.queue)
	}
	l.forget(e.queue)
}

// mark notes that the lane has been looked through up to seq.
func (l *lane) mark(seq int64) {
	l.scanned = max(l.scanned, seq)
	for _, s := range l.before {
		if s.low <= l.scanned+1 && s.high > l.scanned {
			l.scanned = s.high
		}
	}
	l.before = l.before.above(l.bottom())
}

// offer puts a queue that may go on into the ready list.
func (l *lane) offer(q *keyQueue) {
	if !l.ordered && !q.ready && q.running == 0 && q.first != nil {
		q.ready = true
		l.ready = append(l.ready, q)
	}
}

// take starts up to n items: of the key that has waited longest its next ones.
func (l *lane) take(n int, into []*entry) []*entry {
	for n > 0 && l.rhead < len(l.ready) && !l.draining {
		q := l.ready[l.rhead]
		l.ready[l.rhead] = nil
		l.rhead++
		q.ready = false
		for ; n > 0 && q.first != nil; n-- {
			into = append(into, l.start(q))
		}
	}
	if l.rhead == len(l.ready) {
		l.ready, l.rhead = l.ready[:0], 0
	}
	return into
}

// start takes the next item of a key into hand.
func (l *lane) start(q *keyQueue) *entry {
	e := q.pop()
	e.phase = running
	q.running++
	l.running++
	return e
}

// takeInOrder starts up to n items for a batch, sorted by seq: what is due from
// parked, then what was read. An item may bring along those that wait before it.
func (l *lane) takeInOrder(n int, into []*entry) []*entry {
	if l.draining {
		return into
	}
	from := len(into)
	upTo := func(e *entry) {
		for e.phase == waiting && len(into)-from < n {
			into = append(into, l.start(e.queue))
		}
	}
	at := 0
	for ; at < len(l.arrived) && len(into)-from < n; at++ {
		if upTo(l.arrived[at]); l.arrived[at].phase == waiting {
			break
		}
	}
	l.arrived = append(l.arrived[:0], l.arrived[at:]...)
	for i := l.head; i < len(l.ring) && len(into)-from < n; i++ {
		upTo(l.ring[i])
	}
	slices.SortFunc(into[from:], func(a, b *entry) int { return cmp.Compare(a.item.Seq, b.item.Seq) })
	return into
}

// unstart takes back items that were started and not handled, in order.
func (l *lane) unstart(entries []*entry) {
	for i := len(entries) - 1; i >= 0; i-- {
		e := entries[i]
		e.phase = waiting
		e.queue.running--
		l.running--
		if e.next = e.queue.first; e.next == nil {
			e.queue.last = e
		}
		e.queue.first = e
		if l.ordered && e.rec != nil {
			l.arrived = append(l.arrived, e)
		}
		l.offer(e.queue)
	}
}

// done settles an item that was handled.
func (l *lane) done(e *entry) {
	q := e.queue
	l.stop(e)
	if e.rec != nil {
		l.handled = append(l.handled, e.item.Seq)
		l.unpark(e.rec)
	}
	l.offer(q)
	l.forget(q)
}

// stop takes a running or waiting item out of hand.
func (l *lane) stop(e *entry) {
	if e.phase == running {
		e.queue.running--
		l.running--
	}
	e.phase = finished
	l.items--
	l.bytes -= int64(e.size)
	l.dirty = true
	e.item = Item{Seq: e.item.Seq} // what the handler got is the handler's
	if e.rec == nil {
		l.ahead++
		l.advance()
	}
}

// advance drops the finished entries at the head of the ring.
func (l *lane) advance() {
	for l.head < len(l.ring) && l.ring[l.head].phase == finished {
		l.ring[l.head] = nil
		l.head++
		l.ahead--
	}
	if l.head == len(l.ring) {
		l.ring, l.head = l.ring[:0], 0
	} else if l.head > 1000 && l.head > len(l.ring)/2 {
		l.ring, l.head = append(l.ring[:0], l.ring[l.head:]...), 0
	}
}

// forget drops a queue that says nothing.
func (l *lane) forget(q *keyQueue) {
	if q.keyed && q.first == nil && q.running == 0 && len(q.holding) == 0 {
		delete(l.keys, q.key)
	}
}

// bottom is the seq up to which everything is settled in memory.
func (l *lane) bottom() int64 {
	if l.head < len(l.ring) {
		return l.ring[l.head].item.Seq - 1
	}
	return l.scanned
}

// empty reports whether nothing of the lane is in hand or to be written.
func (l *lane) empty() bool {
	return l.running == 0 && !l.settling && !l.claimed && !l.dirty && len(l.exceptions) == 0 && len(l.handled) == 0
}
