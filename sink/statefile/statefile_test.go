package statefile

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
)

// childRole says what a run of this test binary is to do instead of tests: "hold"
// holds the lock of a state file, "store" begins to replace it and stands still at
// a step. Both say so on a line and then wait for their end.
const childRole = "WALBRIDGE_STATEFILE_CHILD"

func TestMain(m *testing.M) {
	if role := os.Getenv(childRole); role != "" {
		if err := child(role, os.Args[1], Step(os.Args[2])); err != nil {
			fmt.Println(err)
			os.Exit(1)
		}
		return
	}
	goleak.VerifyTestMain(m)
}

func child(role, path string, step Step) error {
	wait := func() error {
		fmt.Println("ready")
		_, err := io.Copy(io.Discard, os.Stdin)
		return err
	}
	if role == "hold" {
		if _, err := Acquire(path); err != nil {
			return err
		}
		return wait()
	}
	f := File{Path: path, At: func(s Step) error {
		if s == step {
			return wait()
		}
		return nil
	}}
	return f.Store("shop", second)
}

// start runs a child until it is ready.
func start(t *testing.T, role, path string, step Step) *exec.Cmd {
	c := exec.CommandContext(t.Context(), os.Args[0], path, string(step))
	c.Env = append(os.Environ(), childRole+"="+role)
	_, err := c.StdinPipe()
	require.NoError(t, err)
	out, err := c.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, c.Start())
	line, err := bufio.NewReader(out).ReadString('\n')
	require.NoError(t, err)
	require.Equal(t, "ready\n", line)
	return c
}

// kill is kill -9.
func kill(t *testing.T, c *exec.Cmd) {
	require.NoError(t, c.Process.Kill())
	require.Error(t, c.Wait(), "killed")
}

var (
	first = lsn.Progress{
		SystemID: 1<<63 + 5, Timeline: 3, Slot: "walbridge_shop", Phase: lsn.PhaseStreaming, Xid: 7<<32 | 812, ConfigHash: "abc",
		Position: lsn.Position{End: 0x16_B374D848, LastTxEnd: 0x16_B374D840}, Cursors: []byte("\x00\xff"),
		CommitTime: time.Date(2026, 3, 29, 1, 59, 59, 123456000, time.UTC),
	}
	second = lsn.Progress{
		SystemID: 1<<63 + 5, Timeline: 3, Slot: "walbridge_shop", Phase: lsn.PhaseStreaming,
		Position: lsn.Position{End: 0x16_B374D848, LastTxEnd: 0x16_B374D840, Commit: 0x17_00000000, Seq: 4, Sub: 1},
	}
)

func stored(t *testing.T) File {
	f := File{Path: filepath.Join(t.TempDir(), "walbridge.state")}
	require.NoError(t, f.Store("shop", first))
	return f
}

// The form of the file is a promise: what one version has written, the next reads.
func TestForm(t *testing.T) {
	f := stored(t)
	text, err := os.ReadFile(f.Path)
	require.NoError(t, err)
	require.Equal(t, `{
  "version": 1,
  "name": "shop",
  "system_id": "9223372036854775813",
  "timeline": 3,
  "slot": "walbridge_shop",
  "phase": "streaming",
  "position": {
    "end": "16/B374D848",
    "last_tx_end": "16/B374D840",
    "commit": "0/0",
    "seq": 0,
    "sub": 0
  },
  "xid": "30064771884",
  "commit_time": "2026-03-29T01:59:59.123456Z",
  "config_hash": "abc",
  "cursors": "AP8="
}
`, string(text))
	got, err := f.Load("shop")
	require.NoError(t, err)
	require.Equal(t, first, got)
	info, err := os.Stat(f.Path)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
}

// A file that is not what Store has written is a halt with the ways out, never a
// bridge that was never seen.
func TestUnreadable(t *testing.T) {
	f := stored(t)
	good, err := os.ReadFile(f.Path)
	require.NoError(t, err)
	for what, text := range map[string]string{
		"empty": "", "zeroes": strings.Repeat("\x00", 400), "cut": string(good[:len(good)/2]), "null": "null", "a list": "[]", "no JSON": "0/1924E78\n",
		"no version": `{"name":"shop"}`, "a field too many": strings.Replace(string(good), `"slot"`, `"sloth":1,"slot"`, 1),
		"no name": strings.Replace(string(good), `"shop"`, `""`, 1), "no phase": strings.Replace(string(good), `"streaming"`, `""`, 1),
		"no position": strings.Replace(string(good), `"16/B374D848"`, `""`, 1), "no LSN": strings.Replace(string(good), `"0/0"`, `"zero"`, 1),
		"more behind it": string(good) + "{}", "a negative number": strings.Replace(string(good), `"seq": 0`, `"seq": -1`, 1),
	} {
		require.NoError(t, os.WriteFile(f.Path, []byte(text), 0o600))
		p, err := f.Load("shop")
		var halt *fault.Halt
		require.ErrorAs(t, err, &halt, what)
		require.Equal(t, "state-file-unreadable", halt.Rule, what)
		require.Contains(t, err.Error(), f.Path, what)
		require.NotEmpty(t, halt.Ways)
		require.Equal(t, lsn.Progress{}, p, what)
	}
	require.NoError(t, os.WriteFile(f.Path, []byte(strings.Replace(string(good), `"version": 1`, `"version": 2, "new": {}`, 1)), 0o600))
	_, err = f.Load("shop")
	var halt *fault.Halt
	require.ErrorAs(t, err, &halt)
	require.Equal(t, "state-file-version", halt.Rule)
	require.Contains(t, err.Error(), "2, this program knows 1")
}

