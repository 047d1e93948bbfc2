package child

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"syscall"
)

func prepare(*exec.Cmd, syscall.Signal) {}

// Signal can only end a process on Windows, with SIGKILL.
func (p *Process) Signal(sig syscall.Signal) error {
	if sig != syscall.SIGKILL {
		return fmt.Errorf("send %v to process %d: %w", sig, p.PID(), errors.ErrUnsupported)
	}
	return p.Kill()
}

// Pause is not supported on Windows.
func Pause(int) error { return fmt.Errorf("pause a process: %w", errors.ErrUnsupported) }

// Resume does nothing on Windows, where no process is paused.
func Resume(int) error { return nil }

// Kill ends any process of this machine. None of that id is no error.
func Kill(pid int) error {
	p, err := os.FindProcess(pid)
	if err != nil {
		return nil // it has ended
	}
	if err := p.Kill(); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("end process %d: %w", pid, err)
	}
	return nil
}

// Exists reports whether there is a process of that id.
func Exists(pid int) bool {
	p, err := os.FindProcess(pid)
	if err != nil {
		return false
	}
	_ = p.Release()
	return true
}

// Children returns none on Windows.
func Children(int) []int { return nil }

// Alive reports whether a process exists.
func Alive(pid int) bool { return Exists(pid) }
