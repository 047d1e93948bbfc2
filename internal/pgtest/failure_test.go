package pgtest_test

import (
	"fmt"
	"runtime"
	"testing"
)

// recorder is a testing.TB that remembers how it was failed or skipped. What it
// does not override would panic, since the interface in it is nil.
type recorder struct {
	testing.TB
	text    string
	skipped bool
}

func (r *recorder) Helper() {}

func (r *recorder) Fatal(args ...any) {
	r.text = fmt.Sprint(args...)
	runtime.Goexit()
}

func (r *recorder) Fatalf(format string, args ...any) { r.Fatal(fmt.Sprintf(format, args...)) }

func (r *recorder) Skipf(format string, args ...any) {
	r.skipped = true
	r.Fatal(fmt.Sprintf(format, args...))
}

// record runs f as a test would be.
func record(f func(testing.TB)) *recorder {
	r := &recorder{}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(r)
	}()
	<-done
	return r
}

// failure returns what f failed its test with; empty when it did not.
func failure(f func(testing.TB)) string { return record(f).text }
