// Package demo shows the main job on one machine without any set-up: a throwaway
// PostgreSQL, an application that writes orders with an outbox beside them and
// touches a legacy table, and the bridge in a process of its own, which is killed
// once in the middle with SIGKILL. At the end it compares what was committed with
// what was delivered, row by row, and says what it found.
package demo

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/walbridge/walbridge/internal/embeddedpg"
)

// Config is what a demonstration needs to know.
type Config struct {
	// For is how long the application writes; 0: until ctx ends.
	For time.Duration
	// Bridge is the walbridge program.
	Bridge string
	// Out gets the story, Terminal says that it can be drawn over.
	Out      io.Writer
	Terminal bool
	// Fetching is told of the download of PostgreSQL, when none is on the machine.
	Fetching func(done, total int64)
	// Rate is the number of orders a second. Defaults to 200.
	Rate int
}

// killAfter is the share of the time after which the bridge is killed; without an
// end it is killed after killSoon.
const (
	killShare = 2 // half of it
	killSoon  = 10 * time.Second
)

// demo is a demonstration under way.
type demo struct {
	cfg    Config
	dir    string
	server *embeddedpg.Server
	bridge *bridge
	app    *application
	killed kill
}

// kill is what the SIGKILL in the middle did.
type kill struct {
	at        time.Duration // after the start
	confirmed string        // the last confirmed position seen before it
	back      time.Duration // until the next delivery
}

// Run runs the demonstration and returns what it found. It leaves nothing behind.
func Run(ctx context.Context, cfg Config) (Summary, error) {
	if cfg.Rate == 0 {
		cfg.Rate = 200
	}
	d := &demo{cfg: cfg}
	defer d.cleanUp()
	if err := d.start(ctx); err != nil {
		return Summary{}, err
	}
	if err := d.work(ctx); err != nil {
		return Summary{}, err
	}
	return d.finish()
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.cfg.Out, format+"\n", args...) }

// start brings everything up: server, tables, bridge, application.
func (d *demo) start(ctx context.Context) (err error) {
	install, err := embeddedpg.Search{}.Ensure(ctx, 0, d.cfg.Fetching)
	if err != nil {
		return err
	}
	if d.dir, err = os.MkdirTemp("", "walbridge-demo-"); err != nil {
		return err
	}
	if err := os.Chmod(d.dir, 0o711); err != nil { // a server of root's runs as another user
		return err
	}
	d.say("PostgreSQL %s from %s", install.Version, install.BinDir)
	d.server, err = embeddedpg.Start(ctx, embeddedpg.Config{Install: install, Dir: filepath.Join(d.dir, "pg"), Settings: map[string]string{"wal_level": "logical"}})
	if err != nil {
		return err
	}
	if d.app, err = newApplication(ctx, d.server.DSN("postgres"), d.cfg.Rate); err != nil {
		return err
	}
	d.bridge = &bridge{program: d.cfg.Bridge, dir: d.dir}
	if err := d.bridge.configure(ctx, d.server.DSN("postgres")); err != nil {
		return err
	}
	if err := d.bridge.start(ctx); err != nil {
		return err
	}
	d.say("database     %s", d.server.DSN("postgres"))
	d.say("status page  %s", d.bridge.url)
	return nil
}

// work lets the application write and kills the bridge once, showing how it goes.
func (d *demo) work(ctx context.Context) error {
	begun := time.Now()
	writing, stop := context.WithCancel(ctx)
	if d.cfg.For > 0 {
		writing, stop = context.WithTimeout(ctx, d.cfg.For)
	}
	defer stop()
	wrote := make(chan error, 1)
	go func() { wrote <- d.app.run(writing) }()
	killAt := killSoon
	if d.cfg.For > 0 {
		killAt = d.cfg.For / killShare
	}
	kill := time.NewTimer(killAt)
	defer kill.Stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case err := <-wrote:
			d.view(time.Since(begun), true)
			return err
		case <-kill.C:
			if err := d.killBridge(ctx, time.Since(begun)); err != nil {
				stop()
				<-wrote
				return err
			}
		case <-tick.C:
			d.view(time.Since(begun), false)
		}
	}
}

// killBridge ends the bridge as a crash would, while the application goes on, and
// starts it again.
func (d *demo) killBridge(ctx context.Context, at time.Duration) error {
	d.killed = kill{at: at, confirmed: d.bridge.status(ctx).LSN.Confirmed}
	if err := d.bridge.kill(); err != nil {
		return err
	}
	d.say("\nkill -9 of the bridge, %.0f s after the start, with %d orders written; starting it again", at.Seconds(), d.app.orders.Load())
	begun := time.Now()
	if err := d.bridge.start(ctx); err != nil {
		return err
	}
	d.killed.back = time.Since(begun)
	return nil
}

// view shows one line of how it goes; a terminal gets it in place.
func (d *demo) view(after time.Duration, last bool) {
	s := d.bridge.status(context.Background())
	lag := "-"
	if s.Lag.Seconds != nil {
		lag = fmt.Sprintf("%.1f s", *s.Lag.Seconds)
	}
	line := fmt.Sprintf("%4.0f s  %-10s  orders %6d  events %6d  records %6d  lag %-6s  confirmed %s",
		after.Seconds(), s.State, d.app.orders.Load(), s.Totals.Events, s.Totals.Records, lag, s.LSN.Confirmed)
	switch {
	case !d.cfg.Terminal:
		fmt.Fprintln(d.cfg.Out, line)
	case last:
		fmt.Fprintf(d.cfg.Out, "\r%s\x1b[K\n", line)
	default:
		fmt.Fprintf(d.cfg.Out, "\r%s\x1b[K", line)
	}
}

// finishWithin bounds the delivery of what is left when the application has stopped.
const finishWithin = 30 * time.Second

// finish lets the bridge deliver the rest and stops it, then compares.
func (d *demo) finish() (Summary, error) {
	ctx, cancel := context.WithTimeout(context.Background(), finishWithin)
	defer cancel()
	if err := d.app.drained(ctx); err != nil {
		return Summary{}, err
	}
	lag := d.bridge.status(ctx).Lag.Seconds
	if err := d.bridge.stop(ctx); err != nil {
		return Summary{}, err
	}
	s, err := d.app.compare(ctx)
	s.Killed, s.Lag = d.killed, lag
	return s, err
}

func (d *demo) cleanUp() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if d.bridge != nil {
		_ = d.bridge.kill()
	}
	if d.app != nil {
		d.app.close()
	}
	if d.server != nil {
		_ = d.server.Stop(ctx, embeddedpg.Immediate)
	}
	if d.dir != "" {
		_ = os.RemoveAll(d.dir)
	}
}
