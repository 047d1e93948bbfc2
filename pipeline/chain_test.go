package pipeline

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/decoder/decodertest"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/replication"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/sinktest"
	"github.com/walbridge/walbridge/snapshot"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

var (
	orders = &decoder.Relation{OID: 1, Namespace: "public", Name: "orders", Identity: decoder.IdentityDefault,
		Columns: []decoder.Column{{Name: "id", TypeOID: 20, TypeMod: -1, Key: true}, {Name: "note", TypeOID: 25, TypeMod: -1}}}
	unrouted = &decoder.Relation{OID: 2, Namespace: "audit", Name: "trail", Identity: decoder.IdentityDefault,
		Columns: []decoder.Column{{Name: "id", TypeOID: 20, TypeMod: -1, Key: true}}}
)

// script is a stream that a test made: frames, then an error.
type script struct {
	frames []replication.Frame
	next   int
	err    error
	// stop is closed to interrupt a reader at the end of the script.
	stop chan struct{}
	once sync.Once
}

func (s *script) Ready() bool { return s.next < len(s.frames) && s.next%7 != 0 }

func (s *script) Behind() bool { return s.next%11 < 5 }

func (s *script) Next() (*replication.Frame, error) {
	if s.next < len(s.frames) {
		s.next++
		return &s.frames[s.next-1], nil
	}
	if s.err != nil {
		return nil, s.err
	}
	<-s.stop
	return nil, replication.ErrInterrupted
}

func (s *script) interrupt() { s.once.Do(func() { close(s.stop) }) }

func (s *script) message(f decodertest.Frame) {
	s.frames = append(s.frames, replication.Frame{Start: f.Start, End: f.Start, Data: f.Data})
}

func (s *script) keepalive(at lsn.LSN, reply bool) {
	s.frames = append(s.frames, replication.Frame{Keepalive: true, End: at, ReplyRequested: reply})
}

func testMapper(t require.TestingT) *mapper.Mapper {
	m, err := mapper.New(mapper.Config{Routes: []mapper.Route{
		{Tables: []string{"public.*"}, Changes: &mapper.Changes{}},
		{Messages: []string{"outbox"}, Outbox: &mapper.Outbox{}},
	}}, mapper.Env{Bridge: "shop"})
	require.NoError(t, err)
	return m
}

// rig is a chain and a writer over a script and a sink in memory.
type rig struct {
	chain  *chain
	writer *writer
	script *script
	pos    *positions
}

func newRig(t require.TestingT, s *script, out sink.Sink, at lsn.Progress, batch Batch) *rig {
	cfg := Config{Bridge: "shop", Batch: batch}.WithDefaults()
	m, err := newMetrics(nil, "shop", nil)
	require.NoError(t, err)
	pos := &positions{}
	pos.reset(at.Position.End)
	h := newHandoff(out, 1<<30)
	letters := &letterbox{cfg: cfg.OnError, now: time.Now, count: func(string) {}}
	r := &rig{script: s, pos: pos}
	shop := testMapper(t)
	r.chain = &chain{
		cfg: cfg, frames: s, decoder: decoder.New(decoder.Config{From: at.Position, Xid: at.Xid}), mapper: shop, handoff: h,
		table: func(_ context.Context, oid uint32) error { shop.SetTable(oid, nil); return nil },
		tally: newTally(m, &totals{}), letters: letters, types: func(context.Context) error { return nil },
		confirmed: pos.Confirmed, retained: func() int64 { return 0 }, idle: func() {}, asked: new(atomic.Bool), now: time.Now, at: at, widen: xidWidener{last: 700},
		snapshots: snapshot.NewSession(snapshot.Config{}, snapshot.State{Secret: []byte("secret")}),
	}
	r.writer = &writer{
		sink: out, source: sink.Source{Name: "shop", OnPoison: letters.refused}, handoff: h, positions: pos, backoff: &noWait{}, durable: at,
		confirm: func() {}, stored: func(*parcel, time.Duration) {}, rested: func() {}, trouble: func(error, time.Duration) {}, recovered: func() {},
	}
	return r
}

type noWait struct{}

func (*noWait) NextBackOff() time.Duration { return time.Microsecond }
func (*noWait) Reset()                     {}

// run works the script off and returns how the chain ended; what it handed over is
// written, unless the writer failed.
func (r *rig) run(ctx context.Context) error {
	writing, stop := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = r.writer.run(writing)
		r.script.interrupt()
	}()
	err := r.chain.run(ctx)
	if r.chain.handoff.failed() == nil {
		_ = r.chain.handoff.drain(ctx)
	}
	stop()
	<-done
	return err
}

// transactions of the model: how many rows each has that a route takes.
type model struct {
	log  *decodertest.Log
	want []lsn.ID
	ends map[lsn.ID]bool
	size map[lsn.LSN]int
	txs  []lsn.LSN // ends
}

