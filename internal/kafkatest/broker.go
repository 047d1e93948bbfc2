package kafkatest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/walbridge/walbridge/internal/child"
	"github.com/walbridge/walbridge/internal/pgtest"
)

// Limits of a broker's life on a busy machine; a start takes about two seconds on a
// quiet one.
const (
	startTimeout = 2 * time.Minute
	stopTimeout  = time.Minute
	launchTries  = 5
)

// clusterID is that of every broker here, in the form of Kafka's Uuid.
const clusterID = "5L6g3nShT-eMCtK--X86sw"

// Broker is a Kafka node for tests. Its methods may be called by one goroutine at a
// time.
type Broker struct {
	java, classPath string
	dir             string
	cfg             config
	port            int // of the plain listener; the others follow
	proc            *child.Process
	tls             *Authority // nil: no TLS listener
}

// config is what the options of New decide.
type config struct {
	settings  map[string]string
	tls, sasl bool
	version   string // empty: that of Version
	jvm       []string
}

// smallJVM is a broker that starts soon and needs little.
func smallJVM() []string {
	return []string{"-Xms64m", "-Xmx512m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1"}
}

// Option changes the broker that New starts.
type Option func(*config)

// Release starts that version, such as "4.4.0", instead of the one that Version says.
func Release(version string) Option { return func(c *config) { c.version = version } }

// Setting sets a line of server.properties.
func Setting(name, value string) Option {
	return func(c *config) { c.settings[name] = value }
}

// QuickRestart makes a killed broker come back within seconds. On a busy machine it
// may lose its partitions for a while now and then.
func QuickRestart() Option { return Setting("broker.session.timeout.ms", "5000") }

// TLS adds a listener for TLS that demands a client's certificate, and one that
// does not: Broker.TLSAddr, Broker.Authority.
func TLS() Option { return func(c *config) { c.tls = true } }

// SASL adds a listener for PLAIN, SCRAM-SHA-256, SCRAM-SHA-512 and OAUTHBEARER with
// unsecured tokens: Broker.SASLAddr, and the users of it.
func SASL() Option { return func(c *config) { c.sasl = true } }

// New starts a broker of the test's own, which is stopped at the test's end.
func New(t testing.TB, opts ...Option) *Broker {
	t.Helper()
	cfg := config{settings: map[string]string{}}
	for _, o := range opts {
		o(&cfg)
	}
	b, err := start(cfg)
	check(t, err)
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("end of the broker's log:\n%s", b.LogTail())
		}
		if err := b.remove(); err != nil {
			t.Error(err)
		}
	})
	return b
}

// dirPrefix begins the names of brokers' folders; the id of our process follows.
const dirPrefix = "walbridge-kafkatest-"

// staleAfter is the age at which the folder of a process that is not there is surely
// nobody's: one in another container may share our temporary folder, but not our
// process table.
const staleAfter = 2 * time.Hour

// removeStale deletes the folders of test binaries that were killed.
func removeStale() {
	old, _ := filepath.Glob(filepath.Join(os.TempDir(), dirPrefix+"*")) // the pattern is well formed
	for _, dir := range old {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), dirPrefix), "-")
		n, err := strconv.Atoi(pid)
		if fi, statErr := os.Stat(dir); err == nil && statErr == nil && !child.Exists(n) && time.Since(fi.ModTime()) > staleAfter {
			_ = os.RemoveAll(dir) // it may be another user's
		}
	}
}

func start(cfg config) (*Broker, error) {
	b := &Broker{cfg: cfg}
	var err error
	if b.java, b.classPath, err = find(cmp.Or(cfg.version, Version())); err != nil {
		return nil, err
	}
	removeStale()
	if b.dir, err = os.MkdirTemp("", fmt.Sprintf(dirPrefix+"%d-", os.Getpid())); err != nil {
		return nil, fmt.Errorf("make the broker's folder: %w", err)
	}
	if err := b.prepare(); err != nil {
		return nil, errors.Join(err, os.RemoveAll(b.dir))
	}
	return b, nil
}

// prepare makes keys, formats the data and launches, on other ports when somebody
// took them meanwhile.
func (b *Broker) prepare() error {
	if b.cfg.tls {
		var err error
		if b.tls, err = newAuthority(); err != nil {
			return err
		}
	}
	var err error
	for range launchTries {
		if b.port, err = freePorts(ports); err != nil {
			return err
		}
		if err = b.writeProperties(); err != nil {
			return err
		}
		if err = b.format(); err != nil {
			return err
		}
		if err = b.launch(); err == nil || !strings.Contains(err.Error(), "Address already in use") {
			return err
		}
	}
	return err
}

// The listeners' ports, counted from the first.
const (
	portPlain = iota
	portController
	portMutual // TLS with a client's certificate
	portTLS
	portSASL
	ports
)

func (b *Broker) at(port int) string { return fmt.Sprintf("127.0.0.1:%d", b.port+port) }

// Addr is host:port of the plain listener.
func (b *Broker) Addr() string { return b.at(portPlain) }

// MutualTLSAddr is host:port of the listener that demands a client's certificate.
func (b *Broker) MutualTLSAddr() string { return b.at(portMutual) }

// TLSAddr is host:port of the TLS listener that demands none.
func (b *Broker) TLSAddr() string { return b.at(portTLS) }

// SASLAddr is host:port of the listener for SASL, which is not encrypted.
func (b *Broker) SASLAddr() string { return b.at(portSASL) }

// Authority is who signed the TLS listeners' certificates; nil without TLS.
func (b *Broker) Authority() *Authority { return b.tls }

