package replication

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/rawconn"
)

// Stream starts a replication session. ctx bounds the start alone; end the stream by
// Stop or Close. The caller has asked Reconcile before, each time.
//
// Errors: as Classify makes them; ReasonSlotActive when another session holds the
// slot.
func (s *Source) Stream(ctx context.Context, sc StreamConfig) (*Stream, error) {
	if sc.Confirmed == nil && !sc.Temporary {
		return nil, errors.New("start stream: no function for the confirmed position")
	}
	sc = sc.withDefaults()
	ctx, cancel := context.WithTimeoutCause(ctx, s.limits.command, fmt.Errorf("not started within %v", s.limits.command))
	defer cancel()
	conn, sock, err := s.replication(ctx)
	if err != nil {
		return nil, fmt.Errorf("start stream: %w", err)
	}
	if sc.Temporary {
		if sc.From, err = s.createTemporary(ctx, conn); err != nil {
			closeConn(conn)
			return nil, Classify(fmt.Errorf("create temporary slot: %w", err))
		}
		from := sc.From
		sc.Confirmed = func() lsn.LSN { return from }
	}
	st, err := s.takeOver(ctx, conn, sock, sc)
	if err != nil {
		closeConn(conn)
		return nil, Classify(fmt.Errorf("start stream: %w", err))
	}
	if err := st.begin(ctx, s.startCommand(sc)); err != nil {
		if cause := context.Cause(ctx); cause != nil {
			err = cause
		}
		_ = sock.Conn.Close()
		return nil, Classify(fmt.Errorf("start stream: %w", err))
	}
	s.streamed.Store(true)
	st.run(sc.Eager, s.limits.senderTime)
	return st, nil
}

func (s *Source) startCommand(sc StreamConfig) string {
	return fmt.Sprintf("START_REPLICATION SLOT %s LOGICAL %s (%s)", quoteIdent(s.cfg.Slot), sc.From, pluginOptions(s.cfg.Publication))
}

// takeOver takes the connection away from the driver while it is idle and nothing
// of it is buffered anywhere. Only then is the stream asked for.
func (s *Source) takeOver(ctx context.Context, conn *pgconn.PgConn, sock *socket, sc StreamConfig) (*Stream, error) {
	if err := conn.SyncConn(ctx); err != nil {
		return nil, fmt.Errorf("take over the connection: %w", err)
	}
	h, err := conn.Hijack()
	if err != nil {
		return nil, fmt.Errorf("take over the connection: %w", err)
	}
	if n := h.Frontend.ReadBufferLen(); n != 0 {
		_ = sock.Conn.Close()
		return nil, fmt.Errorf("take over the connection: the driver holds %d bytes back", n)
	}
	st := newStream(h.Conn, sock, sc, s.limits.senderTime, s.log)
	st.pid = h.PID
	return st, nil
}

// newStream makes a stream of a connection that nobody else uses. Its goroutine runs
// from run on.
func newStream(conn net.Conn, sock *socket, sc StreamConfig, senderTimeout time.Duration, log hclog.Logger) *Stream {
	st := &Stream{conn: conn, socket: sock, log: log}
	st.received.Store(uint64(sc.From))
	st.in = newReader(conn.Read, sc.BufferBytes, sc.MaxFrameBytes+xlogDataHeader)
	st.report = newReporter(conn, sc.From, sc.Confirmed, st.Received, senderTimeout)
	return st
}

// begin sends the command and reads until the server is in copy mode. What follows
// of the stream is in the reader's block by then, and nowhere else.
func (st *Stream) begin(ctx context.Context, command string) error {
	unwatch := context.AfterFunc(ctx, st.disconnect)
	defer unwatch()
	query, err := (&pgproto3.Query{String: command}).Encode(nil)
	if err != nil {
		return err
	}
	if _, err := st.conn.Write(query); err != nil {
		return err
	}
	for {
		m, err := st.in.next()
		switch {
		case err != nil:
			return err
		case m.kind == 'W':
			return nil
		case m.kind == 'd':
			return &ProtocolError{What: "CopyData before CopyBothResponse"}
		}
		if err := st.control(m); err != nil {
			return err
		}
	}
}

// run makes the connection a stream's and starts its goroutine.
func (st *Stream) run(eager bool, senderTimeout time.Duration) {
	st.socket.Conn = rawconn.Detach(st.socket.Conn) // nobody else uses the connection yet
	st.socket.start(pacerOf(st.socket.Conn, eager), senderTimeout, st.report.probe)
	go st.reporting()
}

// pacerOf makes the pacer of a connection, as far as the platform has what it takes.
func pacerOf(c net.Conn, eager bool) *pacer {
	ways, clamp := otherWays(), (func(int))(nil)
	if setWindowClamp(c, noClamp) {
		ways = tcpWays()
		clamp = func(bytes int) {
			if bytes == 0 {
				bytes = noClamp
			}
			setWindowClamp(c, bytes)
		}
	}
	if eager {
		ways = ways[:1]
	}
	return newPacer(ways, clamp, func() time.Duration { return roundTrip(c) }, time.Now, nap)
}
