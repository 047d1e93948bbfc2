package pgtest_test

import (
	"bytes"
	"io"
	"net"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// soon is a deadline for what takes milliseconds on a quiet machine.
const soon = 20 * time.Second

// echo is a server that sends back what it gets.
func echo(t *testing.T, network, addr string) string {
	t.Helper()
	l, err := net.Listen(network, addr)
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				_, _ = io.Copy(c, c)
			}()
		}
	}()
	t.Cleanup(func() {
		require.NoError(t, l.Close())
		<-done
	})
	return l.Addr().String()
}

// dial connects to a proxy; reads and writes have a deadline.
func dial(t *testing.T, p *pgtest.Proxy) *net.TCPConn {
	t.Helper()
	c, err := net.Dial("tcp", p.Addr())
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	require.NoError(t, c.SetDeadline(time.Now().Add(soon)))
	return c.(*net.TCPConn)
}

// ask sends text and requires the same back.
func ask(t *testing.T, c net.Conn, text string) {
	t.Helper()
	_, err := c.Write([]byte(text))
	require.NoError(t, err)
	got := make([]byte, len(text))
	_, err = io.ReadFull(c, got)
	require.NoError(t, err)
	require.Equal(t, text, string(got))
}

// silent requires that nothing arrives for a moment.
func silent(t *testing.T, c net.Conn) {
	t.Helper()
	require.NoError(t, c.SetReadDeadline(time.Now().Add(50*time.Millisecond)))
	n, err := c.Read(make([]byte, 1))
	var timeout net.Error
	require.ErrorAs(t, err, &timeout)
	require.True(t, timeout.Timeout(), "%v", err)
	require.Zero(t, n)
	require.NoError(t, c.SetReadDeadline(time.Now().Add(soon)))
}

func TestProxyRelays(t *testing.T) {
	unix := filepath.Join(t.TempDir(), "s")
	for _, target := range []string{echo(t, "tcp", "127.0.0.1:0"), echo(t, "unix", unix)} {
		p := pgtest.NewProxy(t, target)
		c := dial(t, p)
		ask(t, c, "hello")
		big := bytes.Repeat([]byte("0123456789abcdef"), 1<<16)
		go func() {
			_, _ = c.Write(big)
			_ = c.CloseWrite()
		}()
		got, err := io.ReadAll(c)
		require.NoError(t, err, "the end of the stream is passed on")
		require.True(t, bytes.Equal(big, got))
		require.Equal(t, 1, p.Accepted())
		pgtest.Eventually(t, soon, func() bool { return p.Open() == 0 }, "link is gone")
	}
}

func TestProxyCut(t *testing.T) {
	p := pgtest.NewProxy(t, echo(t, "tcp", "127.0.0.1:0"))
	c := dial(t, p)
	ask(t, c, "hello")
	p.Cut()
	_, err := c.Read(make([]byte, 1))
	require.ErrorContains(t, err, "reset by peer")
	ask(t, dial(t, p), "a new connection lives")
}

func TestProxyCutAfter(t *testing.T) {
	p := pgtest.NewProxy(t, echo(t, "tcp", "127.0.0.1:0"))
	for _, n := range []int64{0, 1, 7, 100_000} {
		c := dial(t, p)
		ask(t, c, "before")
		p.CutAfter(n)
		sent := bytes.Repeat([]byte("x"), 150_000)
		go func() { _, _ = c.Write(sent) }()
		got, err := io.ReadAll(c)
		require.NoError(t, err)
		require.Len(t, got, int(n))
		require.NoError(t, c.Close())
		ask(t, dial(t, p), "a new connection lives")
	}
}

func TestProxyBlackHole(t *testing.T) {
	p := pgtest.NewProxy(t, echo(t, "tcp", "127.0.0.1:0"))
	c := dial(t, p)
	ask(t, c, "hello")
	p.BlackHole(true)
	late := dial(t, p) // new connections are accepted
	for _, conn := range []net.Conn{c, late} {
		_, err := conn.Write([]byte("lost?"))
		require.NoError(t, err)
		silent(t, conn)
	}
	p.BlackHole(false)
	for _, conn := range []net.Conn{c, late} {
		got := make([]byte, 5)
		_, err := io.ReadFull(conn, got)
		require.NoError(t, err)
		require.Equal(t, "lost?", string(got))
	}
}

// A black hole hides the end of the server too, until it is cut or taken back.
func TestProxyBlackHoleHidesTheServersEnd(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	p := pgtest.NewProxy(t, l.Addr().String())
	c := dial(t, p)
	server, err := l.Accept()
	require.NoError(t, err)
	pgtest.Eventually(t, soon, func() bool { return p.Open() == 1 }, "the proxy is connected")
	p.BlackHole(true)
	require.NoError(t, server.(*net.TCPConn).SetLinger(0))
	require.NoError(t, server.Close())
	silent(t, c)
	p.Heal()
	_, err = c.Read(make([]byte, 1))
	require.ErrorContains(t, err, "reset by peer")
}

