package sinktest

import (
	"bytes"
	"context"
	"errors"
	"runtime"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/sink"
)

// recorder is a test that may fail.
type recorder struct {
	testing.TB
	mu       sync.Mutex
	failed   bool
	cleanups []func()
}

func (r *recorder) Errorf(string, ...any) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.failed = true
}

func (r *recorder) FailNow()            { runtime.Goexit() }
func (r *recorder) Helper()             {}
func (r *recorder) Logf(string, ...any) {}
func (r *recorder) Cleanup(f func()) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.cleanups = append(r.cleanups, f)
}

// catch runs the named check until it fails, with one seed after the other: some
// checks see a flaw only when their random choices come to it.
func catch(t *testing.T, h Harness, name string) {
	h = h.withDefaults()
	all := checks(h)
	i := slices.IndexFunc(all, func(c check) bool { return c.name == name })
	require.GreaterOrEqual(t, i, 0, "no check is named %q", name)
	seed := Seed(t)
	for try := range uint64(20) {
		if fails(t, h, all[i], seed+try) {
			return
		}
	}
	t.Errorf("%s does not catch it", name)
}

// fails runs a check on its own and reports whether it failed.
func fails(t *testing.T, h Harness, c check, seed uint64) bool {
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		c.run(newEnv(r, h, seed))
	}()
	<-done
	for _, f := range slices.Backward(r.cleanups) {
		f()
	}
	return r.failed
}

// flawed is a sink on a Memory with one flaw: the functions that are set stand in
// the place of its own.
type flawed struct {
	*MemorySink
	open  func(context.Context, sink.Source) (lsn.Progress, error)
	write func(context.Context, sink.Batch, lsn.Progress) error
	batch func() sink.Batch
	end   func(context.Context) error
}

func (f *flawed) Open(ctx context.Context, src sink.Source) (lsn.Progress, error) {
	if f.open != nil {
		return f.open(ctx, src)
	}
	return f.MemorySink.Open(ctx, src)
}

func (f *flawed) Write(ctx context.Context, b sink.Batch, to lsn.Progress) error {
	if f.write != nil {
		return f.write(ctx, b, to)
	}
	return f.MemorySink.Write(ctx, b, to)
}

func (f *flawed) NewBatch() sink.Batch {
	if f.batch != nil {
		return f.batch()
	}
	return f.MemorySink.NewBatch()
}

func (f *flawed) Close(ctx context.Context) error {
	if f.end != nil {
		return f.end(ctx)
	}
	return f.MemorySink.Close(ctx)
}

// TestTheSuiteCatches breaks a correct sink in one way at a time: the check that
// stands for the broken sentence fails. The correct sink fails none (see
// TestMemoryKeepsTheLaw).
func TestTheSuiteCatches(t *testing.T) {
	for _, flaw := range slices.Concat(progressFlaws(), ownerFlaws(), writeFlaws(), poisonFlaws(), batchFlaws()) {
		t.Run(flaw.name, func(t *testing.T) {
			t.Parallel()
			h := memoryHarness(func(s *MemorySink) sink.Sink {
				f := &flawed{MemorySink: s}
				flaw.put(f)
				return f
			})
			h.Within = time.Second
			for _, name := range flaw.caught {
				catch(t, h, name)
			}
		})
	}
}

// flaw breaks a sink; caught are the checks that must see it.
type flaw struct {
	name   string
	caught []string
	put    func(*flawed)
}

// answers changes what Open says of a source that was seen before.
func answers(change func(*lsn.Progress)) func(*flawed) {
	return func(f *flawed) {
		f.open = func(ctx context.Context, src sink.Source) (lsn.Progress, error) {
			p, err := f.MemorySink.Open(ctx, src)
			if p.Phase != lsn.PhaseNone {
				change(&p)
			}
			return p, err
		}
	}
}

