package workflow

import (
	"errors"
	"fmt"
	"strings"
	"time"
	"unicode/utf8"
)

// Errors that callers branch on.
var (
	// ErrNotFound is returned for a key that no instance of the workflow has.
	ErrNotFound = errors.New("there is no such workflow instance")
	// ErrFinished is returned by Signal, Cancel and Resume for an instance that has
	// completed or was compensated.
	ErrFinished = errors.New("the workflow instance has finished")
	// ErrUnknown is returned by Start and StartTx for a workflow that was not given
	// to New.
	ErrUnknown = errors.New("the workflow is not one of this engine")
	// ErrSignals is returned by Signal and SignalTx when MaxSignals wait already.
	ErrSignals = errors.New("the workflow instance keeps too many signals that no wait has consumed")
	// ErrTimeout is the reason of a wait that failed since no signal came in time.
	ErrTimeout = errors.New("no signal came in time")

	// ErrLeaseLost, ErrCancelled and ErrStopping are causes (context.Cause) of the
	// end of a step's context: another engine has the instance or may have it soon;
	// an operator has cancelled it; this engine stops and StopWithin has passed.
	ErrLeaseLost = errors.New("the lease of the workflow instance is lost")
	ErrCancelled = errors.New("the workflow instance was cancelled")
	ErrStopping  = errors.New("the workflow engine stops")
)

// failError is the error of a step that is not tried again.
type failError struct{ err error }

func (e *failError) Error() string { return e.err.Error() }
func (e *failError) Unwrap() error { return e.err }

// Fail marks the error of a step as final: the step is not tried again and has had
// no effect, so that only the steps before it are compensated. Of a compensation
// it says that no further attempt is worth it: the instance becomes failed.
// Fail(nil) is nil.
func Fail(err error) error {
	if err == nil {
		return nil
	}
	return &failError{err}
}

// retryError is the error of a step with the time of the next attempt.
type retryError struct {
	err   error
	after time.Duration
}

func (e *retryError) Error() string { return e.err.Error() }
func (e *retryError) Unwrap() error { return e.err }

// RetryAfter makes the next attempt of a step come after a time of its own choice,
// such as an outside system's Retry-After, instead of the backoff. The attempt
// counts as any other. RetryAfter(nil, …) is nil.
func RetryAfter(err error, after time.Duration) error {
	if err == nil {
		return nil
	}
	return &retryError{err, max(0, after)}
}

// PanicError is a panic of a step.
type PanicError struct {
	Value any    // what was passed to panic
	Stack []byte // of the goroutine, as debug.Stack returns it
}

// Error is the panic and its stack.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v\n%s", e.Value, e.Stack) }

// text makes an error fit for a column: valid UTF-8 without NUL, which PostgreSQL
// refuses, and bounded.
func text(s string) string {
	s = strings.ReplaceAll(strings.ToValidUTF8(s, "\uFFFD"), "\x00", "\uFFFD")
	if len(s) <= maxError {
		return s
	}
	cut := maxError
	for !utf8.RuneStart(s[cut]) {
		cut--
	}
	return s[:cut] + " …"
}
