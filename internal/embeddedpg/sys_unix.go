//go:build unix

package embeddedpg

import (
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"

	"github.com/walbridge/walbridge/internal/child"
)

// osUser is the user as whom the server's programs run when this process is
// root, since postgres and initdb refuse to be root. nil means: as ourselves.
type osUser struct {
	name     string
	uid, gid uint32
}

// childUser returns the named user, or, with an empty name, postgres or nobody,
// whichever exists; nil when this process is not root.
func childUser(name string) (*osUser, error) {
	if os.Geteuid() != 0 {
		return nil, nil
	}
	names := []string{name}
	if name == "" {
		names = []string{"postgres", "nobody"}
	}
	for _, n := range names {
		if u, err := user.Lookup(n); err == nil {
			return newOSUser(u)
		}
	}
	return nil, fmt.Errorf("choose a user for the server, which cannot run as root: none of %v exists", names)
}

func newOSUser(u *user.User) (*osUser, error) {
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("read the id of user %s: %w", u.Username, err)
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, fmt.Errorf("read the group of user %s: %w", u.Username, err)
	}
	return &osUser{u.Username, uint32(uid), uint32(gid)}, nil
}

// attr makes a child run as the user.
func (u *osUser) attr() *syscall.SysProcAttr {
	if u == nil {
		return nil
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: u.uid, Gid: u.gid}}
}

// own gives path to the user.
func (u *osUser) own(path string) error {
	if u == nil {
		return nil
	}
	if err := os.Lchown(path, int(u.uid), int(u.gid)); err != nil {
		return fmt.Errorf("give %s to user %s: %w", path, u.name, err)
	}
	return nil
}

// canReach returns an error when the user may not enter path or a folder above.
func (u *osUser) canReach(path string) error {
	if u == nil {
		return nil
	}
	for p := path; ; p = filepath.Dir(p) {
		fi, err := os.Stat(p)
		if err != nil {
			return fmt.Errorf("look at %s: %w", p, err)
		}
		if !u.mayEnter(fi) {
			return fmt.Errorf("user %s, as whom the server must run, cannot enter %s", u.name, p)
		}
		if p == filepath.Dir(p) {
			return nil
		}
	}
}

// mayEnter looks at the execute bit of the class that counts for the user.
func (u *osUser) mayEnter(fi os.FileInfo) bool {
	st, ok := fi.Sys().(*syscall.Stat_t)
	mode := fi.Mode().Perm()
	switch {
	case ok && st.Uid == u.uid:
		return mode&0o100 != 0
	case ok && st.Gid == u.gid:
		return mode&0o010 != 0
	}
	return mode&0o001 != 0
}

// DefaultCacheDir returns the folder for fetched builds: the user's cache, or for
// root a folder that the user as whom the server runs can enter too.
func DefaultCacheDir() (string, error) {
	if os.Geteuid() == 0 {
		return "/var/cache/walbridge", nil
	}
	dir, err := os.UserCacheDir()
	if err != nil {
		return "", fmt.Errorf("find the cache folder: %w", err)
	}
	return filepath.Join(dir, "walbridge"), nil
}

// askToStop sends the signal of the mode.
func (s *Server) askToStop(p *child.Process, mode StopMode) error {
	return p.Signal([...]syscall.Signal{Smart: syscall.SIGTERM, Fast: syscall.SIGINT, Immediate: syscall.SIGQUIT}[mode])
}

// readyDSN is where a start looks whether the server accepts connections.
func (s *Server) readyDSN(port int) string { return s.socketDSN(superuser, port) }
