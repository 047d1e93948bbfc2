package replication

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
)

// fakeServer is a walsender in copy mode that does what a real one will not do on
// demand. Its statuses are what the stream has sent.
type fakeServer struct {
	conn     net.Conn
	statuses chan fakeStatus
	copyDone chan struct{} // closed by CopyDone
	gone     sync.WaitGroup
}

type fakeStatus struct {
	write, flush lsn.LSN
	reply        bool
	at           time.Time
}

const fakeStart = 100

// fake returns a stream from fakeStart and the server at its other end. senderTime
// is the stream's wal_sender_timeout.
func fake(t *testing.T, senderTime time.Duration, confirmed func() lsn.LSN) (*Stream, *fakeServer) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	client, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	server, err := l.Accept()
	require.NoError(t, err)
	f := &fakeServer{conn: server, statuses: make(chan fakeStatus, 1000), copyDone: make(chan struct{})}
	f.gone.Go(f.listen)
	sock := &socket{Conn: client}
	sc := StreamConfig{From: fakeStart, Confirmed: confirmed, MaxFrameBytes: 1 << 20}.withDefaults()
	st := newStream(sock, sock, sc, senderTime, hclog.NewNullLogger())
	st.run(false, senderTime)
	t.Cleanup(func() {
		require.NoError(t, st.Close())
		_ = server.Close()
		f.gone.Wait()
	})
	return st, f
}

// listen reads what the client sends until it leaves.
func (f *fakeServer) listen() {
	defer close(f.statuses)
	r := bufio.NewReader(f.conn)
	for {
		var head [5]byte
		if _, err := io.ReadFull(r, head[:]); err != nil {
			return
		}
		body := make([]byte, binary.BigEndian.Uint32(head[1:])-4)
		if _, err := io.ReadFull(r, body); err != nil {
			return
		}
		switch head[0] {
		case 'c':
			close(f.copyDone)
		case 'd':
			f.statuses <- fakeStatus{lsn.LSN(binary.BigEndian.Uint64(body[1:])), lsn.LSN(binary.BigEndian.Uint64(body[9:])), body[33] == 1, time.Now()}
		}
	}
}

func (f *fakeServer) send(t *testing.T, build func(*wire)) {
	t.Helper()
	var w wire
	build(&w)
	_, err := f.conn.Write(w.Bytes())
	require.NoError(t, err)
}

// status returns the next status that satisfies want.
func (f *fakeServer) status(t *testing.T, want func(fakeStatus) bool) fakeStatus {
	t.Helper()
	deadline := time.After(within)
	for {
		select {
		case s, ok := <-f.statuses:
			require.True(t, ok, "the client left")
			if want(s) {
				return s
			}
		case <-deadline:
			t.Fatal("no such status")
		}
	}
}

func at(l lsn.LSN) func() lsn.LSN { return func() lsn.LSN { return l } }

func every(fakeStatus) bool { return true }

func TestStreamReadsFrames(t *testing.T) {
	st, f := fake(t, time.Minute, at(fakeStart))
	f.send(t, func(w *wire) {
		w.xlogData(0, []byte("relation")) // not the last write of a callback: no LSN
		w.xlogData(150, []byte("row"))
		w.message('S', response("client_encoding", "UTF8"))
		w.message('N', response("SWARNING", "Mthe weather"))
		w.xlogData(140, []byte("earlier row")) // rows of one transaction may lie before those of another
		w.keepalive(200, false)
	})
	for _, want := range []struct {
		data     string
		received lsn.LSN
	}{{"relation", fakeStart}, {"row", 150}, {"earlier row", 150}, {"", 200}} {
		fr, err := st.Next()
		require.NoError(t, err)
		require.Equal(t, want.data, string(fr.Data))
		require.Equal(t, want.received, st.Received())
	}
	require.EqualValues(t, 4, st.Frames())
	require.EqualValues(t, 4*xlogDataHeader-xlogDataHeader+keepaliveLength+len("relationrowearlier row"), st.Bytes())
}

func TestStreamCutsLongMessages(t *testing.T) {
	st, f := fake(t, time.Minute, at(fakeStart))
	long := make([]byte, 3<<20)
	copy(long, "the beginning")
	go f.send(t, func(w *wire) {
		w.xlogData(150, long)
		w.xlogData(160, []byte("next"))
	})
	fr, err := st.Next()
	require.NoError(t, err)
	require.EqualValues(t, len(long), fr.Size)
	require.Equal(t, "the beginning", string(fr.Data[:13]))
	require.Less(t, len(fr.Data), 1<<20)
	fr, err = st.Next()
	require.NoError(t, err)
	require.Zero(t, fr.Size)
	require.Equal(t, "next", string(fr.Data))
}

