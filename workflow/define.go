package workflow

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"strings"
)

// Workflow is a *Definition of any state.
type Workflow interface {
	definition() *definition
}

// Definition is a workflow of a state of type T. It is immutable and may be shared.
type Definition[T any] struct{ d *definition }

func (d *Definition[T]) definition() *definition {
	if d == nil {
		return nil
	}
	return d.d
}

// Name returns the workflow's name.
func (d *Definition[T]) Name() string { return d.d.name }

// Version returns the workflow's version.
func (d *Definition[T]) Version() int { return d.d.version }

// definition is a workflow without its type parameter.
type definition struct {
	name    string
	version int
	state   reflect.Type
	zero    func() any // a new *T
	steps   []step
}

// ident is what an instance names its definition by.
type ident struct {
	name    string
	version int
}

// Define makes a workflow: its name, its version (from 1 on), and its steps in
// their order. Its state is a T, stored as JSON, so that T's exported fields are
// what survives.
//
// An instance keeps the version that it was started with. Functions of steps may
// change freely; whoever adds, removes, renames or moves a step makes a new
// version, and keeps the old one registered until its instances have finished.
// Mistakes are reported by New.
func Define[T any](name string, version int, steps ...Step) *Definition[T] {
	d := &definition{name: name, version: version, state: reflect.TypeFor[T](), zero: func() any { return new(T) }}
	for _, s := range steps {
		if s == nil {
			d.steps = append(d.steps, step{problems: []string{"a step is nil"}})
			continue
		}
		d.steps = append(d.steps, s.step())
	}
	return &Definition[T]{d}
}

// validName is what workflows, steps and signals may be called.
var validName = regexp.MustCompile(`^[A-Za-z0-9_.-]{1,100}$`)

// validate returns all that is wrong with a definition.
func (d *definition) validate() error {
	var errs []error
	at := func(ok bool, format string, args ...any) {
		if !ok {
			errs = append(errs, fmt.Errorf("workflow %q version %d: "+format, append([]any{d.name, d.version}, args...)...))
		}
	}
	at(validName.MatchString(d.name), "the name is not 1 to 100 letters, digits, _, - and .")
	at(d.version > 0 && d.version < 1<<31, "the version is not between 1 and %d", 1<<31-1)
	at(len(d.steps) > 0 && len(d.steps) <= MaxSteps, "%d steps, not 1 to %d", len(d.steps), MaxSteps)
	seen := map[string]bool{}
	for _, s := range d.steps {
		for _, p := range s.problems {
			at(false, "%s", p)
		}
		at(validName.MatchString(s.name), "the step's name %q is not 1 to 100 letters, digits, _, - and .", s.name)
		at(!seen[s.name], "two steps have the name %s", s.name)
		at(s.state == nil || s.state == d.state, "step %s is of a %v, the workflow of a %v", s.name, s.state, d.state)
		seen[s.name] = true
	}
	return errors.Join(errs...)
}

// list is the steps as they are stored with an instance.
func (d *definition) list() string {
	names := make([]string, len(d.steps))
	for i, s := range d.steps {
		names[i] = s.name + "=" + s.kind
	}
	return strings.Join(names, " ")
}

// encode makes the JSON of a first state, which is a T or a *T.
func (d *definition) encode(state any) (string, error) {
	t := reflect.TypeOf(state)
	switch {
	case t == nil:
		return "", fmt.Errorf("the state is nil, not a %v", d.state)
	case t.Kind() == reflect.Pointer && t.Elem() == d.state:
		if reflect.ValueOf(state).IsNil() {
			return "", fmt.Errorf("the state is a nil %v", t)
		}
	case !t.AssignableTo(d.state):
		return "", fmt.Errorf("the state is a %v, not a %v", t, d.state)
	}
	return encode(state)
}

// encode makes the JSON of a state.
func encode(state any) (string, error) {
	b, err := json.Marshal(state)
	if err != nil {
		return "", fmt.Errorf("encode the state: %w", err)
	}
	if len(b) > MaxState {
		return "", fmt.Errorf("encode the state: it is %d bytes of JSON, more than %d", len(b), MaxState)
	}
	return string(b), nil
}

// decode makes a *T of a stored state.
func (d *definition) decode(state string) (any, error) {
	v := d.zero()
	if err := json.Unmarshal([]byte(state), v); err != nil {
		return nil, fmt.Errorf("decode the state as %v: %w", d.state, err)
	}
	return v, nil
}

// undoable returns the last step before number n that has a compensation, or -1.
func (d *definition) undoable(n int) int {
	for n--; n >= 0; n-- {
		if d.steps[n].undo != nil {
			return n
		}
	}
	return -1
}
