package snapshot

import (
	"crypto/rand"
)

// Bound returns the content of a request to read tables from their beginning that counts
// in one transaction alone, whatever else is in it: what that transaction does, and the
// request, happen or do not happen together. It has no number, since only that
// transaction can repeat it. For any goroutine.
func (s *Session) Bound(xid uint64, tables []*Table) ([]byte, error) {
	s.mu.Lock()
	secret := s.state.Secret
	s.mu.Unlock()
	return Request{ID: rand.Text(), Bridge: s.cfg.Bridge, Do: ActionStart, Tables: tables, Xid: xid}.Sign(secret)
}

// counts reports whether a request that was opened counts in the transaction that is
// being streamed: one that is bound in its own, any other where it is alone.
func (s *Session) counts(r Request, alone bool) bool {
	if r.Xid != 0 {
		return uint32(r.Xid) == s.requestXid
	}
	return alone
}

// forgetTables takes the tables that a bound request names out of the state, so that they
// begin anew: those that are read, or wait for it, were made again under their names. The
// caller holds mu.
func (s *Session) forgetTables(tables []*Table) {
	for _, t := range tables {
		if t != nil {
			s.state.remove(s.state.table(t.Schema, t.Name))
		}
	}
}
