package replication

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/walbridge/walbridge/internal/lsn"
)

// The default sizes of StreamConfig.
const (
	DefaultBufferBytes   = 1 << 20
	DefaultMaxFrameBytes = 32 << 20
)

// StreamConfig says what to stream and who knows what is durable.
type StreamConfig struct {
	// From is the sink's position: the stream has every transaction that ends after it.
	// The server also has a position of its own, behind this one or at it; this one
	// wins.
	From lsn.LSN
	// Confirmed returns the position that is durable in the sink, with all before it.
	// It is called from another goroutine, must not block, starts at From, never falls
	// and never passes what Next has returned. Required.
	Confirmed func() lsn.LSN
	// Temporary makes a slot that ends with the session and streams from its consistent
	// point: for looking. From and Confirmed are not used; nothing is ever confirmed.
	Temporary bool
	// MaxFrameBytes is the longest message that is delivered whole; of a longer one
	// Frame.Data is the beginning and Frame.Size the length. Defaults to 32 MiB.
	MaxFrameBytes int
	// BufferBytes is the size of the block that is read into; it grows to MaxFrameBytes
	// while a long message needs it. Defaults to 1 MiB, at least 4 KiB.
	BufferBytes int
	// Eager turns off lazy reading, for measurements: each read follows the last at
	// once, also in catch-up.
	Eager bool
}

func (sc StreamConfig) withDefaults() StreamConfig {
	if sc.MaxFrameBytes <= 0 {
		sc.MaxFrameBytes = DefaultMaxFrameBytes
	}
	if sc.BufferBytes <= 0 {
		sc.BufferBytes = DefaultBufferBytes
	}
	return sc
}

// Stream is one replication session. Next, Ready, Stop and Close are for one
// goroutine; Wake, Ask, Interrupt, Abort and the counters for any.
type Stream struct {
	conn   net.Conn
	socket *socket
	in     *reader
	report *reporter
	log    hclog.Logger
	pid    uint32

	frame Frame
	err   error // what ended the stream: Next returns it from then on

	received atomic.Uint64
	frames   atomic.Int64
	bytes    atomic.Int64

	causeMu sync.Mutex
	cause   error // the first reason to end the session; guarded by causeMu
	closing sync.Once
	notice  string // the last one, to log a repeated one once
}

// Next returns the next frame, waiting for it as long as it takes. The frame is
// valid until the next call. After any error but ErrInterrupted the stream is over
// and Next returns the same error again.
//
// Errors: ErrInterrupted; *fault.Halt and *fault.ConfigError as Classify makes
// them; every other is transient.
func (st *Stream) Next() (*Frame, error) {
	if st.err != nil {
		return nil, st.err
	}
	for {
		m, err := st.in.next()
		if err != nil {
			return nil, st.fail(err)
		}
		if m.kind != 'd' {
			if err := st.control(m); err != nil {
				return nil, st.fail(err)
			}
			continue
		}
		if err := parseFrame(&st.frame, m); err != nil {
			return nil, st.fail(err)
		}
		st.count(m)
		return &st.frame, nil
	}
}

// count moves the received position and the counters, and passes on a request for
// a reply.
func (st *Stream) count(m message) {
	st.frames.Store(st.frames.Load() + 1)
	st.bytes.Store(st.bytes.Load() + max(int64(len(m.body)), m.cut))
	if at := uint64(st.frame.End); at > st.received.Load() {
		st.received.Store(at)
	}
	if st.frame.Keepalive {
		st.socket.pacer.caughtUp()
	}
	if st.frame.ReplyRequested {
		st.report.asked(st.frame.End)
	}
}

// Ready reports whether a whole further message is in the buffer, so that Next
// will not read the network.
func (st *Stream) Ready() bool { return st.in.ready() }

// Behind reports whether the server has more than it could send so far, so that what
// comes is not new. It is for the goroutine that calls Next.
func (st *Stream) Behind() bool { return st.socket.pacer.lazy }

// Wake says that the confirmed position has moved. It never blocks. The server is
// told within a second, or within 0.1 s when it has asked.
func (st *Stream) Wake() { nudge(st.report.wake) }

// Ask makes the server say how far it has sent, with a keepalive, within 0.1 s. It
// never blocks.
func (st *Stream) Ask() { st.report.probe() }

