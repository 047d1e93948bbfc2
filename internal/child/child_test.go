package child_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/walbridge/walbridge/internal/child"
)

// asParent, in the environment, makes this test binary start a sleeping child,
// print its process id, and wait for its own end.
const asParent = "CHILD_TEST_AS_PARENT"

func TestMain(m *testing.M) {
	if os.Getenv(asParent) != "" {
		p, err := child.Start(exec.Command("sleep", "600"), syscall.SIGKILL)
		if err != nil {
			panic(err)
		}
		fmt.Println(p.PID())
		<-p.Done()
		return
	}
	goleak.VerifyTestMain(m)
}

func start(t *testing.T, name string, args ...string) *child.Process {
	t.Helper()
	p, err := child.Start(exec.Command(name, args...), syscall.SIGKILL)
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, p.Kill())
		<-p.Done()
	})
	return p
}

func TestExitCode(t *testing.T) {
	p := start(t, "sh", "-c", "exit 7")
	require.NoError(t, p.Wait(t.Context()))
	require.False(t, p.Running())
	require.Equal(t, 7, p.ExitCode())
	require.NoError(t, p.Kill(), "of an ended process is no error")
	require.NoError(t, p.Signal(syscall.SIGTERM))
}

func TestStartError(t *testing.T) {
	_, err := child.Start(exec.Command("/no/such/program"), syscall.SIGKILL)
	require.ErrorContains(t, err, "start /no/such/program")
}

func TestKill(t *testing.T) {
	p := start(t, "sleep", "600")
	require.True(t, p.Running())
	require.Equal(t, -1, p.ExitCode())
	require.True(t, child.Alive(p.PID()))
	require.True(t, child.Exists(p.PID()))
	require.NoError(t, p.Kill())
	require.NoError(t, p.Wait(t.Context()))
	require.Equal(t, -1, p.ExitCode())
	require.False(t, child.Alive(p.PID()))
}

// A paused process does not answer SIGTERM until it is resumed.
func TestPause(t *testing.T) {
	p := start(t, "sleep", "600")
	onLinux(t)
	require.NoError(t, p.Pause())
	// SIGSTOP takes effect when the kernel delivers it; another signal may overtake it.
	require.Eventually(t, func() bool {
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.PID()))
		return err == nil && strings.Contains(string(stat), ") T ")
	}, 10*time.Second, time.Millisecond)
	require.NoError(t, p.Signal(syscall.SIGTERM))
	select {
	case <-p.Done():
		t.Fatal("a paused process ended")
	case <-time.After(50 * time.Millisecond):
	}
	require.NoError(t, p.Resume())
	require.NoError(t, p.Wait(t.Context()))
}

func TestChildren(t *testing.T) {
	onLinux(t)
	p := start(t, "sleep", "600")
	require.Contains(t, child.Children(os.Getpid()), p.PID())
	require.NotContains(t, child.Children(p.PID()), p.PID())
}

func TestChildDiesWithItsParent(t *testing.T) {
	onLinux(t)
	parent := exec.Command(os.Args[0])
	parent.Env = append(os.Environ(), asParent+"=1")
	out, err := parent.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, parent.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	pid, err := strconv.Atoi(line[:len(line)-1])
	require.NoError(t, err)
	require.True(t, child.Alive(pid))
	require.NoError(t, parent.Process.Kill())
	_ = parent.Wait() // it was killed
	require.Eventually(t, func() bool { return !child.Alive(pid) }, 10*time.Second, time.Millisecond)
}

func onLinux(t *testing.T) {
	t.Helper()
	if runtime.GOOS != "linux" {
		t.Skip("needs /proc and PR_SET_PDEATHSIG")
	}
}
