package queue

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestConfigDefaultsAreValid(t *testing.T) {
	require.NoError(t, Config{Name: "search", Streams: []string{"orders"}}.WithDefaults().Validate())
}

// Each bound is refused on its wrong side, under its field's name.
func TestConfigBounds(t *testing.T) {
	bad := map[string]func(*Config){
		"Name": func(c *Config) { c.Name = "a b" }, "Streams": func(c *Config) { c.Streams = []string{"a*b"} },
		"Schema": func(c *Config) { c.Schema = "pg_x" }, "OnDead": func(c *Config) { c.OnDead = 7 },
		"MaxAttempts": func(c *Config) { c.MaxAttempts = 1001 }, "RetryAfter": func(c *Config) { c.RetryAfter = c.RetryAtMost + 1 },
		"RetryAtMost": func(c *Config) { c.RetryAtMost = 1 }, "MaxParked": func(c *Config) { c.MaxParked = -1 },
		"MaxParkedBytes": func(c *Config) { c.MaxParkedBytes = 1 }, "Lease": func(c *Config) { c.Lease = time.Millisecond },
		"Concurrency": func(c *Config) { c.Concurrency = -1 }, "BatchItems": func(c *Config) { c.BatchItems = 100_001 },
		"MaxItems": func(c *Config) { c.MaxItems = 99 }, "MaxBytes": func(c *Config) { c.MaxBytes = 1 },
		"SettleEvery": func(c *Config) { c.SettleEvery = c.Lease }, "Poll": func(c *Config) { c.Poll = 2 * time.Hour },
		"StopWithin": func(c *Config) { c.StopWithin = 2 * time.Hour },
	}
	for field, spoil := range bad {
		c := Config{Name: "search", Streams: []string{"orders"}}.WithDefaults()
		spoil(&c)
		require.ErrorContains(t, c.Validate(), "queue.Config."+field+": ", field)
	}
	require.ErrorContains(t, Config{}.WithDefaults().Validate(), "Streams")
	for _, ok := range []string{"*", "orders", "shop.*", "a.b.c"} {
		require.NoError(t, Config{Name: "s", Streams: []string{ok}}.WithDefaults().Validate(), ok)
	}
}

func TestBackoff(t *testing.T) {
	const first, most = time.Second, 10 * time.Minute
	for attempt, want := range map[int]time.Duration{1: time.Second, 2: 2 * time.Second, 5: 16 * time.Second, 10: 512 * time.Second, 11: most, 1000: most} {
		require.Equal(t, want/2, backoff(first, most, attempt, 0), "attempt %d at least", attempt)
		require.InDelta(t, want, backoff(first, most, attempt, 0.9999999), float64(time.Millisecond), "attempt %d at most", attempt)
	}
}

func TestJudge(t *testing.T) {
	c := Config{}.WithDefaults()
	require.Equal(t, verdict{dead: true}, c.judge(errors.New("x"), 20))
	require.False(t, c.judge(errors.New("x"), 19).dead)
	require.Equal(t, verdict{dead: true}, c.judge(fmt.Errorf("wrapped: %w", Dead(errors.New("x"))), 1))
	require.Equal(t, verdict{after: time.Hour}, c.judge(fmt.Errorf("wrapped: %w", Retry(errors.New("x"), time.Hour)), 1))
	require.Equal(t, verdict{dead: true}, c.judge(Retry(errors.New("x"), time.Hour), 20), "a wish does not lift the limit")
	require.Zero(t, c.judge(Retry(errors.New("x"), -time.Hour), 1).after)
}

// TestLeaseClock: the lease counts from before the renewal was sent, ends a margin
// early, never moves back, and does not look at the wall clock.
func TestLeaseClock(t *testing.T) {
	now := time.Now()
	c := newLeaseClock(func() time.Time { return now }, 30*time.Second)
	require.LessOrEqual(t, c.left(), time.Duration(0), "no lease yet")
	sent := now
	now = now.Add(7 * time.Second) // the answer was slow
	c.renewed(sent)
	require.Equal(t, 18*time.Second, c.left(), "30 s less 7 less the margin of 5")
	c.renewed(sent.Add(-time.Minute))
	require.Equal(t, 18*time.Second, c.left(), "an older renewal changes nothing")
	now = now.Add(18 * time.Second)
	require.Zero(t, c.left())
}

func TestErrors(t *testing.T) {
	cause := errors.New("cause")
	require.ErrorIs(t, Retry(cause, time.Second), cause)
	require.ErrorIs(t, Dead(cause), cause)
	require.EqualError(t, Failed{7: cause, 3: cause}, "2 items failed; 3: cause; 7: cause")
	err := safely(func() error { panic(cause) })
	var p *PanicError
	require.ErrorAs(t, err, &p)
	require.ErrorIs(t, err, cause)
	require.Contains(t, string(p.Stack), "TestErrors")
	require.NoError(t, safely(func() error { return nil }))
	require.Equal(t, "a\uFFFDb\uFFFD", messageOf(errors.New("a\x00b\xff")))
	require.Len(t, messageOf(errors.New(string(make([]byte, 3*maxMessage)))), 3*maxMessage)
}

func TestItem(t *testing.T) {
	it := Item{Seq: 5, Payload: []byte(`{"a":1}`), Headers: []byte(`{"trace":"x","n":1}`)}
	var v struct{ A int }
	require.NoError(t, it.Decode(&v))
	require.Equal(t, 1, v.A)
	require.Equal(t, "x", it.Header("trace"))
	require.Empty(t, it.Header("n"))
	require.Empty(t, it.Header("none"))
	require.Empty(t, Item{}.Header("none"))
	var dead *DeadError
	require.ErrorAs(t, Item{Seq: 5}.Decode(&v), &dead)
	require.ErrorAs(t, Item{Payload: []byte(`{`)}.Decode(&v), &dead)
	require.Equal(t, "16/B374D848", LSN(0x16B374D848).String())
}

func TestMux(t *testing.T) {
	type paid struct{ Order int }
	mux := NewMux(SkipUnknown)
	got := 0
	On(mux, "Paid", func(_ context.Context, _ Item, e paid) error { got = e.Order; return nil })
	require.NoError(t, mux.Handle(t.Context(), Item{Type: "Paid", Payload: []byte(`{"order":7}`)}))
	require.Equal(t, 7, got)
	require.NoError(t, mux.Handle(t.Context(), Item{Type: "Other"}))
	var dead *DeadError
	require.ErrorAs(t, NewMux(DeadUnknown).Handle(t.Context(), Item{Type: "Other"}), &dead)
	require.ErrorAs(t, mux.Handle(t.Context(), Item{Type: "Paid", Payload: []byte(`[]`)}), &dead)
	require.Panics(t, func() { On(mux, "Paid", func(context.Context, Item, paid) error { return nil }) })
}
