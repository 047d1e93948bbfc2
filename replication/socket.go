package replication

import (
	"errors"
	"net"
	"os"
	"sync"
	"time"
)

// socket is the connection below TLS. While a stream runs, each of its reads of
// the network is paced, has a deadline, can be interrupted and takes a large piece,
// whatever the layer above asks for; before, it passes everything through. Reads
// are for one goroutine, writes for another, Interrupt and Close for any.
type socket struct {
	net.Conn
	pacer  *pacer
	silent time.Duration // without a byte for this long in a read: dead
	probe  func()        // asks the server for a sign of life
	lazy   bool          // a stream runs: all that is below counts; written under mu

	buf  []byte // for a layer that reads in small pieces
	r, w int    // buf[r:w] is unread

	mu          sync.Mutex
	interrupted bool // guarded by mu, so that no deadline is set over an interruption's
}

// readAhead is the size of the buffer below TLS.
const readAhead = 256 << 10

// start turns pass-through into the stream's way of reading.
func (s *socket) start(p *pacer, silent time.Duration, probe func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.pacer, s.silent, s.probe, s.lazy = p, silent, probe, true
}

// finish goes back to passing through: no deadline, and no interruption any more.
func (s *socket) finish() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.lazy = false
	return s.Conn.SetReadDeadline(time.Time{})
}

// Read reads at least one byte, or returns ErrInterrupted, ErrSilent or the
// connection's error.
func (s *socket) Read(p []byte) (int, error) {
	if s.r < s.w {
		n := copy(p, s.buf[s.r:s.w])
		s.r += n
		return n, nil
	}
	if !s.lazy {
		return s.Conn.Read(p)
	}
	if len(p) >= readAhead/4 {
		return s.receive(p)
	}
	if s.buf == nil {
		s.buf = make([]byte, readAhead)
	}
	n, err := s.receive(s.buf)
	s.r, s.w = copy(p, s.buf[:n]), n
	return s.r, err
}

// receive reads the network once. A server that says nothing for half of the
// silent time is asked for a sign of life. Only time spent here counts: a caller
// that is busy elsewhere proves nothing about the server.
func (s *socket) receive(p []byte) (int, error) {
	s.pacer.rest()
	for asked := false; ; asked = true {
		if !s.arm(s.silent / 2) {
			return 0, ErrInterrupted
		}
		n, err := s.Conn.Read(p)
		switch {
		case n > 0:
			s.pacer.found(n)
			return n, nil
		case !errors.Is(err, os.ErrDeadlineExceeded):
			return 0, err
		case s.takeInterrupt():
			return 0, ErrInterrupted
		case asked:
			return 0, ErrSilent
		}
		s.probe()
	}
}

// arm sets the deadline of the next read; false: an interruption was waiting.
func (s *socket) arm(within time.Duration) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.interrupted {
		s.interrupted = false
		return false
	}
	_ = s.Conn.SetReadDeadline(time.Now().Add(within)) // a closed connection's read says so
	return true
}

func (s *socket) takeInterrupt() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := s.interrupted
	s.interrupted = false
	return was
}

// interrupt ends a read that waits, or the next one that would.
func (s *socket) interrupt() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.lazy {
		return // the stream is being stopped
	}
	s.interrupted = true
	_ = s.Conn.SetReadDeadline(time.Unix(1, 0)) // a closed connection's reads end by themselves
}
