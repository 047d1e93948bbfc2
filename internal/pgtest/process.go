package pgtest

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/walbridge/walbridge/internal/child"
)

// Command describes a program to run in a process of its own, without standard
// input.
type Command struct {
	Path string   // defaults to Binary
	Args []string // without the program's name
	Env  []string // "NAME=value", added to the test's environment less its WALBRIDGE_ variables
	Dir  string   // defaults to a new folder, so that no file is found by chance
}

// Process is a program under test. Whatever the test does, it is gone at its end.
type Process struct {
	*child.Process
	name           string
	stdout, stderr collector
	all            collector
}

// Run starts the built walbridge with the given arguments.
func Run(t testing.TB, args ...string) *Process {
	t.Helper()
	return Command{Args: args}.Start(t)
}

// Start starts the program. When the test has failed, its end logs the program's
// last lines.
func (c Command) Start(t testing.TB) *Process {
	t.Helper()
	if c.Path == "" {
		c.Path = Binary(t)
	}
	if c.Dir == "" {
		c.Dir = t.TempDir()
	}
	p := &Process{name: filepath.Base(c.Path)}
	cmd := exec.Command(c.Path, c.Args...)
	cmd.Dir = c.Dir
	cmd.Env = append(environ(), c.Env...)
	cmd.Stdout = tee{&p.stdout, &p.all}
	cmd.Stderr = tee{&p.stderr, &p.all}
	cmd.WaitDelay = time.Second // a grandchild may hold the pipes open
	var err error
	if p.Process, err = child.Start(cmd, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { p.cleanUp(t) })
	return p
}

func (p *Process) cleanUp(t testing.TB) {
	if err := p.Kill(); err != nil {
		t.Error(err)
	}
	<-p.Done()
	if t.Failed() {
		t.Logf("end of the output of %s:\n%s", p.name, last(p.all.text(), 8<<10))
	}
}

// environ is the test's environment without what would configure the program.
func environ() []string {
	var env []string
	for _, e := range os.Environ() {
		if !strings.HasPrefix(e, "WALBRIDGE_") {
			env = append(env, e)
		}
	}
	return env
}

// Stdout returns what the program has written to standard output so far.
func (p *Process) Stdout() string { return p.stdout.text() }

// Stderr returns what the program has written to standard error so far.
func (p *Process) Stderr() string { return p.stderr.text() }

// Output returns both, in the order of writing.
func (p *Process) Output() string { return p.all.text() }

// WaitLine waits until a whole line of either stream has the text and returns the
// first one. It fails the test after within, or when the program ends without it.
func (p *Process) WaitLine(t testing.TB, within time.Duration, text string) string {
	t.Helper()
	timer := time.NewTimer(within)
	defer timer.Stop()
	for {
		more := p.all.more()
		ended := !p.Running() // before the look, so that the last line is not missed
		if line, ok := lineWith(p.all.text(), text); ok {
			return line
		}
		if ended {
			t.Fatalf("%s ended with code %d before it said %q; it said:\n%s", p.name, p.ExitCode(), text, last(p.Output(), 4<<10))
		}
		select {
		case <-more:
		case <-p.Done():
		case <-timer.C:
			t.Fatalf("%s did not say %q within %v; it said:\n%s", p.name, text, within, last(p.Output(), 4<<10))
		}
	}
}

// Terminate asks the program to end with SIGTERM, waits, and returns its exit
// code.
func (p *Process) Terminate(t testing.TB, within time.Duration) int {
	t.Helper()
	if err := p.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	return p.WaitExit(t, within)
}

// WaitExit waits for the program's own end and returns its exit code, -1 when a
// signal ended it.
func (p *Process) WaitExit(t testing.TB, within time.Duration) int {
	t.Helper()
	ctx, cancel := context.WithTimeoutCause(context.Background(), within, fmt.Errorf("not within %v", within))
	defer cancel()
	if err := p.Wait(ctx); err != nil {
		t.Fatalf("%s: %v", p.name, err)
	}
	return p.ExitCode()
}

// lineWith returns the first whole line that has the text.
func lineWith(output, text string) (string, bool) {
	for line := range strings.Lines(output) {
		if strings.HasSuffix(line, "\n") && strings.Contains(line, text) {
			return strings.TrimRight(line, "\r\n"), true
		}
	}
	return "", false
}

// last returns the end of a text.
func last(s string, most int) string { return s[max(0, len(s)-most):] }

// collector keeps what a program writes.
type collector struct {
	mu      sync.Mutex
	buf     bytes.Buffer
	changed chan struct{} // closed at the next write; nil when nobody waits
}

func (c *collector) add(b []byte) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.buf.Write(b)
	if c.changed != nil {
		close(c.changed)
		c.changed = nil
	}
}

func (c *collector) text() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.buf.String()
}

// more returns a channel that is closed at the next write.
func (c *collector) more() <-chan struct{} {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.changed == nil {
		c.changed = make(chan struct{})
	}
	return c.changed
}

// tee writes to two collectors.
type tee struct{ one, all *collector }

// Write implements io.Writer.
func (t tee) Write(b []byte) (int, error) {
	t.one.add(b)
	t.all.add(b)
	return len(b), nil
}
