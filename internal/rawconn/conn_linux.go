package rawconn

import (
	"errors"
	"io"
	"math"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// Conn is a connection outside of the runtime's poller: its reader waits in
// poll(2) on a thread of its own.
//
// It keeps the contract of net.Conn: any method may be called by any goroutine.
type Conn struct {
	fd            int
	wake          int // an eventfd that ends a reader's wait
	local, remote net.Addr
	base          time.Time // deadlines are counted from it
	readBy        atomic.Int64
	writeBy       atomic.Int64
	waiting       atomic.Bool // a reader is in poll, or about to be

	reading, writing sync.Mutex // one call of each at a time

	mu     sync.Mutex // guards users and closed
	users  int        // calls that use fd and wake
	closed bool
}

// never is no deadline.
const never = math.MaxInt64

// Detach takes a connection out of the runtime's poller. The old one must not be
// used any more. Not every kind of connection can be: then it is returned as it is.
func Detach(c net.Conn) net.Conn {
	conn, ok := c.(interface {
		net.Conn
		syscall.Conn
	})
	if !ok {
		return c
	}
	raw, err := conn.SyscallConn()
	if err != nil {
		return c
	}
	r := &Conn{fd: -1, local: c.LocalAddr(), remote: c.RemoteAddr(), base: time.Now()}
	r.readBy.Store(never)
	r.writeBy.Store(never)
	if r.wake, err = unix.Eventfd(0, unix.EFD_CLOEXEC|unix.EFD_NONBLOCK); err != nil {
		return c
	}
	cerr := raw.Control(func(fd uintptr) { r.fd, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) })
	if cerr != nil || err != nil {
		_ = unix.Close(r.wake)
		return c
	}
	_ = c.Close() // the duplicate keeps the connection; closing takes it out of the poller
	return r
}

// acquire begins a call that uses the descriptors.
func (r *Conn) acquire() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return net.ErrClosed
	}
	r.users++
	return nil
}

func (r *Conn) release() {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.users--; r.closed && r.users == 0 {
		r.free()
	}
}

func (r *Conn) free() {
	_ = unix.Close(r.fd)
	_ = unix.Close(r.wake)
}

func (r *Conn) isClosed() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.closed
}

// Close ends the connection and all calls that wait on it.
func (r *Conn) Close() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return net.ErrClosed
	}
	r.closed = true
	if r.users == 0 {
		r.free()
		return nil
	}
	_ = unix.Shutdown(r.fd, unix.SHUT_RDWR) // ends every poll
	r.rouse()
	return nil
}

// Read reads at least one byte.
func (r *Conn) Read(p []byte) (int, error) {
	if err := r.acquire(); err != nil {
		return 0, r.opError("read", err)
	}
	defer r.release()
	r.reading.Lock()
	defer r.reading.Unlock()
	if len(p) == 0 {
		return 0, nil
	}
	for {
		if r.left(&r.readBy) <= 0 {
			return 0, r.opError("read", os.ErrDeadlineExceeded)
		}
		n, err := unix.Read(r.fd, p)
		switch {
		case n > 0:
			return n, nil
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			r.awaitInput()
		case r.isClosed():
			return 0, r.opError("read", net.ErrClosed)
		case err == nil:
			return 0, io.EOF
		default:
			return 0, r.opError("read", os.NewSyscallError("read", err))
		}
	}
}

// awaitInput waits until there may be something to read, or another deadline.
func (r *Conn) awaitInput() {
	r.waiting.Store(true) // before the deadline is read: who changes it afterwards wakes us
	defer r.waiting.Store(false)
	fds := []unix.PollFd{{Fd: int32(r.fd), Events: unix.POLLIN}, {Fd: int32(r.wake), Events: unix.POLLIN}}
	_, _ = unix.Poll(fds, millis(r.left(&r.readBy))) // whatever it says, the read tells
	if fds[1].Revents != 0 {
		var count [8]byte
		_, _ = unix.Read(r.wake, count[:])
	}
}

// Write writes all of p.
func (r *Conn) Write(p []byte) (int, error) {
	if err := r.acquire(); err != nil {
		return 0, r.opError("write", err)
	}
	defer r.release()
	r.writing.Lock()
	defer r.writing.Unlock()
	done := 0
	for done < len(p) {
		if r.left(&r.writeBy) <= 0 {
			return done, r.opError("write", os.ErrDeadlineExceeded)
		}
		n, err := unix.SendmsgN(r.fd, p[done:], nil, nil, unix.MSG_NOSIGNAL)
		switch {
		case err == nil:
			done += n
		case errors.Is(err, unix.EINTR):
		case errors.Is(err, unix.EAGAIN):
			// A new deadline does not end this wait, so it is short.
			fds := []unix.PollFd{{Fd: int32(r.fd), Events: unix.POLLOUT}}
			_, _ = unix.Poll(fds, millis(min(r.left(&r.writeBy), writeLook)))
		case r.isClosed():
			return done, r.opError("write", net.ErrClosed)
		default:
			return done, r.opError("write", os.NewSyscallError("sendmsg", err))
		}
	}
	return done, nil
}

// writeLook is how often a writer that waits looks at its deadline.
const writeLook = 50 * time.Millisecond

// left is the time until a deadline.
func (r *Conn) left(by *atomic.Int64) time.Duration {
	at := by.Load()
	if at == never {
		return never
	}
	return time.Duration(at) - time.Since(r.base)
}

// millis is a timeout for poll, rounded up; -1: none.
func millis(d time.Duration) int {
	if d == never {
		return -1
	}
	return int(min(max(0, (d+time.Millisecond-1)/time.Millisecond), math.MaxInt32))
}

// rouse ends a reader's wait. The caller has the descriptors.
func (r *Conn) rouse() {
	_, _ = unix.Write(r.wake, []byte{1, 0, 0, 0, 0, 0, 0, 0}) // in native order any number but 0 does
}

// SetReadDeadline sets when reads end, those that wait as well.
func (r *Conn) SetReadDeadline(t time.Time) error {
	if err := r.acquire(); err != nil {
		return r.opError("set", err)
	}
	defer r.release()
	r.set(&r.readBy, t)
	if r.waiting.Load() {
		r.rouse()
	}
	return nil
}

// SetWriteDeadline sets when writes end; those that wait notice within 50 ms.
func (r *Conn) SetWriteDeadline(t time.Time) error {
	if err := r.acquire(); err != nil {
		return r.opError("set", err)
	}
	defer r.release()
	r.set(&r.writeBy, t)
	return nil
}

// SetDeadline sets both deadlines.
func (r *Conn) SetDeadline(t time.Time) error {
	return errors.Join(r.SetReadDeadline(t), r.SetWriteDeadline(t))
}

func (r *Conn) set(by *atomic.Int64, t time.Time) {
	if t.IsZero() {
		by.Store(never)
		return
	}
	by.Store(int64(t.Sub(r.base)))
}

// LocalAddr returns the local address.
func (r *Conn) LocalAddr() net.Addr { return r.local }

// RemoteAddr returns the peer's address.
func (r *Conn) RemoteAddr() net.Addr { return r.remote }

// Control calls f with the descriptor, which f must not keep.
func (r *Conn) Control(f func(fd int) error) error {
	if err := r.acquire(); err != nil {
		return err
	}
	defer r.release()
	return f(r.fd)
}

func (r *Conn) opError(op string, err error) error {
	return &net.OpError{Op: op, Net: r.remote.Network(), Source: r.local, Addr: r.remote, Err: err}
}
