package snapshot

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"github.com/walbridge/walbridge/internal/pause"
)

const (
	// problemWait is how long a table that cannot be read is left alone.
	problemWait = 10 * time.Second
	// anewWait is the pause before chunks that were given up are read again: what made
	// them worthless, a stream that is far behind, takes a while to end.
	anewWait = 200 * time.Millisecond
	// closeWithin bounds the polite end of a connection.
	closeWithin = 2 * time.Second
)

// Run reads tables until ctx ends, and returns nil then. What goes wrong with a table
// is shown, and tried again after a while: it must not disturb the stream.
func (s *Session) Run(ctx context.Context) error {
	var g errgroup.Group
	for range s.cfg.Parallel {
		g.Go(func() error {
			for {
				t := s.next(ctx)
				if t == nil {
					return nil
				}
				s.work(ctx, t)
			}
		})
	}
	return g.Wait()
}

// next waits for a table to read, nil when ctx has ended.
func (s *Session) next(ctx context.Context) *table {
	for ctx.Err() == nil {
		s.mu.Lock()
		t, changed, wait := s.choose(time.Now()), s.changed, s.soonest(time.Now())
		s.mu.Unlock()
		if t != nil {
			return t
		}
		timer := time.NewTimer(wait)
		select {
		case <-changed:
		case <-timer.C:
		case <-ctx.Done():
		}
		timer.Stop()
	}
	return nil
}

// choose takes the first table that nobody reads. The caller holds mu.
func (s *Session) choose(now time.Time) *table {
	if s.state.Paused {
		return nil
	}
	for _, st := range s.state.Tables {
		if t := s.tables[st]; !t.busy && !now.Before(t.notFor) {
			t.busy = true
			return t
		}
	}
	return nil
}

// soonest is when a table that was left alone may be tried. The caller holds mu.
func (s *Session) soonest(now time.Time) time.Duration {
	wait := time.Hour
	for _, t := range s.tables {
		if !t.busy && t.notFor.After(now) {
			wait = min(wait, t.notFor.Sub(now))
		}
	}
	return wait
}

// work reads one table, as far as it gets.
func (s *Session) work(ctx context.Context, t *table) {
	err := s.connected(ctx, t)
	s.mu.Lock()
	defer s.mu.Unlock()
	t.busy = false
	t.forget()
	s.wake()
	if err == nil || ctx.Err() != nil || t.gone {
		return
	}
	t.problem = err.Error()
	t.notFor = time.Now().Add(problemWait)
	s.cfg.Log.Warn("a table cannot be read; trying again", "table", t.state.QualifiedName(), "in", problemWait, "error", err)
}

func (s *Session) connected(ctx context.Context, t *table) error {
	conn, err := s.cfg.Connect(ctx)
	if err != nil {
		return err
	}
	w := &worker{s: s, t: t, src: source{publication: s.cfg.Publication}, limits: chunkLimits{rows: min(500, s.limiter.Burst()), bytes: 2 * s.cfg.ChunkBytes, maxRow: s.cfg.MaxRow}}
	w.use(conn)
	defer func() { w.close() }()
	for {
		err := w.session(ctx)
		if !errors.Is(err, errAnew) {
			return err
		}
		if err := pause.For(ctx, anewWait); err != nil {
			return err
		}
	}
}

// worker reads one table over one connection.
type worker struct {
	s      *Session
	t      *table
	src    source
	limits chunkLimits
	gen    int
	frozen *Visibility // of a table of which only the rows of before are read
	// bytes and values are about how many the next chunk will have.
	bytes, values int
	// after is the key behind which the next chunk begins: chunks that are on their way
	// are before it.
	after []string
	last  bool // the last chunk was read
	// again: a chunk of the list is on its way, or was the last that came. turns counts
	// those that came one after the other.
	again bool
	turns int
}

// errAnew: the chunks under way were given up; the worker begins at the cursor again.
var errAnew = errors.New("begin anew")

func (w *worker) use(conn *pgconn.PgConn) {
	// a longer message ends the connection instead of filling the memory
	conn.Frontend().SetMaxBodyLen(int(w.s.cfg.MaxRow) + 1<<20)
	w.src.conn, w.src.broken = conn, false
}

func (w *worker) close() {
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	_ = w.src.conn.Close(ctx)
}

// session reads from the cursor on: it has the stream take notes, waits until all that
// the notes may lack is visible, and reads chunk after chunk. nil: done, paused or
// cancelled.
func (w *worker) session(ctx context.Context) error {
	if err := w.reconnect(ctx); err != nil {
		return err
	}
	if err := w.register(ctx); err != nil {
		return err
	}
	if err := w.barrier(ctx); err != nil {
		return err
	}
	for {
		todo, err := w.await(ctx)
		if err != nil || todo == nil {
			return err
		}
		if err := w.chunk(ctx, todo); err != nil {
			return err
		}
	}
}

