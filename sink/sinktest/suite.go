package sinktest

import (
	"context"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/sink"
)

// SeedVariable is the environment variable that repeats a run.
const SeedVariable = "WALBRIDGE_TEST_SEED"

// Run checks the contract and what the harness claims beyond it, a subtest for
// each sentence, each on a destination of its own.
func Run(t *testing.T, h Harness) {
	h = h.withDefaults()
	seed := Seed(t)
	for _, c := range checks(h) {
		t.Run(c.name, func(t *testing.T) { c.run(newEnv(t, h, seed)) })
	}
}

// Seed returns the seed to use, from SeedVariable or at random, and prints it.
func Seed(t testing.TB) uint64 {
	t.Helper()
	seed := rand.Uint64()
	if text := os.Getenv(SeedVariable); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err, "parse %s", SeedVariable)
	}
	t.Logf("seed: %s=%d", SeedVariable, seed)
	return seed
}

// check is one sentence of the law.
type check struct {
	name string
	run  func(*env)
}

// checks are all that hold for the harness.
func checks(h Harness) []check {
	all := []check{
		{"claims", claimsHaveMeans},
		{"fresh", freshSource},
		{"progress_round_trip", progressRoundTrip},
		{"progress_cleared", progressCleared},
		{"empty_batch", emptyBatch},
		{"position_order", positionOrder},
		{"position_back", positionBack},
		{"write_before_open", writeBeforeOpen},
		{"close_writes_nothing", closeWritesNothing},
		{"items_round_trip", itemsRoundTrip},
		{"commit_at_previous_end", commitAtPreviousEnd},
		{"end_of_transaction", endOfTransaction},
		{"carry_last", carryLast},
		{"carry_only", carryOnly},
		{"all_lanes", allLanes},
		{"append_keeps_no_memory", appendKeepsNoMemory},
		{"append_nothing", appendNothing},
		{"batch_reuse", batchReuse},
		{"batch_counts", batchCounts},
		{"batches_apart", batchesApart},
		{"batch_outlives_open", batchOutlivesOpen},
		{"dead_letters", deadLetters},
		{"concurrent_use", concurrentUse},
		{"cancelled_write", cancelledWrite},
		{"cancelled_open", cancelledOpen},
		{"redelivery", redelivery},
		{"model", model},
	}
	all = append(all, poisonChecks()...)
	all = append(all, ownerChecks(h)...)
	return append(all, faultChecks(h)...)
}

// env is a check under way.
type env struct {
	t    testing.TB
	h    Harness
	d    Destination
	seed uint64
	rng  *rand.Rand
	gen  *Generator
}

func newEnv(t testing.TB, h Harness, seed uint64) *env {
	return &env{
		t: t, h: h, d: h.New(t), seed: seed,
		rng: rand.New(rand.NewPCG(seed, 1)), gen: NewGenerator(seed),
	}
}

// needs skips the check when the destination lacks what it takes.
func (e *env) needs(has bool, what string) {
	e.t.Helper()
	if !has {
		e.t.Skip("the destination's harness has no means for this check: " + what)
	}
}

// ctx bounds one step.
func (e *env) ctx() context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), e.h.Within)
	e.t.Cleanup(cancel)
	return ctx
}

// background runs f in a goroutine and returns its result. It is waited for before
// the check's instances are closed, its context ended by then.
func background[T any](e *env, f func(context.Context) T) <-chan T {
	ctx, cancel := context.WithCancel(e.ctx())
	result, done := make(chan T, 1), make(chan struct{})
	go func() {
		defer close(done)
		result <- f(ctx)
	}()
	e.t.Cleanup(func() {
		cancel()
		timeout := time.NewTimer(e.h.Within)
		defer timeout.Stop()
		select {
		case <-done:
		case <-timeout.C:
			e.t.Errorf("a call of the sink has not returned %s after its context ended", e.h.Within)
		}
	})
	return result
}

// sink returns a new instance, closed at the end.
func (e *env) sink() sink.Sink {
	e.t.Helper()
	s := e.d.Sink(e.t)
	e.t.Cleanup(func() { e.close(s) })
	return s
}

