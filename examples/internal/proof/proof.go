// Package proof runs the tests of the examples: the stage of an example with its
// bridge and servers killed at random moments, and workers in processes of their
// own that are killed too.
//
// A worker process is the test binary itself: Main runs the example's work function
// in it, so that what is killed is the code that the example shows.
//
// Environment: WALBRIDGE_SEED repeats a run, WALBRIDGE_TORTURE=1 makes runs longer.
package proof

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/examples/internal/play"
	"github.com/walbridge/walbridge/internal/child"
	"github.com/walbridge/walbridge/internal/embeddedpg"
	"github.com/walbridge/walbridge/internal/pgtest"
)

// workVariable tells a process of the test binary that it is a worker, and of which
// database.
const workVariable = "WALBRIDGE_EXAMPLE_WORK"

// Within bounds each wait.
const Within = time.Minute

// Work is what a worker process does. arg is what Worker was given.
type Work func(ctx context.Context, pool *pgxpool.Pool, arg string) error

// Main is for TestMain. work may be nil.
func Main(m *testing.M, work Work) {
	if dsn := os.Getenv(workVariable); dsn != "" {
		if err := runWork(dsn, work); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	pgtest.Main(m)
}

// again is when a worker that ended with an error, since the server was down, begins
// anew, as a supervisor would have it.
const again = 100 * time.Millisecond

func runWork(dsn string, work Work) error {
	pool, err := pgxpool.New(context.Background(), dsn)
	if err != nil {
		return err
	}
	defer pool.Close()
	tick := time.NewTicker(again)
	defer tick.Stop()
	for {
		if err = work(context.Background(), pool, os.Getenv(workVariable+"_ARG")); err == nil {
			return nil
		}
		fmt.Fprintln(os.Stderr, "worker:", err)
		<-tick.C
	}
}

// Stage is a stage under test.
type Stage struct {
	*play.Play
	T    *testing.T
	Rand *rand.Rand
}

// New brings an example's stage up. The seed is in the test's log.
func New(t *testing.T, cfg play.Config) *Stage {
	t.Helper()
	cfg.Install, cfg.Out = install(t), t.Output()
	if cfg.Routes != "" {
		cfg.Bridge = pgtest.Binary(t)
	}
	ctx, cancel := context.WithTimeout(t.Context(), Within)
	defer cancel()
	p, err := play.New(ctx, cfg)
	t.Cleanup(func() { require.NoError(t, p.Close()) })
	require.NoError(t, err)
	return &Stage{Play: p, T: t, Rand: random(t)}
}

func install(t *testing.T) embeddedpg.Install {
	t.Helper()
	in, err := embeddedpg.Search{BinDir: os.Getenv("WALBRIDGE_PG_BIN")}.Find(0)
	if embeddedpg.IsNotFound(err) && os.Getenv("CI") != "true" {
		t.Skip("no PostgreSQL on this machine: ", err)
	}
	require.NoError(t, err)
	return in
}

func random(t *testing.T) *rand.Rand {
	t.Helper()
	seed := rand.Uint64N(1<<32-1) + 1
	if text := os.Getenv("WALBRIDGE_SEED"); text != "" {
		var err error
		seed, err = strconv.ParseUint(text, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("seed: WALBRIDGE_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// Size is small in a usual run and large with WALBRIDGE_TORTURE=1.
func Size(small, large int) int {
	if os.Getenv("WALBRIDGE_TORTURE") == "1" {
		return large
	}
	return small
}

// Worker starts the example's work in a process of its own, which ends with the test.
func (s *Stage) Worker(arg string) *child.Process {
	s.T.Helper()
	self, err := os.Executable()
	require.NoError(s.T, err)
	cmd := exec.Command(self)
	cmd.Env = append(os.Environ(), workVariable+"="+s.DSN(), workVariable+"_ARG="+arg)
	cmd.Stdout, cmd.Stderr = os.Stderr, os.Stderr
	p, err := child.Start(cmd, syscall.SIGKILL)
	require.NoError(s.T, err)
	s.T.Cleanup(func() { Kill(s.T, p) })
	return p
}

// Kill ends a process with SIGKILL.
func Kill(t *testing.T, p *child.Process) {
	t.Helper()
	require.NoError(t, p.Kill())
	<-p.Done()
}

// RestartBridge kills the bridge and starts it anew, without waiting for it.
func (s *Stage) RestartBridge() {
	s.T.Helper()
	require.NoError(s.T, s.KillBridge())
	require.NoError(s.T, s.LaunchBridge())
}

// RestartServer kills a server, with all its sessions, and starts it anew.
func (s *Stage) RestartServer(server *embeddedpg.Server) {
	s.T.Helper()
	require.NoError(s.T, server.Kill())
	require.NoError(s.T, server.Restart(s.T.Context()))
}

// Until waits until a query, whose result is one boolean, says true.
func (s *Stage) Until(query string, args ...any) {
	s.T.Helper()
	ctx, cancel := context.WithTimeout(s.T.Context(), Within)
	defer cancel()
	require.NoError(s.T, s.Await(ctx, s.Sink, query, args...))
}

// Retry repeats what fails since a server was killed, as an application would.
func (s *Stage) Retry(f func() error) {
	s.T.Helper()
	var err error
	pgtest.Eventually(s.T, Within, func() bool {
		err = f()
		return err == nil
	}, "it succeeds")
	require.NoError(s.T, err)
}

// Pause lets between nothing and most of a duration pass, so that what follows comes
// at a random moment.
func (s *Stage) Pause(most time.Duration) {
	timer := time.NewTimer(time.Duration(s.Rand.Int64N(int64(most))))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-s.T.Context().Done():
	}
}

// One returns the only value of a query on the database of the work table.
func (s *Stage) One(query string, args ...any) string {
	s.T.Helper()
	var text *string
	require.NoError(s.T, s.Sink.QueryRow(s.T.Context(), query, args...).Scan(&text))
	if text == nil {
		return pgtest.Null
	}
	return *text
}

// Output runs an example as its page says, from the top of the module, and returns
// what it prints.
func Output(t *testing.T, name string) string {
	t.Helper()
	install(t)
	ctx, cancel := context.WithTimeout(t.Context(), 3*Within)
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "run", "./examples/"+name)
	cmd.Dir = filepath.Join("..", "..")
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	return string(out)
}