// Interrupt makes a Next that waits, or else the next one that would read the
// network, return ErrInterrupted.
func (st *Stream) Interrupt() { st.socket.interrupt() }

// Received is the end of the last frame that Next returned; From before the first.
func (st *Stream) Received() lsn.LSN { return lsn.LSN(st.received.Load()) }

// Reported is the flush position that was last sent to the server; From before the
// first.
func (st *Stream) Reported() lsn.LSN { return lsn.LSN(st.report.reported.Load()) }

// Frames counts the frames that Next returned.
func (st *Stream) Frames() int64 { return st.frames.Load() }

// Bytes counts the payload bytes of those frames, the parts of long messages that
// were thrown away among them.
func (st *Stream) Bytes() int64 { return st.bytes.Load() }

// PID is the process id of the server's walsender.
func (st *Stream) PID() uint32 { return st.pid }

// fail ends the stream with err, or with what ended it before.
func (st *Stream) fail(err error) error {
	if errors.Is(err, ErrInterrupted) {
		return ErrInterrupted
	}
	st.Abort(err) // before the reporter finds the connection closed, and takes that for the cause
	st.report.stop()
	st.causeMu.Lock()
	defer st.causeMu.Unlock()
	st.err = Classify(fmt.Errorf("read stream at %s: %w", st.Received(), st.cause))
	return st.err
}

// reporting runs the reporter, whose error ends the stream.
func (st *Stream) reporting() {
	if err := st.report.run(); err != nil {
		st.Abort(err)
	}
}

// Abort ends the session at once and makes Next return err. For any goroutine; the
// stream still wants its Close. The first error stays.
func (st *Stream) Abort(err error) {
	st.causeMu.Lock()
	if st.cause == nil {
		st.cause = err
	}
	st.causeMu.Unlock()
	st.disconnect()
}

// disconnect closes the socket below TLS, so that nothing waits for a lock of it.
func (st *Stream) disconnect() { st.closing.Do(func() { _ = st.socket.Conn.Close() }) }

func (st *Stream) close() {
	st.disconnect()
	st.report.stop()
}

// Close ends the session at once and waits for the stream's goroutine. What was
// confirmed but not reported is reported by the next session. Safe to call twice
// and after Stop.
func (st *Stream) Close() error {
	st.close()
	if st.err == nil {
		st.err = net.ErrClosed
	}
	return nil
}

// stopWithin bounds a Stop whose context has no deadline.
const stopWithin = 5 * time.Second

// Stop ends the session in good order: a last status update, CopyDone, whatever
// the server still sends thrown away until it is ready, Terminate. A status update
// followed by a plain close is lost nine times in ten. It closes the stream in any
// case; an error says that the server may not know the last position, which costs
// nothing but a repeated look at it. Next must not be running.
func (st *Stream) Stop(ctx context.Context) error {
	if st.err != nil {
		return nil // over already, and its error was returned
	}
	ctx, cancel := context.WithTimeout(ctx, stopWithin)
	defer cancel()
	unwatch := context.AfterFunc(ctx, st.disconnect)
	defer unwatch()
	st.report.stop()
	err := st.farewell()
	if cause := context.Cause(ctx); err != nil && cause != nil {
		err = cause
	}
	_ = st.Close()
	if err != nil {
		return fmt.Errorf("stop stream at %s: %w", st.Received(), err)
	}
	return nil
}

var (
	copyDone  = []byte{'c', 0, 0, 0, 4}
	terminate = []byte{'X', 0, 0, 0, 4}
)

func (st *Stream) farewell() error {
	if err := st.socket.finish(); err != nil {
		return err
	}
	if err := st.report.send(); err != nil {
		return err
	}
	if _, err := st.conn.Write(copyDone); err != nil {
		return fmt.Errorf("send CopyDone: %w", err)
	}
	for {
		m, err := st.in.next()
		if err != nil {
			return fmt.Errorf("wait for the server to be ready: %w", err)
		}
		switch m.kind {
		case 'E':
			return serverError(m.body)
		case 'Z':
			if _, err := st.conn.Write(terminate); err != nil {
				return fmt.Errorf("send Terminate: %w", err)
			}
			return nil
		}
	}
}
