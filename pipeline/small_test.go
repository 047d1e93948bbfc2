package pipeline

import (
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/replication"
	"github.com/walbridge/walbridge/sink"
)

func TestXidWidens(t *testing.T) {
	for _, c := range []struct {
		last uint64
		xid  uint32
		want uint64
	}{
		{4294967290, 5, 1<<32 | 5},          // the wrap
		{1<<32 | 5, 4294967290, 4294967290}, // back over it: an older transaction that commits later
		{3<<32 | 100, 90, 3<<32 | 90},       // a slot's WAL lies before the session's start
		{3<<32 | 100, 4294967290, 2<<32 | 4294967290},
		{500, 0, 0},
		{10, 4294967290, 4294967290}, // nothing lies before epoch 0
		{0, 7, 7},
	} {
		w := xidWidener{last: c.last}
		require.Equal(t, c.want, w.widen(c.xid), "%d after %d", c.xid, c.last)
	}
}

func clockAt(t *time.Time) func() time.Time { return func() time.Time { return *t } }

func letter(seq uint32) []mapper.Item {
	return []mapper.Item{{ID: lsn.ID{Commit: 1, Seq: seq}, Kind: mapper.KindDeadLetter, DeadLetter: &mapper.DeadLetter{Reason: "r", Error: "e"}}}
}

func TestLetterbox(t *testing.T) {
	now := time.Now()
	counted := map[string]int{}
	l := &letterbox{cfg: OnError{PolicyDeadLetter, 3}, now: clockAt(&now), count: func(r string) { counted[r]++ }}
	for seq := range uint32(3) {
		require.NoError(t, l.mapped(letter(seq)))
	}
	require.NoError(t, l.mapped(letter(2)), "a redelivery is no news")
	require.NoError(t, l.mapped([]mapper.Item{{Kind: mapper.KindEvent}}))
	require.Equal(t, map[string]int{"r": 3}, counted)

	var halt *fault.Halt
	require.ErrorAs(t, l.mapped(letter(3)), &halt)
	require.Equal(t, "poison-storm", halt.Rule)
	require.ErrorAs(t, l.refused(sink.Poison{ID: lsn.ID{Commit: 1, Seq: 9}, Reason: "check", Err: errors.New("x")}), &halt, "one rate for both kinds")

	now = now.Add(time.Minute)
	require.NoError(t, l.refused(sink.Poison{ID: lsn.ID{Commit: 1, Seq: 9}, Reason: "check", Err: errors.New("x")}))
	require.Equal(t, map[string]int{"r": 3, "check": 1}, counted)
}

func TestLetterboxPolicyHalt(t *testing.T) {
	l := &letterbox{cfg: OnError{PolicyHalt, 60}, now: time.Now, count: func(string) { t.Fatal("counted") }}
	var halt *fault.Halt
	require.ErrorAs(t, l.mapped(letter(0)), &halt)
	require.Equal(t, "poison", halt.Rule)
	require.NotEmpty(t, halt.Ways)
}

func TestLagCountsWhatTheServerHasNotSent(t *testing.T) {
	now := time.Now()
	var m lagMeter
	lag := func(want float64) {
		t.Helper()
		got, known := m.seconds(now)
		require.True(t, known)
		require.InDelta(t, want, got, 0.001)
	}
	_, known := m.seconds(now)
	require.False(t, known, "no sample is not lag 0")
	// the server's clock is an hour off, which must not matter
	sample := func(wal, reached lsn.LSN) {
		m.add(replication.Sample{WAL: wal, Time: now.Add(time.Hour)}, now, reached)
	}
	sample(100, 100)
	lag(0)
	now = now.Add(time.Second)
	sample(200, 100)
	now = now.Add(3 * time.Millisecond)
	lag(0.003)
	m.reached(199, now)
	lag(0.003)
	m.reached(200, now)
	now = now.Add(900 * time.Millisecond)
	lag(0.003) // what it took, not how long ago that was
	for range 9 {
		sample(m.last.WAL+100, 200)
		now = now.Add(time.Second)
	}
	lag(9)
	m.reached(450, now) // the samples 300 and 400, which arrived 9 and 8 seconds ago
	lag(8)
	now = now.Add(time.Second)
	lag(8) // and 500 after 8 by now
	m.reached(1100, now)
	lag(2)
	sample(1100, 1100)
	lag(0)
	require.InDelta(t, 3600, m.serverNow(now).Sub(now).Seconds(), 0.001)

	sample(2000, 1100)
	sample(50, 1100)
	require.Empty(t, m.waiting, "WAL that moved back is another server's")
	now = now.Add(staleAfter + time.Second)
	_, known = m.seconds(now)
	require.False(t, known, "an old sample says nothing")
}

// A bridge that stands still for hours goes on to say for how long.
func TestLagIsBounded(t *testing.T) {
	began := time.Now()
	now := began
	var m lagMeter
	for i := range 3 * lagSamples {
		now = now.Add(time.Second)
		m.add(replication.Sample{WAL: lsn.LSN(i + 2), Time: now}, now, 1)
		require.LessOrEqual(t, len(m.waiting), lagSamples)
	}
	got, known := m.seconds(now)
	require.True(t, known)
	require.InDelta(t, 3*lagSamples-1, got, 0.001)
	require.Len(t, m.chartPoints(), lagHistory)
}

func TestRates(t *testing.T) {
	now := time.Now()
	var m rateMeter
	require.Zero(t, m.measure(now, status.Totals{Changes: 1000}), "one point is no rate")
	for i := range 20 {
		now = now.Add(time.Second)
		got := m.measure(now, status.Totals{Changes: 1000 + int64(i+1)*100, Events: int64(i+1) * 50, Bytes: int64(i+1) * 1000})
		require.InDelta(t, 100, got.Changes, 0.01)
		require.InDelta(t, 50, got.Items, 0.01)
		require.InDelta(t, 1000, got.Bytes, 0.01)
	}
	require.LessOrEqual(t, len(m.points), 10)
}

func TestConfig(t *testing.T) {
	good := Config{Bridge: "shop"}.WithDefaults()
	require.Empty(t, good.Validate())
	require.EqualValues(t, 32<<20, good.Memory.MaxRow)
	require.Equal(t, 5*time.Millisecond, good.Batch.Wait)
	for where, spoil := range map[string]func(*Config){
		"name":                    func(c *Config) { c.Bridge = "" },
		"batch.max_bytes":         func(c *Config) { c.Batch.MaxBytes = 64 << 20 },
		"batch.max_items":         func(c *Config) { c.Batch.MaxItems = -1 },
		"batch.wait":              func(c *Config) { c.Batch.Wait = time.Hour },
		"memory.max_row":          func(c *Config) { c.Memory.MaxRow = c.Memory.Limit },
		"on_error.policy":         func(c *Config) { c.OnError.Policy = "ignore" },
		"on_error.max_per_minute": func(c *Config) { c.OnError.MaxPerMinute = -1 },
		"takeover_after":          func(c *Config) { c.TakeoverAfter = time.Second },
	} {
		c := good
		spoil(&c)
		problems := c.Validate()
		require.Len(t, problems, 1, where)
		require.Equal(t, where, problems[0].Where)
		require.NotEmpty(t, problems[0].Fix)
	}
	low := good
	low.Memory.Limit = 1 << 20
	require.NotEmpty(t, low.Validate())
}
