package torture_test

import (
	"fmt"
	"math/rand/v2"
	"net/http"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/common/expfmt"
	"github.com/prometheus/common/model"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/torture"
)

// usage is what a process holds.
type usage struct {
	memory      int64 // resident, bytes
	goroutines  int
	descriptors int
}

// usage asks the bridge and the kernel.
func (b *bridge) usage(t *testing.T) usage {
	t.Helper()
	u := usage{}
	u.memory, _ = procStatus(b.PID(), "VmRSS")
	entries, _ := os.ReadDir(fmt.Sprintf("/proc/%d/fd", b.PID())) // elsewhere there is none: 0 both times
	u.descriptors = len(entries)
	require.True(t, b.get("/metrics", func(resp *http.Response) bool {
		parser := expfmt.NewTextParser(model.UTF8Validation)
		families, err := parser.TextToMetricFamilies(resp.Body)
		if err != nil || families["go_goroutines"] == nil {
			return false
		}
		u.goroutines = int(families["go_goroutines"].GetMetric()[0].GetGauge().GetValue())
		return true
	}), "the metrics have go_goroutines")
	return u
}

// Rates and faults at random, for long: at the end the bridge holds what it held
// after the first tenth, and the work table what the source committed.
func TestSoak(t *testing.T) {
	t.Parallel()
	whole := time.Duration(sized(12, 600)) * time.Second
	s := seed(t)
	rand := torture.Rand(s, 31)
	c := pgtest.New(t)
	r := newRig(t, c.DB(t), c.DB(t))
	source, sink := proxied(t, r)
	r.setup(t)
	b := r.start(t)
	began := time.Now()
	var early, late []usage // in the second and third tenth, and in the last two
	var total torture.Counts
	faults := 0
	for time.Since(began) < whole {
		l := r.startLoad(t, torture.Config{Seed: s + uint64(faults), Rate: float64(20 + rand.IntN(400))})
		moment(t, rand, min(whole/10, 8*time.Second))
		r.disturb(t, rand, source, sink)
		faults++
		moment(t, rand, min(whole/20, 4*time.Second))
		add(&total, l.stop(t))
		r.awaitWhole(t)
		now, age := b.usage(t), time.Since(began)
		t.Logf("after %v: %+v", age.Truncate(time.Second), now) // whoever doubts the two ends sees the way
		switch {
		case age > whole*8/10:
			late = append(late, now)
		case len(early) == 0 || age > whole/10 && age < whole*3/10:
			early = append(early, now)
		}
	}
	proven := r.prove(t)
	r.awaitWhole(t)
	late = append(late, b.usage(t))
	first, last := medians(early), medians(late)
	t.Logf("after the first tenth %+v, at the end %+v", first, last)
	r.record(t, "soak", s, proven, total, "faults", faults)
	if full() { // a short run has not settled after its first tenth
		require.LessOrEqual(t, last.memory, first.memory*11/10)
	}
	require.LessOrEqual(t, last.goroutines, first.goroutines+first.goroutines/10+2)
	require.LessOrEqual(t, last.descriptors, first.descriptors+first.descriptors/10+2)
}

// awaitWhole waits until the bridge has made again each session that a fault took
// from it: what it holds meanwhile is less.
func (r *rig) awaitWhole(t *testing.T) {
	t.Helper()
	r.drain(t) // the writer misses its session when it has something to write
	pgtest.Eventually(t, startWithin(), func() bool { return r.sessions(t) == r.wholeSessions() }, "every session is there")
}

// medians are of each figure by itself: between two moments of its collector the
// heap differs by more than what is asked for here.
func medians(of []usage) usage {
	middle := func(figure func(usage) int64) int64 {
		all := make([]int64, len(of))
		for i, u := range of {
			all[i] = figure(u)
		}
		slices.Sort(all)
		return all[len(all)/2]
	}
	return usage{
		memory:      middle(func(u usage) int64 { return u.memory }),
		goroutines:  int(middle(func(u usage) int64 { return int64(u.goroutines) })),
		descriptors: int(middle(func(u usage) int64 { return int64(u.descriptors) })),
	}
}

// disturb does one thing that a bridge has to live with and outlive.
func (r *rig) disturb(t *testing.T, rand *rand.Rand, source, sink *pgtest.Proxy) {
	t.Helper()
	switch rand.IntN(5) {
	case 0:
		source.Cut()
	case 1:
		sink.Cut()
	case 2:
		source.CutAfter(rand.Int64N(1 << 20))
	case 3:
		r.source.Query(t, "SELECT pg_terminate_backend(active_pid) FROM pg_replication_slots WHERE slot_name = $1 AND active", r.slot())
	case 4:
		unlock := r.lockLog(t)
		moment(t, rand, time.Second)
		unlock()
	}
	source.Heal()
	sink.Heal()
}

func add(to *torture.Counts, c torture.Counts) {
	to.Committed += c.Committed
	to.RolledBack += c.RolledBack
	to.Failed += c.Failed
	to.Unknown += c.Unknown
	to.Rows += c.Rows
	to.Reconnects += c.Reconnects
}

// The versions of PostgreSQL that WALBRIDGE_TEST_PG names, or 15 and 18: the whole
// workload under kills of the bridge.
func TestEveryVersion(t *testing.T) {
	t.Parallel()
	pgtest.Matrix(t, func(t *testing.T, c *pgtest.Cluster) {
		s := seed(t)
		rand := torture.Rand(s, 32)
		r := newRig(t, c.DB(t), c.DB(t))
		r.extra = "batch: {max_items: 300}"
		r.setup(t)
		b := r.start(t)
		l := r.startLoad(t, torture.Config{Seed: s, Rate: 150})
		for range sized(3, 20) {
			moment(t, rand, 500*time.Millisecond)
			require.NoError(t, b.Kill())
			<-b.Done()
			b = r.start(t)
		}
		counts := l.stop(t)
		r.record(t, "pg"+strconv.Itoa(c.Major()), s, r.prove(t), counts, "kills", sized(3, 20))
	})
}
