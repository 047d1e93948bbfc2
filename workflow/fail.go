package workflow

import (
	"errors"
	"fmt"
	"time"
)

// failure is an attempt that did not succeed.
type failure struct {
	err    error
	final  bool // it is not tried again
	effect bool // it may have had its effect all the same
	took   time.Duration
}

// failureOf judges the error of a step's function. Only one that the step itself
// declares final is known to have had no effect; a transaction never has one.
func failureOf(err error, activity bool) failure {
	var f *failError
	final := errors.As(err, &f)
	return failure{err: err, final: final, effect: activity && !final}
}

// failed stores a failed attempt: the next one's time, or the end of trying.
func (r *runner) failed(in *instance, st *step, f failure) (bool, error) {
	if st.kind == kindTx {
		f.effect = false
	}
	limit, most := r.limits(st, in.undoing)
	in.failures++
	rec := &record{n: in.step, st: st, undo: in.undoing, outcome: recordFailed, attempt: in.attempts, err: stored(f.err.Error()), begun: time.Now().Add(-f.took)}
	switch {
	case !f.final && in.failures < limit:
		return r.putOff(in, rec, f, most)
	case in.undoing:
		m := in.stay()
		m.status, m.lastError = Failed, rec.err
		return r.settle(in, rec, m)
	}
	return r.beginUndo(in, rec, fmt.Sprintf("step %s: %v", st.name, f.err), f.effect)
}

// limits are how often a step is tried and the longest pause.
func (r *runner) limits(st *step, undoing bool) (attempts int, most time.Duration) {
	p := st.retry
	if undoing {
		p = st.undoing
	}
	if p.attempts == 0 {
		return r.e.cfg.MaxAttempts, r.e.cfg.MaxBackoff
	}
	return p.attempts, p.maxBackoff
}

// putOff stores the time of the next attempt.
func (r *runner) putOff(in *instance, rec *record, f failure, most time.Duration) (bool, error) {
	wait := backoff(in.failures, min(r.e.cfg.FirstBackoff, most), most)
	var own *retryError
	if errors.As(f.err, &own) {
		wait = own.after
	}
	next := micros(wait)
	rec.outcome, rec.next = recordRetrying, &next
	m := in.stay()
	m.after, m.lastError = wait, rec.err
	r.e.log.Debug("workflow step failed; it is tried again", "workflow", in.name, "key", in.key, "step", rec.st.name, "undo", in.undoing,
		"attempt", in.attempts, "after", wait, "error", f.err)
	return r.settle(in, rec, m)
}

// beginUndo turns an instance around: from here on its completed steps are undone,
// the last one first; own says that the step at hand, not completed, is to be undone
// too, since it may have had its effect.
func (r *runner) beginUndo(in *instance, rec *record, reason string, own bool) (bool, error) {
	n := in.step
	if own && n < len(in.def.steps) && in.def.steps[n].kind == kindActivity {
		n++
	}
	m := move{undoing: true, status: Compensating, reason: stored(reason), step: in.def.undoable(n), attempts: 1, held: true}
	if rec != nil {
		m.lastError = rec.err
	}
	if m.step < 0 {
		m.status, m.held, m.step, m.attempts = Compensated, false, in.step, 0
	}
	return r.settle(in, rec, m)
}

// giveBack releases an instance for anybody, after a time.
func (r *runner) giveBack(in *instance, after time.Duration, attempts int) (bool, error) {
	m := in.stay()
	m.after, m.attempts = after, attempts
	return r.settle(in, nil, m)
}

// haltChanged halts an instance whose steps are not those of this program.
func (r *runner) haltChanged(in *instance) (bool, error) {
	list := "none"
	if in.def != nil {
		list = in.def.list()
	}
	return r.haltWith(in, haltUnknown, fmt.Sprintf("the steps of version %d were [%s] when it was started and are [%s] in this program: changed steps need a new version", in.version, in.list, list))
}

// haltWith stops an instance, and nothing else, until somebody resumes it.
func (r *runner) haltWith(in *instance, halt, reason string) (bool, error) {
	m := in.stay()
	m.status, m.lastError, m.halt = Halted, stored(reason), &halt
	return r.settle(in, nil, m)
}

// stored is a text as a column takes it.
func stored(s string) *string {
	s = text(s)
	return &s
}
