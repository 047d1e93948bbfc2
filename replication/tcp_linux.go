package replication

import (
	"net"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/walbridge/walbridge/internal/rawconn"
)

// control runs f on the descriptor of a TCP connection. false: it is no TCP
// connection, or f failed.
func control(c net.Conn, f func(fd int) error) bool {
	if r, ok := c.(*rawconn.Conn); ok {
		return r.RemoteAddr().Network() == "tcp" && r.Control(f) == nil
	}
	tcp, ok := c.(*net.TCPConn)
	if !ok {
		return false
	}
	raw, err := tcp.SyscallConn()
	if err != nil {
		return false
	}
	var ferr error
	err = raw.Control(func(fd uintptr) { ferr = f(int(fd)) })
	return err == nil && ferr == nil
}

// setUserTimeout ends a connection whose peer acknowledges nothing for that long:
// it finds a black hole while nobody reads (tcp(7), TCP_USER_TIMEOUT).
func setUserTimeout(c net.Conn, d time.Duration) {
	control(c, func(fd int) error {
		return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_USER_TIMEOUT, int(d.Milliseconds()))
	})
}

// setWindowClamp bounds the window that is offered to the peer (tcp(7),
// TCP_WINDOW_CLAMP); it may be changed at any time. false: not possible here.
func setWindowClamp(c net.Conn, bytes int) bool {
	return control(c, func(fd int) error {
		return unix.SetsockoptInt(fd, unix.IPPROTO_TCP, unix.TCP_WINDOW_CLAMP, bytes)
	})
}

// roundTrip is the smallest round trip that the kernel has seen on the connection,
// or an estimate; 0: unknown.
func roundTrip(c net.Conn) time.Duration {
	var rtt time.Duration
	control(c, func(fd int) error {
		info, err := unix.GetsockoptTCPInfo(fd, unix.IPPROTO_TCP, unix.TCP_INFO)
		if err == nil {
			rtt = time.Duration(info.Min_rtt) * time.Microsecond
		}
		return err
	})
	return rtt
}

// nap sleeps for about d, on the thread: a timer of the runtime rounds up to a
// millisecond when nothing else runs (epoll_wait), which is long here.
func nap(d time.Duration) {
	ts := syscall.NsecToTimespec(int64(d))
	_ = syscall.Nanosleep(&ts, nil) // a signal ends it early, which is as good
}
