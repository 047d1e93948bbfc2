package embeddedpg

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"github.com/walbridge/walbridge/internal/child"
)

// osUser is never used on Windows, where the server runs as ourselves.
type osUser struct{}

func childUser(string) (*osUser, error)    { return nil, nil }
func (*osUser) attr() *syscall.SysProcAttr { return nil }
func (*osUser) own(string) error           { return nil }
func (*osUser) canReach(string) error      { return nil }

// DefaultCacheDir returns the folder for fetched builds, in the user's cache.
func DefaultCacheDir() (string, error) {
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder: %w", err)
	}
	return filepath.Join(dir, "walbridge"), nil
}

// askToStop runs pg_ctl, which knows how to reach the server without signals.
func (s *Server) askToStop(p *child.Process, mode StopMode) error {
	if !p.Running() {
		return nil
	}
	out, err := runChild(context.Background(), nil, s.dir, s.install.bin("pg_ctl"),
		"stop", "-W", "-D", s.data(), "-m", mode.String())
	if err != nil {
		return fmt.Errorf("run pg_ctl stop: %w: %s", err, firstLine([]byte(out)))
	}
	return nil
}

// readyDSN is where a start looks whether the server accepts connections: over
// TCP, since sockets need not be supported here.
func (s *Server) readyDSN(port int) string {
	return fmt.Sprintf("postgres://%s@127.0.0.1:%d/postgres?sslmode=disable", superuser, port)
}