// progressFlaws is a table.
//
//arch:flat
func progressFlaws() []flaw {
	var all []flaw
	for field, forget := range map[string]func(*lsn.Progress){
		"system_id": func(p *lsn.Progress) { p.SystemID &= 1<<63 - 1 }, "timeline": func(p *lsn.Progress) { p.Timeline = 1 },
		"slot": func(p *lsn.Progress) { p.Slot = "" }, "last_tx_end": func(p *lsn.Progress) { p.Position.LastTxEnd = p.Position.End },
		"seq": func(p *lsn.Progress) { p.Position.Seq &= 0x7FFFFFFF }, "sub": func(p *lsn.Progress) { p.Position.Sub &= 0x7FFF },
		"xid": func(p *lsn.Progress) { p.Xid &= 0xFFFFFFFF }, "commit_time": func(p *lsn.Progress) { p.CommitTime = p.CommitTime.Truncate(time.Millisecond) },
		"no_commit_time": func(p *lsn.Progress) {
			if p.CommitTime.IsZero() {
				p.CommitTime = time.Unix(0, 0)
			}
		},
		"phase": func(p *lsn.Progress) { p.Phase = lsn.PhaseStreaming }, "config_hash": func(p *lsn.Progress) { p.ConfigHash = "" },
		"cursors": func(p *lsn.Progress) { p.Cursors = bytes.ToValidUTF8(p.Cursors, nil) },
	} {
		all = append(all, flaw{"loses " + field, []string{"progress_round_trip"}, answers(forget)})
	}
	return append(all, flaw{"streaming when never seen", []string{"fresh"}, func(f *flawed) {
		f.open = func(ctx context.Context, src sink.Source) (lsn.Progress, error) {
			p, err := f.MemorySink.Open(ctx, src)
			if p.Phase == lsn.PhaseNone {
				p.Phase = lsn.PhaseStreaming
			}
			return p, err
		}
	}}, flaw{"keeps old cursors", []string{"progress_cleared"}, func(f *flawed) {
		f.write = func(ctx context.Context, b sink.Batch, to lsn.Progress) error {
			if to.Cursors == nil {
				to.Cursors = f.m.Progress(f.src.Name).Cursors
			}
			return f.MemorySink.Write(ctx, b, to)
		}
	}}, flaw{"empty batches move nothing", []string{"empty_batch"}, func(f *flawed) {
		f.write = func(ctx context.Context, b sink.Batch, to lsn.Progress) error {
			if b.Items() == 0 {
				return nil
			}
			return f.MemorySink.Write(ctx, b, to)
		}
	}}, flaw{"takes any position", []string{"position_order"}, func(f *flawed) {
		f.write = func(ctx context.Context, b sink.Batch, to lsn.Progress) error {
			return f.unordered(ctx, b.(*memoryBatch), to)
		}
	}}, flaw{"never moves back", []string{"position_back"}, func(f *flawed) {
		f.write = func(ctx context.Context, b sink.Batch, to lsn.Progress) error {
			if !f.m.Progress(f.src.Name).Position.Before(to.Position) && to.Position.End > 0 {
				return errors.New("behind")
			}
			return f.MemorySink.Write(ctx, b, to)
		}
	}}, flaw{"orders by end alone", []string{"position_order", "items_round_trip", "crash_inside_transaction/begin"}, func(f *flawed) {
		f.write = func(ctx context.Context, b sink.Batch, to lsn.Progress) error {
			if f.m.Progress(f.src.Name).Position.End == to.Position.End && to.Position.Inside() {
				return errors.New("behind")
			}
			return f.MemorySink.Write(ctx, b, to)
		}
	}}, flaw{"writes without Open", []string{"write_before_open"}, func(f *flawed) {
		f.write = func(ctx context.Context, b sink.Batch, to lsn.Progress) error {
			if f.epoch == 0 && !f.dead {
				_, _ = f.MemorySink.Open(ctx, sink.Source{Name: SourceName})
			}
			return f.MemorySink.Write(ctx, b, to)
		}
	}})
}

// unordered writes whatever position it is given.
func (f *flawed) unordered(ctx context.Context, b *memoryBatch, to lsn.Progress) error {
	name, items := f.src.Name, b.encoded(f.src.Name)
	for _, stage := range []Stage{StageBegin, StageStore} {
		if err := f.m.comeTo(ctx, stage, f.MemorySink); err != nil {
			return err
		}
	}
	f.m.Store(Written{name, to, items})
	return f.m.comeTo(ctx, StageAck, f.MemorySink)
}

// owner reports whether this sink is the owner now.
func (f *flawed) owner() bool {
	f.m.mu.Lock()
	defer f.m.mu.Unlock()
	return f.epoch > 0 && f.m.owners[f.src.Name] == f.epoch
}

// ownerFlaws is a table.
//
//arch:flat
func ownerFlaws() []flaw {
	// takeBack makes the sink the owner again whenever it is not.
	takeBack := func(f *flawed) {
		f.m.mu.Lock()
		defer f.m.mu.Unlock()
		if f.epoch > 0 {
			f.epoch = f.m.owners[f.src.Name]
		}
	}
	return []flaw{{"no fence", []string{"fencing", "fencing_idle", "fencing_blocked/begin", "fencing_blocked/ack"}, func(f *flawed) {
		f.write = func(ctx context.Context, b sink.Batch, to lsn.Progress) error {
			takeBack(f)
			return f.MemorySink.Write(ctx, b, to)
		}
	}}, {"fence looked at only before the write", []string{"fencing_blocked/store"}, func(f *flawed) {
		f.write = func(ctx context.Context, b sink.Batch, to lsn.Progress) error {
			if !f.owner() {
				return fault.ErrFenced
			}
			return f.unordered(ctx, b.(*memoryBatch), to)
		}
	}}, {"fenced without saying so", []string{"fencing"}, func(f *flawed) {
		f.write = func(ctx context.Context, b sink.Batch, to lsn.Progress) error {
			if err := f.MemorySink.Write(ctx, b, to); errors.Is(err, fault.ErrFenced) {
				return errors.New("no")
			} else if err != nil {
				return err
			}
			return nil
		}
	}}, {"one progress for all sources", []string{"sources_apart"}, func(f *flawed) {
		f.open = func(ctx context.Context, _ sink.Source) (lsn.Progress, error) {
			return f.MemorySink.Open(ctx, sink.Source{Name: SourceName})
		}
	}}, {"remembers what the destination lost", []string{"lost_data"}, func(f *flawed) {
		var known lsn.Progress
		f.write = func(ctx context.Context, b sink.Batch, to lsn.Progress) error {
			err := f.MemorySink.Write(ctx, b, to)
			if err == nil {
				known = to
			}
			return err
		}
		f.open = func(ctx context.Context, src sink.Source) (lsn.Progress, error) {
			p, err := f.MemorySink.Open(ctx, src)
			if err == nil && p.Position.Before(known.Position) {
				p = known
			}
			return p, err
		}
	}}, {"Close writes", []string{"close_writes_nothing"}, func(f *flawed) {
		var open []*memoryBatch
		f.batch = func() sink.Batch {
			b := &memoryBatch{lanes: 3}
			open = append(open, b)
			return b
		}
		f.end = func(ctx context.Context) error {
			for _, b := range open {
				if b.Items() > 0 && f.epoch > 0 {
					_ = f.MemorySink.Write(ctx, b, lsn.Progress{Phase: lsn.PhaseStreaming, Position: lsn.Position{End: 1 << 60}})
				}
			}
			return f.MemorySink.Close(ctx)
		}
	}}}
}
