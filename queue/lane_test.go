package queue

import (
	"cmp"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"
)

// modelItem is an item of the model's log.
type modelItem struct {
	seq   int64
	key   string // empty: it has none
	wait  time.Duration
	fails int // attempts that fail; the last of maxFails makes it dead
	dies  bool
}

// laneModel is a lane over a database in memory: what settled transactions wrote
// is in seq, ranges and table; everything else dies with restart.
type laneModel struct {
	t     *rapid.T
	lane  *lane
	items map[int64]modelItem
	order []int64 // of the log
	now   time.Time
	block bool

	n, seq int64
	ranges spans
	table  map[int64]parkedRow
	over   map[int64]bool // settled for good in the database: done or dead
	died   map[int64]bool

	finished map[int64]bool // done or dead in memory or in the database
	inHand   []*entry
	flying   *settlement
	attempts map[int64]int
}

func newLaneModel(t *rapid.T) *laneModel {
	m := &laneModel{
		t: t, items: map[int64]modelItem{}, now: time.Unix(1e9, 0), block: rapid.Bool().Draw(t, "block"),
		table: map[int64]parkedRow{}, over: map[int64]bool{}, died: map[int64]bool{}, attempts: map[int64]int{},
	}
	seq := int64(0)
	for range rapid.IntRange(1, 40).Draw(t, "items") {
		seq += rapid.Int64Range(1, 3).Draw(t, "gap")
		it := modelItem{seq: seq, key: rapid.SampledFrom([]string{"", "a", "b", "c"}).Draw(t, "key")}
		if rapid.IntRange(0, 9).Draw(t, "is scheduled") == 0 {
			it.wait = time.Duration(rapid.IntRange(1, 50).Draw(t, "wait")) * time.Second
		}
		if rapid.IntRange(0, 3).Draw(t, "is poison") == 0 {
			it.fails = rapid.IntRange(1, 3).Draw(t, "fails")
			it.dies = rapid.Bool().Draw(t, "dies")
		}
		m.items[seq] = it
		m.order = append(m.order, seq)
	}
	m.restart()
	return m
}

// restart is a crash of the owner and a take-over: memory is lost, and a settling
// transaction under way commits or not.
func (m *laneModel) restart() {
	if m.flying != nil && rapid.Bool().Draw(m.t, "commits") {
		m.apply(*m.flying)
	}
	m.flying, m.inHand = nil, nil
	m.lane = newLane(1, 1, m.block, rapid.Bool().Draw(m.t, "ordered"))
	var rows []parkedRow
	for _, row := range m.table {
		rows = append(rows, row)
	}
	slices.SortFunc(rows, func(a, b parkedRow) int { return cmp.Compare(a.seq, b.seq) })
	m.lane.restore(m.seq, m.n, slices.Clone(m.ranges), rows, m.now)
	m.finished = map[int64]bool{}
	for seq := range m.over {
		m.finished[seq] = true
	}
}

func (m *laneModel) read() {
	n, end := rapid.IntRange(0, 10).Draw(m.t, "read"), m.lane.scanned
	for _, seq := range m.order {
		if seq <= end || n == 0 {
			continue
		}
		it := m.items[seq]
		e := &entry{item: Item{Seq: seq, Key: it.key, Stream: "s", Attempt: 1}, size: 1}
		m.lane.add(e, it.key != "", it.wait-m.now.Sub(time.Unix(1e9, 0)))
		n--
		end = seq
	}
	m.lane.mark(end)
}

func (m *laneModel) load() {
	m.lane.ripen(m.now)
	for len(m.lane.wants) > 0 && rapid.IntRange(0, 5).Draw(m.t, "load on") > 0 {
		rec := m.lane.wants[0]
		m.lane.wants = m.lane.wants[1:]
		if m.lane.parked[rec.seq] != rec {
			continue
		}
		row, ok := m.table[rec.seq]
		if !ok {
			m.t.Fatalf("item %d is read from parked but is not there", rec.seq)
		}
		m.lane.arrive(&entry{item: Item{Seq: row.seq, Key: row.key, Stream: "s", Attempt: row.attempts + 1}, size: 1})
	}
}

func (m *laneModel) take() {
	n := rapid.IntRange(1, 5).Draw(m.t, "take")
	var chunk []*entry
	if m.lane.ordered {
		if len(m.inHand) > 0 {
			return // a batch at a time
		}
		chunk = m.lane.takeInOrder(n, nil)
	} else {
		chunk = m.lane.take(n, nil)
	}
	m.inHand = append(m.inHand, chunk...)
	if len(chunk) > n {
		m.t.Fatalf("took %d, not %d", len(chunk), n)
	}
}

