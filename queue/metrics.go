package queue

import (
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are what a worker counts. All methods of a nil *metrics do nothing.
type metrics struct {
	lagItems, lagSeconds, parked, dead prometheus.Gauge
	takeovers, leasesLost, rejections  prometheus.Counter
	attempts                           *prometheus.CounterVec
	handle                             prometheus.Histogram
}

// newMetrics registers the metrics of a worker. unregister takes them back.
func newMetrics(cfg Config) (m *metrics, unregister func(), err error) {
	if cfg.Metrics == nil {
		return nil, func() {}, nil
	}
	label := prometheus.Labels{"subscription": cfg.Name}
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Name: "walbridge_queue_" + name, Help: help, ConstLabels: label})
	}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: "walbridge_queue_" + name, Help: help, ConstLabels: label})
	}
	m = &metrics{
		lagItems:   gauge("lag_items", "Items of the subscription behind the checkpoint, counted up to 10,000."),
		lagSeconds: gauge("lag_seconds", "Age of the oldest item that is not settled; 0 when there is none."),
		parked:     gauge("parked", "Parked items of the subscription."),
		dead:       gauge("dead", "Open dead letters of the subscription."),
		takeovers:  counter("lease_takeovers_total", "Lanes that this worker took."),
		leasesLost: counter("leases_lost_total", "Lanes that this worker lost."),
		rejections: counter("fence_rejections_total", "Settling transactions that were refused since a lane was no longer this worker's."),
		attempts: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "walbridge_queue_failed_attempts_total", Help: "Failed attempts, by what became of the item: retry or dead.", ConstLabels: label,
		}, []string{"became"}),
		handle: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: "walbridge_queue_handle_seconds", Help: "Duration of a handler's call.", ConstLabels: label,
			NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 100, NativeHistogramMinResetDuration: time.Hour,
			Buckets: []float64{.0001, .001, .01, .1, 1, 10, 60},
		}),
	}
	all := []prometheus.Collector{m.lagItems, m.lagSeconds, m.parked, m.dead, m.takeovers, m.leasesLost, m.rejections, m.attempts, m.handle}
	unregister = func() {
		for _, c := range all {
			cfg.Metrics.Unregister(c)
		}
	}
	for i, c := range all {
		if err := cfg.Metrics.Register(c); err != nil {
			for _, done := range all[:i] {
				cfg.Metrics.Unregister(done)
			}
			return nil, nil, fmt.Errorf("register metrics of %s: %w", cfg.Name, err)
		}
	}
	return m, unregister, nil
}

// start returns the time for handled; the zero time when nobody counts.
func (m *metrics) start() time.Time {
	if m == nil {
		return time.Time{}
	}
	return time.Now()
}

// handled counts a call of a handler that began at a time, and returns the time now.
func (m *metrics) handled(began time.Time) time.Time {
	if m == nil {
		return began
	}
	now := time.Now()
	m.handle.Observe(now.Sub(began).Seconds())
	return now
}

func (m *metrics) failed(dead bool) {
	if m == nil {
		return
	}
	became := "retry"
	if dead {
		became = "dead"
	}
	m.attempts.WithLabelValues(became).Inc()
}

func (m *metrics) taken(n int) {
	if m != nil {
		m.takeovers.Add(float64(n))
	}
}

func (m *metrics) lost(n int) {
	if m != nil {
		m.leasesLost.Add(float64(n))
	}
}

func (m *metrics) fenced() {
	if m != nil {
		m.rejections.Inc()
	}
}

func (m *metrics) setParked(n int64) {
	if m != nil {
		m.parked.Set(float64(n))
	}
}

func (m *metrics) setProgress(p Progress) {
	m.lagItems.Set(float64(p.LagItems))
	m.lagSeconds.Set(p.Lag.Seconds())
	m.dead.Set(float64(p.Dead))
}
