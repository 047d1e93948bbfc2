package embeddedpg

import (
	"context"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// installed returns any server of this machine.
func installed(t *testing.T) Install {
	t.Helper()
	i, err := Find(0)
	if IsNotFound(err) {
		t.Skipf("%v (run `make deps`)", err)
	}
	require.NoError(t, err)
	return i
}

// timeout bounds what a test waits for; all of it takes seconds at most.
func timeout(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	t.Cleanup(cancel)
	return ctx
}

// started returns a running server that the test's end removes.
func started(t *testing.T, cfg Config) *Server {
	t.Helper()
	if cfg.Install == (Install{}) {
		cfg.Install = installed(t)
	}
	s, err := Start(timeout(t), cfg)
	require.NoError(t, err)
	cleanUp(t, s)
	return s
}

func cleanUp(t *testing.T, s *Server) {
	t.Cleanup(func() {
		require.NoError(t, s.Kill())
		require.NoError(t, s.Remove())
	})
}

// one runs a query of one value.
func one[T any](t *testing.T, dsn, sql string) T {
	t.Helper()
	ctx := timeout(t)
	conn, err := pgx.Connect(ctx, dsn)
	require.NoError(t, err)
	defer conn.Close(ctx)
	var v T
	require.NoError(t, conn.QueryRow(ctx, sql).Scan(&v))
	return v
}

// run executes statements.
func run(t *testing.T, dsn string, sql ...string) {
	t.Helper()
	ctx := timeout(t)
	conn, err := pgx.Connect(ctx, dsn)
	require.NoError(t, err)
	defer conn.Close(ctx)
	for _, q := range sql {
		_, err := conn.Exec(ctx, q)
		require.NoError(t, err, q)
	}
}

// until polls cond with the package's own growing pause.
func until(t *testing.T, what string, cond func() bool) {
	t.Helper()
	ctx := timeout(t)
	for p := newPause(time.Millisecond, 50*time.Millisecond); !cond(); {
		require.NoError(t, p.wait(ctx), "wait until %s", what)
	}
}

// folder makes a temporary folder that every user can enter, as a server needs
// that root starts; t.TempDir lies in one that only its owner can.
func folder(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "embeddedpg-test-")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	require.NoError(t, os.Chmod(dir, 0o755))
	return dir
}
