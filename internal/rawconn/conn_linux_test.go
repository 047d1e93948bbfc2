package rawconn

import (
	"net"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/net/nettest"
)

// pipe makes a pair of connections of a network, the first one detached.
func pipe(network, address string) nettest.MakePipe {
	return func() (c1, c2 net.Conn, stop func(), err error) {
		l, err := net.Listen(network, address)
		if err != nil {
			return nil, nil, nil, err
		}
		defer l.Close()
		if c1, err = net.Dial(network, l.Addr().String()); err != nil {
			return nil, nil, nil, err
		}
		if c2, err = l.Accept(); err != nil {
			return nil, nil, nil, err
		}
		c1 = Detach(c1)
		return c1, c2, func() { _ = c1.Close(); _ = c2.Close() }, nil
	}
}

// A detached connection is a net.Conn as good as any.
func TestKeepsTheContract(t *testing.T) {
	t.Run("tcp", func(t *testing.T) { nettest.TestConn(t, pipe("tcp", "127.0.0.1:0")) })
	t.Run("unix", func(t *testing.T) {
		n := 0
		dir := t.TempDir()
		nettest.TestConn(t, func() (c1, c2 net.Conn, stop func(), err error) {
			n++
			return pipe("unix", filepath.Join(dir, "s"+string(rune('a'+n))))()
		})
	})
}

func TestWaitIsEnded(t *testing.T) {
	for name, end := range map[string]func(t *testing.T, c net.Conn){
		"by a deadline": func(t *testing.T, c net.Conn) { require.NoError(t, c.SetReadDeadline(time.Unix(1, 0))) },
		"by Close":      func(t *testing.T, c net.Conn) { require.NoError(t, c.Close()) },
	} {
		t.Run(name, func(t *testing.T) {
			c, _, stop, err := pipe("tcp", "127.0.0.1:0")()
			require.NoError(t, err)
			t.Cleanup(stop)
			require.IsType(t, &Conn{}, c)
			ended := make(chan error, 1)
			go func() {
				_, err := c.Read(make([]byte, 1))
				ended <- err
			}()
			for !c.(*Conn).waiting.Load() {
				require.Empty(t, ended)
			}
			end(t, c)
			err = <-ended
			if name == "by Close" {
				require.ErrorIs(t, err, net.ErrClosed)
				require.ErrorIs(t, c.Close(), net.ErrClosed)
				require.ErrorIs(t, c.SetDeadline(time.Time{}), net.ErrClosed)
				return
			}
			require.ErrorIs(t, err, os.ErrDeadlineExceeded)
		})
	}
}

// What cannot be detached stays what it was.
func TestDetachLeavesOthers(t *testing.T) {
	c, other := net.Pipe()
	t.Cleanup(func() { _ = c.Close(); _ = other.Close() })
	require.Equal(t, c, Detach(c))
}
