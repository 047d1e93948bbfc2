package sinktest

import (
	"context"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/sink"
)

// flawedBatch is a batch with one flaw.
type flawedBatch struct {
	memoryBatch
	append func([]mapper.Item)
	end    func()
	carry  func(*flawedBatch) (lsn.ID, bool)
	items  func() int
	size   func() int
	reset  func()
	write  func()
}

func (b *flawedBatch) Append(items []mapper.Item) {
	if b.append != nil {
		b.append(items)
		return
	}
	b.memoryBatch.Append(items)
}

func (b *flawedBatch) EndTx() {
	if b.end != nil {
		b.end()
		return
	}
	b.memoryBatch.EndTx()
}

func (b *flawedBatch) CarryLast(next sink.Batch) (lsn.ID, bool) {
	if b.carry != nil {
		return b.carry(next.(*flawedBatch))
	}
	return b.memoryBatch.CarryLast(&next.(*flawedBatch).memoryBatch)
}

func (b *flawedBatch) Items() int {
	if b.items != nil {
		return b.items()
	}
	return b.memoryBatch.Items()
}

func (b *flawedBatch) Bytes() int {
	if b.size != nil {
		return b.size()
	}
	return b.memoryBatch.Bytes()
}

func (b *flawedBatch) Reset() {
	if b.reset != nil {
		b.reset()
		return
	}
	b.memoryBatch.Reset()
}

// batches makes a sink whose batches have a flaw.
func batches(put func(*flawedBatch)) func(*flawed) {
	return func(f *flawed) {
		f.batch = func() sink.Batch {
			b := &flawedBatch{memoryBatch: memoryBatch{lanes: 3}}
			put(b)
			return b
		}
		f.write = func(ctx context.Context, s sink.Batch, to lsn.Progress) error {
			b := s.(*flawedBatch)
			if b.write != nil {
				b.write()
			}
			return f.MemorySink.Write(ctx, &b.memoryBatch, to)
		}
	}
}

