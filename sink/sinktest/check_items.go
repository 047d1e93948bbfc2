package sinktest

import (
	"context"
	"strings"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/sink"
)

// itemsRoundTrip: every kind of item is stored as it was handed over, in order,
// over small and large batches, split transactions and several in one batch.
func itemsRoundTrip(e *env) {
	src := e.source(12, 30, 7)
	s, p := e.opened()
	e.deliver(src, s, p)
	sameProgress(e.t, src.at(11), e.open(s))
	e.holds(src.all()...)
	more := e.source(30, 4, 1000)
	src.txs, src.max, src.together = append(src.txs, more.txs...), 1000, 4
	e.deliver(src, s, src.at(11))
	e.holds(src.all()...)
}

// commitAtPreviousEnd: a transaction whose commit LSN is the end of the one before
// is another transaction: its items are stored, also after an Open in between.
func commitAtPreviousEnd(e *env) {
	src := e.source(5, 2, 100)
	for i := range src.txs[1:] {
		before, tx := &src.txs[i], &src.txs[i+1]
		moved := rebase(*tx, before.End)
		*tx = moved
	}
	s, p := e.opened()
	for i := range src.txs {
		part := *src
		part.txs = src.txs[:i+1]
		e.deliver(&part, s, p)
		p = e.open(s)
		sameProgress(e.t, src.at(i), p)
	}
	e.holds(src.all()...)
}

// rebase moves a transaction to another commit LSN.
func rebase(tx Tx, commit lsn.LSN) Tx {
	for _, c := range tx.Changes {
		for i := range c {
			old := c[i].ID.String()
			c[i].ID.Commit = commit
			c[i].EventID = []byte(strings.Replace(string(c[i].EventID), old, c[i].ID.String(), 1))
		}
	}
	tx.Commit, tx.End = commit, commit+0x30
	return tx
}

// plain makes a source of one transaction, of n changes of the kinds that next
// makes in turn.
func (e *env) plain(n int, next ...func(*Tx, lsn.ID) Change) *source {
	tx := e.gen.Tx(1)
	tx.Changes = nil
	for i := range n {
		tx.Changes = append(tx.Changes, next[i%len(next)](&tx, lsn.ID{Commit: tx.Commit, Seq: uint32(i)}))
	}
	return &source{h: e.h, name: SourceName, txs: []Tx{tx}, max: 1 << 20}
}

func (e *env) record(tx *Tx, id lsn.ID) Change     { return Change{e.gen.Record(tx, id)} }
func (e *env) event(tx *Tx, id lsn.ID) Change      { return Change{e.gen.Event(tx, id)} }
func (e *env) truncate(tx *Tx, id lsn.ID) Change   { return Change{e.gen.Truncate(tx, id)} }
func (e *env) deadLetter(tx *Tx, id lsn.ID) Change { return Change{e.gen.DeadLetter(tx, id)} }

// endOfTransaction: EndTx marks the last item and no other, once or twice called,
// in a batch of several transactions, after a key change, and on an empty batch
// not at all.
func endOfTransaction(e *env) {
	src := e.source(0, 1, 100)
	s, _ := e.opened()
	b := s.NewBatch()
	b.EndTx()
	require.Zero(e.t, b.Items(), "items of an empty batch after EndTx")
	for _, last := range []func(*Tx, lsn.ID) Change{e.record, e.event, e.gen.KeyChange, e.truncate} {
		tx := e.plain(3, e.record, e.event, last).txs[0]
		src.txs = append(src.txs, tx)
		for _, c := range tx.Changes {
			c.scribble(b.Append)
		}
		b.EndTx()
		b.EndTx()
	}
	open := e.plain(1, e.record).txs[0]
	open.Changes[0].scribble(b.Append)
	src.txs = append(src.txs, open)
	inside := src.at(3).Position
	inside.Commit = open.Commit
	e.write(s, b, src.progress(&open, inside))
	e.holds(src.upTo(inside)...)
}

// carryLast: CarryLast moves the items of the last change, all of them and no
// others, to the next batch, in which EndTx still finds them.
func carryLast(e *env) {
	for _, last := range []func(*Tx, lsn.ID) Change{e.record, e.gen.KeyChange, e.truncate} {
		for _, before := range []func(*Tx, lsn.ID) Change{e.event, e.gen.KeyChange, e.truncate} {
			e.carry(before, last)
		}
	}
}

