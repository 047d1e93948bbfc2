package pgtest_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

func shell(t *testing.T, script string, env ...string) *pgtest.Process {
	t.Helper()
	return pgtest.Command{Path: "/bin/sh", Args: []string{"-c", script}, Env: env}.Start(t)
}

func TestProcessOutput(t *testing.T) {
	t.Setenv("WALBRIDGE_SOURCE_DSN", "of the test, not for the program")
	p := shell(t, `echo "out $A$WALBRIDGE_SOURCE_DSN"; echo err >&2; read x || echo no input; exit 3`, "A=1")
	require.Equal(t, "out 1", p.WaitLine(t, soon, "out"))
	require.Equal(t, 3, p.WaitExit(t, soon))
	require.Equal(t, "out 1\nno input\n", p.Stdout())
	require.Equal(t, "err\n", p.Stderr())
	require.Len(t, p.Output(), len(p.Stdout())+len(p.Stderr()))
	require.Equal(t, "no input", p.WaitLine(t, soon, "no input"), "after its end too")
}

func TestProcessTerminate(t *testing.T) {
	p := shell(t, `trap 'echo bye; exit 0' TERM; echo ready; while :; do sleep 0.01; done`)
	p.WaitLine(t, soon, "ready")
	require.Zero(t, p.Terminate(t, soon))
	require.True(t, strings.HasSuffix(p.Stdout(), "bye\n"))
}

func TestProcessKilledAndPaused(t *testing.T) {
	p := shell(t, `echo ready; while :; do echo tick; sleep 0.001; done`)
	p.WaitLine(t, soon, "ready")
	require.NoError(t, p.Pause())
	require.NoError(t, p.Kill())
	require.Equal(t, -1, p.WaitExit(t, soon))
}

// A program that ends, or stays silent, fails the test that waits for its words.
func TestWaitLineFails(t *testing.T) {
	ends := shell(t, "echo half a line; printf wanted")
	require.Contains(t, failure(func(tb testing.TB) { ends.WaitLine(tb, soon, "wanted") }),
		`ended with code 0 before it said "wanted"`)
	silent := shell(t, "exec sleep 60")
	require.Contains(t, failure(func(tb testing.TB) { silent.WaitLine(tb, 10*time.Millisecond, "wanted") }),
		`did not say "wanted" within 10ms`)
}

func TestBuild(t *testing.T) {
	path := pgtest.Build(t, "./internal/embeddedpg/fetch")
	fi, err := os.Stat(path)
	require.NoError(t, err)
	require.NotZero(t, fi.Mode()&0o100)
	require.Equal(t, path, pgtest.Build(t, "./internal/embeddedpg/fetch"), "built once")
	p := pgtest.Command{Path: path, Args: []string{"word"}}.Start(t)
	require.Equal(t, 1, p.WaitExit(t, soon))
	require.Contains(t, p.Stderr(), `"word" is no major version`)
	require.Contains(t, failure(func(tb testing.TB) { pgtest.Build(tb, "./no/such/program") }), "build ./no/such/program")
}

func TestEventually(t *testing.T) {
	n := 0
	pgtest.Eventually(t, soon, func() bool { n++; return n == 5 }, "counted")
	require.Equal(t, 5, n)
	got := failure(func(tb testing.TB) {
		pgtest.Eventually(tb, 1, func() bool { return false }, "%s of %d", "counted", 3)
	})
	require.Equal(t, "not within 1ns: counted of 3", got)
}
