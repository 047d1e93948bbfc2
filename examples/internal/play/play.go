// Package play is the stage on which the examples run: a throwaway PostgreSQL, the
// tables of an application, the schema of walbridge, and a bridge in a process of
// its own.
//
// It is for the examples and their tests only, and keeps nothing: an application
// has its own server, runs `walbridge setup` once and `walbridge run` for good. So
// that an example shows its pattern and nothing else, nothing of a pattern is here.
package play

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/signal"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/walbridge/walbridge/internal/embeddedpg"
	"github.com/walbridge/walbridge/internal/migrate"
	"github.com/walbridge/walbridge/internal/secret"
)

// Config is what an example needs.
type Config struct {
	// Tables is the SQL of the application's own tables.
	Tables string
	// Routes are the routes of the bridge's configuration, as YAML. Empty: the pattern
	// needs no bridge.
	Routes string
	// Bridge is the walbridge program. Defaults to one that is built from this module
	// with the go command.
	Bridge string
	// Install is the PostgreSQL to run. Defaults to one of this machine, else one that
	// is downloaded.
	Install embeddedpg.Install
	// Apart puts the work table on a server of its own.
	Apart bool
	// Out gets what the example says.
	Out io.Writer
}

// Play is a stage. Its methods are for one goroutine, but for Say, Await and Ready.
type Play struct {
	// Pool is of the application's database, Sink of the one that has the work table;
	// they are the same unless Config.Apart.
	Pool, Sink *pgxpool.Pool
	// Server and SinkServer are the same unless Config.Apart.
	Server, SinkServer *embeddedpg.Server

	cfg    Config
	dir    string
	bridge bridge
}

// New brings the stage up, with the bridge ready when there are routes. Close it
// also after an error.
func New(ctx context.Context, cfg Config) (*Play, error) {
	p := &Play{cfg: cfg}
	return p, p.open(ctx)
}

// DSN is the connection string of the database that has the work table, for workers.
func (p *Play) DSN() string { return p.SinkServer.DSN("postgres") }

// Say prints a line.
func (p *Play) Say(format string, args ...any) { fmt.Fprintf(p.cfg.Out, format+"\n", args...) }

func (p *Play) open(ctx context.Context) (err error) {
	if p.dir, err = os.MkdirTemp("", "walbridge-example-"); err != nil {
		return err
	}
	if p.cfg.Install.BinDir == "" {
		if p.cfg.Install, err = (embeddedpg.Search{}).Ensure(ctx, 0, nil); err != nil {
			return fmt.Errorf("get a PostgreSQL: %w", err)
		}
	}
	if p.Server, p.Pool, err = p.serve(ctx); err != nil {
		return err
	}
	p.SinkServer, p.Sink = p.Server, p.Pool
	if p.cfg.Apart {
		if p.SinkServer, p.Sink, err = p.serve(ctx); err != nil {
			return err
		}
	}
	if _, err = migrate.Up(ctx, migrate.Config{DSN: secret.DSN(p.DSN()), ToolVersion: "example"}); err != nil {
		return fmt.Errorf("make the work table: %w", err)
	}
	if _, err = p.Pool.Exec(ctx, p.cfg.Tables); err != nil {
		return fmt.Errorf("make the application's tables: %w", err)
	}
	if p.cfg.Routes == "" {
		return nil
	}
	if err = p.configure(ctx); err != nil {
		return err
	}
	return p.StartBridge(ctx)
}

// serve starts a server with a pool of its database postgres.
func (p *Play) serve(ctx context.Context) (*embeddedpg.Server, *pgxpool.Pool, error) {
	s, err := embeddedpg.Start(ctx, embeddedpg.Config{Install: p.cfg.Install, Settings: map[string]string{
		"wal_level": "logical", "max_connections": "200",
	}})
	if err != nil {
		return nil, nil, fmt.Errorf("start PostgreSQL: %w", err)
	}
	cfg, err := pgxpool.ParseConfig(s.DSN("postgres"))
	if err != nil {
		return s, nil, err
	}
	cfg.MaxConns = 20
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	return s, pool, err
}

// Await polls until a query, whose result is one boolean, says true. An error of the
// database counts as false, since servers are killed here.
func (p *Play) Await(ctx context.Context, pool *pgxpool.Pool, query string, args ...any) error {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		var yes bool
		err := pool.QueryRow(ctx, query, args...).Scan(&yes)
		if err == nil && yes {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait until %s: %w", query, errors.Join(context.Cause(ctx), err))
		case <-tick.C:
		}
	}
}

// While runs a worker beside f, and returns the error of either. The worker gets a
// context that ends when f has returned.
func While(ctx context.Context, worker, f func(context.Context) error) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	done := make(chan error, 1)
	go func() {
		defer cancel() // a worker that cannot go on ends f
		done <- worker(ctx)
	}()
	err := f(ctx)
	cancel()
	return errors.Join(<-done, err)
}

// Close ends everything and removes it.
func (p *Play) Close() error {
	err := p.KillBridge()
	servers := []*embeddedpg.Server{p.Server}
	if p.Pool != nil {
		p.Pool.Close()
	}
	if p.cfg.Apart && p.SinkServer != p.Server {
		servers = append(servers, p.SinkServer)
		if p.Sink != nil {
			p.Sink.Close()
		}
	}
	for _, s := range servers {
		if s != nil {
			err = errors.Join(err, s.Kill(), s.Remove())
		}
	}
	if p.dir == "" {
		return err
	}
	return errors.Join(err, os.RemoveAll(p.dir))
}

// storyWithin bounds an example, downloads and builds included.
const storyWithin = 5 * time.Minute

// Main is the main function of an example: it brings the stage up, runs the story,
// and ends the process, with the code 1 after an error.
func Main(cfg Config, story func(context.Context, *Play) error) {
	if err := run(cfg, story); err != nil {
		fmt.Fprintln(os.Stderr, filepath.Base(os.Args[0])+":", err)
		os.Exit(1)
	}
}

func run(cfg Config, story func(context.Context, *Play) error) error {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt)
	defer stop()
	ctx, cancel := context.WithTimeout(ctx, storyWithin)
	defer cancel()
	cfg.Out = os.Stdout
	p, err := New(ctx, cfg)
	if err == nil {
		err = story(ctx, p)
	}
	return errors.Join(err, p.Close())
}
