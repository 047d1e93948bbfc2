package embeddedpg

import (
	"context"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/child"
)

// gone requires that neither the postmaster nor a child is left.
func gone(t *testing.T, postmaster int, kids []int) {
	t.Helper()
	for _, pid := range append(kids, postmaster) {
		until(t, "process has ended", func() bool { return !child.Alive(pid) })
	}
}

func TestServer(t *testing.T) {
	s := started(t, Config{Settings: map[string]string{"wal_level": "logical", "cluster_name": `it's a \ test`}})
	require.Equal(t, s.Install().Version, strings.Fields(one[string](t, s.DSN("postgres"), "SHOW server_version"))[0])
	require.Equal(t, "logical", one[string](t, s.SocketDSN("postgres"), "SHOW wal_level"))
	require.Equal(t, `it's a \ test`, one[string](t, s.DSN("postgres"), "SHOW cluster_name"))
	require.Equal(t, "off", one[string](t, s.DSN("postgres"), "SHOW fsync"))
	require.Equal(t, "UTF8", one[string](t, s.DSN("postgres"), "SHOW server_encoding"))
	require.Equal(t, s.data(), one[string](t, s.DSN("postgres"), "SHOW data_directory"))
	run(t, s.DSN("postgres"), "CREATE TABLE a AS SELECT 1 AS id",
		"SELECT pg_create_logical_replication_slot('s', 'pgoutput')")

	for _, mode := range []StopMode{Smart, Fast, Immediate} {
		pid, kids, port := s.PID(), child.Children(s.PID()), s.Port()
		require.NotEmpty(t, kids)
		require.NoError(t, s.Stop(timeout(t), mode))
		require.False(t, s.Running())
		<-s.Done()
		gone(t, pid, kids)
		require.NoError(t, s.Stop(timeout(t), mode), "stopping twice is no error")
		require.NoError(t, s.Restart(timeout(t)))
		require.Equal(t, port, s.Port())
		require.Equal(t, 1, one[int](t, s.DSN("postgres"), "SELECT id FROM a"))
	}
}

func TestKillLeavesNoProcessAndDataSurvives(t *testing.T) {
	s := started(t, Config{})
	run(t, s.DSN("postgres"), "CREATE TABLE a AS SELECT 1 AS id")
	conn, err := pgx.Connect(timeout(t), s.DSN("postgres"))
	require.NoError(t, err)
	defer conn.Close(context.Background())
	pid, kids := s.PID(), child.Children(s.PID())
	require.NoError(t, s.Kill())
	gone(t, pid, kids)
	require.Error(t, conn.Ping(timeout(t)))
	require.NoError(t, s.Kill(), "killing twice is no error")
	require.NoError(t, s.Restart(timeout(t)))
	require.NotEqual(t, pid, s.PID())
	require.Equal(t, 1, one[int](t, s.DSN("postgres"), "SELECT id FROM a"))
}

func TestAlterSystemWinsOverSettings(t *testing.T) {
	s := started(t, Config{Settings: map[string]string{"work_mem": "5MB"}})
	require.Equal(t, "5MB", one[string](t, s.DSN("postgres"), "SHOW work_mem"))
	run(t, s.DSN("postgres"), "ALTER SYSTEM SET work_mem = '6MB'")
	require.NoError(t, s.Restart(timeout(t)))
	require.Equal(t, "6MB", one[string](t, s.DSN("postgres"), "SHOW work_mem"))
}

// Access rules come first, and ones that lock us out do not hold up the start.
func TestHBA(t *testing.T) {
	s := started(t, Config{HBA: []string{"local all all reject", "host all all 127.0.0.1/32 scram-sha-256"}})
	for _, dsn := range []string{s.DSN("postgres"), s.SocketDSN("postgres")} {
		_, err := pgx.Connect(timeout(t), dsn)
		require.ErrorContains(t, err, "28")
	}
}

func TestFsyncAndInitArgs(t *testing.T) {
	s := started(t, Config{Fsync: true, InitArgs: []string{"--wal-segsize=1"}})
	require.Equal(t, "on", one[string](t, s.DSN("postgres"), "SHOW fsync"))
	require.Equal(t, "1MB", one[string](t, s.DSN("postgres"), "SHOW wal_segment_size"))
}

func TestStartErrorShowsTheLog(t *testing.T) {
	dir := folder(t)
	_, err := Start(timeout(t), Config{Install: installed(t), Dir: dir, Settings: map[string]string{"wal_level": "nonsense"}})
	require.ErrorContains(t, err, `invalid value for parameter "wal_level"`)
	require.FileExists(t, filepath.Join(dir, "server.log"), "a named folder stays")
}

// A failed start leaves no folder that nobody asked for.
func TestFailedStartLeavesNothing(t *testing.T) {
	temporary, long := folder(t), filepath.Join(folder(t), strings.Repeat("long", 30))
	t.Setenv("TMPDIR", temporary)
	for _, cfg := range []Config{
		{Settings: map[string]string{"wal_level": "nonsense"}},
		{InitArgs: []string{"--no-such-option"}},
		{Dir: long, InitArgs: []string{"--no-such-option"}}, // with the socket elsewhere
	} {
		cfg.Install = installed(t)
		_, err := Start(timeout(t), cfg)
		require.Error(t, err)
		require.Empty(t, names(t, temporary))
	}
}

func TestInitdbErrorShowsItsOutput(t *testing.T) {
	_, err := Start(timeout(t), Config{Install: installed(t), Dir: folder(t), InitArgs: []string{"--no-such-option"}})
	require.ErrorContains(t, err, "no-such-option")
}

