package pipeline

import (
	"sync"
	"time"

	"github.com/walbridge/walbridge/internal/status"
)

// rateWindow is the time that rates are taken over.
const rateWindow = 5 * time.Second

// rateMeter makes rates of totals, at whatever times it is asked.
type rateMeter struct {
	mu     sync.Mutex
	points []ratePoint // the oldest first; the first is the newest that is older than the window
}

type ratePoint struct {
	at    time.Time
	total status.Totals
}

func (m *rateMeter) measure(now time.Time, total status.Totals) status.Rates {
	m.mu.Lock()
	defer m.mu.Unlock()
	for len(m.points) > 1 && now.Sub(m.points[1].at) >= rateWindow {
		m.points = m.points[1:]
	}
	if n := len(m.points); n == 0 || now.Sub(m.points[n-1].at) >= rateWindow/20 {
		m.points = append(m.points, ratePoint{now, total})
	}
	first := m.points[0]
	span := now.Sub(first.at).Seconds()
	if span <= 0 {
		return status.Rates{}
	}
	items := func(t status.Totals) int64 { return t.Events + t.Records + t.DeadLetters }
	return status.Rates{
		Changes: float64(total.Changes-first.total.Changes) / span,
		Items:   float64(items(total)-items(first.total)) / span,
		Bytes:   float64(total.Bytes-first.total.Bytes) / span,
	}
}
