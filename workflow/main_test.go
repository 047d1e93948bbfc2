package workflow

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/migrate"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/secret"
)

// The test binary is also the worker that tests kill and stop.
func TestMain(m *testing.M) {
	if os.Getenv(envWorker) != "" {
		os.Exit(workerMain())
	}
	pgtest.Main(m)
}

// within bounds what a test waits for.
const within = 60 * time.Second

// migrated is a database with the schema and the tables of the shop.
func migrated(t testing.TB, c *pgtest.Cluster) *pgtest.DB {
	t.Helper()
	return c.DBFrom(t, "workflow", func(dsn string) error {
		if _, err := migrate.Up(t.Context(), migrate.Config{DSN: secret.DSN(dsn), ToolVersion: "test"}); err != nil {
			return err
		}
		pool, err := pgxpool.New(t.Context(), dsn)
		if err != nil {
			return err
		}
		defer pool.Close()
		_, err = pool.Exec(t.Context(), shopTables)
		return err
	})
}

func shared(t testing.TB) *pgtest.DB { return migrated(t, pgtest.Shared(t)) }

// quick is a configuration of short times.
func quick(t testing.TB) Config {
	return Config{
		Lease: time.Second, Poll: 20 * time.Millisecond, FirstBackoff: 5 * time.Millisecond, MaxBackoff: 20 * time.Millisecond,
		MaxAttempts: 5, StopWithin: 5 * time.Second, HaltAfter: time.Millisecond,
		Logger: slog.New(slog.NewTextHandler(logWriter{t}, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
}

type logWriter struct{ t testing.TB }

func (w logWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimRight(string(p), "\n"))
	return len(p), nil
}

func poolOf(t testing.TB, db *pgtest.DB) *pgxpool.Pool {
	t.Helper()
	cfg, err := pgxpool.ParseConfig(db.DSN())
	require.NoError(t, err)
	cfg.MaxConns = 8
	p, err := pgxpool.NewWithConfig(context.Background(), cfg)
	require.NoError(t, err)
	t.Cleanup(p.Close)
	return p
}

func engine(t testing.TB, db *pgtest.DB, cfg Config, workflows ...Workflow) *Engine {
	t.Helper()
	e, err := New(poolOf(t, db), cfg, workflows...)
	require.NoError(t, err)
	return e
}

// runs runs an engine until the returned function or the test's end.
func runs(t testing.TB, e *Engine) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- e.Run(ctx) }()
	stopped := false
	stop = func() {
		cancel()
		if stopped {
			return
		}
		stopped = true
		select {
		case err := <-done:
			require.NoError(t, err)
		case <-time.After(within):
			t.Fatal("Run does not end")
		}
	}
	t.Cleanup(stop)
	return stop
}

// comesTo waits until an instance has a status.
func comesTo(t testing.TB, e *Engine, workflow, key string, want Status) Details {
	t.Helper()
	var d Details
	pgtest.Eventually(t, within, func() bool {
		var err error
		d, err = e.Show(t.Context(), workflow, key)
		require.NoError(t, err)
		return d.Status == want
	}, "%s %s is %s; it is %s", workflow, key, want, lazy(func() string { return fmt.Sprintf("%+v", d) }))
	return d
}

// lazy is a text that is made when it is shown.
type lazy func() string

func (l lazy) String() string { return l() }

// steps is the outcome of an instance's steps.
func stepsOf(d Details) string {
	var all []string
	for _, s := range d.Steps {
		all = append(all, s.Name+" "+s.Status)
	}
	return strings.Join(all, ", ")
}
