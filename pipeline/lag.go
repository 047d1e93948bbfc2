package pipeline

import (
	"sync"
	"time"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/replication"
)

const (
	// lagSamples is how many samples of the server's position are kept to tell the lag
	// from, one a second: a bridge that is further behind than the oldest one reports
	// the age of that.
	lagSamples = 3600
	// lagHistory is how many points the chart has, one each historyEvery.
	lagHistory   = 180
	historyEvery = 2 * time.Second
	// staleAfter: without a newer sample the lag is unknown.
	staleAfter = 10 * time.Second
)

// lagMeter turns samples of the server's WAL position into seconds behind. Ages
// are counted on this process's monotonic clock from the sample's arrival, so that
// no two clocks are ever compared, and what the server has not sent yet counts.
type lagMeter struct {
	mu      sync.Mutex
	ring    []walAt // the oldest first; LSNs do not fall
	last    replication.Sample
	lastAt  time.Time
	history []status.LagSample
	offset  time.Duration // server clock minus ours
}

type walAt struct {
	lsn lsn.LSN
	at  time.Time
}

// add takes note of a sample that arrived at now.
func (m *lagMeter) add(s replication.Sample, now time.Time, reached lsn.LSN) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if n := len(m.ring); n > 0 && s.WAL < m.ring[n-1].lsn {
		m.ring = m.ring[:0] // another server, or a new timeline
	}
	if len(m.ring) == lagSamples {
		m.ring = append(m.ring[:0], m.ring[1:]...)
	}
	m.ring = append(m.ring, walAt{s.WAL, now})
	m.last, m.lastAt = s, now
	m.offset = s.Time.Sub(now)
	if n := len(m.history); n == 0 || now.Sub(m.history[n-1].At) >= historyEvery {
		m.chart(status.LagSample{At: now, Seconds: m.secondsLocked(reached, now), Bytes: max(0, s.WAL.Sub(reached))})
	}
}

func (m *lagMeter) chart(s status.LagSample) {
	if len(m.history) == lagHistory {
		m.history = append(m.history[:0], m.history[1:]...)
	}
	m.history = append(m.history, s)
}

// seconds says how far behind a stream is that has reached the position: the age
// of the newest sample at or below it. No sample, or only stale ones: unknown.
func (m *lagMeter) seconds(reached lsn.LSN, now time.Time) (float64, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if len(m.ring) == 0 || now.Sub(m.lastAt) > staleAfter {
		return 0, false
	}
	return m.secondsLocked(reached, now), true
}

func (m *lagMeter) secondsLocked(reached lsn.LSN, now time.Time) float64 {
	newest := len(m.ring) - 1
	if m.ring[newest].lsn <= reached {
		return 0 // all that the server had a moment ago is done
	}
	for i := newest; i >= 0; i-- {
		if m.ring[i].lsn <= reached {
			// what came after sample i is not done: it is at most as old as that
			return now.Sub(m.ring[i].at).Seconds()
		}
	}
	return now.Sub(m.ring[0].at).Seconds()
}

// sample returns the newest sample and whether it is fresh.
func (m *lagMeter) sample(now time.Time) (replication.Sample, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.last, !m.lastAt.IsZero() && now.Sub(m.lastAt) <= staleAfter
}

// serverNow is the time on the server's clock, to subtract commit times from.
func (m *lagMeter) serverNow(now time.Time) time.Time {
	m.mu.Lock()
	defer m.mu.Unlock()
	return now.Add(m.offset)
}

// chartPoints returns a copy of the history.
func (m *lagMeter) chartPoints() []status.LagSample {
	m.mu.Lock()
	defer m.mu.Unlock()
	return append([]status.LagSample(nil), m.history...)
}
