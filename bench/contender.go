package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// pollEvery is how closely the harness watches.
const pollEvery = 2 * time.Millisecond

// poll calls done until it returns true or an error.
func poll(ctx context.Context, done func() (bool, error)) error { return pollAt(ctx, pollEvery, done) }

// askEvery is how often a bridge is asked for its status, which costs it something.
const askEvery = 25 * time.Millisecond

func pollAt(ctx context.Context, every time.Duration, done func() (bool, error)) error {
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return ctx.Err()
		}
	}
}

// child is a contender's process.
type child struct {
	cmd    *exec.Cmd
	exited chan struct{}
	log    string
}

func (b *bench) spawn(ctx context.Context, name string, args ...string) (*child, error) {
	c := &child{cmd: exec.CommandContext(ctx, name, args...), exited: make(chan struct{}), log: filepath.Join(b.dir, "child.log")}
	out, err := os.Create(c.log)
	if err != nil {
		return nil, err
	}
	defer out.Close()
	c.cmd.Stdout, c.cmd.Stderr = out, out
	if err := c.cmd.Start(); err != nil {
		return nil, err
	}
	go func() { _ = c.cmd.Wait(); close(c.exited) }()
	return c, nil
}

func (c *child) pid() int { return c.cmd.Process.Pid }

// running returns an error with the end of the log once the process has exited.
func (c *child) running() error {
	select {
	case <-c.exited:
		text, _ := os.ReadFile(c.log)
		return fmt.Errorf("%s exited: %s", c.cmd.Path, text[max(0, len(text)-2000):])
	default:
		return nil
	}
}

func (c *child) stop() {
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-c.exited:
	case <-time.After(20 * time.Second):
		log.Print("killing a contender that does not stop")
		_ = c.cmd.Process.Kill()
		<-c.exited
	}
}

// bridge is a running walbridge, with its status page.
type bridge struct {
	*child
	http string
}

// runBridge writes a configuration and starts a bridge on an existing slot.
func (b *bench) runBridge(ctx context.Context, name, config string) (*bridge, error) {
	b.slots++
	addr := fmt.Sprintf("127.0.0.1:%d", 20000+b.slots)
	path := filepath.Join(b.dir, name+".yaml")
	text := config + fmt.Sprintf("http: {listen: %q, pprof: true}\nlog: {level: warn}\n", addr)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		return nil, err
	}
	c, err := b.spawn(ctx, b.o.binary, "run", "--config", path)
	if err != nil {
		return nil, err
	}
	return &bridge{c, "http://" + addr}, nil
}

// confirmed asks the bridge's status for its confirmed position; empty while it
// does not answer.
func (br *bridge) confirmed() string {
	resp, err := http.Get(br.http + "/status")
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	var s struct {
		Positions struct{ Confirmed string }
	}
	if json.NewDecoder(resp.Body).Decode(&s) != nil {
		return ""
	}
	return s.Positions.Confirmed
}

// measured is what is taken of one run from the moment its walsender works.
type measured struct {
	sender  int
	started time.Time
}

// senderOf waits until a slot is active and returns its walsender and the time.
func (b *bench) senderOf(ctx context.Context, slot string, c *child) (measured, error) {
	var m measured
	err := poll(ctx, func() (bool, error) {
		err := b.admin.QueryRow(ctx, "SELECT coalesce(active_pid, 0) FROM pg_replication_slots WHERE slot_name = $1", slot).Scan(&m.sender)
		if err != nil {
			return false, err
		}
		m.started = time.Now()
		if m.sender == 0 {
			return false, c.running()
		}
		return true, nil
	})
	return m, err
}

// finish takes the figures of a run that has just ended.
func (m measured) finish(c *child, r result) result {
	r.Seconds = time.Since(m.started).Seconds()
	r.ClientCPU = cpuSeconds(c.pid())
	r.SenderCPU = cpuSeconds(m.sender)
	r.PeakMiB = peakMiB(c.pid())
	return r
}

var errNoClient = errors.New("pg_recvlogical is not installed")
