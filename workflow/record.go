package workflow

import (
	"time"

	"github.com/jackc/pgx/v5"
)

// Outcomes of an attempt, as the row of a step and the metrics have them.
const (
	recordDone     = "completed"
	recordRetrying = "retrying"
	recordFailed   = "failed"
)

// record is the outcome of an attempt of a step or, while undoing, of its
// compensation.
type record struct {
	n       int
	st      *step
	undo    bool
	outcome string
	attempt int
	err     *string
	next    *int64 // µs until the next attempt
	begun   time.Time
}

func (a *attempt) record(outcome string) *record {
	return &record{n: a.in.step, st: a.st, undo: a.in.undoing, outcome: outcome, attempt: a.in.attempts, begun: a.begun}
}

// status is the outcome as column status has it.
func (r *record) status() string {
	if !r.undo {
		return r.outcome
	}
	switch r.outcome {
	case recordDone:
		return "compensated"
	case recordRetrying:
		return "undoing"
	}
	return "undo_failed"
}

func (r *record) queue(b *pgx.Batch, sql statements, in *instance) {
	if r.undo {
		b.Queue(sql.recordUndo, in.id, r.n, r.st.name, r.st.kind, r.status(), r.attempt, r.err, r.next)
		return
	}
	b.Queue(sql.record, in.id, r.n, r.st.name, r.st.kind, r.status(), r.attempt, r.err, r.next, micros(time.Since(r.begun)))
}

// moved tells the world what has been stored.
func (r *runner) moved(in *instance, rec *record, m move, status Status) {
	if rec != nil {
		r.count(in, rec.st, rec.status(), rec.begun)
	}
	if !m.held && !status.final() {
		r.wakeAfter(m.after)
	}
	if !status.final() && (status != Compensating || in.undoing) {
		return
	}
	r.e.metrics.instances.WithLabelValues(in.name, string(status)).Inc()
	args := []any{"workflow", in.name, "version", in.version, "key", in.key}
	switch status {
	case Completed:
		r.e.log.Debug("workflow completed", args...)
	case Compensated:
		r.e.log.Info("workflow compensated", append(args, "reason", value(m.reason, in.reason))...)
	case Compensating:
		r.e.log.Info("workflow is compensated", append(args, "reason", value(m.reason, ""))...)
	case Failed:
		r.e.log.Error("workflow compensation failed; the instance stays until it is resumed", append(args, "step", rec.st.name, "error", value(m.lastError, ""))...)
	case Halted:
		r.e.log.Error("workflow halted; the instance stays until it is resumed", append(args, "error", value(m.lastError, ""))...)
	}
}

func (r *runner) count(in *instance, st *step, outcome string, begun time.Time) {
	r.e.metrics.steps.WithLabelValues(in.name, st.name, outcome).Inc()
	r.e.metrics.seconds.WithLabelValues(in.name, st.name).Observe(time.Since(begun).Seconds())
}

func value(p *string, otherwise string) string {
	if p == nil {
		return otherwise
	}
	return *p
}