func (e *env) carry(before, last func(*Tx, lsn.ID) Change) {
	e.d = e.h.New(e.t)
	src := e.plain(3, e.event, before, last)
	changes, tx := src.txs[0].Changes, &src.txs[0]
	s, _ := e.opened()
	b, next := s.NewBatch(), s.NewBatch()
	for _, c := range changes {
		c.scribble(b.Append)
	}
	all := b.Items()
	id, some := b.CarryLast(next)
	require.True(e.t, some, "CarryLast of three changes: nothing stays")
	stays := changeStored(e.h, SourceName, changes[1])
	require.Equal(e.t, stays[len(stays)-1].ID, id, "the id of the last item that stays")
	require.Equal(e.t, all, b.Items()+next.Items(), "items of both batches")
	inside := lsn.Position{End: tx.Commit - 8, LastTxEnd: tx.Commit - 8, Commit: id.Commit, Seq: id.Seq, Sub: id.Sub}
	e.write(s, b, src.progress(tx, inside))
	sameProgress(e.t, src.progress(tx, inside), e.open(s))
	e.holds(src.upTo(inside)...)
	b.Reset()
	next.EndTx()
	e.write(s, next, src.at(0))
	e.holds(src.all()...)
	e.close(s)
}

// carryOnly: a batch of one change has nothing that stays; carried on and on, its
// items are stored once.
func carryOnly(e *env) {
	src := e.plain(2, e.gen.KeyChange, e.record)
	s, _ := e.opened()
	a, b := s.NewBatch(), s.NewBatch()
	src.txs[0].Changes[0].scribble(a.Append)
	items := a.Items()
	for range 3 {
		_, some := a.CarryLast(b)
		require.False(e.t, some, "CarryLast of the only change: an item stays")
		require.Equal(e.t, []int{0, items}, []int{a.Items(), b.Items()}, "items left and carried")
		a.Reset()
		a, b = b, a
	}
	src.txs[0].Changes[1].scribble(a.Append)
	id, some := a.CarryLast(b)
	first := src.txs[0].Changes[0]
	require.True(e.t, some, "CarryLast of two changes: nothing stays")
	require.Equal(e.t, first[len(first)-1].ID, id, "the id of the last item that stays")
	src.txs[0].Changes[1].scribble(func([]mapper.Item) { a.Reset() })
	src.txs[0].Changes[0].scribble(a.Append)
	inside := lsn.Position{End: src.txs[0].Commit - 8, Commit: id.Commit, Seq: id.Seq, Sub: id.Sub}
	e.write(s, a, src.progress(&src.txs[0], inside))
	b.EndTx()
	e.write(s, b, src.at(0))
	e.holds(src.all()...)
}

// allLanes: an item of all lanes becomes one item a lane, with the lane as Sub
// and an event id of its own, in its place between the others.
func allLanes(e *env) {
	src := e.plain(6, e.record, e.truncate, e.truncate, e.event)
	s, p := e.opened()
	e.deliver(src, s, p)
	e.holds(src.all()...)
}

// appendKeepsNoMemory: what the mapper does with the memory of items after Append
// changes nothing that is stored. (Every check overwrites it; this one by name.)
func appendKeepsNoMemory(e *env) {
	src := e.plain(40, e.record, e.event, e.gen.KeyChange, e.deadLetter, e.truncate, e.event)
	src.txs[0].Changes = append(src.txs[0].Changes, e.record(&src.txs[0], lsn.ID{Commit: src.txs[0].Commit, Seq: 40}))
	s, p := e.opened()
	e.deliver(src, s, p)
	e.holds(src.all()...)
}

// appendNothing: a change without items leaves the batch as it is: EndTx and
// CarryLast go on to mean the last change that had some.
func appendNothing(e *env) {
	src := e.plain(2, e.event, e.gen.KeyChange)
	s, _ := e.opened()
	b, next := s.NewBatch(), s.NewBatch()
	b.Append(nil)
	for _, c := range src.txs[0].Changes {
		c.scribble(b.Append)
		b.Append(nil)
	}
	_, some := b.CarryLast(next)
	require.True(e.t, some)
	require.Equal(e.t, []int{1, 2}, []int{b.Items(), next.Items()}, "items left and carried")
	next.Append(nil)
	next.EndTx()
	tx := &src.txs[0]
	inside := lsn.Position{End: tx.Commit - 8, Commit: tx.Commit}
	e.write(s, b, src.progress(tx, inside))
	e.write(s, next, src.at(0))
	e.holds(src.all()...)
}

// batchReuse: Reset forgets what a batch held, whatever was done to it.
func batchReuse(e *env) {
	src := e.source(6, 12, 1000)
	s, _ := e.opened()
	b := s.NewBatch()
	for i := range src.txs {
		junk := e.gen.Tx(1 + e.rng.IntN(20))
		for _, c := range junk.Changes {
			c.scribble(b.Append)
		}
		if i%2 == 0 {
			b.EndTx()
		}
		if i%3 == 0 {
			b.CarryLast(s.NewBatch())
		}
		b.Reset()
		b.EndTx()
		for _, c := range src.txs[i].Changes {
			c.scribble(b.Append)
		}
		b.EndTx()
		e.write(s, b, src.at(i))
		b.Reset()
	}
	e.holds(src.all()...)
}

