package queuetest

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/queue"
)

type paid struct{ Order int }

// The harness parks, retries, buries and keeps the order of keys.
func TestHarness(t *testing.T) {
	var order []int
	fails := 2
	mux := queue.NewMux(queue.DeadUnknown)
	queue.On(mux, "Paid", func(_ context.Context, _ queue.Item, e paid) error {
		if e.Order == 1 && fails > 0 {
			if fails--; fails == 0 {
				panic("second")
			}
			return errors.New("first")
		}
		order = append(order, e.Order)
		return nil
	})
	h := New(t, queue.Config{}, mux.Handle)
	h.Add("Paid", "a", paid{1})
	h.Add("Paid", "a", paid{2})
	h.Add("Paid", "b", paid{3})
	h.Add("Else", "b", nil)
	require.Equal(t, 3, h.Run(t.Context()))
	require.Equal(t, []int{3}, order)
	require.Len(t, h.Waiting(), 2)
	require.Len(t, h.Dead(), 1)
	require.ErrorContains(t, h.Dead()[0].Err, `no handler for type "Else"`)
	require.Zero(t, h.Run(t.Context()), "nothing is due")
	h.Advance(time.Second)
	require.Equal(t, 1, h.Run(t.Context()))
	h.Advance(2 * time.Second)
	h.Run(t.Context())
	require.Equal(t, []int{3, 1, 2}, order)
	require.Len(t, h.Handled(), 3)
	require.Equal(t, 3, h.Handled()[1].Attempt)
}

func TestHarnessBlocks(t *testing.T) {
	h := New(t, queue.Config{OnDead: queue.Block}, func(_ context.Context, it queue.Item) error {
		if it.Seq == 1 {
			return queue.Dead(errors.New("never"))
		}
		return nil
	})
	h.Add("x", "a", 1)
	h.Add("x", "a", 2)
	h.Add("x", "b", 3)
	h.Run(t.Context())
	require.Len(t, h.Handled(), 1)
	require.Len(t, h.Waiting(), 1)
}