// A port that is taken for a moment delays a start, and does not fail it.
func TestStartWaitsForItsPort(t *testing.T) {
	l, err := net.Listen("tcp4", "127.0.0.1:0")
	require.NoError(t, err)
	port := l.Addr().(*net.TCPAddr).Port
	dir := folder(t)
	freed := make(chan struct{})
	go func() {
		defer close(freed)
		log := filepath.Join(dir, "server.log")
		for p := newPause(time.Millisecond, 10*time.Millisecond); ; {
			if b, _ := os.ReadFile(log); strings.Contains(string(b), "could not bind") || p.wait(t.Context()) != nil {
				_ = l.Close()
				return
			}
		}
	}()
	s := started(t, Config{Dir: dir, Port: port})
	require.Equal(t, port, s.Port())
	<-freed
}

// A start that is called off leaves no process.
func TestStartCalledOff(t *testing.T) {
	dir := folder(t)
	s := started(t, Config{Dir: dir})
	require.NoError(t, s.Stop(timeout(t), Fast))
	ctx, cancel := context.WithCancelCause(t.Context())
	cancel(os.ErrDeadlineExceeded)
	_, err := Start(ctx, Config{Install: s.Install(), Dir: dir})
	require.ErrorIs(t, err, os.ErrDeadlineExceeded)
	// A postmaster that was killed leaves its pid file.
	if pidFile, err := os.ReadFile(filepath.Join(s.data(), "postmaster.pid")); err == nil {
		pid, _, _ := strings.Cut(string(pidFile), "\n")
		require.False(t, child.Alive(must(strconv.Atoi(pid))))
	}
}

func TestPause(t *testing.T) {
	s := started(t, Config{})
	conn, err := pgx.Connect(timeout(t), s.DSN("postgres"))
	require.NoError(t, err)
	defer conn.Close(context.Background())
	require.NoError(t, s.Pause())
	require.NoError(t, conn.Ping(timeout(t)), "a session goes on")
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	_, err = pgx.Connect(ctx, s.DSN("postgres"))
	require.ErrorIs(t, err, context.DeadlineExceeded, "a new connection gets no answer")
	require.NoError(t, s.Resume())
	run(t, s.DSN("postgres"), "SELECT 1")

	require.NoError(t, s.PauseBackend(int(conn.PgConn().PID())))
	answered := make(chan error, 1)
	go func() { answered <- conn.Ping(timeout(t)) }()
	run(t, s.DSN("postgres"), "SELECT 1") // others go on
	require.Empty(t, answered)
	require.NoError(t, s.ResumeBackend(int(conn.PgConn().PID())))
	require.NoError(t, <-answered)

	require.NoError(t, s.Pause())
	require.NoError(t, s.Stop(timeout(t), Fast), "a paused server can be stopped")
}

// The path of a socket is short everywhere; a long folder gets its socket elsewhere.
func TestLongFolder(t *testing.T) {
	dir := filepath.Join(folder(t), strings.Repeat("long", 30))
	s := started(t, Config{Dir: dir})
	require.NotEqual(t, dir, s.sockDir)
	require.Equal(t, 1, one[int](t, s.SocketDSN("postgres"), "SELECT 1"))
	require.NoError(t, s.Stop(timeout(t), Fast))
	require.NoError(t, s.Remove())
	require.NoDirExists(t, s.sockDir)
	require.NoDirExists(t, dir)
}

// As root the server is another user, which must be able to come to its folder.
func TestFolderThatTheServerCannotEnter(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("only root starts a server as another user")
	}
	parent := folder(t)
	require.NoError(t, os.Chmod(parent, 0o700))
	_, err := Start(timeout(t), Config{Install: installed(t), Dir: filepath.Join(parent, "pg")})
	require.ErrorContains(t, err, "cannot enter "+parent)
	_, err = Start(timeout(t), Config{Install: installed(t), Dir: folder(t), RunAs: "no-such-user"})
	require.ErrorContains(t, err, "no-such-user")
}

// What a killed server leaves in the system goes with its folder.
func TestRemoveLeavesNoSharedMemory(t *testing.T) {
	const segments = "/proc/sysvipc/shm"
	if _, err := os.Stat(segments); err != nil {
		t.Skip("needs /proc/sysvipc")
	}
	s := started(t, Config{})
	pid := fmt.Sprintf(" %d ", s.PID()) // the column of the creator
	require.Contains(t, string(must(os.ReadFile(segments))), pid)
	require.NoError(t, s.Kill())
	require.Contains(t, string(must(os.ReadFile(segments))), pid)
	require.NoError(t, s.Remove())
	require.NotContains(t, string(must(os.ReadFile(segments))), pid)
}

func TestRemoveRefusesARunningServer(t *testing.T) {
	s := started(t, Config{})
	require.ErrorContains(t, s.Remove(), "is running")
	require.DirExists(t, s.Dir())
}

// A child of ours that is killed takes its server along.
func TestServerDiesWithItsParent(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux stops a child when its parent dies")
	}
	dir := folder(t)
	parent := reexec(t, "TestHelperParent", dir)
	pid := parent.waitForPID(t)
	require.True(t, child.Alive(pid))
	kids := child.Children(pid)
	require.NotEmpty(t, kids)
	require.NoError(t, parent.cmd.Process.Signal(syscall.SIGKILL))
	gone(t, pid, kids)
}
