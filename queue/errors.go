package queue

import (
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// What a caller can tell apart with errors.Is.
var (
	// ErrExpired: the log no longer holds what the subscription has not handled yet.
	// It never goes on at a later item by itself: Reset says where to.
	ErrExpired = errors.New("the subscription has expired")
	// ErrLost is the cause (context.Cause) of a handler's context that ended since
	// the lane's lease ran out or was taken over. What the handler does from then on
	// is not settled; another worker repeats the item.
	ErrLost = errors.New("the lease of the lane is lost")
	// ErrStopped is the cause of a handler's context that ended since Config.StopWithin
	// passed after the worker was asked to stop.
	ErrStopped = errors.New("the worker was asked to stop, and stop_within has passed")
	// ErrUnknown: there is no such subscription.
	ErrUnknown = errors.New("no such subscription")
	// ErrFloor: the start lies below what the log still holds.
	ErrFloor = errors.New("the log does not reach back so far")
	// ErrTimeout: WaitFor's time has passed.
	ErrTimeout = errors.New("the subscription is not there yet")
	// ErrConflict: the subscription exists with other streams.
	ErrConflict = errors.New("the subscription exists with other streams")
)

// RetryError asks for another attempt at a time of the handler's choice. Make it
// with Retry.
type RetryError struct {
	Err   error
	After time.Duration
}

// Error says when and why.
func (e *RetryError) Error() string { return fmt.Sprintf("retry after %v: %v", e.After, e.Err) }

// Unwrap returns the reason.
func (e *RetryError) Unwrap() error { return e.Err }

// Retry returns an error that parks the item until after has passed. It counts as
// an attempt. A negative after is taken as 0.
func Retry(err error, after time.Duration) error { return &RetryError{err, max(after, 0)} }

// DeadError says that no further attempt can help. Make it with Dead.
type DeadError struct{ Err error }

// Error returns the reason.
func (e *DeadError) Error() string { return "dead: " + e.Err.Error() }

// Unwrap returns the reason.
func (e *DeadError) Unwrap() error { return e.Err }

// Dead returns an error that makes the item a dead letter at once.
func Dead(err error) error { return &DeadError{err} }

// Failed is what the handler of RunBatch returns when some of the items failed:
// their errors by seq. All others are settled, but later items of a failed one's key,
// which wait behind it and are handled again. An error of a seq that is not in the
// batch is ignored.
type Failed map[int64]error

// Error names the items in order.
func (f Failed) Error() string {
	seqs := make([]int64, 0, len(f))
	for seq := range f {
		seqs = append(seqs, seq)
	}
	slices.Sort(seqs)
	var b strings.Builder
	fmt.Fprintf(&b, "%d items failed", len(f))
	for _, seq := range seqs[:min(len(seqs), 3)] {
		fmt.Fprintf(&b, "; %d: %v", seq, f[seq])
	}
	return b.String()
}

// PanicError is a panic of a handler. It counts as any other error.
type PanicError struct {
	Value any
	Stack []byte
}

// Error returns the value and the stack.
func (e *PanicError) Error() string { return fmt.Sprintf("panic: %v\n%s", e.Value, e.Stack) }

// Unwrap returns the value of a panic with an error.
func (e *PanicError) Unwrap() error {
	err, _ := e.Value.(error)
	return err
}

// safely runs f and turns its panic into an error. runtime.Goexit is not a panic
// and cannot be caught here.
func safely(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = &PanicError{v, debug.Stack()}
		}
	}()
	return f()
}
