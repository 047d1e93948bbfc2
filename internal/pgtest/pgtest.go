// Package pgtest gives tests real PostgreSQL servers, a network that fails on
// demand, and the built program in a process of its own.
//
// A test asks for what it needs and never cleans up by hand:
//
//	func TestMain(m *testing.M) { pgtest.Main(m) }
//
//	func TestSlot(t *testing.T) {
//		db := pgtest.Shared(t).DB(t)        // a fresh database of the shared cluster
//		db.Exec(t, "CREATE TABLE a (id int)")
//		proxy := pgtest.NewProxy(t, db.DSN())
//		…proxy.DSN(db.DSN())…
//	}
//
// Shared is one cluster per test binary; New is a cluster of the test's own, for
// tests that kill it or need settings; Matrix runs a test on several versions.
// Nothing here sleeps: Eventually is the one place that polls.
//
// Environment: WALBRIDGE_TEST_PG names the major versions, such as "15,18";
// WALBRIDGE_PG_BIN a folder of binaries to prefer. Where no server is found, a
// test fails under CI (CI=true) and is skipped, saying so, elsewhere.
package pgtest

import (
	"errors"
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// Main is for TestMain: it runs the tests, stops the shared cluster, fails when
// goroutines are left, and exits.
func Main(m *testing.M) {
	code := m.Run()
	if err := errors.Join(stopShared(), removeBinaries()); err != nil {
		fmt.Fprintln(os.Stderr, "pgtest: clean up:", err)
		code = max(code, 1)
	}
	// A failed test may leave anything behind; its own message is the useful one.
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "pgtest: goroutines are left:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// Eventually polls cond until it is true and fails the test when that takes
// longer than within. msg and args say what was awaited.
func Eventually(t testing.TB, within time.Duration, cond func() bool, msg string, args ...any) {
	t.Helper()
	deadline := time.Now().Add(within)
	for pause := time.Millisecond; ; pause = min(2*pause, 100*time.Millisecond) {
		if cond() {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", within, fmt.Sprintf(msg, args...))
		}
		time.Sleep(pause)
	}
}

// missing ends the test because the machine lacks something it needs.
func missing(t testing.TB, what string, err error) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s: %v", what, err)
	}
	t.Skipf("%s: %v (run `make deps`)", what, err)
}