func (w *worker) reconnect(ctx context.Context) error {
	if !w.src.broken && !w.src.conn.IsClosed() {
		return nil
	}
	w.close()
	conn, err := w.s.cfg.Connect(ctx)
	if err != nil {
		return err
	}
	w.use(conn)
	return nil
}

// register looks at the table and begins the notes. From its return on every change
// that the stream brings is noted.
func (w *worker) register(ctx context.Context) error {
	if err := w.thaw(); err != nil {
		return err
	}
	if _, err := w.src.begin(ctx, w.t.state); err != nil {
		if !w.src.conn.IsClosed() {
			_ = w.src.rollback(ctx) // the first error says more
		}
		return err
	}
	if err := w.src.rollback(ctx); err != nil {
		return fmt.Errorf("look at %s: %w", w.t.state.QualifiedName(), err)
	}
	s, d := w.s, w.src.desc
	s.mu.Lock()
	defer s.mu.Unlock()
	if w.t.gone {
		return nil
	}
	if w.t.state.After != nil && !slices.Equal(w.t.state.Key, d.names) {
		if w.t.state.Frozen != nil {
			return &unfit{"another key orders " + w.t.state.QualifiedName() + " than when its reading began, and its rows must be delivered once: give it that key again, or cancel its reading"}
		}
		s.restart(w.t, "another key orders it now")
	}
	if st := w.t.state; st.OID != 0 && st.OID != d.relation.OID && st.Frozen == nil {
		s.restart(w.t, "it was dropped and made again")
	}
	w.t.state.OID = d.relation.OID
	w.t.state.Key, w.src.names = d.names, d.names
	w.t.forget()
	w.t.oid, w.t.problem = d.relation.OID, ""
	w.gen, w.after, w.last, w.again, w.turns = w.t.gen, w.t.state.After, w.t.state.Scanned, false, 0
	clear(s.lookup)
	return nil
}

// thaw reads what the slot's snapshot saw, of a table that is frozen.
func (w *worker) thaw() error {
	if w.t.state.Frozen == nil {
		return nil
	}
	seen, err := ParseVisibility(w.t.state.Frozen.Seen)
	w.frozen = &seen
	return err
}

// barrier waits until every transaction that began before has ended, for every reader
// of the table: what was streamed of it earlier is visible then. One that wrote to the
// table before it was published has ended, too.
func (w *worker) barrier(ctx context.Context) error {
	top, err := newest(ctx, w.src.conn)
	if err != nil {
		return err
	}
	for wait := 5 * time.Millisecond; ; wait = min(2*wait, time.Second) {
		xmin, err := oldest(ctx, w.src.conn)
		if err != nil {
			return err
		}
		if xmin > top {
			w.s.detail(w.t, "")
			return nil
		}
		w.s.detail(w.t, "waiting for transactions that are open since before it began, the oldest is "+strconv.FormatUint(xmin, 10))
		if over, err := w.s.over(ctx, w.t, w.gen); over || err != nil {
			return err
		}
		if err := pause.For(ctx, wait); err != nil {
			return err
		}
	}
}

func (s *Session) detail(t *table, text string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	t.detail = text
}

// over reports whether the table is no more to be read; errAnew when its chunks were
// given up.
func (s *Session) over(ctx context.Context, t *table, gen int) (bool, error) {
	if ctx.Err() != nil {
		return true, context.Cause(ctx)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case t.gone:
		return true, nil
	case t.gen != gen:
		return false, errAnew
	}
	return false, nil
}

// todo is what to read next.
type todo struct{ again [][]string }

// await waits until something can be read, nil when nothing will be.
func (w *worker) await(ctx context.Context) (*todo, error) {
	s := w.s
	for {
		s.mu.Lock()
		next, wait := w.decide()
		changed, gone, gen := s.changed, w.t.gone, w.t.gen
		s.mu.Unlock()
		switch {
		case gone:
			return nil, nil
		case gen != w.gen:
			return nil, errAnew
		case !wait:
			return next, nil
		}
		select {
		case <-changed:
		case <-ctx.Done():
			return nil, context.Cause(ctx)
		}
	}
}

// decide says what to read now; wait: nothing, until the chunks under way have come.
// Neither: there is nothing left to do. The caller holds mu.
func (w *worker) decide() (next *todo, wait bool) {
	t := w.t
	if t.gone || t.gen != w.gen {
		return nil, false
	}
	switch {
	case w.s.state.Paused:
		return nil, t.inflight > 0
	case t.inflight+t.waiting >= w.s.tempo().depth || w.again && t.inflight > 0:
		return nil, true
	case len(t.state.Again) > 0 && (w.last || !w.again || len(t.state.Again) > maxAgain/4): // in turns: a row may stay on the list for long
		n := min(len(t.state.Again), maxAgainChunk)
		return &todo{again: append([][]string(nil), t.state.Again[:n]...)}, false
	case !w.last:
		return &todo{}, false
	}
	return nil, t.inflight > 0
}

