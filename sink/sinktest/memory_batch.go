package sinktest

import (
	"slices"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/sink"
)

// memoryBatch holds copies of its items.
type memoryBatch struct {
	lanes int
	items []Stored
	bytes int
	last  int // items of the last change; 0: it was carried away, or there is none
}

func (b *memoryBatch) Append(items []mapper.Item) {
	if len(items) == 0 {
		return
	}
	before := len(b.items)
	for i := range items {
		b.append(&items[i])
	}
	b.last = len(b.items) - before
}

func (b *memoryBatch) append(it *mapper.Item) {
	if !it.AllLanes {
		b.add(itemStored("", it, it.ID))
		return
	}
	for lane := range b.lanes {
		id := it.ID
		id.Sub = uint16(lane)
		s := itemStored("", it, id)
		s.EventID = laneEventID(it, id)
		b.add(s)
	}
}

func (b *memoryBatch) add(s Stored) {
	b.items = append(b.items, s)
	b.bytes += s.size()
}

func (s *Stored) size() int {
	n := len(s.Key) + len(s.EventID) + len(s.Type) + len(s.Payload) + len(s.Headers) + len(s.Stream) + lsn.IDLen
	if s.DeadLetter != nil {
		n += len(s.DeadLetter.Raw)
	}
	return n
}

func (b *memoryBatch) EndTx() {
	if len(b.items) > 0 {
		b.items[len(b.items)-1].TxEnd = true
	}
}

func (b *memoryBatch) CarryLast(next sink.Batch) (lsn.ID, bool) {
	to := next.(*memoryBatch)
	stay := len(b.items) - b.last
	for _, s := range b.items[stay:] {
		to.add(s)
		b.bytes -= s.size()
	}
	to.last, b.last = b.last, 0
	b.items = slices.Delete(b.items, stay, len(b.items))
	if stay == 0 {
		return lsn.ID{}, false
	}
	return b.items[stay-1].ID, true
}

func (b *memoryBatch) Items() int { return len(b.items) }

func (b *memoryBatch) Bytes() int { return b.bytes }

func (b *memoryBatch) Reset() {
	clear(b.items)
	b.items, b.bytes, b.last = b.items[:0], 0, 0
}

// encoded returns the items of the batch as a source's.
func (b *memoryBatch) encoded(source string) []Stored {
	items := slices.Clone(b.items)
	for i := range items {
		items[i].Source = source
	}
	return items
}
