package consumers

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/walbridge/walbridge/internal/status"
)

// Describe implements prometheus.Collector; it is unchecked on purpose, since which
// series there are depends on which subscriptions there are.
func (w *Watcher) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector: what was last seen, and nothing when that
// is not known.
func (w *Watcher) Collect(out chan<- prometheus.Metric) {
	all := w.Latest()
	if all == nil {
		return
	}
	for _, s := range all.Subscriptions {
		if s.Lag.Seconds != nil {
			w.gauge(out, s, "walbridge_queue_lag_items", "Items that a subscription has not settled, counted up to 10,000.", float64(s.Lag.Items))
			w.gauge(out, s, "walbridge_queue_lag_seconds", "Since the commit of the oldest item that a subscription has not settled; 0 when there is none.", *s.Lag.Seconds)
		}
		w.gauge(out, s, "walbridge_queue_parked", "Items that a subscription has parked.", float64(s.Parked))
		w.gauge(out, s, "walbridge_queue_dead", "Open dead letters of a subscription.", float64(s.Dead))
		held := 0.0
		if s.HoldsSeconds != nil {
			held = *s.HoldsSeconds
		}
		w.gauge(out, s, "walbridge_queue_holds_log_seconds", "Since when log is kept beyond its retention for a subscription; 0 when it is not.", held)
	}
}

func (w *Watcher) gauge(out chan<- prometheus.Metric, s status.Subscription, name, help string, value float64) {
	desc := prometheus.NewDesc(name, help, []string{"subscription"}, prometheus.Labels{"bridge": w.cfg.Bridge})
	out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, s.Name)
}