func newModel(start lsn.LSN) *model {
	return &model{log: decodertest.NewLog(start), ends: map[lsn.ID]bool{}, size: map[lsn.LSN]int{}}
}

// tx commits a transaction: true is a row that a route takes, false one that none does.
func (m *model) tx(rows ...bool) {
	m.log.Begin()
	var mine []uint32
	for i, routed := range rows {
		rel, row := unrouted, decodertest.Row("1")
		if routed {
			rel, row = orders, decodertest.Row(fmt.Sprint(i), "to be packed with care")
			mine = append(mine, uint32(i))
		}
		m.log.Insert(rel, row)
	}
	commit, end := m.log.Commit(lsn.Micros(1000))
	m.txs = append(m.txs, end)
	m.size[commit] = len(mine)
	for _, seq := range mine {
		m.want = append(m.want, lsn.ID{Commit: commit, Seq: seq})
	}
	if len(mine) > 0 {
		m.ends[m.want[len(m.want)-1]] = true
	}
}

// outside writes a message outside of transactions: one that a route takes is a dead
// letter by itself.
func (m *model) outside(routed bool) {
	if !routed {
		m.log.MessageOutside("nobody's", []byte("{}"))
		return
	}
	id := lsn.ID{Commit: m.log.MessageOutside("outbox", []byte(`{"id": "1"}`)) - 1}
	m.want = append(m.want, id)
	m.ends[id] = true
}

func (m *model) check(t require.TestingT, memory *sinktest.Memory, batch Batch) {
	items := memory.Items()
	require.Len(t, items, len(m.want))
	for i, want := range m.want {
		require.Equal(t, want, items[i].ID)
		require.Equal(t, m.ends[want], items[i].TxEnd, "%v", want)
	}
	for _, w := range memory.Writes() {
		if w.To.Position.Inside() {
			require.Greater(t, m.size[w.To.Position.Commit], batch.MaxItems, "only a transaction larger than a batch is ever split")
		}
	}
}

func opened(t require.TestingT, memory *sinktest.Memory, start lsn.LSN) (sink.Sink, lsn.Progress) {
	s := memory.Sink()
	at, err := s.Open(context.Background(), sink.Source{Name: "shop"})
	require.NoError(t, err)
	if at.Phase == lsn.PhaseNone {
		at = lsn.Progress{Phase: lsn.PhaseStreaming, Slot: "s", Position: lsn.Position{End: start}}
		require.NoError(t, s.Write(context.Background(), s.NewBatch(), at))
	}
	return s, at
}

// Whatever the sizes of transactions and batches, wherever the stream is cut, and
// whenever the sink fails before or after it has stored: every item once, in order,
// the last of each transaction marked.
func TestChainModel(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		const start = 0x1000
		m := newModel(start)
		batch := Batch{MaxBytes: 1 << 20, MaxItems: rapid.IntRange(1, 12).Draw(t, "max items"), Wait: time.Duration(rapid.IntRange(1, 2).Draw(t, "wait")) * time.Nanosecond}
		for range rapid.IntRange(1, 25).Draw(t, "transactions") {
			switch rapid.IntRange(0, 9).Draw(t, "message outside") {
			case 0, 1:
				m.outside(true)
			case 2:
				m.outside(false)
			}
			m.tx(rapid.SliceOfN(rapid.Bool(), 0, 20).Draw(t, "rows")...)
		}
		memory := sinktest.NewMemory(1)
		for session := 0; ; session++ {
			out, at := opened(t, memory, start)
			s := &script{stop: make(chan struct{})}
			frames := m.log.Frames(at.Position.End)
			for _, f := range frames {
				s.message(f)
			}
			// a keepalive's position is the end of what was decoded: all before it was sent
			s.keepalive(m.log.End(), true)
			if session < 4 {
				cut := rapid.IntRange(0, len(s.frames)).Draw(t, "cut")
				s.frames, s.err = s.frames[:cut], errors.New("cut")
				switch rapid.IntRange(0, 3).Draw(t, "sink fails") {
				case 1:
					memory.FailAt(sinktest.StageStore, errors.New("before"))
				case 2:
					memory.FailAt(sinktest.StageAck, errors.New("after"))
				}
			}
			r := newRig(t, s, out, at, batch)
			if s.err == nil {
				r.script.interrupt()
			}
			err := r.run(context.Background())
			if s.err == nil {
				require.ErrorIs(t, err, errStopped)
				break
			}
			require.ErrorIs(t, err, s.err)
			require.False(t, memory.Progress("shop").Position.End > m.log.End())
		}
		m.check(t, memory, batch)
	})
}

