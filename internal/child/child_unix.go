//go:build unix

package child

import (
	"errors"
	"fmt"
	"os/exec"
	"syscall"
)

func prepare(cmd *exec.Cmd, onDeath syscall.Signal) {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	cmd.SysProcAttr.Setpgid = true
	setDeathSignal(cmd.SysProcAttr, onDeath)
}

// Signal sends sig. A process that has ended already is no error.
func (p *Process) Signal(sig syscall.Signal) error {
	return p.whileRunning(func(pid int) error { return signal(pid, sig) })
}

// Pause stops any process of this machine with SIGSTOP. None of that id is no
// error; so it is for Resume and Kill.
func Pause(pid int) error { return signal(pid, syscall.SIGSTOP) }

// Resume undoes Pause, with SIGCONT.
func Resume(pid int) error { return signal(pid, syscall.SIGCONT) }

// Kill ends any process of this machine, with SIGKILL.
func Kill(pid int) error { return signal(pid, syscall.SIGKILL) }

// Exists reports whether there is a process of that id, of whatever user, dead
// ones that nobody waited for among them.
func Exists(pid int) bool {
	err := syscall.Kill(pid, 0)
	return err == nil || errors.Is(err, syscall.EPERM)
}

func signal(pid int, sig syscall.Signal) error {
	if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("send %v to process %d: %w", sig, pid, err)
	}
	return nil
}
