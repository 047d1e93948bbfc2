package snapshot

import (
	"errors"
	"slices"

	"github.com/walbridge/walbridge/decoder"
)

// Change takes note of a change that is being streamed, before anything of it is
// delivered. It reports whether it is the update of a row of which nobody can tell
// whether it was delivered before: a row of an outbox whose rows are being read.
func (s *Session) Change(ch *decoder.Change) (doubt bool) {
	switch {
	case ch.Relation == nil:
		s.message(ch)
	case ch.Tx != nil && s.watching.Load():
		s.streamed.Add(1)
		return s.row(ch)
	}
	return false
}

// message takes note of a message of ours, which is looked at when its transaction
// commits.
func (s *Session) message(ch *decoder.Change) {
	if ch.Op != decoder.OpMessage || !ch.Transactional || ch.Tx == nil {
		return
	}
	switch ch.Prefix {
	case MarkPrefix:
		s.mark = string(ch.Content)
	case RequestPrefix:
		s.request, s.requestXid = string(ch.Content), ch.Tx.Xid
	}
}

func (s *Session) row(ch *decoder.Change) (doubt bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.find(ch.Relation)
	switch {
	case l.table == nil:
	case l.table.state.Frozen != nil:
		return s.frozen(l.table, ch)
	default:
		s.note(l, ch)
	}
	return false
}

// note remembers the keys that a change has touched. The caller holds mu.
func (s *Session) note(l *lookedUp, ch *decoder.Change) {
	t := l.table
	noted := t.oid == ch.Relation.OID
	if ch.Op == decoder.OpTruncate {
		if noted {
			t.touched.tx(ch.Tx.Xid).all = true
		}
		return
	}
	if !l.whole {
		s.restart(t, "the columns of its key have changed")
		return
	}
	var next []string
	known := true
	if ch.Op != decoder.OpDelete {
		next, known = l.key.values(ch.New, ch.Old)
	}
	var before []string
	if ch.Old != nil {
		var ok bool
		before, ok = l.key.values(ch.Old, nil)
		known = known && ok
	}
	if !known {
		// A row above the limit came without its key. What it was cannot be told.
		if noted {
			t.touched.tx(ch.Tx.Xid).unknown = true
		}
		return
	}
	half := partial(ch)
	if noted {
		s.touch(t, ch, before, next, half)
	}
	if half && t.lacks(ch.Op, before, next) {
		s.readAgain(t, next)
	}
}

// lacks reports whether the destination may lack what a change left out: the row came
// under another key than it had, and that may not have been delivered. Once all rows
// were read it has been, unless it is on the list. An insert without a value is an
// update that brought the row into a row filter.
func (t *table) lacks(op decoder.Op, before, next []string) bool {
	switch {
	case before != nil && slices.Equal(before, next):
		return false
	case t.state.Scanned:
		return before != nil && t.listed(before)
	}
	return before != nil || op == decoder.OpInsert
}

func (t *table) listed(key []string) bool {
	return slices.ContainsFunc(t.state.Again, func(k []string) bool { return slices.Equal(k, key) })
}

func (s *Session) touch(t *table, ch *decoder.Change, before, next []string, half bool) {
	if before != nil && (next == nil || !slices.Equal(before, next)) {
		s.scratch = encodeKey(s.scratch[:0], before)
		t.touched.add(ch.Tx.Xid, s.hasher.hash(s.scratch), false)
	}
	if next != nil {
		s.scratch = encodeKey(s.scratch[:0], next)
		t.touched.add(ch.Tx.Xid, s.hasher.hash(s.scratch), half)
	}
	if t.touched.keys > maxTouched {
		s.cfg.Log.Info("too many rows of a table change while it is read; giving up the chunks under way", "table", t.state.QualifiedName())
		t.forget()
		s.wake()
	}
}

// The bounds of the list of keys to read again. A longer one is no better than reading
// the table anew.
const (
	maxAgain      = 2000
	maxAgainBytes = 16 << 10
)

// readAgain puts a key on the list. The caller holds mu.
func (s *Session) readAgain(t *table, key []string) {
	if t.listed(key) {
		return
	}
	size := 0
	for _, k := range t.state.Again {
		for _, v := range k {
			size += len(v)
		}
	}
	s.dirty.Store(true)
	if len(t.state.Again) >= maxAgain || size > maxAgainBytes {
		s.restart(t, "too many of its rows have to be read again")
		return
	}
	t.state.Again = append(t.state.Again, key)
	s.wake()
}

// restart begins a table anew, as a reading of another number. The caller holds mu.
func (s *Session) restart(t *table, why string) {
	s.cfg.Log.Info("reading a table from its beginning again", "table", t.state.QualifiedName(), "why", why)
	s.state.Run++
	st := t.state // what a worker reads without the mutex, its names and Where, stays as it is
	st.Run, st.Key, st.After, st.Scanned, st.Again, st.Pass, st.Rows = s.state.Run, nil, nil, false, nil, 0, 0
	t.forget()
	s.dirty.Store(true)
	clear(s.lookup)
	s.wake()
}