// isLoose is an item whose order is not its key's.
func (m *laneModel) isLoose(it modelItem) bool { return it.key == "" || it.wait > 0 }

// handle runs the first item in hand whose turn it is among its key.
func (m *laneModel) handle() {
	if len(m.inHand) == 0 {
		return
	}
	at := rapid.IntRange(0, len(m.inHand)-1).Draw(m.t, "which")
	e := m.inHand[at]
	for i, other := range m.inHand[:at] {
		if other.queue == e.queue {
			at, e = i, other
			break
		}
	}
	it := m.items[e.item.Seq]
	m.checkTurn(it)
	m.attempts[it.seq]++
	m.inHand = slices.Delete(m.inHand, at, at+1)
	if e.item.Attempt > it.fails {
		m.finished[it.seq] = true
		m.lane.done(e)
		return
	}
	var later, rest []*entry
	for _, other := range m.inHand {
		if other.queue == e.queue {
			later = append(later, other)
		} else {
			rest = append(rest, other)
		}
	}
	m.inHand = rest
	m.lane.unstart(later)
	v := verdict{dead: it.dies && e.item.Attempt == it.fails, after: time.Duration(e.item.Attempt) * time.Second}
	m.finished[it.seq] = v.dead
	m.lane.fail(e, v, "boom")
}

// checkTurn is the promise about order: every earlier item of the key is over, and
// with block none of them died.
func (m *laneModel) checkTurn(it modelItem) {
	if m.over[it.seq] {
		m.t.Fatalf("item %d is handled though it is settled", it.seq)
	}
	if m.isLoose(it) {
		return
	}
	for _, seq := range m.order {
		other := m.items[seq]
		if seq >= it.seq || other.key != it.key || m.isLoose(other) {
			continue
		}
		if !m.finished[seq] {
			m.t.Fatalf("item %d of key %q is handled before %d", it.seq, it.key, seq)
		}
		if m.block && other.dies {
			m.t.Fatalf("item %d of key %q is handled though %d is dead and blocks", it.seq, it.key, seq)
		}
	}
}

func (m *laneModel) snapshot() {
	if m.flying == nil {
		s := m.lane.snapshot()
		m.flying = &s
	}
}

func (m *laneModel) settle() {
	if m.flying == nil {
		return
	}
	s := *m.flying
	m.flying = nil
	if rapid.IntRange(0, 4).Draw(m.t, "rolled back") == 0 {
		m.lane.undo(s)
		return
	}
	m.apply(s)
	m.lane.committed(s, m.now)
}

// apply is the settling transaction.
func (m *laneModel) apply(s settlement) {
	if s.n != m.n+1 || s.seq < m.seq {
		m.t.Fatalf("checkpoint %d at %d after %d at %d", s.n, s.seq, m.n, m.seq)
	}
	m.n, m.seq, m.ranges = s.n, s.seq, s.ranges
	m.checkRanges()
	for _, seq := range s.handled {
		if _, ok := m.table[seq]; !ok {
			m.t.Fatalf("item %d is settled from parked but is not there", seq)
		}
		delete(m.table, seq)
		m.settleOnce(seq)
	}
	for _, x := range s.exceptions {
		m.except(x)
	}
	for _, seq := range m.order {
		covered := seq <= m.seq || m.ranges.has(seq)
		if _, isParked := m.table[seq]; covered && !isParked && !m.over[seq] {
			if !m.finished[seq] {
				m.t.Fatalf("item %d is covered by checkpoint %d %v but was not handled", seq, m.seq, m.ranges)
			}
			m.settleOnce(seq)
		} else if !covered && (isParked || m.over[seq]) {
			m.t.Fatalf("item %d is parked or over but not covered by %d %v", seq, m.seq, m.ranges)
		}
	}
}

func (m *laneModel) checkRanges() {
	at := m.seq
	for _, r := range m.ranges {
		if r.low <= at+1 || r.high < r.low {
			m.t.Fatalf("ranges %v above %d touch, overlap or are empty", m.ranges, m.seq)
		}
		at = r.high
	}
	again, err := parseSpans(m.ranges.String())
	if err != nil || !slices.Equal(again, m.ranges) {
		m.t.Fatalf("%v reads as %v, %v", m.ranges, again, err)
	}
}

func (m *laneModel) settleOnce(seq int64) {
	if m.over[seq] {
		m.t.Fatalf("item %d is settled twice", seq)
	}
	m.over[seq] = true
}

