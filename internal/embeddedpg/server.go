package embeddedpg

import (
	"context"
	"fmt"
	"net/url"
	"path/filepath"
	"strconv"
	"sync"

	"github.com/walbridge/walbridge/internal/child"
)

// superuser is the role that initdb makes and the DSNs name.
const superuser = "postgres"

// StopMode is how a server is asked to end (manual, section 19.5 "Shutting Down
// the Server").
type StopMode int

// The modes of Stop.
const (
	Smart     StopMode = iota // SIGTERM: waits for the clients to leave
	Fast                      // SIGINT: ends sessions, writes a checkpoint; waits for walsenders to send everything
	Immediate                 // SIGQUIT: as in a crash, recovery at the next start
)

// String returns the mode's name as pg_ctl spells it.
func (m StopMode) String() string { return [...]string{"smart", "fast", "immediate"}[m] }

// Server is a PostgreSQL server that this process runs. Its methods may be called
// from several goroutines; those that start or end the server wait for each other.
type Server struct {
	cfg        Config
	install    Install
	user       *osUser
	dir        string
	sockDir    string
	ownSockDir bool // sockDir lies outside dir

	life sync.Mutex // held while the server is being started or ended

	mu   sync.Mutex // guards the fields below
	port int
	proc *child.Process // nil only while Start has not returned
}

// Start makes the data folder when there is none yet, starts the server and
// returns when it accepts connections. ctx bounds the start only. When it fails,
// the error has the end of the server's log, nothing keeps running, and a folder
// that was named in Dir stays for inspection.
func Start(ctx context.Context, cfg Config) (*Server, error) {
	s, err := newServer(cfg)
	if err != nil {
		return nil, fmt.Errorf("prepare PostgreSQL %s: %w", cfg.Install.Version, err)
	}
	if err := s.begin(ctx, s.initData); err != nil {
		return nil, err
	}
	return s, nil
}

// begin fills the data folder and starts the server, or leaves no more behind than
// it found.
func (s *Server) begin(ctx context.Context, fill func(context.Context) error) error {
	err := fill(ctx)
	if err == nil {
		err = s.launch(ctx)
	}
	if err != nil {
		s.discard()
	}
	return err
}

// newServer makes the server's folder, without data.
func newServer(cfg Config) (*Server, error) {
	user, err := childUser(cfg.RunAs)
	if err != nil {
		return nil, err
	}
	s := &Server{cfg: cfg, install: cfg.Install, user: user, dir: cfg.Dir, port: cfg.Port}
	if err := user.canReach(s.install.BinDir); err != nil {
		return nil, err
	}
	if err := s.prepareDir(); err != nil {
		s.discard()
		return nil, err
	}
	return s, nil
}

// Install returns the binaries that the server runs.
func (s *Server) Install() Install { return s.install }

// Dir returns the folder that holds everything of the server.
func (s *Server) Dir() string { return s.dir }

func (s *Server) data() string { return filepath.Join(s.dir, "data") }

// LogFile returns the path of the server's log.
func (s *Server) LogFile() string { return filepath.Join(s.dir, "server.log") }

// Port returns the TCP port on 127.0.0.1. It stays the same over restarts.
func (s *Server) Port() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.port
}

// PID returns the process id of the postmaster.
func (s *Server) PID() int { return s.process().PID() }

// Running reports whether the postmaster is alive.
func (s *Server) Running() bool {
	p := s.process()
	return p != nil && p.Running()
}

// Done returns a channel that is closed when the postmaster of the last start has
// ended, for whatever reason.
func (s *Server) Done() <-chan struct{} { return s.process().Done() }

func (s *Server) process() *child.Process {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.proc
}

// DSN returns a URL for the superuser postgres over TCP.
func (s *Server) DSN(db string) string {
	u := url.URL{
		Scheme: "postgres", User: url.User(superuser),
		Host: "127.0.0.1:" + strconv.Itoa(s.Port()), Path: "/" + db,
		RawQuery: "sslmode=disable",
	}
	return u.String()
}

// SocketDSN returns a URL for the superuser postgres over the Unix socket.
func (s *Server) SocketDSN(db string) string { return s.socketDSN(db, s.Port()) }

func (s *Server) socketDSN(db string, port int) string {
	q := url.Values{"host": {s.sockDir}, "port": {strconv.Itoa(port)}, "sslmode": {"disable"}}
	u := url.URL{Scheme: "postgres", User: url.User(superuser), Path: "/" + db, RawQuery: q.Encode()}
	return u.String()
}
