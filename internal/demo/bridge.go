package demo

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"

	"github.com/walbridge/walbridge/internal/child"
	"github.com/walbridge/walbridge/internal/status"
)

// bridge is the program under demonstration, in a process of its own.
type bridge struct {
	program string
	dir     string
	config  string
	url     string
	process *child.Process // nil before the first start
}

const tableConfig = `name: demo
source:
  dsn: %[1]q
routes:
  - tables: [public.outbox]
    outbox: {}
  - tables: [public.*]
    changes: {}
sink:
  worktable:
    dsn: %[1]q
`

// configure writes the configuration and sets everything up by the same commands that
// a user types.
func (b *bridge) configure(ctx context.Context, config string) error {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		return err
	}
	b.url = "http://" + addr + "/"
	b.config = filepath.Join(b.dir, "walbridge.yaml")
	if err := os.WriteFile(b.config, fmt.Appendf(nil, "%shttp:\n  listen: %q\n", config, addr), 0o600); err != nil {
		return err
	}
	setup := exec.CommandContext(ctx, b.program, "setup", "--config", b.config)
	if out, err := setup.CombinedOutput(); err != nil {
		return fmt.Errorf("walbridge setup: %w: %s", err, bytes.TrimSpace(out))
	}
	return nil
}

// start runs the bridge and waits until it is ready.
func (b *bridge) start(ctx context.Context) error {
	out, err := os.OpenFile(filepath.Join(b.dir, "bridge.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(b.program, "run", "--config", b.config)
	cmd.Stdout, cmd.Stderr = out, out
	// out of reach of the terminal's Ctrl-C: what is left is still to be delivered
	if b.process, err = child.Start(cmd, syscall.SIGKILL); err != nil {
		return err
	}
	return b.ready(ctx)
}

// readyWithin bounds a start.
const readyWithin = 30 * time.Second

func (b *bridge) ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !b.status(ctx).Ready {
		select {
		case <-b.process.Done():
			return b.ended()
		case <-ctx.Done():
			return fmt.Errorf("the bridge is not ready: %w: %s", context.Cause(ctx), b.lastWords())
		case <-tick.C:
		}
	}
	return nil
}

// ended says how the bridge ended by itself.
func (b *bridge) ended() error {
	return fmt.Errorf("the bridge ended with exit code %d: %s", b.process.ExitCode(), b.lastWords())
}

func (b *bridge) lastWords() string {
	text, _ := os.ReadFile(filepath.Join(b.dir, "bridge.log"))
	return string(text[max(0, len(text)-2000):])
}

// status asks the bridge; the zero value when it does not answer.
func (b *bridge) status(ctx context.Context) status.Status {
	var s status.Status
	ctx, cancel := context.WithTimeout(ctx, time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, b.url+"status", nil)
	if err != nil {
		return s
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return s
	}
	defer resp.Body.Close()
	if json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&s) != nil {
		return status.Status{}
	}
	return s
}

// haveRead waits until the rows are delivered that were there before the bridge.
func (b *bridge) haveRead(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if s := b.status(ctx).Snapshot; s != nil && len(s.Tables) == 0 {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the rows that were there are not all read: %w", context.Cause(ctx))
		case <-tick.C:
		}
	}
}

func (b *bridge) running() bool { return b.process != nil && b.process.Running() }

// kill ends the bridge at once, as a crash would.
func (b *bridge) kill() error {
	if b.process == nil {
		return nil
	}
	if err := b.process.Kill(); err != nil {
		return fmt.Errorf("kill the bridge: %w", err)
	}
	<-b.process.Done()
	return nil
}

// stop asks the bridge to end.
func (b *bridge) stop(ctx context.Context) error {
	if err := b.process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("stop the bridge: %w", err)
	}
	if err := b.process.Wait(ctx); err != nil {
		return fmt.Errorf("the bridge does not stop: %w", err)
	}
	if b.process.ExitCode() != 0 {
		return b.ended()
	}
	return nil
}
