package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
)

// Proxy is a TCP relay in front of a server that misbehaves on demand. The faults
// concern all its connections, those that are open and those to come, until they
// are taken back. Its methods may be called from any goroutine.
type Proxy struct {
	network, target string
	listener        net.Listener
	ctx             context.Context // ends with the proxy
	cancel          context.CancelFunc
	wg              sync.WaitGroup // accept loop and connections

	mu      sync.Mutex // guards the fields below
	faults  faults
	changed chan struct{} // closed and replaced at each change of faults
	links   map[*link]struct{}
	total   int // connections accepted so far
}

// faults is what a proxy does wrong at a time.
type faults struct {
	refuse  bool
	mute    [2]bool // by direction: nothing passes
	delay   time.Duration
	piece   int           // most bytes of one write; 0 is no limit
	every   time.Duration // pause after each piece
	cutLeft int64         // bytes server to client before the cut; negative: no cut
}

// faultless is a faithful relay.
func faultless() faults { return faults{cutLeft: -1} }

// direction of bytes through a proxy.
type direction int

const (
	toServer direction = iota
	toClient
)

// NewProxy starts a proxy in front of target: a DSN, host:port, or the path of a
// Unix socket. It ends with the test.
func NewProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	network, addr, err := resolve(target)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		t.Fatalf("start proxy: %v", err)
	}
	p := &Proxy{
		network: network, target: addr, listener: l,
		faults: faultless(), changed: make(chan struct{}), links: map[*link]struct{}{},
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.wg.Go(p.accept)
	t.Cleanup(p.close)
	return p
}

// resolve turns what NewProxy accepts into what net.Dial wants.
func resolve(target string) (network, addr string, err error) {
	if strings.HasPrefix(target, "/") {
		return "unix", target, nil
	}
	if _, _, err := net.SplitHostPort(target); err == nil && !strings.Contains(target, "://") {
		return "tcp", target, nil
	}
	cfg, err := pgconn.ParseConfig(target)
	if err != nil {
		return "", "", fmt.Errorf("resolve the proxy's target: %w", err)
	}
	network, addr = pgconn.NetworkAddress(cfg.Host, cfg.Port)
	return network, addr, nil
}

// Addr returns the proxy's own host:port.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// DSN returns dsn with the proxy's address in place of the server's.
func (p *Proxy) DSN(dsn string) string {
	host, port, _ := net.SplitHostPort(p.Addr()) // a listener's address is well formed
	u, err := url.Parse(dsn)
	if err != nil || u.Scheme == "" {
		return fmt.Sprintf("%s host=%s port=%s", dsn, host, port) // keyword form: the last one counts
	}
	q := u.Query()
	q.Del("host")
	q.Del("port")
	u.Host, u.RawQuery = p.Addr(), q.Encode()
	return u.String()
}

// Cut resets all open connections, on both sides, as a dying router would. What
// is under way is lost.
func (p *Proxy) Cut() {
	for _, l := range p.open() {
		l.reset()
	}
}

// CutAfter lets n more bytes pass from the server to its clients, over all
// connections, then ends all of them. The clients get exactly n bytes and then
// the end of the stream: inside a message when n is not its boundary. It happens
// once; later connections live.
func (p *Proxy) CutAfter(n int64) { p.set(func(f *faults) { f.cutLeft = max(n, 0) }) }

// BlackHole stops all bytes in both directions while on. Connections stay open and
// new ones are accepted, but nobody hears anything. Nothing is lost: what was
// held back flows when it is off again, unless Cut came first.
func (p *Proxy) BlackHole(on bool) { p.set(func(f *faults) { f.mute = [2]bool{on, on} }) }

// MuteServer holds back what the server says while on; what clients say passes.
// With Cut afterwards a client never learns what became of its last statement.
func (p *Proxy) MuteServer(on bool) { p.set(func(f *faults) { f.mute[toClient] = on }) }

// MuteClient holds back what clients say while on; what the server says passes.
func (p *Proxy) MuteClient(on bool) { p.set(func(f *faults) { f.mute[toServer] = on }) }

// Delay makes every byte arrive d later, in each direction, with up to 2 MiB under
// way: the latency of a long line. Zero ends it.
func (p *Proxy) Delay(d time.Duration) { p.set(func(f *faults) { f.delay = d }) }

// Trickle forwards at most bytesPerWrite bytes at a time with a pause after each,
// in each direction. Zero bytes end it.
func (p *Proxy) Trickle(bytesPerWrite int, every time.Duration) {
	p.set(func(f *faults) { f.piece, f.every = bytesPerWrite, every })
}

// Refuse resets new connections at once while on. Open ones live.
func (p *Proxy) Refuse(on bool) { p.set(func(f *faults) { f.refuse = on }) }

// Heal takes back all faults.
func (p *Proxy) Heal() { p.set(func(f *faults) { *f = faultless() }) }

// Open returns the number of open connections.
func (p *Proxy) Open() int { return len(p.open()) }

// Accepted returns the number of connections accepted so far, without refused
// ones.
func (p *Proxy) Accepted() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.total
}

// set changes the faults and wakes every pump that waits on them.
func (p *Proxy) set(change func(*faults)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(&p.faults)
	close(p.changed)
	p.changed = make(chan struct{})
}

func (p *Proxy) open() []*link {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]*link, 0, len(p.links))
	for l := range p.links {
		all = append(all, l)
	}
	return all
}

// accept takes connections until the listener is closed.
func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if errors.Is(err, net.ErrClosed) {
			return
		}
		if err != nil {
			continue // of one connection, such as a reset before it was accepted
		}
		p.wg.Go(func() { p.connect(client) })
	}
}

// connect joins a client with the server and pumps, or resets the client when it
// is to be refused or the server is down: so it looks from outside.
func (p *Proxy) connect(client net.Conn) {
	if p.refuses() {
		reset(client)
		return
	}
	var d net.Dialer
	server, err := d.DialContext(p.ctx, p.network, p.target)
	if err != nil {
		p.passing(toClient, p.ctx.Done()) // a black hole hides this too
		reset(client)
		return
	}
	l := &link{proxy: p, client: client, server: server, done: make(chan struct{})}
	if !p.add(l) {
		l.reset()
		return
	}
	l.run()
	p.remove(l)
}

func (p *Proxy) refuses() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.faults.refuse
}

// add registers a link; false when the proxy is being closed.
func (p *Proxy) add(l *link) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.ctx.Err() != nil {
		return false
	}
	p.links[l] = struct{}{}
	p.total++
	return true
}

func (p *Proxy) remove(l *link) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.links, l)
}

// close ends everything and waits for it.
func (p *Proxy) close() {
	p.mu.Lock()
	p.cancel() // under the lock, so that add sees it or Cut sees the link
	p.mu.Unlock()
	_ = p.listener.Close() // fails only when closed already
	p.Cut()
	p.wg.Wait()
}
