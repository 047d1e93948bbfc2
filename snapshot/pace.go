package snapshot

import (
	"slices"
	"time"

	"github.com/walbridge/walbridge/internal/lsn"
)

const (
	// aim is how long a chunk may take from its mark until it is durable. A change that is
	// streamed meanwhile waits about as long, since it lies behind rows that were read.
	aim = 50 * time.Millisecond
	// fewRows are read at once, however long they take: it may be the way to the
	// destination that takes long, and it does so for one row as well.
	fewRows = 2000
)

// delivery is a chunk that was delivered and is not durable. It counts as under way:
// else its table would fill whatever lies before a slow destination with rows.
type delivery struct {
	table *table
	gen   int
	end   lsn.LSN // of the transaction that it was put to
	sent  time.Time
}

// Delivered says that a chunk was put at the end of a transaction. For the goroutine
// that follows the stream.
func (s *Session) Delivered(c *Chunk, end lsn.LSN) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if c.gen != c.table.gen {
		return // it was the table's last
	}
	c.table.waiting++
	s.deliveries = append(s.deliveries, delivery{c.table, c.gen, end, c.sent})
}

// Durable says that all before a position is. For any goroutine.
func (s *Session) Durable(to lsn.LSN) {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := 0
	for n < len(s.deliveries) && s.deliveries[n].end <= to {
		if d := s.deliveries[n]; d.gen == d.table.gen {
			d.table.waiting--
			d.table.took = time.Since(d.sent)
		}
		n++
	}
	if n > 0 {
		s.deliveries = slices.Delete(s.deliveries, 0, n)
		s.wake()
	}
}

// pace is how many rows the next chunk may have after one of so many, by how long the
// last one took that became durable.
func (t *table) pace(rows int) int {
	took := t.took
	t.took = 0 // it counts once
	switch {
	case took > aim:
		return max(min(rows, fewRows), rows/2, int(int64(rows)*int64(aim)/int64(took)))
	case took > aim/2 || took == 0:
		return rows
	}
	return 2 * rows
}