// batchCounts: Items counts every item and dead letter, Bytes grows with what is
// appended, and both are back at the start after Reset.
func batchCounts(e *env) {
	s, _ := e.opened()
	b := s.NewBatch()
	empty := b.Bytes()
	require.Zero(e.t, b.Items(), "items of a new batch")
	src := e.plain(30, e.record, e.deadLetter, e.gen.KeyChange, e.event)
	items, bytes := 0, empty
	for _, c := range src.txs[0].Changes {
		c.scribble(b.Append)
		items += len(c)
		require.Equal(e.t, items, b.Items(), "items")
		for i := range c {
			if p := c[i].Payload; p != nil {
				bytes += len(p.AppendJSON(nil)) / 2 // white space may go
			}
		}
		require.GreaterOrEqual(e.t, b.Bytes(), bytes, "bytes held")
	}
	b.Reset()
	require.Zero(e.t, b.Items(), "items after Reset")
	require.LessOrEqual(e.t, b.Bytes(), max(empty, 64), "bytes after Reset")
}

// batchesApart: batches share nothing.
func batchesApart(e *env) {
	src := e.source(3, 6, 1000)
	s, _ := e.opened()
	batches := []sink.Batch{s.NewBatch(), s.NewBatch(), s.NewBatch()}
	for seq := range 6 {
		for i, tx := range src.txs {
			if seq < len(tx.Changes) {
				tx.Changes[seq].scribble(batches[i].Append)
			}
		}
	}
	for i, b := range batches {
		b.EndTx()
		e.write(s, b, src.at(i))
	}
	e.holds(src.all()...)
}

// batchOutlivesOpen: a batch that was filled before an Open is written after it.
func batchOutlivesOpen(e *env) {
	src := e.source(2, 6, 1000)
	s, _ := e.opened()
	for i, tx := range src.txs {
		b := s.NewBatch()
		for _, c := range tx.Changes {
			c.scribble(b.Append)
		}
		b.EndTx()
		e.open(s)
		e.write(s, b, src.at(i))
	}
	e.holds(src.all()...)
}

// deadLetters: dead letters are stored whole, in a batch of their own and between
// others. Whether one can bear the mark of a transaction's end is the sink's.
func deadLetters(e *env) {
	keeps := e.h.Keeps
	e.h.Keeps = func(s Stored) Stored {
		s = keeps(s)
		s.TxEnd = false
		return s
	}
	s, p := e.opened()
	src := e.plain(3, e.deadLetter)
	more := e.plain(9, e.record, e.deadLetter, e.event, e.deadLetter)
	src.h, src.txs = e.h, append(src.txs, more.txs...)
	e.deliver(src, s, p)
	if e.d.Read == nil {
		return
	}
	got := e.d.Read(e.t)
	for i := range got {
		got[i].TxEnd = false
	}
	between(e.t, e.h, got, src.all(), src.all())
}

// job is a batch on its way to the goroutine that writes.
type job struct {
	b  sink.Batch
	to lsn.Progress
}

// concurrentUse: batches are made and filled by one goroutine while another
// writes (run with -race).
func concurrentUse(e *env) {
	src := e.source(40, 8, 10)
	s, _ := e.opened()
	jobs, free := make(chan job), make(chan sink.Batch, 3)
	result := background(e, func(ctx context.Context) error {
		var failed error
		for j := range jobs {
			if failed == nil {
				failed = s.Write(ctx, j.b, j.to)
			}
			free <- j.b
		}
		return failed
	})
	for range cap(free) {
		free <- s.NewBatch()
	}
	src.fill(free, jobs)
	close(jobs)
	require.NoError(e.t, await(e, result, "the last write"), "write")
	e.holds(src.all()...)
}

// fill sends each transaction as a batch, the longer ones as two.
func (s *source) fill(free <-chan sink.Batch, jobs chan<- job) {
	for i := range s.txs {
		tx := &s.txs[i]
		b := <-free
		b.Reset()
		for _, c := range tx.Changes {
			c.scribble(b.Append)
		}
		if len(tx.Changes) > 2 {
			next := <-free
			next.Reset()
			id, _ := b.CarryLast(next)
			inside := lsn.Position{End: s.before(i), LastTxEnd: s.before(i), Commit: id.Commit, Seq: id.Seq, Sub: id.Sub}
			jobs <- job{b, s.progress(tx, inside)}
			b = next
		}
		b.EndTx()
		jobs <- job{b, s.at(i)}
	}
}