// Commit ends the transaction that was streamed. changes is how many it had. It
// returns the chunk whose rows are to be delivered now, at the end of the transaction,
// nil for none. Only a message alone in its transaction counts, or a request that is
// bound to it: what somebody has copied into a transaction of their own does nothing.
func (s *Session) Commit(changes int) *Chunk {
	mark, request := s.mark, s.request
	s.mark, s.request = "", ""
	if mark == "" && request == "" {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if request != "" {
		s.take([]byte(request), changes == 1)
		return nil
	}
	if changes != 1 {
		s.foreign++
		return nil
	}
	c := s.pending[mark]
	if c == nil {
		s.foreign++
		return nil
	}
	delete(s.pending, mark)
	return s.finish(c)
}

// finish decides about the rows of a chunk and moves the state. nil: the chunk counts
// for nothing.
func (s *Session) finish(c *Chunk) *Chunk {
	t := c.table
	if t.gone || c.gen != t.gen {
		return nil
	}
	var v verdict
	if t.state.Frozen == nil {
		v = t.touched.judge(c.seen)
	}
	t.inflight--
	if v.unknown {
		t.forget()
		s.wake()
		return nil
	}
	c.sift(v, s.hasher)
	c.run, c.salt = runName(t.state, c.again != nil), macOf(s.state.Secret, []byte("ids"))
	if c.again != nil {
		s.finishAgain(t, c, v)
	} else {
		t.state.After, t.state.Scanned = orKeep(c.next, t.state.After), c.last
		for _, key := range c.dropped(v, s.hasher) {
			s.readAgain(t, key)
		}
	}
	if c.gen != t.gen {
		return nil // the list was too long: the table begins anew
	}
	t.state.Rows += int64(c.Len())
	s.dirty.Store(true)
	s.rate.add(c.Len())
	if t.state.finished() {
		s.done(t)
	}
	s.wake()
	return c
}

func orKeep(next, before []string) []string {
	if next == nil {
		return before
	}
	return next
}

// finishAgain takes the keys that were read off the list, but for those that were
// touched anew and not whole.
func (s *Session) finishAgain(t *table, c *Chunk, v verdict) {
	t.state.Pass++
	t.state.Again = slices.DeleteFunc(t.state.Again, func(key []string) bool {
		s.scratch = encodeKey(s.scratch[:0], key)
		return slices.ContainsFunc(c.again, func(k []string) bool { return slices.Equal(k, key) }) && !v.newer[s.hasher.hash(s.scratch)]
	})
}

func (s *Session) done(t *table) {
	s.cfg.Log.Info("all rows of a table are read", "table", t.state.QualifiedName(), "rows", t.state.Rows, "run", t.state.Run)
	s.state.DoneTables++
	s.state.DoneRows += t.state.Rows
	s.state.remove(t.state)
	s.refresh()
}

// take does what a request asks for, if it is one of ours and no repetition. alone: the
// transaction had nothing else.
func (s *Session) take(content []byte, alone bool) {
	r, err := openRequest(s.state.Secret, content)
	if errors.Is(err, errForeign) || err == nil && (r.Bridge != s.cfg.Bridge || !s.counts(r, alone)) {
		s.foreign++
		return
	}
	if err != nil || r.Xid == 0 && r.Number <= s.state.Request {
		s.cfg.Log.Warn("a request for a snapshot is left alone", "number", r.Number, "last", s.state.Request, "error", err)
		return
	}
	if r.Xid != 0 {
		s.forgetTables(r.Tables)
	} else {
		s.number(r)
	}
	s.dirty.Store(true)
	switch r.Do {
	case ActionStart:
		s.start(r.Tables)
	case ActionPause:
		s.state.Paused = true
	case ActionResume:
		s.state.Paused = false
	case ActionCancel:
		s.cancel(r.Tables)
	}
	s.cfg.Log.Info("request for a snapshot", "do", string(r.Do), "number", r.Number, "tables", len(r.Tables), "unfinished", len(s.state.Tables))
	s.refresh()
}

// number takes note of a request's number.
func (s *Session) number(r Request) {
	s.state.Request = r.Number
	if s.state.Taken = append(s.state.Taken, r.ID); len(s.state.Taken) > maxTaken {
		s.state.Taken = s.state.Taken[1:]
	}
}

func (s *Session) start(tables []*Table) {
	var fit []*Table
	for _, t := range tables {
		if t == nil || t.Schema == "" || t.Name == "" {
			continue
		}
		if s.cfg.Refuse != nil {
			if why := s.cfg.Refuse(t.Schema, t.Name); why != "" {
				s.cfg.Log.Warn("a table is not read", "table", t.QualifiedName(), "why", why)
				continue
			}
		}
		fit = append(fit, t)
	}
	before := len(s.state.Tables)
	s.state.add(fit)
	if _, err := s.state.Encode(); err != nil {
		s.cfg.Log.Warn("the request asks for too many tables at once; none of it is read", "error", err)
		s.state.Tables = s.state.Tables[:before]
	}
}

func (s *Session) cancel(tables []*Table) {
	if len(tables) == 0 {
		s.state.Tables = nil
		s.state.Paused = false
		return
	}
	for _, t := range tables {
		if t != nil {
			s.state.remove(s.state.table(t.Schema, t.Name))
		}
	}
}

// Dirty reports whether the state has changed since Cursors was called.
func (s *Session) Dirty() bool { return s.dirty.Load() }

// Cursors returns the state to be stored with the position that the stream has come
// to.
func (s *Session) Cursors() ([]byte, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.dirty.Store(false)
	return s.state.Encode()
}
