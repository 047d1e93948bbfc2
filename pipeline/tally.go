package pipeline

import (
	"sync/atomic"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/mapper"
)

// totals are counted since the process started, for the status.
type totals struct {
	transactions, changes, events, records, deadLetters, skipped, batches, bytes, reconnects atomic.Int64
}

// tally counts changes and items for metrics and status. Counting is plain adding
// by the chain's goroutine; flush passes the sums on, once a batch.
type tally struct {
	metrics *metrics
	totals  *totals

	// lastRel and lastOps, lastStream and lastItems are the newest entries of the maps:
	// neighbours in a stream are mostly of one table and one stream.
	relations map[*decoder.Relation]*opCounts
	lastRel   *decoder.Relation
	lastOps   *opCounts
	streams   map[streamKey]*itemCount
	lastKey   streamKey
	lastItem  *itemCount

	txs, changed, mapped, events, records, bytes int64
}

type opCounts struct {
	n        [decoder.OpRead + 1]int64
	counters [decoder.OpRead + 1]prometheus.Counter
}

type streamKey struct {
	kind   mapper.Kind
	stream string
}

type itemCount struct {
	n       int64
	counter prometheus.Counter
}

// maxTallied bounds the maps of a session: relations come anew with each DDL, and
// streams may be named by data. Beyond it the maps start over; the counters they
// feed live on in the metrics.
const maxTallied = 4096

func newTally(m *metrics, t *totals) *tally {
	return &tally{metrics: m, totals: t, relations: map[*decoder.Relation]*opCounts{}, streams: map[streamKey]*itemCount{}}
}

func (t *tally) change(ch *decoder.Change) {
	t.changed++
	if ch.Relation == nil {
		return
	}
	if ch.Relation != t.lastRel {
		t.lastRel, t.lastOps = ch.Relation, t.relation(ch.Relation)
	}
	t.lastOps.n[ch.Op]++
}

func (t *tally) relation(rel *decoder.Relation) *opCounts {
	if c := t.relations[rel]; c != nil {
		return c
	}
	if len(t.relations) >= maxTallied {
		t.flush()
		clear(t.relations)
	}
	c := &opCounts{}
	for op := decoder.OpInsert; op <= decoder.OpRead; op++ {
		c.counters[op] = t.metrics.changes.WithLabelValues(rel.Namespace, rel.Name, op.String())
	}
	t.relations[rel] = c
	return c
}

func (t *tally) items(items []mapper.Item) {
	t.mapped++
	for i := range items {
		it := &items[i]
		switch it.Kind {
		case mapper.KindEvent:
			t.events++
		case mapper.KindRecord:
			t.records++
		}
		key := streamKey{it.Kind, it.Stream}
		if key != t.lastKey || t.lastItem == nil {
			t.lastKey, t.lastItem = key, t.stream(key)
		}
		t.lastItem.n++
	}
}

func (t *tally) stream(key streamKey) *itemCount {
	if c := t.streams[key]; c != nil {
		return c
	}
	if len(t.streams) >= maxTallied {
		t.flush()
		clear(t.streams)
	}
	c := &itemCount{counter: t.metrics.items.WithLabelValues(key.kind.String(), key.stream)}
	t.streams[key] = c
	return c
}

// snapshot counts rows that a snapshot has delivered.
func (t *tally) snapshot(table string, rows int) {
	t.metrics.snapshotRows.WithLabelValues(table).Add(float64(rows))
}

func (t *tally) transaction() { t.txs++ }

// read counts a message's bytes.
func (t *tally) read(n int64) { t.bytes += n }

// flush passes on what was counted since the last time.
func (t *tally) flush() {
	for _, c := range t.relations {
		for op := range c.n {
			if c.n[op] > 0 {
				c.counters[op].Add(float64(c.n[op]))
				c.n[op] = 0
			}
		}
	}
	for _, c := range t.streams {
		if c.n > 0 {
			c.counter.Add(float64(c.n))
			c.n = 0
		}
	}
	t.metrics.transactions.Add(float64(t.txs))
	t.metrics.bytes.WithLabelValues("received").Add(float64(t.bytes))
	t.totals.bytes.Add(t.bytes)
	t.totals.transactions.Add(t.txs)
	t.totals.changes.Add(t.changed)
	t.totals.skipped.Add(t.changed - t.mapped)
	t.totals.events.Add(t.events)
	t.totals.records.Add(t.records)
	t.txs, t.changed, t.mapped, t.events, t.records, t.bytes = 0, 0, 0, 0, 0, 0
}
