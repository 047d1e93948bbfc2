package play

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
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/walbridge/walbridge/internal/child"
	"github.com/walbridge/walbridge/internal/embeddedpg"
)

// bridge is the program in a process of its own.
type bridge struct {
	config  string // path
	url     string // of the status page, with a slash at its end
	process *child.Process
}

// configText has the source, the routes, the sink, and the address of the page.
const configText = `name: example
source:
  dsn: %q
routes:
%s
sink:
  worktable:
    dsn: %q
http:
  listen: %q
`

// configure writes the configuration and runs the command that a user types.
func (p *Play) configure(ctx context.Context) error {
	if p.cfg.Bridge == "" {
		p.cfg.Bridge = filepath.Join(p.dir, "walbridge")
		build := exec.CommandContext(ctx, "go", "build", "-o", p.cfg.Bridge, "github.com/walbridge/walbridge/cmd/walbridge")
		if out, err := build.CombinedOutput(); err != nil {
			return fmt.Errorf("build walbridge: %w: %s", err, bytes.TrimSpace(out))
		}
	}
	addr, err := freeAddress()
	if err != nil {
		return err
	}
	routes := "  " + strings.ReplaceAll(strings.TrimSpace(p.cfg.Routes), "\n", "\n  ")
	text := fmt.Sprintf(configText, p.Server.DSN("postgres"), routes, p.DSN(), addr)
	p.bridge.config, p.bridge.url = filepath.Join(p.dir, "walbridge.yaml"), "http://"+addr+"/"
	if err := os.WriteFile(p.bridge.config, []byte(text), 0o600); err != nil {
		return err
	}
	return p.Walbridge(ctx, "setup")
}

// Walbridge runs a command of the program with the bridge's configuration, as an operator
// does.
func (p *Play) Walbridge(ctx context.Context, args ...string) error {
	cmd := exec.CommandContext(ctx, p.cfg.Bridge, append(args, "--config", p.bridge.config)...)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("walbridge %s: %w: %s", strings.Join(args, " "), err, bytes.TrimSpace(out))
	}
	return nil
}

// freeAddress returns a loopback address that nobody listened on a moment ago.
func freeAddress() (string, error) {
	port, err := embeddedpg.FreePort()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), err
}

// StartBridge starts the bridge and waits until it is ready.
func (p *Play) StartBridge(ctx context.Context) error {
	if err := p.LaunchBridge(); err != nil {
		return err
	}
	return p.Ready(ctx)
}

// LaunchBridge starts the bridge and waits for nothing.
func (p *Play) LaunchBridge() error {
	out, err := os.OpenFile(p.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer out.Close()
	cmd := exec.Command(p.cfg.Bridge, "run", "--config", p.bridge.config)
	cmd.Stdout, cmd.Stderr = out, out
	p.bridge.process, err = child.Start(cmd, syscall.SIGKILL)
	return err
}

func (p *Play) log() string { return filepath.Join(p.dir, "bridge.log") }

// KillBridge ends the bridge with SIGKILL. One that does not run is no error.
func (p *Play) KillBridge() error {
	if p.bridge.process == nil {
		return nil
	}
	if err := p.bridge.process.Kill(); err != nil {
		return fmt.Errorf("kill the bridge: %w", err)
	}
	<-p.bridge.process.Done()
	return nil
}

// readyWithin bounds a start of the bridge.
const readyWithin = time.Minute

// Ready waits until the bridge streams.
func (p *Play) Ready(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyWithin)
	defer cancel()
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for !p.isReady(ctx) {
		select {
		case <-p.bridge.process.Done():
			return fmt.Errorf("the bridge ended with exit code %d: %s", p.bridge.process.ExitCode(), p.lastWords())
		case <-ctx.Done():
			return fmt.Errorf("the bridge is not ready: %w: %s", context.Cause(ctx), p.lastWords())
		case <-tick.C:
		}
	}
	return nil
}

func (p *Play) isReady(ctx context.Context) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, p.bridge.url+"status", nil)
	if err != nil {
		return false
	}
	client := http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: time.Second}
	resp, err := client.Do(req)
	if err != nil {
		return false
	}
	defer resp.Body.Close()
	var s struct {
		Ready bool `json:"ready"`
	}
	return json.NewDecoder(io.LimitReader(resp.Body, 1<<20)).Decode(&s) == nil && s.Ready
}

// lastWords is the end of the bridge's log.
func (p *Play) lastWords() string {
	text, _ := os.ReadFile(p.log())
	return string(text[max(0, len(text)-2000):])
}
