package embeddedpg

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/walbridge/walbridge/internal/child"
)

// Stop asks the server to end and waits until it has. When ctx ends first, the
// request stands and the error says so. A server that has ended already is no
// error; a paused one is resumed.
func (s *Server) Stop(ctx context.Context, mode StopMode) error {
	s.life.Lock()
	defer s.life.Unlock()
	return s.stop(ctx, mode)
}

func (s *Server) stop(ctx context.Context, mode StopMode) error {
	p := s.process()
	if err := p.Resume(); err != nil {
		return err
	}
	if err := s.askToStop(p, mode); err != nil {
		return err
	}
	if err := p.Wait(ctx); err != nil {
		return fmt.Errorf("stop PostgreSQL (%s): %w", mode, err)
	}
	return nil
}

// killTimeout bounds the wait for processes that were sent SIGKILL.
const killTimeout = 10 * time.Second

// Kill ends the server as a power cut would: SIGKILL to the postmaster and all
// its children. It returns when none of them is left. A server that has ended
// already is no error.
func (s *Server) Kill() error {
	s.life.Lock()
	defer s.life.Unlock()
	return killAll(s.process())
}

// killAll ends a postmaster and its children.
func killAll(p *child.Process) error {
	if !p.Running() {
		return nil
	}
	// An error of these calls means that the process has just ended by itself.
	_ = p.Pause() // so that it makes no more children
	kids := child.Children(p.PID())
	_ = p.Kill()
	for _, pid := range kids {
		_ = child.Kill(pid)
	}
	ctx, cancel := context.WithTimeoutCause(context.Background(), killTimeout, errors.New("still alive after SIGKILL"))
	defer cancel()
	if err := p.Wait(ctx); err != nil {
		return err
	}
	return awaitGone(ctx, kids)
}

// awaitGone returns when no process of pids is alive.
func awaitGone(ctx context.Context, pids []int) error {
	pause := newPause(time.Millisecond, 50*time.Millisecond)
	for _, pid := range pids {
		for child.Alive(pid) {
			if pause.wait(ctx) != nil {
				return fmt.Errorf("wait for the end of backend %d: %w", pid, context.Cause(ctx))
			}
		}
	}
	return nil
}

// Restart stops the server (fast) when it runs and starts it on the same port.
func (s *Server) Restart(ctx context.Context) error {
	s.life.Lock()
	defer s.life.Unlock()
	if err := s.stop(ctx, Fast); err != nil {
		return err
	}
	return s.launch(ctx)
}

// Pause stops the postmaster with SIGSTOP: sessions go on, but a new connection
// gets no answer. Not on Windows (errors.ErrUnsupported).
func (s *Server) Pause() error { return s.process().Pause() }

// Resume undoes Pause. It is no error when the server is not paused or has ended.
func (s *Server) Resume() error { return s.process().Resume() }

// PauseBackend stops one process of the server with SIGSTOP, such as the
// walsender that pg_stat_replication.pid names: its client sees a server that
// hangs.
func (s *Server) PauseBackend(pid int) error { return child.Pause(pid) }

// ResumeBackend undoes PauseBackend.
func (s *Server) ResumeBackend(pid int) error { return child.Resume(pid) }
