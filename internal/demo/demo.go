// Package demo shows the main job on one machine without any set-up: a throwaway
// PostgreSQL, an application that writes orders with an outbox beside them and
// touches a legacy table with rows in it, and the bridge in a process of its own, which
// reads those rows while it streams and is killed once in the middle with SIGKILL. The
// destination is a work table in the same server,
// or a Kafka cluster that is there already, with a consumer that reads committed records. At the end it compares what was committed with
// what was delivered, row by row, and says what it found.
package demo

import (
	"context"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strings"
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
	// Brokers are those of a Kafka cluster, host:port, without TLS and login, that takes
	// the place of the work table; empty: the work table. The demonstration makes topics
	// of its own there, and deletes them at its end.
	Brokers []string
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
	kafka  *consumer // nil: the work table
	killed kill
	// seen counts what has arrived.
	seen arrived
	// drain bounds the delivery of what is left when the application has stopped.
	drain time.Duration
}

// kill is what the SIGKILL in the middle did.
type kill struct {
	at        time.Duration // after the start
	confirmed string        // the last confirmed position seen before it
	back      time.Duration // from the next start until the bridge was ready; 0: it was not
}

// Run runs the demonstration and returns what it found. It leaves nothing behind.
//
// An error is for a demonstration that could not begin, or not compare. What goes
// wrong in between is in the summary, which says all the same what has arrived.
func Run(ctx context.Context, cfg Config) (Summary, error) {
	if cfg.Rate == 0 {
		cfg.Rate = 200
	}
	d := &demo{cfg: cfg, drain: drainWithin}
	defer d.cleanUp()
	if err := d.start(ctx); err != nil {
		return Summary{}, err
	}
	return d.finish(d.work(ctx))
}

func (d *demo) say(format string, args ...any) { fmt.Fprintf(d.cfg.Out, format+"\n", args...) }

// start brings everything up: server, tables, bridge, application.
func (d *demo) start(ctx context.Context) (err error) {
	d.say("starting a throwaway PostgreSQL, an application, and the bridge")
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
	if err := d.connect(ctx, d.server.DSN("postgres")); err != nil {
		return err
	}
	d.say("database     %s", d.server.DSN("postgres"))
	if d.kafka != nil {
		d.say("topics       %s", strings.Join(d.kafka.topics, ", "))
	}
	d.say("status page  %s", d.bridge.url)
	return nil
}

// connect sets the bridge up and starts it, with a consumer behind it where the
// destination is Kafka.
func (d *demo) connect(ctx context.Context, dsn string) error {
	config := fmt.Sprintf(tableConfig, dsn)
	if len(d.cfg.Brokers) > 0 {
		d.kafka = newConsumer(d.cfg.Brokers, d.app.pool)
		config = d.kafka.bridgeConfig(dsn)
		d.app.log = inTopics()
	}
	if err := d.bridge.configure(ctx, config); err != nil {
		return err
	}
	if d.kafka != nil {
		d.kafka.made = true
		if err := d.kafka.start(ctx); err != nil {
			return err
		}
	}
	return d.bridge.start(ctx)
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
			// begun is finished, so that Ctrl-C leaves a bridge that delivers the rest
			if err := d.killBridge(context.WithoutCancel(ctx), time.Since(begun)); err != nil {
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
	d.say("\nkill -9 of the bridge, %.0f s after the start, with %d orders committed; starting it again", at.Seconds(), d.app.orders.Load())
	begun := time.Now()
	if err := d.bridge.start(ctx); err != nil {
		return err
	}
	d.killed.back = time.Since(begun)
	return nil
}

// view shows one line of how it goes; a terminal gets it in place. What it cannot
// find out stays as it was.
func (d *demo) view(after time.Duration, last bool) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	s := d.bridge.status(ctx)
	_ = d.seen.count(ctx, d.app)
	lag := "-"
	if s.Lag.Seconds != nil {
		lag = fmt.Sprintf("%.1f s", *s.Lag.Seconds)
	}
	line := fmt.Sprintf("%4.0f s  %-10s  orders %6d  delivered: events %6d  records %6d  lag %-6s  confirmed %s",
		after.Seconds(), s.State, d.app.orders.Load(), d.seen.events, d.seen.records, lag, s.LSN.Confirmed)
	switch {
	case !d.cfg.Terminal:
		fmt.Fprintln(d.cfg.Out, line)
	case last:
		fmt.Fprintf(d.cfg.Out, "\r%s\x1b[K\n", line)
	default:
		fmt.Fprintf(d.cfg.Out, "\r%s\x1b[K", line)
	}
}

// The steps of the end, each with its bound.
const (
	drainWithin   = 30 * time.Second
	stopWithin    = 30 * time.Second
	compareWithin = 5 * time.Minute // of a demonstration that ran for hours
)

// finish lets the bridge deliver the rest and stops it, then compares, whatever has
// gone wrong before.
func (d *demo) finish(worked error) (Summary, error) {
	var lag *float64
	var trouble []string
	note := func(err error) {
		if err != nil {
			trouble = append(trouble, err.Error())
		}
	}
	note(worked)
	switch {
	case worked == nil && !d.bridge.running():
		note(d.bridge.ended())
	case d.bridge.running():
		note(within(d.drain, d.bridge.haveRead))
		note(within(d.drain, d.app.drained))
		note(within(time.Second, func(ctx context.Context) error { lag = d.bridge.status(ctx).Lag.Seconds; return nil }))
		note(within(stopWithin, d.bridge.stop))
	}
	if d.kafka != nil {
		note(within(stopWithin, d.kafka.stop))
	}
	var s Summary
	err := within(compareWithin, func(ctx context.Context) (err error) {
		s, err = d.app.compare(ctx)
		return err
	})
	s.Killed, s.Lag, s.Trouble = d.killed, lag, trouble
	return s, err
}

// within calls f with a context that ends after the limit, and then says so.
func within(limit time.Duration, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(context.Background(), limit, fmt.Errorf("not done within %v", limit))
	defer cancel()
	return f(ctx)
}

func (d *demo) cleanUp() {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if d.bridge != nil {
		_ = d.bridge.kill()
	}
	if d.kafka != nil {
		if err := d.kafka.cleanUp(ctx); err != nil && d.kafka.made {
			d.say("the topics of the demonstration stay: %v", err)
		}
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