// A server that cannot be reached looks the same through a black hole.
func TestProxyBlackHoleHidesADeadServer(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	p := pgtest.NewProxy(t, l.Addr().String())
	p.BlackHole(true)
	c := dial(t, p)
	silent(t, c)
	p.Heal()
	_, err = c.Read(make([]byte, 1))
	require.ErrorContains(t, err, "reset by peer")
}

func TestProxyMuteIsOneWay(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer l.Close()
	p := pgtest.NewProxy(t, l.Addr().String())
	c := dial(t, p)
	server, err := l.Accept()
	require.NoError(t, err)
	defer server.Close()
	require.NoError(t, server.SetDeadline(time.Now().Add(soon)))

	expect := func(c net.Conn) {
		t.Helper()
		_, err := io.ReadFull(c, make([]byte, 1))
		require.NoError(t, err)
	}
	p.MuteServer(true)
	_, err = server.Write([]byte("s"))
	require.NoError(t, err)
	_, err = c.Write([]byte("c"))
	require.NoError(t, err)
	expect(server)
	silent(t, c)
	p.MuteServer(false)
	expect(c)

	p.MuteClient(true)
	_, err = c.Write([]byte("c"))
	require.NoError(t, err)
	_, err = server.Write([]byte("s"))
	require.NoError(t, err)
	expect(c)
	silent(t, server)
	p.MuteClient(false)
	expect(server)
}

func TestProxyDelay(t *testing.T) {
	p := pgtest.NewProxy(t, echo(t, "tcp", "127.0.0.1:0"))
	c := dial(t, p)
	ask(t, c, "warm")
	const d = 40 * time.Millisecond
	p.Delay(d)
	start := time.Now()
	ask(t, c, "slow")
	require.GreaterOrEqual(t, time.Since(start), 2*d, "once in each direction")
}

func TestProxyTrickle(t *testing.T) {
	p := pgtest.NewProxy(t, echo(t, "tcp", "127.0.0.1:0"))
	c := dial(t, p)
	const every = 5 * time.Millisecond
	p.Trickle(1, every)
	start := time.Now()
	ask(t, c, "0123456789")
	require.GreaterOrEqual(t, time.Since(start), 9*every)
	p.Trickle(0, 0)
	ask(t, c, "fast again")
}

func TestProxyRefuse(t *testing.T) {
	p := pgtest.NewProxy(t, echo(t, "tcp", "127.0.0.1:0"))
	old := dial(t, p)
	ask(t, old, "hello")
	p.Refuse(true)
	// The reset may come while the client still connects, or just after.
	refused, err := net.Dial("tcp", p.Addr())
	if err == nil {
		_, err = refused.Read(make([]byte, 1))
		require.NoError(t, refused.Close())
	}
	require.ErrorContains(t, err, "reset by peer")
	ask(t, old, "an open connection lives")
	p.Refuse(false)
	ask(t, dial(t, p), "welcome")
}

func TestProxyInFrontOfPostgres(t *testing.T) {
	db := pgtest.Shared(t).DB(t)
	for _, dsn := range []string{db.DSN(), db.SocketDSN()} {
		p := pgtest.NewProxy(t, dsn)
		conn, err := pgx.Connect(t.Context(), p.DSN(dsn))
		require.NoError(t, err)
		var name string
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT current_database()").Scan(&name))
		require.Equal(t, db.Name(), name)
		p.Cut()
		require.Error(t, conn.Ping(t.Context()))
		_ = conn.Close(t.Context())
	}
}

// A commit whose answer is lost: the client sees an error, the row is there.
func TestProxyLosesTheAnswerOfACommit(t *testing.T) {
	db := pgtest.Shared(t).DB(t)
	db.Exec(t, "CREATE TABLE a (id int)")
	p := pgtest.NewProxy(t, db.DSN())
	conn, err := pgx.Connect(t.Context(), p.DSN(db.DSN()))
	require.NoError(t, err)
	p.MuteServer(true)
	var failed atomic.Bool
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, err := conn.Exec(t.Context(), "INSERT INTO a VALUES (1)")
		failed.Store(err != nil)
	}()
	pgtest.Eventually(t, soon, func() bool { return db.One(t, "SELECT count(*) FROM a") == "1" }, "row is committed")
	p.Cut()
	<-done
	require.True(t, failed.Load())
	_ = conn.Close(t.Context())
}
