package snapshot

import (
	"context"
	"slices"
	"time"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/pause"
)

// tempo is how a table is read. A change that is streamed lies behind rows that were read,
// so that it waits as long as they take.
type tempo struct {
	depth int           // how many chunks may be under way
	aim   time.Duration // how long one may take from its mark until it is durable
	// few rows are read at once, however long they take: it may be the way to the
	// destination that takes long, and it does so for one row as well.
	few int
}

// Alone, the next chunk is read while one waits in the stream and one is being written.
// Beside changes the stream has the right of way.
var (
	alone  = tempo{depth: 3, aim: 50 * time.Millisecond, few: 2000}
	beside = tempo{depth: 1, aim: 6 * time.Millisecond, few: 150}
)

// calmAfter is how long nothing has to be streamed for tables to be read as if they were
// alone.
const calmAfter = time.Second

// A rest beside a stream is so many times as long as the last chunk took, and bounded: a
// destination may be slow for another reason.
const (
	restOfTook = 3
	maxRest    = time.Second
)

// tempo is that of now. The caller holds mu.
func (s *Session) tempo() tempo {
	if n := s.streamed.Load(); n != s.counted {
		s.counted, s.lastStreamed = n, time.Now()
	}
	if !s.lastStreamed.IsZero() && time.Since(s.lastStreamed) < calmAfter {
		return beside
	}
	return alone
}

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
func (t *table) pace(rows int, now tempo) int {
	took := t.took
	t.rest = took
	t.took = 0 // it counts once
	switch {
	case took > now.aim:
		return max(min(rows, now.few), rows/2, int(int64(rows)*int64(now.aim)/int64(took)))
	case took > now.aim/2 || took == 0:
		return rows
	}
	return 2 * rows
}

// rest leaves the way to the destination to the stream for a while.
func (w *worker) rest(ctx context.Context) error {
	w.s.mu.Lock()
	wait := time.Duration(0)
	if w.s.tempo() == beside {
		wait = min(restOfTook*w.t.rest, maxRest)
	}
	w.s.mu.Unlock()
	return pause.For(ctx, wait)
}
