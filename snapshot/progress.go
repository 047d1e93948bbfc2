package snapshot

import "time"

// Status is what goes on, for people and metrics.
type Status struct {
	Paused bool
	// Tables are those that are not done, in their order.
	Tables []TableStatus
	// DoneTables and DoneRows were finished since there was nothing to do.
	DoneTables int
	DoneRows   int64
	// RowsPerSecond were delivered during the last seconds.
	RowsPerSecond float64
	// Request is the number of the last request taken, Foreign counts messages of our
	// prefixes that were not ours.
	Request uint64
	Foreign int64
}

// TableStatus is how far one table is.
type TableStatus struct {
	Table    string // schema.name
	Run      uint32
	Reading  bool // a worker has it
	Rows     int64
	Estimate int64 // -1: not known
	Bytes    int64
	// Doubts counts updates, in this session, of rows of an outbox that may not have been
	// read: each is a dead letter.
	Doubts int64
	// Detail says what it waits for, Problem what is wrong. Both may be empty.
	Detail, Problem string
}

// Status returns what goes on. For any goroutine.
func (s *Session) Status(now time.Time) Status {
	s.mu.Lock()
	defer s.mu.Unlock()
	st := Status{
		Paused: s.state.Paused, DoneTables: s.state.DoneTables, DoneRows: s.state.DoneRows,
		Request: s.state.Request, Foreign: s.foreign, RowsPerSecond: s.rate.perSecond(now),
	}
	for _, t := range s.state.Tables {
		live := s.tables[t]
		st.Tables = append(st.Tables, TableStatus{
			Table: t.QualifiedName(), Run: t.Run, Reading: live.busy, Rows: t.Rows, Estimate: t.Estimate, Bytes: t.Bytes,
			Doubts: live.doubts, Detail: live.detail, Problem: live.problem,
		})
	}
	return st
}

// rateMeter counts rows over the last seconds. The zero value has seen none.
type rateMeter struct {
	total int64
	marks []rateMark // at least rateEvery apart, the oldest first
}

type rateMark struct {
	at    time.Time
	total int64
}

const (
	rateEvery = 500 * time.Millisecond
	rateOver  = 10 * time.Second
)

func (m *rateMeter) add(n int) { m.total += int64(n) }

// perSecond is measured between the times that it is asked.
func (m *rateMeter) perSecond(now time.Time) float64 {
	for len(m.marks) > 1 && now.Sub(m.marks[1].at) > rateOver {
		m.marks = m.marks[1:]
	}
	if n := len(m.marks); n == 0 || now.Sub(m.marks[n-1].at) >= rateEvery {
		m.marks = append(m.marks, rateMark{now, m.total})
	}
	first := m.marks[0]
	if over := now.Sub(first.at).Seconds(); over > 0 {
		return float64(m.total-first.total) / over
	}
	return 0
}
