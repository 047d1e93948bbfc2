// Package embeddedpg finds, fetches and runs PostgreSQL servers on this machine:
// throwaway ones for the demo and for tests.
//
// A server runs as a child of this process and dies with it. It listens on the
// loopback address and on a socket in its own folder, trusts every local user,
// and keeps nothing outside its folder. The package never touches a server that
// it did not start, reads no environment variable by itself but those that the
// standard library reads (PATH, the user's cache folder), writes to no log, and
// is not meant for data that matters.
//
// Where the binaries come from: Find looks for an installed PostgreSQL, Fetch
// downloads a pinned build whose checksum this package knows.
package embeddedpg

import (
	"cmp"
	"errors"
	"fmt"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
)

// Install is a set of PostgreSQL server binaries that was seen to work: postgres
// runs, initdb lies beside it, and the pgoutput plugin can be loaded.
type Install struct {
	BinDir  string // folder of postgres and initdb, symbolic links resolved
	LibDir  string // folder of the loadable modules, pgoutput among them
	Version string // as `postgres --version` says, such as "15.18" or "19beta1"
	Major   int    // such as 15
}

// bin returns the path of one program of the installation.
func (i Install) bin(name string) string { return filepath.Join(i.BinDir, exe(name)) }

// Search says where to look for installations. Its zero value looks in the usual
// places.
type Search struct {
	// BinDir is a folder that is tried before all others. Find returns an error
	// when it holds no working server.
	BinDir string
	// CacheDir is the folder that Fetch fills. Defaults to DefaultCacheDir.
	CacheDir string
}

// Find returns an installation of the given major version, or the newest one when
// major is 0, from the usual places. The error is a *NotFoundError when there is
// none.
func Find(major int) (Install, error) { return Search{}.Find(major) }

// Find returns an installation of the given major version, or the newest one when
// major is 0. Of one major version the first wins in this order: BinDir, the
// folders that Linux distributions, Homebrew and the Windows installer use, the
// cache, PATH. The error is a *NotFoundError when there is none.
func (s Search) Find(major int) (Install, error) {
	all, refused, err := s.all()
	if err != nil {
		return Install{}, err
	}
	if major == 0 && len(all) > 0 {
		return all[0], nil
	}
	for _, i := range all {
		if i.Major == major {
			return i, nil
		}
		refused = append(refused, Refused{i.BinDir, "is version " + i.Version})
	}
	return Install{}, &NotFoundError{Major: major, Refused: refused}
}

// All returns the installations found, one per major version, newest first.
func (s Search) All() ([]Install, error) {
	all, _, err := s.all()
	return all, err
}

func (s Search) all() (found []Install, refused []Refused, err error) {
	if s.BinDir != "" {
		i, err := prove(s.BinDir)
		if err != nil {
			return nil, nil, fmt.Errorf("use PostgreSQL of %s: %w", s.BinDir, err)
		}
		found = append(found, i)
	}
	tried := map[string]bool{}
	for _, dir := range s.candidates() {
		i, err := prove(dir)
		switch {
		case err != nil:
			refused = append(refused, Refused{dir, err.Error()})
		case !tried[i.BinDir]:
			tried[i.BinDir] = true
			found = append(found, i)
		}
	}
	slices.SortStableFunc(found, func(a, b Install) int { return cmp.Compare(b.Major, a.Major) })
	found = slices.CompactFunc(found, func(a, b Install) bool { return a.Major == b.Major })
	return found, refused, nil
}

// candidates returns the folders that may hold a server, the preferred first.
func (s Search) candidates() []string {
	patterns := append(systemPatterns(), filepath.Join(s.cache(), "*", "bin"))
	var dirs []string
	for _, p := range patterns {
		dirs = append(dirs, globPostgres(p)...)
	}
	if p, err := exec.LookPath("postgres"); err == nil {
		dirs = append(dirs, filepath.Dir(p))
	}
	return dirs
}

// globPostgres returns the folders matching pattern in which a file named
// postgres lies, newest names first.
func globPostgres(pattern string) []string {
	// The only error of Glob is a malformed pattern; ours are constants.
	files, _ := filepath.Glob(filepath.Join(pattern, exe("postgres")))
	dirs := make([]string, len(files))
	for i, f := range files {
		dirs[len(files)-1-i] = filepath.Dir(f)
	}
	return dirs
}

// Refused is a folder that was looked at and not taken.
type Refused struct {
	Dir    string
	Reason string
}

// NotFoundError says that no installation of the wanted version was found.
type NotFoundError struct {
	Major   int // 0: any version was wanted
	Refused []Refused
}

// Error lists the folders that hold a server which was not taken, and why.
func (e *NotFoundError) Error() string {
	var b strings.Builder
	b.WriteString("no PostgreSQL")
	if e.Major != 0 {
		fmt.Fprintf(&b, " %d", e.Major)
	}
	b.WriteString(" server found on this machine")
	for _, r := range e.Refused {
		fmt.Fprintf(&b, "; %s: %s", r.Dir, r.Reason)
	}
	return b.String()
}

// IsNotFound reports whether err says that no installation was found, so that
// Fetch is worth a try.
func IsNotFound(err error) bool {
	var e *NotFoundError
	return errors.As(err, &e)
}

// cache returns the folder below which each fetched build has a folder; empty
// when there is no cache folder, which then matches nothing.
func (s Search) cache() string {
	dir := s.CacheDir
	if dir == "" {
		dir, _ = DefaultCacheDir() // without a home there is no cache to look at
	}
	if dir == "" {
		return ""
	}
	return filepath.Join(dir, "postgresql")
}