func TestStreamEnds(t *testing.T) {
	for name, c := range map[string]struct {
		send   func(*wire)
		reason string
		is     error
	}{
		"CopyDone":         {func(w *wire) { w.message('c', nil) }, ReasonEnded, ErrEnded},
		"CommandComplete":  {func(w *wire) { w.message('C', []byte("COPY 0\x00")) }, ReasonEnded, ErrEnded},
		"unknown message":  {func(w *wire) { w.message('?', nil) }, ReasonProtocol, nil},
		"unknown CopyData": {func(w *wire) { w.message('d', []byte("?")) }, ReasonProtocol, nil},
		"bad length":       {func(w *wire) { w.Write([]byte{'d', 0, 0, 0, 0}) }, ReasonProtocol, nil},
		"admin shutdown":   {func(w *wire) { w.message('E', response("SFATAL", "C57P01", "Mbye")) }, ReasonTerminated, nil},
		"error cut short":  {func(w *wire) { w.message('E', []byte("SFATAL")) }, ReasonProtocol, nil},
	} {
		t.Run(name, func(t *testing.T) {
			st, f := fake(t, time.Minute, at(fakeStart))
			f.send(t, func(w *wire) { w.keepalive(150, false); c.send(w) })
			_, err := st.Next()
			require.NoError(t, err, "what came before is delivered")
			_, err = st.Next()
			require.Equal(t, c.reason, fault.Reason(err), "%v", err)
			if c.is != nil {
				require.ErrorIs(t, err, c.is)
			}
			_, again := st.Next()
			require.Equal(t, err, again, "an ended stream stays ended")
		})
	}
}

func TestStreamConnectionLost(t *testing.T) {
	st, f := fake(t, time.Minute, at(fakeStart))
	require.NoError(t, f.conn.Close())
	_, err := st.Next()
	require.Equal(t, ReasonNetwork, fault.Reason(err))
}

// PostgreSQL 18 skips a publication that it does not find and says so in a notice:
// rows are being dropped.
func TestStreamHaltsOnSkippedPublication(t *testing.T) {
	for name, notice := range map[string][]byte{
		"english":    response("SWARNING", "C55000", "Mskipped loading publication \"p\"", "DThe publication does not exist at this point in the WAL.", "RLoadPublications"),
		"translated": response("SWARNUNG", "C55000", "MPublikation wurde nicht geladen", "RLoadPublications"),
	} {
		t.Run(name, func(t *testing.T) {
			st, f := fake(t, time.Minute, at(fakeStart))
			f.send(t, func(w *wire) { w.message('N', notice); w.xlogData(150, []byte("after the gap")) })
			_, err := st.Next()
			var halt *fault.Halt
			require.ErrorAs(t, err, &halt)
			require.Equal(t, "publication-missing", halt.Rule)
			requireWaysOut(t, halt)
		})
	}
}

func TestRecurringErrorsHalt(t *testing.T) {
	s := &Source{log: hclog.NewNullLogger()}
	poison := func(where string) error {
		st, f := fake(t, time.Minute, at(fakeStart))
		f.send(t, func(w *wire) {
			w.message('E', response("SERROR", "CXX000", "Minvalid memory alloc request size 1200000003", "W"+where))
		})
		_, err := st.Next()
		return err
	}
	const where = `slot "s", output plugin "pgoutput", in the change callback, associated LSN 0/1924E78`
	require.Equal(t, ReasonServer, fault.Reason(s.Recurring(poison(where), 7)))
	require.Equal(t, ReasonNetwork, fault.Reason(s.Recurring(fault.Transient(ReasonNetwork, io.EOF), 7)), "a cut in between does not count")
	require.Equal(t, ReasonServer, fault.Reason(s.Recurring(poison(where), 7)))
	require.Equal(t, ReasonServer, fault.Reason(s.Recurring(poison(where[:len(where)-1]+"9"), 7)), "another place begins anew")
	for range recurringLimit - 1 {
		require.Equal(t, ReasonServer, fault.Reason(s.Recurring(poison(where), 7)))
	}
	err := s.Recurring(poison(where), 7)
	var halt *fault.Halt
	require.ErrorAs(t, err, &halt)
	require.Equal(t, "poison", halt.Rule)
	require.Contains(t, halt.Error(), "0/1924E78")
	requireWaysOut(t, halt)
}