func (m *laneModel) except(x exception) {
	old, there := m.table[x.seq]
	it := m.items[x.seq]
	switch {
	case x.what == dead && !x.block:
		delete(m.table, x.seq)
		m.settleOnce(x.seq)
		m.died[x.seq] = true
		return
	case x.what == dead:
		m.settleOnce(x.seq)
		m.died[x.seq] = true
	case there && (old.reason == scheduled || old.reason == replayed):
		x.what = old.reason
	}
	m.table[x.seq] = parkedRow{seq: x.seq, key: it.key, keyed: it.key != "", reason: x.what, attempts: x.attempts, size: 1}
}

// expire is a restart of the clocks of the parked items: the model gives them no
// wait at a take-over, which only makes it meaner.
func (m *laneModel) step() {
	switch rapid.IntRange(0, 9).Draw(m.t, "step") {
	case 0, 1:
		m.read()
	case 2:
		m.load()
	case 3, 4:
		m.take()
	case 5, 6:
		m.handle()
	case 7:
		m.snapshot()
	case 8:
		m.settle()
	case 9:
		if rapid.IntRange(0, 9).Draw(m.t, "crash") == 0 {
			m.restart()
		}
		m.now = m.now.Add(time.Second)
	}
	m.checkCounts()
}

func (m *laneModel) checkCounts() {
	if m.lane.running != len(m.inHand) || m.lane.items < m.lane.running || m.lane.bytes != int64(m.lane.items) {
		m.t.Fatalf("%d run, %d in hand of %d bytes; the model has %d", m.lane.running, m.lane.items, m.lane.bytes, len(m.inHand))
	}
}

// TestLaneModel: whatever happens to a lane, each item is settled once, the order
// of each key holds, dead are exactly those that failed for good, and in the end
// nothing is left behind.
func TestLaneModel(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := newLaneModel(t)
		for range rapid.IntRange(0, 200).Draw(t, "steps") {
			m.step()
		}
		m.finish()
		for _, seq := range m.order {
			it := m.items[seq]
			require.Equal(t, it.dies && m.over[seq], m.died[seq], "item %d", seq)
			if !m.over[seq] {
				require.True(t, m.block && m.behindDead(it), "item %d is left behind", seq)
			}
		}
	})
}

// finish lets the lane run dry.
func (m *laneModel) finish() {
	for range 2000 {
		m.now = m.now.Add(10 * time.Second)
		m.readAll()
		m.lane.ripen(m.now)
		for len(m.lane.wants) > 0 {
			m.load()
		}
		m.take()
		for len(m.inHand) > 0 {
			m.handle()
		}
		m.snapshot()
		m.settle()
		if m.lane.items == 0 && !m.lane.pending() && len(m.lane.due) == 0 && m.flying == nil && len(m.lane.wants) == 0 {
			break
		}
	}
	if m.lane.items != 0 || m.lane.pending() {
		m.t.Fatalf("%d items are left in hand", m.lane.items)
	}
	if n := len(m.lane.ring) - m.lane.head; n != 0 || len(m.ranges) != 0 {
		m.t.Fatalf("%d entries and %v are left", n, m.ranges)
	}
	if !m.block && len(m.lane.keys)+len(m.lane.parked) != 0 {
		m.t.Fatalf("%d keys and %d parked items are left", len(m.lane.keys), len(m.lane.parked))
	}
}

func (m *laneModel) readAll() {
	for m.lane.scanned < m.order[len(m.order)-1] {
		m.read()
	}
}

func (m *laneModel) behindDead(it modelItem) bool {
	for seq, other := range m.items {
		if seq < it.seq && other.key == it.key && other.dies {
			return true
		}
	}
	return false
}

func TestSpans(t *testing.T) {
	t.Parallel()
	s, err := parseSpans("{[1,5),[7,9),(9,12]}")
	require.NoError(t, err)
	require.Equal(t, spans{{1, 4}, {7, 8}, {10, 12}}, s)
	require.Equal(t, spans{{4, 4}, {7, 8}, {10, 12}}, s.above(3))
	require.Equal(t, spans{{10, 12}}, s.above(9))
	require.Empty(t, s.above(12))
	require.True(t, s.has(8))
	require.False(t, s.has(9))
	require.True(t, s.overlap(5, 7))
	require.False(t, s.overlap(5, 6))
	require.Equal(t, "{[1,4],[7,8],[10,12]}", s.String())
	require.Equal(t, spans{{1, 9}}, spans{{1, 4}}.add(5, 9), "neighbours merge")
	for _, bad := range []string{"", "{", "[1,2]", "{[1]}", "{[a,b]}", "{1,2}", "{[1,2"} {
		_, err := parseSpans(bad)
		require.Error(t, err, bad)
	}
	empty, err := parseSpans("{}")
	require.NoError(t, err)
	require.Empty(t, empty)
	require.Equal(t, "{}", fmt.Sprint(empty))
}
