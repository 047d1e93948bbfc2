package embeddedpg

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// parentDir, in the environment, makes TestHelperParent run a server in it.
const parentDir = "EMBEDDEDPG_TEST_PARENT_DIR"

// TestHelperParent is no test of its own: it is the process that
// TestServerDiesWithItsParent kills.
func TestHelperParent(t *testing.T) {
	dir := os.Getenv(parentDir)
	if dir == "" {
		t.Skip("runs as a child of TestServerDiesWithItsParent")
	}
	s, err := Start(t.Context(), Config{Install: installed(t), Dir: dir})
	require.NoError(t, err)
	fmt.Println("pid", s.PID())
	<-s.Done() // killed before
}

type parent struct {
	cmd *exec.Cmd
	out *bufio.Scanner
}

// reexec runs one test of this binary in a process of its own.
func reexec(t *testing.T, test, dir string) *parent {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^"+test+"$")
	cmd.Env = append(os.Environ(), parentDir+"="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	return &parent{cmd, bufio.NewScanner(out)}
}

func (p *parent) waitForPID(t *testing.T) int {
	t.Helper()
	for p.out.Scan() {
		if pid, ok := strings.CutPrefix(p.out.Text(), "pid "); ok {
			return must(strconv.Atoi(pid))
		}
	}
	t.Fatal("the child ended without a server")
	return 0
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}
