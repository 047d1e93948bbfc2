// Package queuetest helps to test handlers of package queue: without a database
// (Harness), or with the tables of a throwaway schema (Schema).
//
// It is for tests only and refuses to be clever: a Harness has one lane, runs in the
// calling goroutine, and its time moves when it is told to.
package queuetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/walbridge/walbridge/queue"
)

// Harness runs a handler over items as a worker would: in order of each key, failed
// items parked with what follows of their key, dead letters after the last attempt. Its
// methods must be called from one goroutine.
type Harness struct {
	t       testing.TB
	handle  queue.Handler
	cfg     queue.Config
	seq     int64
	waiting []*job
	now     time.Duration
	dead    []Letter
	handled []queue.Item
}

// job is an item on its way.
type job struct {
	item queue.Item
	due  time.Duration
}

// Letter is an item that is dead, with the error that killed it.
type Letter struct {
	Item queue.Item
	Err  error
}

// New returns a harness. Of cfg, MaxAttempts, RetryAfter, RetryAtMost and OnDead
// count; the zero Config has their defaults. Pauses are without jitter.
func New(t testing.TB, cfg queue.Config, handle queue.Handler) *Harness {
	return &Harness{t: t, handle: handle, cfg: cfg.WithDefaults()}
}

// Add appends an item of a type and key. value is its payload, marshalled; a
// json.RawMessage is taken as it is. It returns the item, whose other fields are
// plausible.
func (h *Harness) Add(typ, key string, value any) queue.Item {
	h.t.Helper()
	payload, err := json.Marshal(value)
	if err != nil {
		h.t.Fatalf("queuetest: payload: %v", err)
	}
	h.seq++
	it := queue.Item{
		Seq: h.seq, ID: fmt.Sprintf("item-%d", h.seq), Stream: "test", Key: key, Kind: queue.KindEvent, Type: typ, Payload: payload,
		Position: queue.Position{Source: "queuetest", LSN: queue.LSN(h.seq)}, CommittedAt: time.Unix(0, 0).UTC(), CreatedAt: time.Unix(0, 0).UTC(),
		Fence: 1,
	}
	h.AddItem(it)
	return it
}

// AddItem appends an item as it is. Its Seq must be higher than all before.
func (h *Harness) AddItem(it queue.Item) {
	h.seq = max(h.seq, it.Seq)
	it.Attempt = 1
	h.waiting = append(h.waiting, &job{item: it})
}

// Run handles what is due and returns how many calls of the handler that took.
// Parked items stay until Advance has passed their time.
func (h *Harness) Run(ctx context.Context) int {
	calls := 0
	for {
		at := h.next()
		if at < 0 {
			return calls
		}
		calls++
		h.attempt(ctx, at)
	}
}

// next is the first job that may run: it is due, and no earlier one of its key waits.
func (h *Harness) next() int {
	held := map[string]bool{}
	for _, l := range h.dead {
		held[l.Item.Key] = h.cfg.OnDead == queue.Block && l.Item.Key != ""
	}
	for i, j := range h.waiting {
		if j.due <= h.now && !held[j.item.Key] {
			return i
		}
		held[j.item.Key] = held[j.item.Key] || j.item.Key != ""
	}
	return -1
}

func (h *Harness) attempt(ctx context.Context, at int) {
	j := h.waiting[at]
	err := call(ctx, h.handle, j.item)
	var dead *queue.DeadError
	var retry *queue.RetryError
	switch {
	case err == nil:
		h.handled = append(h.handled, j.item)
	case errors.As(err, &dead) || j.item.Attempt >= h.cfg.MaxAttempts:
		h.dead = append(h.dead, Letter{j.item, err})
	default:
		pause := h.cfg.RetryAfter
		for range j.item.Attempt - 1 {
			pause = min(2*pause, h.cfg.RetryAtMost)
		}
		if errors.As(err, &retry) {
			pause = retry.After
		}
		j.item.Attempt++
		j.due = h.now + pause
		return
	}
	h.waiting = append(h.waiting[:at], h.waiting[at+1:]...)
}

// call turns a panic into an error, as the worker does.
func call(ctx context.Context, handle queue.Handler, it queue.Item) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &queue.PanicError{Value: v}
		}
	}()
	return handle(ctx, it)
}

// Advance moves the harness's time, so that parked items become due.
func (h *Harness) Advance(d time.Duration) { h.now += d }

// Handled returns the items that succeeded, in that order.
func (h *Harness) Handled() []queue.Item { return h.handled }

// Dead returns the dead letters.
func (h *Harness) Dead() []Letter { return h.dead }

// Waiting returns the items that are parked or wait behind one, in their order.
func (h *Harness) Waiting() []queue.Item {
	var items []queue.Item
	for _, j := range h.waiting {
		items = append(items, j.item)
	}
	return items
}
