// Package fault names the kinds of trouble a bridge can be in. A stage returns
// one of them (or any other error, which counts as transient: try again from the
// durable position); only the pipeline decides what follows.
//
//	transient  reconnect with backoff: Transient, and every error of no other kind
//	halt       an operator must decide: *Halt. The process stays up, not ready
//	config     only the configuration or a server's settings can cure it: *ConfigError
//	fenced     another process of the same name owns the source now: ErrFenced
//
// The fourth kind of the design, poison (one item that can never be stored), is
// no error of a stage: it is an item of kind dead letter, or a sink.Poison.
package fault

import (
	"errors"
	"fmt"
	"strings"
)

// ErrFenced is returned by a sink when a newer owner of the same source has
// opened it. The caller must not write again; it waits for ownership anew.
var ErrFenced = errors.New("another process owns this bridge now")

// Halt is trouble that only an operator can decide: going on would lose changes
// or repeat them. Its fields are shown on the status page, by `walbridge status`
// and in the log.
type Halt struct {
	Rule  string // stable name for scripts and docs/operations.md, such as "slot-ahead"
	What  string // one sentence: what is wrong
	Why   string // one sentence: what going on would cost
	Facts []Fact // positions and names, in the order to show them
	Ways  []Way  // the ways out, the safest first; never empty
	Err   error  // what the server said, when it said something
}

// Fact is a named value of a halt, such as "slot confirmed": "0/1924E78".
type Fact struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

// Way is one way out of a halt: what it does, and the commands or statements to
// run, in order. Commands may be empty when the way is to do something elsewhere.
type Way struct {
	Text     string   `json:"text"`
	Commands []string `json:"commands,omitempty"`
}

// Error is one line: rule, what and facts.
func (h *Halt) Error() string {
	var b strings.Builder
	fmt.Fprintf(&b, "halted (%s): %s", h.Rule, h.What)
	for i, f := range h.Facts {
		sep := "; "
		if i == 0 {
			sep = " ["
		}
		b.WriteString(sep + f.Name + " " + f.Value)
	}
	if len(h.Facts) > 0 {
		b.WriteByte(']')
	}
	if h.Err != nil {
		b.WriteString(": " + h.Err.Error())
	}
	return b.String()
}

// Unwrap returns what the server said.
func (h *Halt) Unwrap() error { return h.Err }

// Problem is one finding of a check: of the configuration, of a server's
// settings, of rights.
type Problem struct {
	Check   string `json:"check"`           // stable name, such as "wal-level"
	Warning bool   `json:"warning"`         // true: the bridge can run
	Where   string `json:"where,omitempty"` // what it is about: a key of the file, a table, a server
	What    string `json:"what"`            // what is wrong, with the value found
	Why     string `json:"why,omitempty"`   // why it matters
	Fix     string `json:"fix,omitempty"`   // the statement, command or key that mends it
}

// String is one line: where, what and the fix.
func (p Problem) String() string {
	s := p.What
	if p.Where != "" {
		s = p.Where + ": " + s
	}
	if p.Fix != "" {
		s += " (fix: " + p.Fix + ")"
	}
	return s
}

// ConfigError is trouble that only the configuration or a server's settings can
// cure. Before the first successful start of a process it ends it with exit
// code 2 and all problems listed.
type ConfigError struct {
	Problems []Problem
}

// Error lists the problems, a line each.
func (e *ConfigError) Error() string {
	lines := make([]string, len(e.Problems))
	for i, p := range e.Problems {
		lines[i] = p.String()
	}
	return strings.Join(lines, "\n")
}

// Config makes a ConfigError of one problem.
func Config(p Problem) *ConfigError { return &ConfigError{Problems: []Problem{p}} }

type transient struct {
	reason string
	err    error
}

func (t *transient) Error() string { return t.err.Error() }
func (t *transient) Unwrap() error { return t.err }

// Transient marks err as worth another try, with a short reason in snake_case
// for the label of walbridge_reconnects_total. A nil err stays nil.
func Transient(reason string, err error) error {
	if err == nil {
		return nil
	}
	return &transient{reason, err}
}

// Reason returns the reason that the outermost Transient of err gave, "other"
// without one.
func Reason(err error) string {
	var t *transient
	if errors.As(err, &t) {
		return t.reason
	}
	return "other"
}
