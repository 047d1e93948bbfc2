package pipeline

import (
	"fmt"
	"time"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/replication"
	"github.com/walbridge/walbridge/snapshot"
)

// view is what changes now and then and is shown; guarded by Pipeline.mu.
type view struct {
	state    string
	since    time.Time
	detail   string
	halt     *fault.Halt
	warnings []fault.Problem
	server   *replication.Server
	stream   *replication.Stream
	// snapshots is the session's, nil between sessions.
	snapshots *snapshot.Session
}

func (p *Pipeline) setState(state, detail string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.view.state != state {
		p.view.since = time.Now()
	}
	p.view.state, p.view.detail = state, detail
}

func (p *Pipeline) setHalt(h *fault.Halt) {
	p.setState(status.StateHalted, h.What)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.view.halt = h
}

func (p *Pipeline) setWarnings(w []fault.Problem) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.view.warnings = w
}

func (p *Pipeline) setServer(s *replication.Server) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.view.server = s
}

func (p *Pipeline) setStream(st *replication.Stream, snapshots *snapshot.Session) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.view.stream, p.view.snapshots = st, snapshots
}

func (p *Pipeline) current() view {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.view
}

// Status returns the bridge as it is now. Safe for any goroutine; it asks no server.
func (p *Pipeline) Status() status.Status {
	now := time.Now()
	v := p.current()
	s := status.Status{
		Bridge: p.cfg.Bridge, Version: p.stages.Version,
		State: v.state, Since: v.since, Detail: v.detail, StartedAt: p.begun, At: now,
		Ready:    v.state == status.StateStreaming || v.state == status.StateWaiting,
		Source:   sourceStatus(p.stages.Source, v.server),
		Sink:     p.stages.SinkStatus,
		Lags:     p.lag.chartPoints(),
		Warnings: append([]fault.Problem{}, v.warnings...),
		Totals:   p.totals.status(),
	}
	p.coverageStatus(&s)
	s.Halt = haltStatus(v.halt)
	s.Snapshot = snapshotStatus(v.snapshots, now)
	s.Rates = p.rates.measure(now, s.Totals)
	p.positionStatus(&s, v, now)
	return s
}

// coverageStatus adds which tables are streamed. A bridge that streams without a table that
// a route spells out is not ready.
func (p *Pipeline) coverageStatus(s *status.Status) {
	counts, warnings, notReady := p.covered.status()
	s.Tables = counts
	s.Warnings = append(s.Warnings, warnings...)
	if s.State == status.StateStreaming && notReady != "" {
		s.Ready, s.Detail = false, notReady
	}
}

func (p *Pipeline) positionStatus(s *status.Status, v view, now time.Time) {
	written, confirmed := p.pos.Written(), p.pos.Confirmed()
	received, reported := written, confirmed
	if v.stream != nil {
		received, reported = max(v.stream.Received(), written), v.stream.Reported()
	}
	s.LSN = status.Positions{Received: text(received), Written: text(written), Confirmed: text(confirmed), Reported: text(reported)}
	sample, fresh := p.lag.sample(now)
	if !fresh {
		return
	}
	s.LSN.Server = text(sample.WAL)
	behind := func(l lsn.LSN) *int64 { n := max(0, sample.WAL.Sub(l)); return &n }
	s.Lag = status.Lag{ReceivedBytes: behind(received), ConfirmedBytes: behind(confirmed), ReportedBytes: behind(reported)}
	if seconds, ok := p.lag.seconds(now); ok {
		s.Lag.Seconds = &seconds
	}
	s.Slot = slotStatus(sample)
}

func text(l lsn.LSN) string {
	if l == 0 {
		return ""
	}
	return l.String()
}

func sourceStatus(src *replication.Source, srv *replication.Server) status.Source {
	s := status.Source{DSN: src.DSN().String(), Slot: src.Slot(), Publication: src.Publication()}
	if srv != nil {
		s.ServerVersion, s.SystemID, s.Timeline = srv.Version, fmt.Sprint(srv.SystemID), srv.Timeline
	}
	return s
}

// snapshotStatus is nil for a bridge that never had anything to read.
func snapshotStatus(snapshots *snapshot.Session, now time.Time) *status.Snapshot {
	if snapshots == nil {
		return nil
	}
	st := snapshots.Status(now)
	if st.Request == 0 && len(st.Tables) == 0 && st.DoneTables == 0 {
		return nil
	}
	s := &status.Snapshot{
		Paused: st.Paused, DoneTables: st.DoneTables, DoneRows: st.DoneRows, RowsPerSecond: st.RowsPerSecond,
		Request: st.Request, Foreign: st.Foreign, Tables: []status.SnapshotTable{},
	}
	for _, t := range st.Tables {
		s.Tables = append(s.Tables, status.SnapshotTable{
			Table: t.Table, Run: t.Run, Reading: t.Reading, Rows: t.Rows, Estimate: t.Estimate, Detail: t.Detail, Problem: t.Problem,
		})
	}
	return s
}

func haltStatus(h *fault.Halt) *status.Halt {
	if h == nil {
		return nil
	}
	s := &status.Halt{Rule: h.Rule, What: h.What, Why: h.Why, Facts: h.Facts, Ways: h.Ways}
	if h.Err != nil {
		s.Error = h.Err.Error()
	}
	return s
}

func slotStatus(s replication.Sample) *status.Slot {
	if s.Slot == nil {
		return nil
	}
	return &status.Slot{
		Active: s.Slot.Active, WALStatus: s.Slot.WALStatus, RetainedBytes: s.WAL.Sub(s.Slot.RestartLSN), SafeBytes: s.Slot.SafeWALSize,
		ConfirmedFlush: text(s.Slot.ConfirmedFlush), Restart: text(s.Slot.RestartLSN), XminAge: s.Slot.CatalogXminAge,
	}
}

func (t *totals) status() status.Totals {
	return status.Totals{
		Transactions: t.transactions.Load(), Changes: t.changes.Load(), Events: t.events.Load(), Records: t.records.Load(),
		DeadLetters: t.deadLetters.Load(), Skipped: t.skipped.Load(), Batches: t.batches.Load(), Bytes: t.bytes.Load(), Reconnects: t.reconnects.Load(),
	}
}