// maxAgainChunk bounds the keys that are read by name at once.
const maxAgainChunk = 200

// chunk reads one chunk and sends its mark.
func (w *worker) chunk(ctx context.Context, next *todo) error {
	c := &Chunk{table: w.t, gen: w.gen, again: next.again, frozen: w.frozen}
	limits := w.limits
	if next.again == nil {
		c.rows.room(w.bytes, w.values)
	} else {
		limits.rows = len(next.again) + 1
		if err := w.patience(ctx); err != nil {
			return err
		}
	}
	if err := w.rest(ctx); err != nil {
		return err
	}
	if err := w.throttle(ctx, limits.rows); err != nil {
		return err
	}
	if err := w.read(ctx, c, limits); err != nil {
		return err
	}
	if c.desc.relation.OID != w.oid() {
		return errAnew // dropped and made again meanwhile
	}
	if next.again == nil {
		w.after, w.last = orKeep(c.next, w.after), c.last
		w.adapt(c)
	}
	w.turns++
	if w.again = next.again != nil; !w.again {
		w.turns = 0
	}
	if w.again && c.cutShort {
		c.again = c.keys() // the others stay on the list
	}
	return w.send(ctx, c)
}

// patience waits longer and longer while nothing but the list is left: what is on it
// may have been changed by a transaction whose commit is not visible yet.
func (w *worker) patience(ctx context.Context) error {
	if w.turns < 2 {
		return nil
	}
	return pause.For(ctx, min(time.Second, 10*time.Millisecond<<min(w.turns, 10)))
}

func (w *worker) oid() uint32 {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	return w.t.oid
}

// read reads the rows; a second time, carefully, when one is too long for the memory.
func (w *worker) read(ctx context.Context, c *Chunk, limits chunkLimits) error {
	if err := w.reconnect(ctx); err != nil {
		return err
	}
	err := w.src.read(ctx, c, w.after, limits)
	if !errors.Is(err, errLargeRow) {
		return err
	}
	if err := w.reconnectAfter(ctx); err != nil {
		return err
	}
	return w.src.readCarefully(ctx, c, w.after, limits)
}

func (w *worker) reconnectAfter(ctx context.Context) error {
	w.src.broken = true
	return w.reconnect(ctx)
}

// adapt chooses the rows of the next chunk by the bytes of this one, and by how fast
// rows become durable.
func (w *worker) adapt(c *Chunk) {
	n := c.rows.len(len(c.desc.relation.Columns))
	if n == 0 {
		return
	}
	perRow := max(1, len(c.rows.data)/n)
	w.limits.rows = max(1, min(w.s.limiter.Burst(), w.s.cfg.ChunkBytes/perRow, w.pace()))
	w.bytes, w.values = min(w.limits.bytes, w.limits.rows*(perRow+perRow/16)), w.limits.rows*len(c.desc.relation.Columns)
}

func (w *worker) pace() int {
	w.s.mu.Lock()
	defer w.s.mu.Unlock()
	return w.t.pace(w.limits.rows, w.s.tempo())
}

// throttle keeps within the rows of a second.
func (w *worker) throttle(ctx context.Context, rows int) error {
	return w.s.limiter.WaitN(ctx, min(rows, w.s.limiter.Burst()))
}

// send puts the chunk where the stream finds it, and then the mark into the log. The
// nonce is made after the rows were read: whoever copies it comes later than they.
func (w *worker) send(ctx context.Context, c *Chunk) error {
	var random [16]byte
	_, _ = rand.Read(random[:]) // never fails (package crypto/rand)
	nonce := hex.EncodeToString(random[:])
	s := w.s
	s.mu.Lock()
	if w.t.gen != w.gen {
		s.mu.Unlock()
		return errAnew
	}
	s.pending[nonce] = c
	w.t.inflight++
	c.sent = time.Now()
	flush := s.tempo() == alone
	s.mu.Unlock()
	err := w.reconnect(ctx)
	if err == nil {
		err = mark(ctx, w.src.conn, nonce, flush)
	}
	if err != nil {
		s.drop(nonce)
	}
	return err
}

// drop gives up a chunk whose mark may not be in the log.
func (s *Session) drop(nonce string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.pending, nonce)
}

// runName names a reading of rows: 3, and 3.2 for the second time that rows of it are
// read again.
func runName(t *Table, again bool) string {
	name := strconv.FormatUint(uint64(t.Run), 10)
	if again {
		name += "." + strconv.FormatUint(uint64(t.Pass)+1, 10)
	}
	return name
}
