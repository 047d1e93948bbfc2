// Package child runs programs that end when this process ends, however it ends:
// servers and bridges under test must not outlive a test that was killed. It
// also stops, resumes and finds processes, for tests of what happens when one
// hangs or dies.
//
// It is for tests and the demo. The death of the parent is noticed on Linux only;
// elsewhere a child must be stopped by hand. Nothing here reads a program's output
// or restarts it.
package child

import (
	"context"
	"fmt"
	"os/exec"
	"runtime"
	"syscall"
)

// Process is a child of this process. Its methods may be called from several
// goroutines.
type Process struct {
	cmd  *exec.Cmd
	done chan struct{} // closed when the process has ended and was waited for
}

// Start starts cmd in a process group of its own, so that the Ctrl-C that a
// terminal sends to a whole group stops only us. On Linux the kernel sends it
// onDeath when we end first. Start sets SysProcAttr fields for that and keeps the
// others.
func Start(cmd *exec.Cmd, onDeath syscall.Signal) (*Process, error) {
	prepare(cmd, onDeath)
	p := &Process{cmd: cmd, done: make(chan struct{})}
	started := make(chan error, 1)
	go p.supervise(started)
	if err := <-started; err != nil {
		return nil, fmt.Errorf("start %s: %w", cmd.Path, err)
	}
	return p, nil
}

// supervise starts the process and waits for its end on one thread: the signal
// of prctl(PR_SET_PDEATHSIG) is sent when the thread that forked ends, not the
// process, so the thread must live as long as the child.
func (p *Process) supervise(started chan<- error) {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := p.cmd.Start(); err != nil {
		started <- err
		return
	}
	started <- nil
	_ = p.cmd.Wait() // the exit code is asked for by ExitCode
	close(p.done)
}

// PID returns the process id. It may belong to another process once this one has
// ended.
func (p *Process) PID() int { return p.cmd.Process.Pid }

// Done returns a channel that is closed when the process has ended.
func (p *Process) Done() <-chan struct{} { return p.done }

// Running reports whether the process has not ended yet.
func (p *Process) Running() bool {
	select {
	case <-p.done:
		return false
	default:
		return true
	}
}

// ExitCode returns the exit code, or -1 while the process runs and when a signal
// ended it.
func (p *Process) ExitCode() int {
	if p.Running() {
		return -1
	}
	return p.cmd.ProcessState.ExitCode()
}

// Wait returns nil when the process has ended, whatever its exit code, or an
// error when ctx ends first.
func (p *Process) Wait(ctx context.Context) error {
	select {
	case <-p.done:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("wait for the end of process %d: %w", p.PID(), context.Cause(ctx))
	}
}

// Kill ends the process at once. One that has ended already is no error.
func (p *Process) Kill() error { return p.whileRunning(Kill) }

// Pause stops the process until Resume.
func (p *Process) Pause() error { return p.whileRunning(Pause) }

// Resume undoes Pause. It is no error when the process is not paused.
func (p *Process) Resume() error { return p.whileRunning(Resume) }

// whileRunning signals only a process that is still ours.
func (p *Process) whileRunning(do func(pid int) error) error {
	if !p.Running() {
		return nil
	}
	return do(p.PID())
}
