package kafka

import (
	"strings"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/kafka/recordbatch"
)

// Limits of what a batch keeps over a Reset for the next use.
const (
	maxKeptBytes  = 16 << 20
	maxKeptTopics = 4096
)

// batch is items encoded as the record batches of their partitions.
type batch struct {
	cfg    *Config
	table  *table
	source func() string // the name; known once the sink was opened

	enc    encoder
	name   string // of the source that the records bear; empty: no record yet
	topics []*topicBatch
	byName map[string]*topicBatch
	recent *topicBatch // of the last record
	count  int
	bytes  int
	// change is where the records of the last change are, in their order.
	change []place
	last   lsn.ID // of the last item
	before lsn.ID // of the last item before the last change
}

func newBatch(cfg *Config, t *table, source func() string) *batch {
	return &batch{cfg: cfg, table: t, source: source, byName: map[string]*topicBatch{}}
}

// Append encodes the items of one change.
func (b *batch) Append(items []mapper.Item) {
	if len(items) == 0 {
		return
	}
	if b.count == 0 {
		b.name = b.source()
	}
	b.change, b.before = b.change[:0], b.last
	for i := range items {
		b.append(&items[i])
	}
}

func (b *batch) append(it *mapper.Item) {
	b.last = it.ID
	if it.Kind == mapper.KindDeadLetter {
		// Retention counts from a record's time: that of a letter is when it was written.
		body := b.enc.letter(it, b.name)
		b.add(b.topic(b.cfg.deadLetterTopic(b.name)), nowMs(), body, b.enc.text, false)
		return
	}
	t := b.topic(it.Stream)
	t.fixed = t.fixed || it.Kind == mapper.KindRecord
	b.add(t, timeOf(it), b.enc.item(it, it.ID, b.name), keyOf(it), it.AllLanes)
	if it.AllLanes && t.info != nil {
		b.last.Sub = uint16(len(t.lanes) - 1)
	}
}

// add puts a record into a topic.
func (b *batch) add(t *topicBatch, timeMs int64, body, key []byte, everyone bool) {
	t.add(timeMs, key, body, everyone, func(p place) {
		b.change = append(b.change, p)
		b.count++
		b.bytes += len(body)
	})
}

// topic finds the records of a topic, mostly that of the record before.
func (b *batch) topic(name string) *topicBatch {
	t := b.recent
	if t == nil || t.name != name {
		if t = b.byName[name]; t == nil {
			t = &topicBatch{name: strings.Clone(name)}
			b.topics = append(b.topics, t)
			b.byName[t.name] = t
		}
		b.recent = t
	}
	if !t.used {
		t.prepare(b.table.get(name))
	}
	return t
}

// EndTx has nothing to mark: a consumer sees the end of a transaction by the next
// id's commit.
func (b *batch) EndTx() {}

// CarryLast moves the records of the last change to next.
func (b *batch) CarryLast(next sink.Batch) (lsn.ID, bool) {
	to, ours := next.(*batch)
	if !ours || len(b.change) == 0 {
		return b.last, b.count > 0
	}
	if to.count == 0 {
		to.name = b.name
	}
	to.change, to.before, to.last = to.change[:0], to.last, b.last
	moved := map[string]bool{}
	for _, p := range b.change {
		b.carry(p, to, moved)
	}
	for i := len(b.change) - 1; i >= 0; i-- {
		b.cut(b.change[i])
	}
	b.change, b.last = b.change[:0], b.before
	return b.last, b.count > 0
}

// carry copies one record. One of each partition of a topic goes to the same
// partitions, when the other batch knows them, and as one record else.
func (b *batch) carry(p place, to *batch, moved map[string]bool) {
	rec, ok := p.record()
	if !ok {
		return
	}
	from := p.lane.topic
	t := to.topic(from.name)
	t.fixed = t.fixed || from.fixed
	if from.info != nil && t.info != nil && len(from.lanes) == len(t.lanes) {
		at := t.lanes[p.lane.partition].append(rec.Time, rec.Body)
		at.all = p.all
		to.put(at, len(rec.Body))
		return
	}
	if p.all && moved[from.name] {
		return
	}
	moved[from.name] = p.all
	parsed, err := recordbatch.Parse(rec.Body)
	if err != nil {
		return // made by us, so it is whole
	}
	t.add(rec.Time, parsed.Key, rec.Body, p.all, func(p place) { to.put(p, len(rec.Body)) })
}

func (b *batch) put(p place, bytes int) {
	b.change = append(b.change, p)
	b.count++
	b.bytes += bytes
}

func (b *batch) cut(p place) {
	rec, ok := p.record()
	if !ok {
		return
	}
	b.count--
	b.bytes -= len(rec.Body)
	if t := p.lane.topic; t.info == nil {
		t.everyone = t.everyone[:len(t.everyone)-1]
	}
	p.cut()
}

// Items is the number of records; one for each partition of a topic that is not
// known yet counts once.
func (b *batch) Items() int { return b.count }

// Bytes is what the records take.
func (b *batch) Bytes() int { return b.bytes }

// Reset empties the batch and keeps its memory, unless that is much.
func (b *batch) Reset() {
	kept := 0
	for _, t := range b.topics {
		t.clear()
		for _, l := range t.lanes {
			kept += l.memory()
		}
	}
	if kept > maxKeptBytes || len(b.topics) > maxKeptTopics {
		b.topics = nil
		clear(b.byName)
	}
	b.name, b.recent, b.count, b.bytes, b.change = "", nil, 0, 0, b.change[:0]
	b.last, b.before = lsn.ID{}, lsn.ID{}
}
