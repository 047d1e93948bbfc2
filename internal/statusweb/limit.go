package statusweb

import (
	"net"
	"sync"
)

// limited is a listener with at most so many connections open: Accept waits for
// one to close. The server's time-outs see to it that one does.
type limited struct {
	net.Listener
	free   chan struct{} // one element per connection that may be opened
	closed chan struct{}
	once   sync.Once
}

func limit(l net.Listener, connections int) *limited {
	free := make(chan struct{}, connections)
	for range connections {
		free <- struct{}{}
	}
	return &limited{Listener: l, free: free, closed: make(chan struct{})}
}

// Accept returns the next connection once there is room for it.
func (l *limited) Accept() (net.Conn, error) {
	select {
	case <-l.free:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		l.free <- struct{}{}
		return nil, err
	}
	return &limitedConn{Conn: c, release: func() { l.free <- struct{}{} }}, nil
}

// Close closes the listener and ends an Accept that waits.
func (l *limited) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type limitedConn struct {
	net.Conn
	once    sync.Once
	release func()
}

// Close gives the connection's place back.
func (c *limitedConn) Close() error {
	err := c.Conn.Close()
	c.once.Do(c.release)
	return err
}
