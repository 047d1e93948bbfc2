package embeddedpg

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/internal/child"
)

// launchTries bounds how often a start is tried again when the port was taken, or
// when the backends of a killed postmaster had not ended.
const launchTries = 20

// launch starts the server, again when something went wrong that passes.
func (s *Server) launch(ctx context.Context) error {
	pause := newPause(20*time.Millisecond, 500*time.Millisecond)
	for try := 1; ; try++ {
		err := s.launchOnce(ctx)
		if err == nil || !passes(err) || try == launchTries {
			return err
		}
		if pause.wait(ctx) != nil {
			return err
		}
	}
}

// startError is a server that ended before it accepted connections.
type startError struct {
	version string
	log     string // what it wrote
}

func (e *startError) Error() string {
	return fmt.Sprintf("start PostgreSQL %s: it ended at once; its log ends with:\n%s", e.version, e.log)
}

// passes reports whether another try may help. The texts are those of
// src/backend/libpq/pqcomm.c and src/backend/port/sysv_shmem.c.
func passes(err error) bool {
	var e *startError
	return errors.As(err, &e) && (strings.Contains(e.log, "could not bind") ||
		strings.Contains(e.log, "pre-existing shared memory block"))
}

// launchOnce starts the server on its port, or on a new one when it has none yet.
func (s *Server) launchOnce(ctx context.Context) error {
	port := s.Port()
	if port == 0 {
		p, err := FreePort()
		if err != nil {
			return err
		}
		port = p
	}
	if err := s.configure(port); err != nil {
		return err
	}
	p, from, err := s.spawn()
	if err != nil {
		return err
	}
	if err := s.awaitReady(ctx, p, port); err != nil {
		return s.abandon(p, from, err)
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.port, s.proc = port, p
	return nil
}

// spawn runs postgres itself: as our child it can be signalled, waited for, and
// bound to our life, which pg_ctl's grandchild cannot. It returns where in the
// log its lines begin.
func (s *Server) spawn() (p *child.Process, from int64, err error) {
	log, err := os.OpenFile(s.LogFile(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return nil, 0, fmt.Errorf("open the server's log: %w", err)
	}
	defer log.Close() // the child has its own descriptor
	if fi, err := log.Stat(); err == nil {
		from = fi.Size()
	}
	cmd := exec.Command(s.install.bin("postgres"), "-D", s.data())
	cmd.Env = childEnv()
	cmd.Dir = s.dir
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = s.user.attr()
	// SIGQUIT, when we die, is postmaster's immediate shutdown: it takes its
	// children along and removes its shared memory, which SIGKILL would leave.
	p, err = child.Start(cmd, syscall.SIGQUIT)
	return p, from, err
}

// awaitReady returns nil when the server accepts connections. It asks over the
// socket where there is one: on the TCP port a stranger could answer.
func (s *Server) awaitReady(ctx context.Context, p *child.Process, port int) error {
	dsn := s.readyDSN(port)
	pause := newPause(2*time.Millisecond, 100*time.Millisecond)
	for {
		err := ping(ctx, dsn)
		if err == nil {
			return nil
		}
		if !p.Running() {
			return errEnded
		}
		if pause.wait(ctx) != nil {
			return fmt.Errorf("wait for PostgreSQL %s: %w: last answer: %w", s.install.Version, context.Cause(ctx), err)
		}
	}
}

var errEnded = errors.New("the server ended")

// pingTimeout bounds one connection attempt to a server of this machine.
const pingTimeout = 2 * time.Second

// ping connects once. A server that refuses the login is up: the access rules
// may leave no way in for us.
func ping(ctx context.Context, dsn string) error {
	ctx, cancel := context.WithTimeout(ctx, pingTimeout)
	defer cancel()
	conn, err := pgconn.Connect(ctx, dsn)
	if err == nil {
		return conn.Close(ctx)
	}
	var pg *pgconn.PgError
	if errors.As(err, &pg) && strings.HasPrefix(pg.Code, "28") { // invalid authorization
		return nil
	}
	return err
}

// abandon ends a server that did not become ready and explains why.
func (s *Server) abandon(p *child.Process, from int64, cause error) error {
	if err := killAll(p); err != nil {
		return errors.Join(cause, err)
	}
	if errors.Is(cause, errEnded) {
		return &startError{s.install.Version, s.logTail(from)}
	}
	return fmt.Errorf("%w; its log ends with:\n%s", cause, s.logTail(from))
}

// LogTail returns the last lines of the server's log, 4 KiB at most.
func (s *Server) LogTail() string { return s.logTail(0) }

// logTail returns the end of what the server wrote after an offset.
func (s *Server) logTail(from int64) string {
	const most = 4096
	log, err := os.ReadFile(s.LogFile())
	if err != nil {
		return err.Error()
	}
	log = log[min(from, int64(len(log))):]
	if len(log) > most {
		log = log[len(log)-most:]
	}
	return strings.TrimSpace(string(log))
}

// FreePort returns a port that nobody listens on. It is taken from below the
// ranges that systems use for outgoing connections (32768 and up on Linux, 49152
// elsewhere), so that no client takes it while the server restarts.
func FreePort() (int, error) {
	const low, high, tries = 15000, 32000, 200
	for range tries {
		port := low + rand.IntN(high-low)
		l, err := net.ListenTCP("tcp4", &net.TCPAddr{IP: net.IPv4(127, 0, 0, 1), Port: port})
		if err != nil {
			continue
		}
		if err := l.Close(); err != nil {
			return 0, fmt.Errorf("look for a free port: %w", err)
		}
		return port, nil
	}
	return 0, fmt.Errorf("look for a free port between %d and %d: all of %d tried are taken", low, high, tries)
}

// pause is a growing time between two looks at something.
type pause struct{ next, most time.Duration }

func newPause(first, most time.Duration) *pause { return &pause{first, most} }

// wait returns after the pause, or with an error when ctx has ended.
func (p *pause) wait(ctx context.Context) error {
	t := time.NewTimer(p.next)
	defer t.Stop()
	p.next = min(2*p.next, p.most)
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