// An internal error of which the server does not say where it was is tried for longer,
// and halts too; any other is not counted.
func TestRecurringErrorsWithoutAPlaceHalt(t *testing.T) {
	s := &Source{log: hclog.NewNullLogger()}
	ended := func(code string) error {
		st, f := fake(t, time.Minute, at(fakeStart))
		f.send(t, func(w *wire) {
			w.message('E', response("SERROR", "C"+code, `Mcould not map filenode "base/16384/22484" to relation OID`))
		})
		_, err := st.Next()
		return err
	}
	for range placelessLimit - 1 {
		require.Equal(t, ReasonServer, fault.Reason(s.Recurring(ended("XX000"), 7)))
	}
	require.Equal(t, ReasonServer, fault.Reason(s.Recurring(ended("XX000"), 8)), "it came further")
	for range placelessLimit - 1 {
		require.False(t, errors.As(s.Recurring(ended("XX000"), 9), new(*fault.Halt)))
	}
	var halt *fault.Halt
	require.ErrorAs(t, s.Recurring(ended("XX000"), 9), &halt)
	require.Equal(t, "poison", halt.Rule)
	require.Contains(t, halt.Error(), "22484")
	requireWaysOut(t, halt)
	for range 2 * placelessLimit {
		require.False(t, errors.As(s.Recurring(ended("58030"), 9), new(*fault.Halt)))
	}
}

// A server that is silent although it was asked for a sign of life is dead.
func TestSilentServer(t *testing.T) {
	st, f := fake(t, 300*time.Millisecond, at(fakeStart))
	_, err := st.Next()
	require.ErrorIs(t, err, ErrSilent)
	require.Equal(t, ReasonSilent, fault.Reason(err))
	f.status(t, func(s fakeStatus) bool { return s.reply })
}

// Time away from the read does not count as silence, and statuses go on meanwhile.
func TestBusyReaderIsNotSilence(t *testing.T) {
	const senderTime = 200 * time.Millisecond
	st, f := fake(t, senderTime, at(fakeStart))
	began := time.Now()
	for time.Since(began) < 3*senderTime {
		f.status(t, every) // nobody reads, and still they come
	}
	f.send(t, func(w *wire) { w.keepalive(150, false) })
	_, err := st.Next()
	require.NoError(t, err)
}

// A server that asks again after each answer is answered at a bounded rate.
func TestReplyRequestsAreAnsweredAtABoundedRate(t *testing.T) {
	st, f := fake(t, time.Minute, at(fakeStart))
	first := f.status(t, every).at
	for range 5 {
		f.send(t, func(w *wire) { w.keepalive(150, true) })
		fr, err := st.Next()
		require.NoError(t, err)
		require.True(t, fr.ReplyRequested)
		f.status(t, every)
	}
	require.GreaterOrEqual(t, time.Since(first), 5*replySpacing-replySpacing/2)
}

// Plain keepalives are not answered.
func TestKeepalivesAreNotAnswered(t *testing.T) {
	st, f := fake(t, time.Minute, at(fakeStart))
	f.status(t, every) // the first, at the start
	for i := range 1000 {
		f.send(t, func(w *wire) { w.keepalive(uint64(200+i), false) })
		_, err := st.Next()
		require.NoError(t, err)
	}
	select {
	case s := <-f.statuses:
		t.Fatalf("answered with %+v", s)
	default:
	}
	// the next one comes because the position moved, and its write position is all that was received
	p := positionAt(fakeStart)
	st.report.confirmed = p.get
	st.Wake()
	require.Equal(t, lsn.LSN(1199), f.status(t, every).write)
}

func TestWakeReportsTheConfirmedPosition(t *testing.T) {
	p := positionAt(fakeStart)
	st, f := fake(t, time.Minute, p.get)
	require.Equal(t, fakeStatus{write: fakeStart, flush: fakeStart, reply: true}, noTime(f.status(t, every)))
	f.send(t, func(w *wire) { w.xlogData(150, nil) })
	_, err := st.Next()
	require.NoError(t, err)
	p.set(150)
	st.Wake()
	require.Equal(t, fakeStatus{write: 150, flush: 150}, noTime(f.status(t, every)))
}

func noTime(s fakeStatus) fakeStatus { s.at = time.Time{}; return s }