// close ends an instance, which may have been killed.
func (e *env) close(s sink.Sink) {
	ctx, cancel := context.WithTimeout(context.Background(), e.h.Within)
	defer cancel()
	_ = s.Close(ctx)
}

// opened returns a new instance that is open, and what it answered.
func (e *env) opened() (sink.Sink, lsn.Progress) {
	e.t.Helper()
	s := e.sink()
	return s, e.open(s)
}

func (e *env) open(s sink.Sink) lsn.Progress {
	e.t.Helper()
	p, err := s.Open(e.ctx(), sink.Source{Name: SourceName})
	require.NoError(e.t, err, "open")
	return p
}

// reopened closes s and returns what another instance answers.
func (e *env) reopened(s sink.Sink) (sink.Sink, lsn.Progress) {
	e.t.Helper()
	e.close(s)
	return e.opened()
}

// source makes a source of n transactions of up to maxChanges changes, in batches
// of up to maxItems items.
func (e *env) source(n, maxChanges, maxItems int) *source {
	return &source{h: e.h, name: SourceName, txs: e.gen.Txs(n, maxChanges), max: maxItems}
}

func (e *env) write(s sink.Sink, b sink.Batch, to lsn.Progress) {
	e.t.Helper()
	require.NoError(e.t, s.Write(e.ctx(), b, to), "write")
}

// deliver writes what lies behind the position, all of it.
func (e *env) deliver(src *source, s sink.Sink, from lsn.Progress) {
	e.t.Helper()
	require.NoError(e.t, src.deliver(e.ctx(), s, from.Position), "deliver")
}

// stored fails unless the destination holds exactly what belongs to the position,
// and what may lie ahead of it for a sink that does not store both in one step.
func (e *env) stored(src *source, p lsn.Progress) {
	e.t.Helper()
	if e.d.Read == nil {
		return
	}
	must, may := src.upTo(p.Position), src.all()
	if e.h.Promises.AtomicPosition {
		may = must
	}
	between(e.t, e.h, e.d.Read(e.t), must, may)
}

// holds fails unless the destination holds just these items.
func (e *env) holds(want ...Stored) {
	e.t.Helper()
	if e.d.Read != nil {
		between(e.t, e.h, e.d.Read(e.t), want, want)
	}
}

// finish delivers the rest through a new instance and compares the whole.
func (e *env) finish(src *source) {
	e.t.Helper()
	s, p := e.opened()
	e.stored(src, p)
	e.deliver(src, s, p)
	_, p = e.reopened(s)
	sameProgress(e.t, src.at(len(src.txs)-1), p)
	e.holds(src.all()...)
}

// sameProgress compares what was written with what Open answered.
func sameProgress(t testing.TB, want, got lsn.Progress) {
	t.Helper()
	require.True(t, want.CommitTime.Equal(got.CommitTime), "commit time: wrote %s, read %s", want.CommitTime, got.CommitTime)
	require.Equal(t, want.CommitTime.IsZero(), got.CommitTime.IsZero(), "commit time: wrote %s, read %s", want.CommitTime, got.CommitTime)
	require.Equal(t, string(want.Cursors), string(got.Cursors), "cursors")
	want.CommitTime, got.CommitTime, want.Cursors, got.Cursors = time.Time{}, time.Time{}, nil, nil
	require.Equal(t, want, got, "progress")
}

// await waits for a signal, or fails.
func await[T any](e *env, c <-chan T, what string) T {
	e.t.Helper()
	timeout := time.NewTimer(e.h.Within)
	defer timeout.Stop()
	select {
	case v := <-c:
		return v
	case <-timeout.C:
		require.FailNow(e.t, "waited too long", "%s: not within %s", what, e.h.Within)
	}
	panic("unreachable")
}

// poll waits until cond holds, or fails.
func poll(e *env, cond func() bool, what string) {
	e.t.Helper()
	tick := time.NewTicker(2 * time.Millisecond)
	defer tick.Stop()
	for deadline := time.Now().Add(e.h.Within); !cond(); <-tick.C {
		require.True(e.t, time.Now().Before(deadline), "%s: not within %s", what, e.h.Within)
	}
}
