package pipeline

import (
	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the series of a running bridge. Those that can be read off at the
// time of a scrape are computed then, by gauges; the others are counted as the work
// is done.
type metrics struct {
	transactions prometheus.Counter
	changes      *prometheus.CounterVec
	items        *prometheus.CounterVec
	bytes        *prometheus.CounterVec
	delivery     prometheus.Histogram
	write        prometheus.Histogram
	batchItems   prometheus.Histogram
	batchBytes   prometheus.Histogram
	deadLetters  *prometheus.CounterVec
	reconnects   *prometheus.CounterVec
	takeovers    prometheus.Counter
	snapshotRows *prometheus.CounterVec
	pruned       *prometheus.CounterVec
}

func newMetrics(reg prometheus.Registerer, bridge string, read prometheus.Collector) (*metrics, error) {
	labels := prometheus.Labels{"bridge": bridge}
	counter := func(name, help string) prometheus.Counter {
		return prometheus.NewCounter(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels})
	}
	vec := func(name, help string, by ...string) *prometheus.CounterVec {
		return prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: labels}, by)
	}
	histogram := func(name, help string, buckets []float64) prometheus.Histogram {
		return prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: name, Help: help, ConstLabels: labels, Buckets: buckets, NativeHistogramBucketFactor: 1.1, NativeHistogramMaxBucketNumber: 160,
		})
	}
	m := &metrics{
		transactions: counter("walbridge_transactions_total", "Transactions that left at least one item."),
		changes:      vec("walbridge_changes_total", "Row changes read, before any route.", "schema", "table", "op"),
		items:        vec("walbridge_items_total", "Items made of changes, by kind and stream.", "kind", "stream"),
		bytes:        vec("walbridge_bytes_total", "Bytes read from the source and bytes of batches stored.", "direction"),
		delivery:     histogram("walbridge_delivery_seconds", "From a transaction's commit to its being durable at the destination, on the source's clock.", prometheus.ExponentialBucketsRange(0.0005, 600, 16)),
		write:        histogram("walbridge_sink_write_seconds", "Time of one write of the sink, retries included.", prometheus.ExponentialBucketsRange(0.0005, 120, 14)),
		batchItems:   histogram("walbridge_batch_items", "Items of a batch stored.", prometheus.ExponentialBuckets(1, 4, 8)),
		batchBytes:   histogram("walbridge_batch_bytes", "Bytes of a batch stored.", prometheus.ExponentialBuckets(256, 4, 9)),
		deadLetters:  vec("walbridge_dead_letters_total", "Changes that could not be mapped or stored, by reason.", "reason"),
		reconnects:   vec("walbridge_reconnects_total", "Sessions that ended and were tried again, by reason.", "reason"),
		snapshotRows: vec("walbridge_snapshot_rows_total", "Rows that a snapshot has read and delivered.", "table"),
		pruned:       vec("walbridge_pruned_rows_total", "Relayed rows of outboxes that were deleted.", "table"),
		takeovers:    counter("walbridge_takeovers_total", "Times this process became the owner of the bridge's name."),
	}
	if reg == nil {
		return m, nil
	}
	for _, c := range []prometheus.Collector{
		m.transactions, m.changes, m.items, m.bytes, m.delivery, m.write, m.batchItems, m.batchBytes, m.deadLetters, m.reconnects, m.takeovers, m.snapshotRows, m.pruned, read,
	} {
		if err := reg.Register(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}
