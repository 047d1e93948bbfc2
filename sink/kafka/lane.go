package kafka

import (
	"slices"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/sink/kafka/recordbatch"
)

// segment is one record batch on its way to a partition.
type segment struct {
	recordbatch.Builder
	out    []byte // memory for the compressed form
	closed []byte // ready to be stamped and sent; nil: open
}

// lane is the records of one partition in their order, cut into segments that the
// topic takes.
type lane struct {
	topic     *topicBatch
	partition int32
	segments  []*segment // the first used ones hold records
	used      int
}

// append puts a record behind the others. A record that alone is too large gets a
// segment of its own: compressed it may fit.
func (l *lane) append(timeMs int64, body []byte) place {
	if l.used == 0 || l.last().Count() > 0 && l.last().Len()+recordbatch.MaxRecord(len(body)) > l.topic.maxBytes {
		l.grow()
	}
	at := place{lane: l, segment: l.used - 1, mark: l.last().Mark()}
	l.last().Append(timeMs, body)
	return at
}

func (l *lane) last() *segment { return l.segments[l.used-1] }

func (l *lane) grow() {
	if l.used == len(l.segments) {
		l.segments = append(l.segments, &segment{})
	}
	l.used++
	l.last().Reset()
	l.last().closed = nil
}

func (l *lane) reset() { l.used = 0 }

// count is the number of records.
func (l *lane) count() int {
	n := 0
	for _, s := range l.segments[:l.used] {
		n += s.Count()
	}
	return n
}

// memory is what the lane holds, used or not.
func (l *lane) memory() int {
	n := 0
	for _, s := range l.segments {
		n += s.Cap() + cap(s.out)
	}
	return n
}

// records calls yield for each record.
func (l *lane) records(yield func(recordbatch.Record) bool) {
	for _, s := range l.segments[:l.used] {
		for r := range s.Records {
			if !yield(r) {
				return
			}
		}
	}
}

// place is where a record lies.
type place struct {
	lane    *lane
	segment int
	mark    recordbatch.Mark
	all     bool // a record of every partition
}

// record returns the record, false when it has been cut away.
func (p place) record() (recordbatch.Record, bool) {
	if p.segment >= p.lane.used {
		return recordbatch.Record{}, false
	}
	return p.lane.segments[p.segment].At(p.mark)
}

// cut drops the record and all behind it in its lane.
func (p place) cut() {
	p.lane.used = p.segment + 1
	p.lane.last().Cut(p.mark)
	p.lane.last().closed = nil
}

// topicBatch is the records of one topic.
type topicBatch struct {
	name     string
	info     *topicInfo // nil: not known, and all records are in lane 0, unplaced
	maxBytes int
	lanes    []*lane // by partition
	everyone []bool  // of the unplaced records: one for each partition
	sticky   int     // where records without a key go
	fixed    bool    // holds a record whose topic is named by the configuration
	used     bool
}

// prepare makes the topic ready for the first record of a batch.
func (t *topicBatch) prepare(info *topicInfo) {
	t.info, t.maxBytes = info, defaultMaxBytes
	n := 1
	if info != nil {
		n, t.maxBytes = info.partitions, info.maxBytes
	}
	for len(t.lanes) < n {
		t.lanes = append(t.lanes, &lane{topic: t, partition: int32(len(t.lanes))})
	}
	t.lanes = t.lanes[:n]
	t.everyone, t.fixed, t.used = t.everyone[:0], false, true
	t.sticky++ // another partition for each batch
}

// add places a record and tells where each copy of it went.
func (t *topicBatch) add(timeMs int64, key, body []byte, everyone bool, placed func(place)) {
	switch {
	case t.info == nil:
		t.everyone = append(t.everyone, everyone)
		at := t.lanes[0].append(timeMs, body)
		at.all = everyone
		placed(at)
	case everyone:
		for p, l := range t.lanes {
			setLane(body, uint16(p))
			at := l.append(timeMs, body)
			at.all = true
			placed(at)
		}
	case key == nil:
		placed(t.lanes[t.sticky%len(t.lanes)].append(timeMs, body))
	default:
		placed(t.lanes[recordbatch.Partition(key, len(t.lanes))].append(timeMs, body))
	}
}

// setLane writes the sub-number of the id in an encoded record, in place: the last
// four of its first header.
func setLane(body []byte, lane uint16) {
	p, err := recordbatch.Parse(body)
	if err != nil {
		return // made by us, so it is whole
	}
	if text := p.Header(headerID); len(text) == lsn.IDLen {
		const digits = "0123456789ABCDEF"
		for i, at := 0, lsn.IDLen-4; i < 4; i++ {
			text[at+i] = digits[lane>>(12-4*i)&0xF]
		}
	}
}

// rebuild places all records anew, as keep changes them: for other partitions, other
// limits, other times, or without some of them.
func (t *topicBatch) rebuild(info *topicInfo, keep func(recordbatch.Record) (recordbatch.Record, bool)) {
	old, everyone := t.lanes, slices.Clone(t.everyone)
	unplaced := t.info == nil
	fixed, sticky := t.fixed, t.sticky
	t.lanes = nil
	t.everyone = t.everyone[:0]
	t.prepare(info)
	t.fixed, t.sticky = fixed, sticky
	for _, l := range old {
		i := 0
		for r := range l.records {
			all := unplaced && everyone[i]
			i++
			if r, ok := keep(r); ok {
				t.replace(l, r, all, unplaced)
			}
		}
	}
}

// replace puts a record into its place in the new lanes. One that had a partition
// keeps it, while the topic has it.
func (t *topicBatch) replace(from *lane, r recordbatch.Record, everyone, unplaced bool) {
	if !unplaced && int(from.partition) < len(t.lanes) && t.info != nil {
		t.lanes[from.partition].append(r.Time, r.Body)
		return
	}
	p, err := recordbatch.Parse(r.Body)
	if err != nil {
		return // made by us, so it is whole
	}
	t.add(r.Time, p.Key, r.Body, everyone, func(place) {})
}

// clear empties the topic and keeps its memory.
func (t *topicBatch) clear() {
	for _, l := range t.lanes {
		l.reset()
	}
	t.used = false
}