// The server may only be told what is durable: a keepalive that arrives while the
// sink is stuck on a transaction says nothing about that transaction.
func TestKeepaliveQueuesBehindWhatIsInFlight(t *testing.T) {
	m := newModel(0x1000)
	m.tx(true)
	memory := sinktest.NewMemory(1)
	out, at := opened(t, memory, 0x1000)
	s := &script{stop: make(chan struct{})}
	for _, f := range m.log.Frames(0x1000) {
		s.message(f)
	}
	idle := m.log.Idle(64 << 20)
	s.keepalive(idle, true)
	blocked := memory.StallAt(sinktest.StageStore)
	r := newRig(t, s, out, at, Batch{MaxItems: 100})
	done := make(chan error, 1)
	go func() { done <- r.run(context.Background()) }()
	<-blocked.Reached
	require.Equal(t, lsn.LSN(0x1000), r.pos.Confirmed())
	s.interrupt()
	blocked.Release()
	require.ErrorIs(t, <-done, errStopped)
	require.GreaterOrEqual(t, r.pos.Confirmed(), m.txs[0])
	m.check(t, memory, Batch{MaxItems: 100})
}

// A transaction without items is a mark: it is not written by itself, or a sink in
// the same database would feed itself.
func TestItemlessCommitsAreNotWritten(t *testing.T) {
	m := newModel(0x1000)
	for range 1000 {
		m.tx(false)
		m.tx()
	}
	memory := sinktest.NewMemory(1)
	out, at := opened(t, memory, 0x1000)
	s := &script{stop: make(chan struct{})}
	for _, f := range m.log.Frames(0x1000) {
		s.message(f)
	}
	r := newRig(t, s, out, at, Batch{})
	now := time.Now()
	r.chain.now, r.chain.lastPut = clockAt(&now), now
	s.interrupt()
	require.ErrorIs(t, r.run(context.Background()), errStopped)
	require.Len(t, memory.Writes(), 1, "the one that opened the source")
}

func TestIdleMarks(t *testing.T) {
	for _, c := range []struct {
		name  string
		ahead int
		since time.Duration
		reply bool
		kept  int64
		asked bool
		want  bool
	}{
		{"nothing passed", 0, time.Hour, true, 0, false, false},
		{"little passed", 1000, time.Minute, false, 0, false, false},
		{"little passed, long ago", 1000, idleAtLatest, false, 0, false, true},
		{"little passed, much retained", 1000, idleEvery, false, idleBytes, false, true},
		{"nothing passed, much retained", 0, idleEvery, false, idleBytes, false, false},
		{"much passed, just now", idleBytes, idleEvery - 1, false, idleBytes, false, false},
		{"much passed", idleBytes, idleEvery, false, 0, false, true},
		{"the server asks", 8, idleOnRequest, true, 0, false, true},
		{"a reader waits", 8, idleOnAsk, false, 0, true, true},
		{"a reader waits, just after another", 8, idleOnAsk - 1, false, 0, true, false},
		{"a reader waits for nothing", 0, time.Hour, false, 0, true, false},
		{"the server asks again at once", 8, idleOnRequest - 1, true, 0, false, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			now := time.Now()
			ch := &chain{asked: new(atomic.Bool), confirmed: func() lsn.LSN { return 0x1000 }, retained: func() int64 { return c.kept }, now: clockAt(&now), lastPut: now.Add(-c.since)}
			ch.asked.Store(c.asked)
			require.Equal(t, c.want, ch.worthStoring(0x1000+lsn.LSN(c.ahead), c.reply))
		})
	}
}

// A stop waits for the end of the transaction under way, so that nothing smaller
// than a batch is split.
func TestStopWaitsForTheCommit(t *testing.T) {
	m := newModel(0x1000)
	m.tx(true, true, true)
	m.tx(true)
	memory := sinktest.NewMemory(1)
	out, at := opened(t, memory, 0x1000)
	s := &script{stop: make(chan struct{})}
	frames := m.log.Frames(0x1000)
	for _, f := range frames {
		s.message(f)
	}
	r := newRig(t, s, out, at, Batch{MaxItems: 100})
	r.chain.stopping = true
	require.ErrorIs(t, r.run(context.Background()), errStopped)
	require.Len(t, memory.Items(), 3, "the first transaction, whole, and nothing of the second")
}

func TestWriterDecides(t *testing.T) {
	start := lsn.Progress{Position: lsn.Position{End: 10}}
	mine := &parcel{batch: &countBatch{}, to: lsn.Progress{Position: lsn.Position{End: 20}}}
	w := &writer{durable: start}
	require.NoError(t, w.compare(mine.to, mine), "it was stored after all")
	require.ErrorIs(t, w.compare(start, mine), errWriteAgain)
	require.True(t, decided(w.compare(lsn.Progress{Position: lsn.Position{End: 5}}, mine)), "the sink lost what it had confirmed")
	require.True(t, decided(w.compare(lsn.Progress{Position: lsn.Position{End: 30}}, mine)), "somebody else has written")
}
