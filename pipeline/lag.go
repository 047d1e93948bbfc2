package pipeline

import (
	"sync"
	"time"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/replication"
)

const (
	// lagSamples bounds the samples that wait to be reached, one a second: of more than
	// an hour every second one is dropped.
	lagSamples = 3600
	// lagHistory is how many points the chart has, one each historyEvery.
	lagHistory   = 180
	historyEvery = 2 * time.Second
	// staleAfter: without a newer sample the lag is unknown.
	staleAfter = 10 * time.Second
)

// lagMeter turns samples of the server's WAL position into seconds behind: the time
// from a sample's arrival until its position was reached, or until now while it is
// not. Both ends are read from this process's monotonic clock, so that no two clocks
// are ever compared, and what the server has not sent yet counts. It is shorter than
// the truth by at most the time between two samples, when a stall has just begun.
type lagMeter struct {
	mu      sync.Mutex
	waiting []walAt       // not reached yet; the oldest first, LSNs do not fall
	took    time.Duration // of the sample reached last
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
	if s.WAL < m.last.WAL {
		m.waiting = m.waiting[:0] // another server, or a new timeline
	}
	m.last, m.lastAt = s, now
	m.offset = s.Time.Sub(now)
	m.reach(reached, now)
	if s.WAL > reached {
		m.wait(walAt{s.WAL, now})
	} else {
		m.took = 0
	}
	if n := len(m.history); n == 0 || now.Sub(m.history[n-1].At) >= historyEvery {
		m.chart(status.LagSample{At: now, Seconds: m.behind(now).Seconds(), Bytes: max(0, s.WAL.Sub(reached))})
	}
}

// wait queues a sample. The oldest one, which the lag is told from, always stays.
func (m *lagMeter) wait(w walAt) {
	if len(m.waiting) == lagSamples {
		for i := range lagSamples / 2 {
			m.waiting[i] = m.waiting[2*i]
		}
		m.waiting = m.waiting[:lagSamples/2]
	}
	m.waiting = append(m.waiting, w)
}

func (m *lagMeter) chart(s status.LagSample) {
	if len(m.history) == lagHistory {
		m.history = append(m.history[:0], m.history[1:]...)
	}
	m.history = append(m.history, s)
}

// reached is told each time the bridge has come further: what is durable, or, when
// nothing is pending, what was read.
func (m *lagMeter) reached(to lsn.LSN, now time.Time) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reach(to, now)
}

func (m *lagMeter) reach(to lsn.LSN, now time.Time) {
	n := 0
	for ; n < len(m.waiting) && m.waiting[n].lsn <= to; n++ {
		m.took = now.Sub(m.waiting[n].at)
	}
	if n > 0 {
		m.waiting = append(m.waiting[:0], m.waiting[n:]...)
	}
}

// seconds says how far behind the bridge is. No sample, or only stale ones: unknown.
func (m *lagMeter) seconds(now time.Time) (float64, bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.lastAt.IsZero() || now.Sub(m.lastAt) > staleAfter {
		return 0, false
	}
	return m.behind(now).Seconds(), true
}

func (m *lagMeter) behind(now time.Time) time.Duration {
	if len(m.waiting) == 0 {
		return m.took
	}
	return max(m.took, now.Sub(m.waiting[0].at))
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
