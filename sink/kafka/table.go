package kafka

import (
	"maps"
	"sync"
	"sync/atomic"
)

// defaultMaxBytes is the max.message.bytes of a topic that does not set it.
const defaultMaxBytes = 1_048_588

// defaultAhead is the message.timestamp.after.max.ms of a topic that does not set it.
const defaultAhead = 3_600_000

// topicInfo is what has to be known of a topic. It does not change: a newer one takes
// its place.
type topicInfo struct {
	partitions int
	maxBytes   int   // of a batch, compressed
	ahead      int64 // ms by which a record's time may lie before the broker's clock …
	behind     int64 // … and after it
	compacted  bool  // a record without a key is refused
}

// table holds the topics that are known. Batches read it while the writer changes it.
type table struct {
	mu     sync.Mutex // held by writers
	topics atomic.Pointer[map[string]*topicInfo]
}

// get returns a topic, nil when it is not known.
func (t *table) get(name string) *topicInfo {
	if m := t.topics.Load(); m != nil {
		return (*m)[name]
	}
	return nil
}

// change replaces the map by one that change has changed.
func (t *table) change(change func(map[string]*topicInfo)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	next := map[string]*topicInfo{}
	if m := t.topics.Load(); m != nil {
		next = maps.Clone(*m)
	}
	change(next)
	t.topics.Store(&next)
}

func (t *table) put(name string, info *topicInfo) {
	t.change(func(m map[string]*topicInfo) { m[name] = info })
}

func (t *table) forget(name string) {
	t.change(func(m map[string]*topicInfo) { delete(m, name) })
}
