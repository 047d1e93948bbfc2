package pipeline

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/status"
)

// gauges are the series that are read off the pipeline at a scrape. What is not
// known is absent, never 0.
type gauges struct{ p *Pipeline }

// Describe implements prometheus.Collector; it is unchecked on purpose, since which
// series there are depends on what is known.
func (g *gauges) Describe(chan<- *prometheus.Desc) {}

// Collect implements prometheus.Collector.
func (g *gauges) Collect(out chan<- prometheus.Metric) {
	s := g.p.Status()
	e := emitter{out, g.p.cfg.Bridge}
	for _, state := range []string{status.StateStarting, status.StateWaiting, status.StateStreaming, status.StateBackoff, status.StateHalted, status.StateStopped} {
		e.gauge("walbridge_state", "1 for the state that the bridge is in.", flag(s.State == state), "state", state)
	}
	g.positions(e, s)
	g.slot(e, s)
	g.tables(e, s)
	if s.Snapshot == nil {
		return
	}
	for _, t := range s.Snapshot.Tables {
		if ratio, ok := t.Ratio(); ok {
			e.gauge("walbridge_snapshot_progress_ratio", "How much of a table that is being read is delivered, by the catalog's estimate; absent when it is done.", ratio, "table", t.Table)
		}
	}
}

func (g *gauges) positions(e emitter, s status.Status) {
	for _, pos := range []struct{ name, text string }{
		{"received", s.LSN.Received}, {"written", s.LSN.Written}, {"confirmed", s.LSN.Confirmed}, {"reported", s.LSN.Reported},
	} {
		if l, err := lsn.Parse(pos.text); err == nil {
			e.gauge("walbridge_"+pos.name+"_lsn_bytes", "The "+pos.name+" position, as bytes from the start of the WAL.", float64(l))
		}
	}
	for to, bytes := range map[string]*int64{"received": s.Lag.ReceivedBytes, "confirmed": s.Lag.ConfirmedBytes, "reported": s.Lag.ReportedBytes} {
		if bytes != nil {
			e.gauge("walbridge_lag_bytes", "WAL between the server's current position and one of the bridge's.", float64(*bytes), "to", to)
		}
	}
	if s.Lag.Seconds != nil {
		e.gauge("walbridge_lag_seconds", "From the server's having WAL until it is confirmed, or so far; unsent WAL included.", *s.Lag.Seconds)
	}
}

func (g *gauges) slot(e emitter, s status.Status) {
	sample, fresh := g.p.lag.sample(time.Now())
	if !fresh || s.Slot == nil {
		return
	}
	e.gauge("walbridge_slot_retained_bytes", "WAL that the server keeps for the slot.", float64(s.Slot.RetainedBytes))
	e.gauge("walbridge_slot_active", "Whether a session holds the slot.", flag(s.Slot.Active))
	e.gauge("walbridge_slot_wal_status", "1 for the wal_status of the slot.", 1, "status", sample.Slot.WALStatus)
	e.gauge("walbridge_slot_catalog_xmin_age", "Transactions since the oldest one whose catalog rows the slot keeps.", float64(s.Slot.XminAge))
	if s.Slot.SafeBytes != nil {
		e.gauge("walbridge_slot_safe_bytes", "WAL that may still be written before the slot may be invalidated.", float64(*s.Slot.SafeBytes))
	}
}

func (g *gauges) tables(e emitter, s status.Status) {
	if s.Tables == nil {
		return
	}
	for _, n := range []struct {
		state string
		count int
	}{
		{"published", s.Tables.Published}, {"unpublished", s.Tables.Unpublished}, {"unrouted", s.Tables.Unrouted},
		{"no_identity", s.Tables.NoIdentity}, {"vanished", s.Tables.Vanished},
	} {
		e.gauge("walbridge_tables", "Tables by how routes and publication fit; partitions count with the table above them.", float64(n.count), "state", n.state)
	}
}

func flag(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

type emitter struct {
	out    chan<- prometheus.Metric
	bridge string
}

// gauge emits one value; labels are name and value in turn.
func (e emitter) gauge(name, help string, value float64, labels ...string) {
	names, values := []string{}, []string{}
	for i := 0; i < len(labels); i += 2 {
		names, values = append(names, labels[i]), append(values, labels[i+1])
	}
	desc := prometheus.NewDesc(name, help, names, prometheus.Labels{"bridge": e.bridge})
	e.out <- prometheus.MustNewConstMetric(desc, prometheus.GaugeValue, value, values...)
}
