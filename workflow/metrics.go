package workflow

import (
	"errors"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are those of an engine. Without a registerer they count for nobody.
type metrics struct {
	instances *prometheus.CounterVec
	steps     *prometheus.CounterVec
	seconds   *prometheus.HistogramVec
	active    prometheus.Gauge
	lost      prometheus.Counter
}

func newMetrics(reg prometheus.Registerer) (*metrics, error) {
	m := &metrics{
		instances: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "walbridge_workflow_instances_total", Help: "Workflow instances that have come to a status: completed, compensating, compensated, failed, halted.",
		}, []string{"workflow", "status"}),
		steps: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: "walbridge_workflow_steps_total", Help: "Attempts of steps and compensations by their outcome.",
		}, []string{"workflow", "step", "outcome"}),
		seconds: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: "walbridge_workflow_step_seconds", Help: "Duration of attempts of steps and compensations.", Buckets: prometheus.ExponentialBuckets(0.001, 4, 10),
		}, []string{"workflow", "step"}),
		active: prometheus.NewGauge(prometheus.GaugeOpts{
			Name: "walbridge_workflow_active", Help: "Workflow instances at hand in this process.",
		}),
		lost: prometheus.NewCounter(prometheus.CounterOpts{
			Name: "walbridge_workflow_leases_lost_total", Help: "Leases of workflow instances that ended before their owner gave them back.",
		}),
	}
	if reg == nil {
		return m, nil
	}
	return m, errors.Join(register(reg, &m.instances), register(reg, &m.steps), register(reg, &m.seconds), register(reg, &m.active), register(reg, &m.lost))
}

// register registers a collector, or takes the one of another engine.
func register[C prometheus.Collector](reg prometheus.Registerer, c *C) error {
	err := reg.Register(*c)
	var there prometheus.AlreadyRegisteredError
	if errors.As(err, &there) {
		if old, ok := there.ExistingCollector.(C); ok {
			*c = old
			return nil
		}
	}
	return err
}