// DataDir is the folder of the partitions' logs, one folder for each.
func (b *Broker) DataDir() string { return filepath.Join(b.dir, "data") }

func (b *Broker) properties() string { return filepath.Join(b.dir, "server.properties") }

func (b *Broker) format() error {
	if _, err := os.Stat(filepath.Join(b.DataDir(), "meta.properties")); err == nil {
		return nil
	}
	_, err := b.run("kafka.tools.StorageTool", "format", "-t", clusterID, "-c", b.properties())
	if err != nil {
		return fmt.Errorf("format the broker's data: %w", err)
	}
	return nil
}

// run runs a program of the class path to its end and returns what it printed.
func (b *Broker) run(args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(context.Background(), startTimeout)
	defer cancel()
	args = append([]string{"-Xmx128m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", b.classPath}, args...)
	out, err := exec.CommandContext(ctx, b.java, args...).CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("run java: %w: %s", err, tail(out))
	}
	return string(out), nil
}

// Java runs a program of Kafka's jars, such as kafka.tools.DumpLogSegments, or a
// source file, and returns what it printed.
func (b *Broker) Java(t testing.TB, args ...string) string {
	t.Helper()
	out, err := b.run(args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// launch starts the process and waits until it serves.
func (b *Broker) launch() error {
	log, err := newLog(filepath.Join(b.dir, "log"))
	if err != nil {
		return err
	}
	jvm := b.cfg.jvm
	if jvm == nil {
		jvm = smallJVM()
	}
	cmd := exec.Command(b.java, append(slices.Clone(jvm),
		"-Dorg.slf4j.simpleLogger.showDateTime=true", "-Dorg.slf4j.simpleLogger.dateTimeFormat=HH:mm:ss.SSS",
		"-cp", b.classPath, "kafka.Kafka", b.properties())...)
	cmd.Stdout, cmd.Stderr = log, log
	if b.proc, err = child.Start(cmd, syscall.SIGKILL); err != nil {
		return errors.Join(err, log.file.Close())
	}
	timeout := time.NewTimer(startTimeout)
	defer timeout.Stop()
	select {
	case <-log.ready:
		return nil
	case <-b.proc.Done():
		return fmt.Errorf("start the broker: it ended; its log ends with:\n%s", b.LogTail())
	case <-timeout.C:
		return errors.Join(fmt.Errorf("start the broker: not ready within %v; its log ends with:\n%s", startTimeout, b.LogTail()), b.kill())
	}
}

func (b *Broker) kill() error {
	if err := b.proc.Kill(); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	return b.proc.Wait(ctx)
}

// Kill is kill -9; it returns when the process has ended.
func (b *Broker) Kill(t testing.TB) {
	t.Helper()
	if err := b.kill(); err != nil {
		t.Fatal(err)
	}
}

// Stop ends the broker in order.
func (b *Broker) Stop(t testing.TB) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), stopTimeout)
	defer cancel()
	if err := errors.Join(b.proc.Signal(syscall.SIGTERM), b.proc.Wait(ctx)); err != nil {
		t.Fatal(err)
	}
}

// Restart starts a broker that has ended, on its ports and data, and returns when
// it serves.
func (b *Broker) Restart(t testing.TB) {
	t.Helper()
	if err := b.launch(); err != nil {
		t.Fatal(err)
	}
}

// Pause stops the process until Resume: its connections stay and nothing answers. It
// returns when nothing runs any more, which on a busy machine takes a moment.
func (b *Broker) Pause(t testing.TB) {
	t.Helper()
	if err := b.proc.Pause(); err != nil {
		t.Fatal(err)
	}
	pgtest.Eventually(t, callTimeout, func() bool { return stopped(b.PID()) }, "the broker stands still")
}

// stopped reports whether all threads of a process are stopped; true where there is no
// /proc to tell (proc(5), stat: the state is the field after the name in brackets).
func stopped(pid int) bool {
	threads, _ := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/stat", pid)) // the pattern is well formed
	for _, path := range threads {
		text, err := os.ReadFile(path)
		if _, state, ok := strings.Cut(string(text), ") "); err == nil && ok && !strings.HasPrefix(state, "T") {
			return false
		}
	}
	return true
}

// Resume undoes Pause.
func (b *Broker) Resume(t testing.TB) {
	t.Helper()
	if err := b.proc.Resume(); err != nil {
		t.Fatal(err)
	}
}

// remove ends the broker, whatever state it is in, and deletes its folder.
func (b *Broker) remove() error {
	if err := b.kill(); err != nil {
		return err
	}
	if err := os.RemoveAll(b.dir); err != nil {
		return fmt.Errorf("remove the broker's folder: %w", err)
	}
	return nil
}

// LogTail returns the last lines of the broker's log, 4 KiB at most.
func (b *Broker) LogTail() string {
	text, err := os.ReadFile(filepath.Join(b.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return tail(text)
}

func tail(text []byte) string {
	const most = 4096
	return strings.TrimSpace(string(text[max(0, len(text)-most):]))
}

// freePorts returns the first of n ports that nobody listens on, from below the
// ranges that systems use for outgoing connections, so that no client takes one
// while the broker restarts.
func freePorts(n int) (int, error) {
	const low, high, tries = 15000, 32000, 200
	for range tries {
		first := low + rand.IntN(high-low-n)
		if allFree(first, n) {
			return first, nil
		}
	}
	return 0, fmt.Errorf("look for %d free ports between %d and %d: none in %d tries", n, low, high, tries)
}

func allFree(first, n int) bool {
	for port := first; port < first+n; port++ {
		l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
		if err != nil {
			return false
		}
		_ = l.Close() // it is listened on by nobody from here on, either way
	}
	return true
}
