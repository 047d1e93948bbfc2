package pgtest

import (
	"context"
	"errors"
	"fmt"
	"os"
	"sync"
	"testing"
	"time"

	"github.com/walbridge/walbridge/internal/embeddedpg"
)

// startTimeout bounds initdb and start, which take about a second together on a
// quiet machine.
const startTimeout = 90 * time.Second

// Cluster is a running PostgreSQL server for tests.
type Cluster struct {
	server *embeddedpg.Server
	shared bool // outlives the test: databases must be dropped

	mu        sync.Mutex
	templates map[string]string // guarded by mu: databases that DBFrom copies, by key
}

// Server returns the server, to stop, kill, pause or restart it. Tests must do
// none of that to the shared cluster.
func (c *Cluster) Server() *embeddedpg.Server { return c.server }

// Major returns the server's major version, such as 15.
func (c *Cluster) Major() int { return c.server.Install().Major }

// config is what the options of New decide.
type config struct {
	major    int
	settings map[string]string
	hba      []string
	fsync    bool
	initArgs []string
}

// Option changes the cluster that New makes.
type Option func(*config)

// Major chooses the major version. Defaults to the newest of WALBRIDGE_TEST_PG,
// or of what is found.
func Major(major int) Option { return func(c *config) { c.major = major } }

// Setting sets a parameter of postgresql.conf.
func Setting(name, value string) Option {
	return func(c *config) { c.settings[name] = value }
}

// HBA puts lines of pg_hba.conf before those that trust every local user.
func HBA(lines ...string) Option {
	return func(c *config) { c.hba = append(c.hba, lines...) }
}

// Fsync makes the server write durably, which tests do without otherwise.
func Fsync() Option { return func(c *config) { c.fsync = true } }

// InitArgs adds arguments of initdb, such as "--wal-segsize=1".
func InitArgs(args ...string) Option {
	return func(c *config) { c.initArgs = append(c.initArgs, args...) }
}

// New starts a cluster of the test's own, which is stopped at the test's end.
func New(t testing.TB, opts ...Option) *Cluster {
	t.Helper()
	c, err := start(opts...)
	if embeddedpg.IsNotFound(err) {
		missing(t, "this test needs a PostgreSQL server", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("end of the log of PostgreSQL %s:\n%s", c.server.Install().Version, c.server.LogTail())
		}
		if err := c.remove(); err != nil {
			t.Error(err)
		}
	})
	return c
}

// defaults are settings for many small tests at once.
func defaults() map[string]string {
	return map[string]string{
		"wal_level":                 "logical",
		"max_replication_slots":     "100",
		"max_wal_senders":           "100",
		"max_connections":           "300",
		"max_prepared_transactions": "20",
		"shared_buffers":            "32MB",
		"max_wal_size":              "256MB",
		"log_replication_commands":  "on",
		"autovacuum":                "off", // a vacuum of the catalog is a transaction that a test did not make
	}
}

func start(opts ...Option) (*Cluster, error) {
	cfg := config{settings: defaults()}
	for _, o := range opts {
		o(&cfg)
	}
	install, err := find(cfg.major)
	if err != nil {
		return nil, err
	}
	dir, err := tempDir()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), startTimeout,
		fmt.Errorf("not ready within %v", startTimeout))
	defer cancel()
	s, err := embeddedpg.Start(ctx, embeddedpg.Config{
		Install: install, Dir: dir, Settings: cfg.settings, HBA: cfg.hba, Fsync: cfg.fsync, InitArgs: cfg.initArgs,
	})
	if err != nil {
		return nil, errors.Join(err, os.RemoveAll(dir))
	}
	return &Cluster{server: s}, nil
}

// remove ends the server, whatever state it is in, and deletes its folder.
func (c *Cluster) remove() error {
	if err := c.server.Kill(); err != nil {
		return err
	}
	return c.server.Remove()
}
