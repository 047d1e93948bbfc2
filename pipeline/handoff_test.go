package pipeline

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/sink"
)

// countBatch is a batch that holds only sizes.
type countBatch struct{ items, bytes int }

func (b *countBatch) Append(items []mapper.Item)          { b.items += len(items); b.bytes += 100 * len(items) }
func (b *countBatch) EndTx()                              {}
func (b *countBatch) CarryLast(sink.Batch) (lsn.ID, bool) { return lsn.ID{}, false }
func (b *countBatch) Items() int                          { return b.items }
func (b *countBatch) Bytes() int                          { return b.bytes }
func (b *countBatch) Reset()                              { *b = countBatch{} }

type countSink struct{}

func (countSink) Open(context.Context, sink.Source) (lsn.Progress, error) { return lsn.Progress{}, nil }
func (countSink) NewBatch() sink.Batch                                    { return &countBatch{} }
func (countSink) Write(context.Context, sink.Batch, lsn.Progress) error   { return nil }
func (countSink) Close(context.Context) error                             { return nil }

func fill(p *parcel, items int, end lsn.LSN) *parcel {
	p.batch.Append(make([]mapper.Item, items))
	p.to.Position.End = end
	return p
}

func TestHandoffTakesInOrder(t *testing.T) {
	h := newHandoff(countSink{}, 1<<20)
	ctx := t.Context()
	for end := range lsn.LSN(3) {
		p, err := h.get(ctx)
		require.NoError(t, err)
		h.put(fill(p, 1, end+1))
	}
	short, cancel := context.WithTimeout(ctx, 10*time.Millisecond)
	defer cancel()
	_, err := h.get(short)
	require.ErrorIs(t, err, context.DeadlineExceeded, "a fourth parcel does not exist")
	for end := range lsn.LSN(3) {
		p, err := h.take(ctx)
		require.NoError(t, err)
		require.Equal(t, end+1, p.to.Position.End)
		h.done()
	}
	require.True(t, h.idle())
	p, err := h.get(ctx)
	require.NoError(t, err)
	require.Zero(t, p.batch.Items(), "a parcel comes back empty")
}

func TestHandoffReclaimsOnlyWhatIsOpenAndNotTaken(t *testing.T) {
	h := newHandoff(countSink{}, 1<<20)
	require.Nil(t, h.reclaim(), "nothing there")
	a, _ := h.get(t.Context())
	h.put(fill(a, 1, 1))
	require.Nil(t, h.reclaim(), "closed")
	b, _ := h.get(t.Context())
	h.putOpen(fill(b, 1, 2), time.Time{})
	require.Same(t, b, h.reclaim())
	require.Nil(t, h.reclaim(), "taken back already")
	h.putOpen(b, time.Time{})
	for range 2 {
		_, err := h.take(t.Context())
		require.NoError(t, err)
		if h.idle() {
			t.Fatal("idle while writing")
		}
		if h.writing == b {
			require.Nil(t, h.reclaim(), "the writer has it")
		}
		h.done()
	}
}

// A huge parcel is written alone: the next one waits until it is durable.
func TestHandoffBudget(t *testing.T) {
	h := newHandoff(countSink{}, 1000)
	a, _ := h.get(t.Context())
	h.put(fill(a, 11, 1))
	got := make(chan error, 1)
	go func() {
		_, err := h.get(t.Context())
		got <- err
	}()
	select {
	case <-got:
		t.Fatal("got a parcel beyond the budget")
	case <-time.After(20 * time.Millisecond): // nothing to wait for: the absence of an event
	}
	_, err := h.take(t.Context())
	require.NoError(t, err)
	h.done()
	require.NoError(t, <-got)
}

func TestHandoffFailWakesEverybody(t *testing.T) {
	h := newHandoff(countSink{}, 1<<20)
	boom := errors.New("boom")
	errs := make(chan error, 3)
	for range parcels {
		_, err := h.get(t.Context())
		require.NoError(t, err)
	}
	go func() { _, err := h.get(t.Context()); errs <- err }()
	go func() { _, err := h.take(t.Context()); errs <- err }()
	h.put(&parcel{batch: &countBatch{}})
	go func() { errs <- h.drain(t.Context()) }()
	// the writer takes the one that was put; get and drain still wait
	require.NoError(t, <-errs)
	h.fail(boom)
	h.fail(errors.New("a later one"))
	require.ErrorIs(t, <-errs, boom)
	require.ErrorIs(t, <-errs, boom)
	require.ErrorIs(t, h.failed(), boom)
}

// An open parcel that is not due is the chain's to take back; when it is due, or
// closed, the writer gets it.
func TestHandoffLeavesOpenParcelsUntilTheyAreDue(t *testing.T) {
	h := newHandoff(countSink{}, 1<<20)
	p, err := h.get(t.Context())
	require.NoError(t, err)
	h.putOpen(fill(p, 1, 1), time.Now().Add(time.Hour))
	short, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	_, err = h.take(short)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	require.Same(t, p, h.reclaim())

	taken := make(chan *parcel)
	go func() {
		p, _ := h.take(t.Context())
		taken <- p
	}()
	due := time.Now().Add(20 * time.Millisecond)
	h.putOpen(p, due)
	require.Same(t, p, <-taken)
	require.False(t, time.Now().Before(due))
	h.done()

	p, err = h.get(t.Context())
	require.NoError(t, err)
	h.putOpen(fill(p, 1, 2), time.Now().Add(time.Hour))
	require.Same(t, p, h.reclaim())
	h.put(p)
	got, err := h.take(t.Context())
	require.NoError(t, err)
	require.Same(t, p, got)
}

// Whatever the chain and the writer do, and in whatever order: parcels are written
// in the order of their positions, none is lost, none written twice.
func TestHandoffModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		h := newHandoff(countSink{}, 1<<20)
		ctx := context.Background()
		var next, written lsn.LSN
		var cur, writing *parcel
		open := 0
		for range rapid.IntRange(1, 200).Draw(t, "steps") {
			switch rapid.IntRange(0, 4).Draw(t, "do") {
			case 0: // append a transaction
				if cur == nil {
					cur = h.reclaim()
				}
				if cur == nil && len(h.free) > 0 {
					cur, _ = h.get(ctx)
				}
				if cur != nil {
					next++
					fill(cur, 1, next)
				}
			case 1, 2: // hand over
				if cur != nil {
					if rapid.Bool().Draw(t, "open") {
						h.putOpen(cur, time.Now().Add(time.Duration(rapid.IntRange(-1000, 1000).Draw(t, "µs"))*time.Microsecond))
					} else {
						h.put(cur)
					}
					cur = nil
					open++
				}
			case 3:
				if writing == nil && len(h.queue) > 0 {
					writing, _ = h.take(ctx)
				}
			case 4:
				if writing != nil {
					if writing.to.Position.End <= written {
						t.Fatalf("wrote %v after %v", writing.to.Position.End, written)
					}
					if got := lsn.LSN(writing.batch.Items()); written+got != writing.to.Position.End {
						t.Fatalf("%d items reach %v, from %v", got, writing.to.Position.End, written)
					}
					written = writing.to.Position.End
					h.done()
					writing = nil
				}
			}
		}
		n := len(h.free) + len(h.queue)
		for _, held := range []*parcel{cur, writing} {
			if held != nil {
				n++
			}
		}
		if n != parcels {
			t.Fatal(fmt.Sprint("parcels in all: ", n))
		}
	})
}
