// Package kafkatest gives tests a real Apache Kafka broker: one node in KRaft mode
// that is broker and controller, on ports of its own.
//
// A test asks for what it needs and never cleans up by hand:
//
//	func TestMain(m *testing.M) { kafkatest.Main(m) }
//
//	func TestSink(t *testing.T) {
//		b := kafkatest.Shared(t)            // one broker for the whole test binary
//		topic := b.Topic(t, 3)              // a fresh topic on it
//		…b.Addr()…
//	}
//
// Shared is for tests that only use a broker; New starts one of the test's own,
// for those that kill it, pause it or need settings. A broker dies with the test
// binary, also when that is killed. Ready means that the broker has said so; nothing
// sleeps.
//
// Environment: WALBRIDGE_TEST_KAFKA is the version, WALBRIDGE_KAFKA_JARS a folder of
// jars to use instead of the one that `make deps` fills. Where Java or the jars are
// missing, a test fails under CI (CI=true) and is skipped, saying so, elsewhere.
package kafkatest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"

	"go.uber.org/goleak"

	"github.com/walbridge/walbridge/internal/embeddedpg"
)

// DefaultVersion is the version of Kafka that tests run on: the newest that does
// not lose commit markers when a partition has no leader (KAFKA-20734).
const DefaultVersion = "4.2.0"

// Main is for TestMain: it runs the tests, stops the shared broker, fails when
// goroutines are left, and exits.
func Main(m *testing.M) {
	code := m.Run()
	if err := stopShared(); err != nil {
		fmt.Fprintln(os.Stderr, "kafkatest: clean up:", err)
		code = max(code, 1)
	}
	// A failed test may leave anything behind; its own message is the useful one.
	if code == 0 {
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, "kafkatest: goroutines are left:", err)
			code = 1
		}
	}
	os.Exit(code)
}

// shared is the broker of this test binary. It is global because it must live over
// all tests, and only TestMain sees their end.
var shared struct {
	sync.Mutex
	broker *Broker
	err    error
}

// Shared returns the one broker that the tests of this binary share, started at the
// first call. Tests take topics of their own and leave the broker alone.
func Shared(t testing.TB) *Broker {
	t.Helper()
	shared.Lock()
	defer shared.Unlock()
	if shared.broker == nil && shared.err == nil {
		shared.broker, shared.err = start(config{settings: map[string]string{}})
	}
	check(t, shared.err)
	return shared.broker
}

func stopShared() error {
	shared.Lock()
	defer shared.Unlock()
	if shared.broker == nil {
		return nil
	}
	return shared.broker.remove()
}

// check ends the test after an error of a start.
func check(t testing.TB, err error) {
	t.Helper()
	var lacks *missingError
	switch {
	case err == nil:
	case errors.As(err, &lacks) && os.Getenv("CI") != "true":
		t.Skipf("this test needs a Kafka broker: %v (run `make deps`)", err)
	default:
		t.Fatal(err)
	}
}

// missingError says what the machine lacks.
type missingError struct{ what string }

func (e *missingError) Error() string { return e.what }

// Version is that of the brokers.
func Version() string {
	if v := os.Getenv("WALBRIDGE_TEST_KAFKA"); v != "" {
		return v
	}
	return DefaultVersion
}

// find returns the java program and the class path of the broker's jars.
func find(version string) (java, classPath string, err error) {
	java, err = exec.LookPath("java")
	if err != nil {
		return "", "", &missingError{"there is no java on the PATH"}
	}
	dir := os.Getenv("WALBRIDGE_KAFKA_JARS")
	if dir == "" {
		cache, err := embeddedpg.DefaultCacheDir()
		if err != nil {
			return "", "", &missingError{err.Error()}
		}
		dir = filepath.Join(cache, "kafka", version)
	}
	jars, _ := filepath.Glob(filepath.Join(dir, "kafka_2.13-*.jar")) // the pattern is well formed
	if len(jars) == 0 {
		return "", "", &missingError{"no jars of Kafka in " + dir}
	}
	return java, filepath.Join(dir, "*"), nil
}
