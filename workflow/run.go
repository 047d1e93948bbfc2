package workflow

import "encoding/json"

// Run is what a step gets: one attempt of a step of an instance, or of its
// compensation. It is valid until the function returns and not safe for concurrent
// use.
type Run[T any] struct{ r *run }

// run is a Run without its type parameter.
type run struct {
	in    *instance
	state any // *T
	step  string
	undo  bool
}

// State returns the state as it is stored, to be read and changed. What it points
// to is stored together with the step when the function returns nil, and forgotten
// otherwise.
func (r *Run[T]) State() *T { return r.r.state.(*T) }

// Key returns the idempotency key of this step of this instance: the same at every
// attempt, in every process, and different from that of its compensation and from
// every other key. It has at most 150 bytes of printable ASCII.
func (r *Run[T]) Key() string {
	if r.r.undo {
		return r.KeyOf(r.r.step) + ":undo"
	}
	return r.KeyOf(r.r.step)
}

// KeyOf returns the Key that the named step of this instance has or had, by which a
// compensation finds what it undoes.
func (r *Run[T]) KeyOf(step string) string { return r.r.in.uid + ":" + step }

// Attempt returns which attempt this is, from 1 on. Attempts that the process did
// not live to report count.
func (r *Run[T]) Attempt() int { return r.r.in.attempts }

// Workflow returns the name and version of the workflow.
func (r *Run[T]) Workflow() (name string, version int) {
	return r.r.in.def.name, r.r.in.def.version
}

// Instance returns the key of the instance, as given to Start.
func (r *Run[T]) Instance() string { return r.r.in.key }

// Fence returns the generation of the lease. It rises whenever the instance is
// taken over, so that an outside system that remembers the highest one it saw can
// refuse a process that was presumed dead.
func (r *Run[T]) Fence() int64 { return r.r.in.generation }

// Reason returns why the instance is compensated; empty before.
func (r *Run[T]) Reason() string { return r.r.in.reason }

// Signal returns the data of the signal that the wait of this name has consumed;
// false when it was not reached yet, or timed out. The caller may keep the data.
func (r *Run[T]) Signal(name string) (data json.RawMessage, ok bool) {
	data, ok = r.r.in.signals[name]
	return json.RawMessage(append([]byte(nil), data...)), ok
}
