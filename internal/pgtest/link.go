package pgtest

import (
	"io"
	"net"
	"sync"
	"time"
)

// link is one connection through a proxy.
type link struct {
	proxy          *Proxy
	client, server net.Conn
	once           sync.Once
	done           chan struct{} // closed when the link ends
}

// chunk is what one read returned, with the time from which it may be written.
type chunk struct {
	data []byte
	due  time.Time
}

// chunksUnderWay bounds what a proxy holds per direction, 2 MiB; beyond it reading
// stops and the sender's window closes. More would hide that a receiver does not
// read; less would limit a delayed line (2 MiB is 20 ms at 100 MB/s).
const (
	chunkSize      = 32 << 10
	chunksUnderWay = 64
)

// run pumps both directions until the link ends.
func (l *link) run() {
	var wg sync.WaitGroup
	for _, d := range []direction{toServer, toClient} {
		queue := make(chan chunk, chunksUnderWay)
		wg.Go(func() { l.read(d, queue) })
		wg.Go(func() { l.write(d, queue) })
	}
	wg.Wait()
	// Errors would say that the other side closed first, or a cut did.
	_ = l.client.Close()
	_ = l.server.Close()
}

// ends returns the sockets of a direction.
func (l *link) ends(d direction) (from, to net.Conn) {
	if d == toServer {
		return l.client, l.server
	}
	return l.server, l.client
}

// read queues what comes in, until the sender closes its side. After a cut it
// reads on and throws away: a socket that is closed with unread bytes sends a
// reset, which would destroy what the client has still to receive.
func (l *link) read(d direction, queue chan<- chunk) {
	defer close(queue)
	from, _ := l.ends(d)
	for {
		buf := make([]byte, chunkSize)
		n, err := from.Read(buf)
		if n > 0 {
			select {
			case queue <- chunk{buf[:n], time.Now().Add(l.proxy.latency())}:
			case <-l.done:
			}
		}
		if err == io.EOF {
			return
		}
		if err != nil {
			l.passReset(d) // a reset is passed on as a reset
			return
		}
	}
}

// write forwards the queue, then the end of the stream.
func (l *link) write(d direction, queue <-chan chunk) {
	_, to := l.ends(d)
	for c := range queue {
		if !l.sleep(time.Until(c.due)) || !l.forward(d, to, c.data) {
			for range queue { // so that the reader comes to its end
			}
			return
		}
	}
	if l.passing(d) {
		closeWrite(to)
	}
}

// forward writes data as the faults allow. It returns false when the link ended.
func (l *link) forward(d direction, to net.Conn, data []byte) bool {
	for len(data) > 0 {
		if !l.passing(d) {
			return false
		}
		n, pause, last := l.proxy.take(d, len(data))
		if _, err := to.Write(data[:n]); err != nil {
			l.passReset(1 - d)
			return false
		}
		if last {
			l.proxy.hangUp()
			return false
		}
		data = data[n:]
		if !l.sleep(pause) {
			return false
		}
	}
	return true
}

// passing waits while the direction is mute. It returns false when the link ended.
func (l *link) passing(d direction) bool { return l.proxy.passing(d, l.done) }

// sleep returns false when the link ended before d was over.
func (l *link) sleep(d time.Duration) bool {
	if d <= 0 {
		return true
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return true
	case <-l.done:
		return false
	}
}

// lingering is how long a client that was hung up on may take to close its side.
const lingering = 10 * time.Second

// hangUp ends the stream to the client after what was written to it, and resets
// the server's side.
func (l *link) hangUp() {
	l.once.Do(func() {
		close(l.done)
		closeWrite(l.client)
		_ = l.client.SetReadDeadline(time.Now().Add(lingering)) // fails only on a closed socket
		reset(l.server)
	})
}

// closeWrite sends the end of the stream. It fails when the other side has gone,
// and then nobody is left to tell.
func closeWrite(c net.Conn) {
	if half, ok := c.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
}

// passReset resets the link because one side is gone, when the direction in which
// the news travels is open. It does nothing when the link has ended anyway.
func (l *link) passReset(d direction) {
	select {
	case <-l.done:
	default:
		if l.passing(d) {
			l.reset()
		}
	}
}

// reset closes both sides at once, also those of a link that was hung up.
func (l *link) reset() {
	l.once.Do(func() { close(l.done) })
	reset(l.client)
	reset(l.server)
}

// reset closes a connection with RST instead of FIN.
func reset(c net.Conn) {
	if tcp, ok := c.(*net.TCPConn); ok {
		_ = tcp.SetLinger(0) // fails only on a closed socket
	}
	_ = c.Close()
}

// passing waits while the direction is mute. It returns false when end came first.
func (p *Proxy) passing(d direction, end <-chan struct{}) bool {
	for {
		p.mu.Lock()
		mute, changed := p.faults.mute[d], p.changed
		p.mu.Unlock()
		if !mute {
			return true
		}
		select {
		case <-changed:
		case <-end:
			return false
		}
	}
}

// latency returns the delay in force.
func (p *Proxy) latency() time.Duration {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.faults.delay
}

// take says how many of n bytes may be written now, how long to wait afterwards,
// and whether they are the last ones before a cut.
func (p *Proxy) take(d direction, n int) (now int, pause time.Duration, last bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.faults.piece > 0 && n > p.faults.piece {
		n = p.faults.piece
	}
	if p.faults.piece > 0 {
		pause = p.faults.every
	}
	if d == toClient && p.faults.cutLeft >= 0 {
		n = int(min(int64(n), p.faults.cutLeft))
		p.faults.cutLeft -= int64(n)
		last = p.faults.cutLeft == 0
		if last {
			p.faults.cutLeft = -1
		}
	}
	return n, pause, last
}

// hangUp ends all open connections in order.
func (p *Proxy) hangUp() {
	for _, l := range p.open() {
		l.hangUp()
	}
}