// A position that was never received, or that falls, must not leave the process: the
// server would believe it.
func TestWrongPositionsAreNotReported(t *testing.T) {
	for name, wrong := range map[string]lsn.LSN{"beyond what was received": fakeStart + 1, "behind what was reported": fakeStart - 1} {
		t.Run(name, func(t *testing.T) {
			p := positionAt(fakeStart)
			st, f := fake(t, time.Minute, p.get)
			f.status(t, every)
			p.set(wrong)
			st.Wake()
			_, err := st.Next()
			var halt *fault.Halt
			require.ErrorAs(t, err, &halt)
			require.Equal(t, "position-invariant", halt.Rule)
			requireWaysOut(t, halt)
			for s := range f.statuses {
				require.Equal(t, lsn.LSN(fakeStart), s.flush)
			}
		})
	}
}

func TestInterrupt(t *testing.T) {
	st, f := fake(t, time.Minute, at(fakeStart))
	next := make(chan error, 1)
	go func() { _, err := st.Next(); next <- err }()
	st.Interrupt()
	require.ErrorIs(t, <-next, ErrInterrupted)

	// in the middle of a frame: nothing of it is lost
	var w wire
	w.xlogData(150, []byte("a row in two pieces"))
	_, err := f.conn.Write(w.Bytes()[:20])
	require.NoError(t, err)
	go func() { _, err := st.Next(); next <- err }()
	st.Interrupt()
	require.ErrorIs(t, <-next, ErrInterrupted)
	_, err = f.conn.Write(w.Bytes()[20:])
	require.NoError(t, err)
	fr, err := st.Next()
	require.NoError(t, err)
	require.Equal(t, "a row in two pieces", string(fr.Data))
}

func TestAbort(t *testing.T) {
	st, _ := fake(t, time.Minute, at(fakeStart))
	next := make(chan error, 1)
	go func() { _, err := st.Next(); next <- err }()
	st.Abort(ErrShutdown)
	require.ErrorIs(t, <-next, ErrShutdown)
}

// Stop throws away what still comes and waits until the server is ready.
func TestStopHandshake(t *testing.T) {
	st, f := fake(t, time.Minute, at(fakeStart))
	go func() {
		<-f.copyDone
		st.Interrupt() // an interruption does not reach the stop
		f.send(t, func(w *wire) {
			for range 1000 {
				w.xlogData(150, make([]byte, 100))
			}
			w.message('c', nil)
			w.message('C', []byte("COPY 0\x00"))
			w.message('C', []byte("START_REPLICATION\x00"))
			w.message('Z', []byte{'I'})
		})
	}()
	st.Interrupt()
	require.NoError(t, st.Stop(t.Context()))
	_, err := st.Next()
	require.Error(t, err)
	require.NoError(t, st.Close(), "once more is fine")
}

func TestStopIsBounded(t *testing.T) {
	st, _ := fake(t, time.Minute, at(fakeStart))
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	err := st.Stop(ctx)
	require.ErrorIs(t, err, context.DeadlineExceeded)
}

func TestStopOfAnEndedStream(t *testing.T) {
	st, f := fake(t, time.Minute, at(fakeStart))
	require.NoError(t, f.conn.Close())
	_, err := st.Next()
	require.Error(t, err)
	require.NoError(t, st.Stop(t.Context()))
}

// The whole way from the socket: a full buffer costs nothing per frame.
func TestNextAllocatesNothing(t *testing.T) {
	st, f := fake(t, time.Minute, at(fakeStart))
	var w wire
	for i := range 2000 {
		w.xlogData(uint64(200+i), make([]byte, 150))
	}
	written := make(chan error, 1)
	go func() { _, err := f.conn.Write(w.Bytes()); written <- err }()
	_, err := st.Next()
	require.NoError(t, err)
	require.NoError(t, <-written)
	require.Zero(t, testing.AllocsPerRun(1000, func() {
		if _, err := st.Next(); err != nil {
			t.Error(err)
		}
		st.Ready()
	}))
}

func BenchmarkNext(b *testing.B) {
	var w wire
	for i := range 4000 {
		w.xlogData(uint64(i), make([]byte, 150))
	}
	stream := w.Bytes()
	st := &Stream{socket: &socket{pacer: newPacer(otherWays(), nil, nil, time.Now, nap)}, log: hclog.NewNullLogger()}
	st.in = newReader(func(p []byte) (int, error) { return copy(p, stream), nil }, len(stream), 1<<20)
	st.report = newReporter(nil, 0, nil, st.Received, time.Minute)
	b.SetBytes(int64(len(stream) / 4000))
	for b.Loop() {
		if _, err := st.Next(); err != nil {
			b.Fatal(err)
		}
	}
}
