package embeddedpg

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// maxSocketPath is the longest path of a socket that every system accepts, less
// its final NUL: sun_path has 104 bytes on macOS and the BSDs, 108 on Linux.
const maxSocketPath = 103

// prepareDir makes the server's folder and the one of its socket, owned by the
// user as whom the server runs.
func (s *Server) prepareDir() error {
	if s.dir == "" {
		dir, err := os.MkdirTemp("", "walbridge-pg-")
		if err != nil {
			return fmt.Errorf("make the server's folder: %w", err)
		}
		s.dir = dir
	}
	// 0711: another user than ours may have to pass through to data and socket.
	if err := os.MkdirAll(s.dir, 0o711); err != nil {
		return fmt.Errorf("make the server's folder: %w", err)
	}
	if err := os.Chmod(s.dir, 0o711); err != nil {
		return fmt.Errorf("open the server's folder: %w", err)
	}
	if err := s.user.own(s.dir); err != nil {
		return err
	}
	if err := s.user.canReach(s.dir); err != nil {
		return err
	}
	return s.prepareSockDir()
}

// prepareSockDir uses the server's folder for the socket, or a temporary one of
// its own when that path is too long.
func (s *Server) prepareSockDir() error {
	s.sockDir = s.dir
	if len(filepath.Join(s.dir, ".s.PGSQL.65535")) <= maxSocketPath {
		return nil
	}
	dir, err := os.MkdirTemp("", "wbpg")
	if err != nil {
		return fmt.Errorf("make a folder for the socket: %w", err)
	}
	s.sockDir, s.ownSockDir = dir, true
	if err := os.Chmod(dir, 0o711); err != nil {
		return fmt.Errorf("open the socket's folder: %w", err)
	}
	return s.user.own(dir)
}

// initData runs initdb when the data folder is empty.
func (s *Server) initData(ctx context.Context) error {
	if _, err := os.Stat(filepath.Join(s.data(), "PG_VERSION")); err == nil {
		return nil
	}
	out, err := s.initdb(ctx, "C.UTF-8")
	if err != nil && strings.Contains(out, "invalid locale") {
		// Systems without C.UTF-8 (macOS before 15, old glibc) sort by bytes as well.
		out, err = s.initdb(ctx, "C")
	}
	if err != nil {
		return fmt.Errorf("make the data of PostgreSQL %s: run initdb: %w: %s", s.install.Version, err, strings.TrimSpace(out))
	}
	return s.appendTo("postgresql.conf", "\ninclude '"+confName+"'\n")
}

func (s *Server) initdb(ctx context.Context, locale string) (string, error) {
	args := []string{"-D", s.data(), "-U", superuser, "-A", "trust", "-E", "UTF8", "--locale=" + locale}
	if !s.cfg.Fsync {
		args = append(args, "--no-sync")
	}
	return runChild(ctx, s.user, s.dir, s.install.bin("initdb"), append(args, s.cfg.InitArgs...)...)
}

// Remove deletes the server's folder with all its data, and what a killed server
// left in the system. The server must have ended.
func (s *Server) Remove() error {
	s.life.Lock()
	defer s.life.Unlock()
	if s.Running() {
		return fmt.Errorf("remove the server's folder %s: the server is running", s.dir)
	}
	s.removeSharedMemory()
	if s.ownSockDir {
		if err := os.RemoveAll(s.sockDir); err != nil {
			return fmt.Errorf("remove the socket's folder: %w", err)
		}
	}
	if err := os.RemoveAll(s.dir); err != nil {
		return fmt.Errorf("remove the server's folder: %w", err)
	}
	return nil
}

// discard deletes the folders that newServer made on its own account, after a
// failed start. What cannot be deleted is the system's to sweep, as all in its
// folder for temporary files.
func (s *Server) discard() {
	if s.ownSockDir {
		_ = os.RemoveAll(s.sockDir)
	}
	if s.cfg.Dir == "" && s.dir != "" {
		_ = os.RemoveAll(s.dir)
	}
}

// removeSharedMemory deletes the System V segment by which postmasters lock a data
// folder. A killed one leaves it, named in the seventh line of its pid file
// (src/include/utils/pidfile.h).
func (s *Server) removeSharedMemory() {
	pidFile, err := os.ReadFile(filepath.Join(s.data(), "postmaster.pid"))
	if err != nil {
		return // it ended in order
	}
	lines := strings.Split(string(pidFile), "\n")
	if len(lines) < 7 {
		return
	}
	var key, id int
	if _, err := fmt.Sscan(lines[6], &key, &id); err == nil {
		removeSegment(id)
	}
}
