package statusweb

import (
	"context"
	"io"
	"net"
	"net/http"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/status"
)

// serve runs a server until the test ends.
func serve(t testing.TB, c Config) *Server {
	t.Helper()
	if c.Listen == "" {
		c.Listen = "127.0.0.1:0"
	}
	s, err := Listen(t.Context(), c)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
	return s
}

// get fetches a page over a connection of its own.
func get(t testing.TB, url string) (int, string) {
	t.Helper()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: 10 * time.Second}
	resp, err := client.Get(url)
	require.NoError(t, err)
	defer func() { require.NoError(t, resp.Body.Close()) }()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return resp.StatusCode, string(body)
}

func TestServesUntilTheContextEnds(t *testing.T) {
	s, err := Listen(t.Context(), Config{Listen: "127.0.0.1:0", Status: streaming})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	code, body := get(t, s.URL())
	require.Equal(t, http.StatusOK, code)
	require.Contains(t, body, "streaming")
	cancel()
	require.NoError(t, <-ended)
	_, err = net.DialTimeout("tcp", s.Addr().String(), time.Second)
	require.Error(t, err, "the listener is closed")
}

func TestStopDoesNotWaitForARequestThatHangs(t *testing.T) {
	entered, release := make(chan struct{}), make(chan struct{})
	s, err := Listen(t.Context(), Config{Listen: "127.0.0.1:0", Status: func() status.Status {
		close(entered)
		<-release
		return streaming()
	}})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx) }()
	c, err := net.Dial("tcp", s.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	_, err = io.WriteString(c, "GET /status HTTP/1.1\r\nHost: localhost\r\n\r\n")
	require.NoError(t, err)
	<-entered
	cancel()
	require.NoError(t, <-ended)
	close(release)
}

func TestTakenAddressIsAnError(t *testing.T) {
	s := serve(t, Config{Status: streaming})
	_, err := Listen(t.Context(), Config{Listen: s.Addr().String(), Status: streaming})
	require.ErrorContains(t, err, "listen on "+s.Addr().String())
}

func TestHeadersAreBounded(t *testing.T) {
	s := serve(t, Config{Status: streaming})
	c, err := net.Dial("tcp", s.Addr().String())
	require.NoError(t, err)
	defer c.Close()
	_, err = io.WriteString(c, "GET / HTTP/1.1\r\nHost: localhost\r\nX-Long: ")
	require.NoError(t, err)
	long := make([]byte, maxHeaderBytes+8<<10)
	for i := range long {
		long[i] = 'a'
	}
	_, _ = c.Write(long) // the server may well have answered and closed by now
	require.NoError(t, c.SetReadDeadline(time.Now().Add(10*time.Second)))
	answer := make([]byte, 12)
	_, err = io.ReadFull(c, answer)
	require.NoError(t, err)
	require.Equal(t, "HTTP/1.1 431", string(answer))
}

func TestConnectionsAreBounded(t *testing.T) {
	inner, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	l := limit(inner, 2)
	accepted := make(chan net.Conn)
	ended := make(chan error, 1)
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				ended <- err
				return
			}
			accepted <- c
		}
	}()
	for range 3 {
		c, err := net.Dial("tcp", inner.Addr().String())
		require.NoError(t, err)
		defer c.Close()
	}
	first, second := <-accepted, <-accepted
	require.Empty(t, l.free, "the third waits")
	require.NoError(t, first.Close())
	_ = first.Close() // a second close gives no second place
	third := <-accepted
	require.Empty(t, l.free)
	require.NoError(t, l.Close())
	require.ErrorIs(t, <-ended, net.ErrClosed)
	require.NoError(t, second.Close())
	require.NoError(t, third.Close())
	require.Len(t, l.free, 2)
}

func TestURLOfAnUnspecifiedAddressIsLocalhost(t *testing.T) {
	s, err := Listen(t.Context(), Config{Listen: "0.0.0.0:0", Status: streaming})
	require.NoError(t, err)
	defer func() { require.NoError(t, s.Close()) }()
	require.Regexp(t, `^http://localhost:\d+/$`, s.URL())
}