// batchFlaws is a table.
//
//arch:flat
func batchFlaws() []flaw {
	return []flaw{
		{"keeps the item's memory", []string{"append_keeps_no_memory"}, batches(encodesLate)},
		{"Reset keeps items", []string{"batch_reuse", "empty_batch"}, batches(func(b *flawedBatch) {
			b.reset = func() { b.memoryBatch.items = b.memoryBatch.items[:min(1, len(b.memoryBatch.items))] }
		})},
		{"Reset keeps a count of bytes", []string{"batch_counts"}, batches(func(b *flawedBatch) {
			b.reset = func() { n := b.bytes; b.memoryBatch.Reset(); b.bytes = n }
		})},
		{"bytes of the first item alone", []string{"batch_counts"}, batches(func(b *flawedBatch) { b.size = func() int { return min(b.bytes, 100) } })},
		{"counts no dead letters", []string{"batch_counts"}, batches(func(b *flawedBatch) {
			b.items = func() int {
				n := 0
				for _, s := range b.memoryBatch.items {
					if s.Kind != mapper.KindDeadLetter {
						n++
					}
				}
				return n
			}
		})},
		{"EndTx marks nothing", []string{"end_of_transaction", "items_round_trip", "carry_last"}, batches(func(b *flawedBatch) { b.end = func() {} })},
		{"EndTx marks all", []string{"end_of_transaction", "items_round_trip"}, batches(func(b *flawedBatch) {
			b.end = func() {
				for i := range b.memoryBatch.items {
					b.memoryBatch.items[i].TxEnd = true
				}
			}
		})},
		{"EndTx marks the first item of the last change", []string{"end_of_transaction"}, batches(func(b *flawedBatch) {
			b.end = func() {
				if n := len(b.memoryBatch.items); n > 0 {
					b.memoryBatch.items[n-max(b.last, 1)].TxEnd = true
				}
			}
		})},
		{"CarryLast moves one item", []string{"carry_last", "carry_only"}, batches(func(b *flawedBatch) {
			b.carry = func(next *flawedBatch) (lsn.ID, bool) {
				b.last = min(b.last, 1)
				return b.memoryBatch.CarryLast(&next.memoryBatch)
			}
		})},
		{"CarryLast names the item that left", []string{"carry_last", "carry_only"}, batches(func(b *flawedBatch) {
			b.carry = func(next *flawedBatch) (lsn.ID, bool) {
				_, some := b.memoryBatch.CarryLast(&next.memoryBatch)
				return next.memoryBatch.items[0].ID, some
			}
		})},
		{"CarryLast leaves a copy", []string{"carry_last", "carry_only"}, batches(func(b *flawedBatch) {
			b.carry = func(next *flawedBatch) (lsn.ID, bool) {
				left := append([]Stored(nil), b.memoryBatch.items...)
				id, some := b.memoryBatch.CarryLast(&next.memoryBatch)
				b.memoryBatch.items = left
				return id, some
			}
		})},
		{"what was carried is no last change", []string{"carry_only"}, batches(func(b *flawedBatch) {
			b.carry = func(next *flawedBatch) (lsn.ID, bool) {
				id, some := b.memoryBatch.CarryLast(&next.memoryBatch)
				next.last = 0
				return id, some
			}
		})},
		{"an empty Append is a last change", []string{"append_nothing"}, batches(func(b *flawedBatch) {
			b.append = func(items []mapper.Item) {
				b.memoryBatch.Append(items)
				if len(items) == 0 {
					b.last = 0
				}
			}
		})},
		{"one item for all lanes", []string{"all_lanes", "items_round_trip"}, batches(func(b *flawedBatch) { b.lanes = 1 })},
		{"one event id for all lanes", []string{"all_lanes"}, batches(func(b *flawedBatch) {
			b.append = func(items []mapper.Item) {
				b.memoryBatch.Append(items)
				for i := range b.memoryBatch.items {
					if s := &b.memoryBatch.items[i]; s.Type == "truncate" {
						s.EventID = laneEventID(&mapper.Item{ID: s.ID, EventID: []byte(s.EventID)}, lsn.ID{Commit: s.ID.Commit, Seq: s.ID.Seq})
					}
				}
			}
		})},
		{"a write empties the batch", []string{"same_batch_again/store", "same_batch_again/begin"}, emptiesBatches},
		{"Open empties the batches", []string{"batch_outlives_open"}, func(f *flawed) {
			var made []*memoryBatch
			f.batch = func() sink.Batch {
				b := &memoryBatch{lanes: 3}
				made = append(made, b)
				return b
			}
			f.open = func(ctx context.Context, src sink.Source) (lsn.Progress, error) {
				for _, b := range made {
					b.Reset()
				}
				return f.MemorySink.Open(ctx, src)
			}
		}},
		{"a tombstone is the JSON null", []string{"items_round_trip"}, batches(func(b *flawedBatch) {
			b.append = func(items []mapper.Item) {
				for i := range items {
					if items[i].Payload == nil && items[i].Kind != mapper.KindDeadLetter {
						items[i].Payload = JSON("null")
					}
				}
				b.memoryBatch.Append(items)
			}
		})},
		{"batches share memory", []string{"batches_apart"}, sharesMemory},
	}
}

// encodesLate keeps the items and encodes them when they are written.
func encodesLate(b *flawedBatch) {
	var kept [][]mapper.Item
	plainReset := b.memoryBatch.Reset
	b.append = func(items []mapper.Item) {
		b.memoryBatch.Append(items)
		kept = append(kept, append([]mapper.Item(nil), items...))
	}
	b.reset = func() { kept = nil; plainReset() }
	b.write = func() {
		again := memoryBatch{lanes: 3}
		for _, items := range kept {
			again.Append(items)
		}
		for i := range again.items {
			if i < len(b.memoryBatch.items) {
				again.items[i].TxEnd = b.memoryBatch.items[i].TxEnd
			}
		}
		b.memoryBatch.items = again.items
	}
}

// emptiesBatches takes the items out of a batch when it begins to write them.
func emptiesBatches(f *flawed) {
	f.write = func(ctx context.Context, b sink.Batch, to lsn.Progress) error {
		taken := &memoryBatch{lanes: 3, items: b.(*memoryBatch).encoded("")}
		b.Reset()
		return f.MemorySink.Write(ctx, taken, to)
	}
}

// sharesMemory gives the same batch to everyone.
func sharesMemory(f *flawed) {
	one := &memoryBatch{lanes: 3}
	f.batch = func() sink.Batch { return one }
}