// What the configuration has to mend is a ConfigError.
func TestUnusable(t *testing.T) {
	f := stored(t)
	var config *fault.ConfigError
	_, err := f.Load("other")
	require.ErrorAs(t, err, &config)
	require.Contains(t, err.Error(), `"shop"`)
	_, err = File{Path: filepath.Dir(f.Path)}.Load("shop")
	require.ErrorAs(t, err, &config, "a directory")
	k := NewKeeper(File{Path: filepath.Join(f.Path, "not", "there")})
	_, err = k.Open(t.Context(), "shop")
	require.ErrorAs(t, err, &config, "no directory")
	_, err = k.Lock(t.Context(), "shop", time.Second, nil)
	require.ErrorAs(t, err, &config, "no directory")
	require.Error(t, k.Check(first), "not open")
}

// A process that is killed at any step of a replacement leaves the old progress or
// the new one, and the next replacement does not mind what it left beside it.
func TestKillBetweenSteps(t *testing.T) {
	for step, want := range map[Step]lsn.Progress{StepWrite: first, StepSync: first, StepRename: first, StepSettle: second} {
		t.Run(string(step), func(t *testing.T) {
			f := stored(t)
			kill(t, start(t, "store", f.Path, step))
			got, err := f.Load("shop")
			require.NoError(t, err)
			require.Equal(t, want, got)
			require.NoError(t, f.Store("shop", second))
			got, err = f.Load("shop")
			require.NoError(t, err)
			require.Equal(t, second, got)
		})
	}
}

// A step that fails is an error, and a keeper must be opened after it.
func TestFailedStep(t *testing.T) {
	full := errors.New("no space left")
	for _, step := range []Step{StepWrite, StepSync, StepRename, StepSettle} {
		f := stored(t)
		f.At = func(s Step) error {
			if s == step {
				return full
			}
			return nil
		}
		k := NewKeeper(f)
		p, err := k.Open(t.Context(), "shop")
		require.NoError(t, err)
		require.Equal(t, first, p)
		require.NoError(t, k.Check(second))
		require.ErrorIs(t, k.Store(second), full)
		require.Error(t, k.Check(second))
		p, err = k.Open(t.Context(), "shop")
		require.NoError(t, err)
		require.Equal(t, step == StepSettle, p.Position == second.Position)
		k.Close()
	}
}

// While another process lives, its lock is waited for and it is named; when it is
// killed, the wait ends.
func TestLockBetweenProcesses(t *testing.T) {
	path := filepath.Join(t.TempDir(), "walbridge.state")
	holder := start(t, "hold", path, "")
	k := NewKeeper(File{Path: path})
	_, err := k.Open(t.Context(), "shop")
	require.ErrorIs(t, err, ErrOwned)
	require.Contains(t, err.Error(), fmt.Sprintf("process %d", holder.Process.Pid))
	require.Equal(t, "state_file_owned", fault.Reason(err))

	told, got := make(chan string, 1), make(chan error, 1)
	go func() {
		l, err := k.Lock(t.Context(), "shop", time.Nanosecond, func(owner string) {
			select {
			case told <- owner:
			default:
			}
		})
		if err == nil {
			err = l.Unlock(context.Background())
		}
		got <- err
	}()
	require.Contains(t, <-told, fmt.Sprintf("process %d", holder.Process.Pid))
	select {
	case err := <-got:
		t.Fatalf("the lock of a living process was taken: %v", err)
	default:
	}
	kill(t, holder)
	require.NoError(t, <-got)
	_, err = k.Open(t.Context(), "shop")
	require.NoError(t, err)
	k.Close()
}

func TestLockEndsWithItsContext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "walbridge.state")
	owner, err := Acquire(path)
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	_, err = NewKeeper(File{Path: path}).Lock(ctx, "shop", time.Hour, func(string) { cancel() })
	require.ErrorIs(t, err, context.Canceled)
	require.NoError(t, owner.Release())
	require.NoError(t, owner.Release(), "twice")
}

// A keeper whose lock file was removed writes no more: another process may hold a
// new one.
func TestRemovedLock(t *testing.T) {
	f := stored(t)
	k := NewKeeper(f)
	_, err := k.Open(t.Context(), "shop")
	require.NoError(t, err)
	require.NoError(t, k.Check(second))
	require.NoError(t, os.Remove(f.Path+".lock"))
	require.ErrorIs(t, k.Check(second), fault.ErrFenced)
	require.ErrorIs(t, k.Store(second), fault.ErrFenced)
	other := NewKeeper(f)
	p, err := other.Open(t.Context(), "shop")
	require.NoError(t, err)
	require.Equal(t, first, p)
	_, err = k.Open(t.Context(), "shop")
	require.ErrorIs(t, err, ErrOwned)
	other.Close()
	k.Close()
}

// A lock that Open took becomes the caller's by Lock; Close then leaves it alone.
func TestLockAfterOpen(t *testing.T) {
	f := stored(t)
	k := NewKeeper(f)
	_, err := k.Open(t.Context(), "shop")
	require.NoError(t, err)
	l, err := k.Lock(t.Context(), "shop", time.Hour, func(string) { t.Error("waited for itself") })
	require.NoError(t, err)
	k.Close()
	_, err = Acquire(f.Path)
	require.ErrorIs(t, err, ErrOwned)
	require.NoError(t, l.Unlock(t.Context()))
	again, err := Acquire(f.Path)
	require.NoError(t, err)
	require.NoError(t, again.Release())
}
