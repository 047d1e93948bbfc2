package pgtest

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"sync"
	"testing"
)

// binaries are the programs that this test binary built, by package. It is global
// for the same reason as shared.
var binaries struct {
	sync.Mutex
	dir   string
	built map[string]error
}

// Binary builds ./cmd/walbridge, once per test binary, and returns its path.
func Binary(t testing.TB) string {
	t.Helper()
	return Build(t, "./cmd/walbridge")
}

// Build builds a program of this module, once per test binary, and returns its
// path. pkg is relative to the module, such as "./cmd/walbridge".
func Build(t testing.TB, pkg string) string {
	t.Helper()
	binaries.Lock()
	defer binaries.Unlock()
	if binaries.dir == "" {
		dir, err := tempDir()
		if err != nil {
			t.Fatal(err)
		}
		binaries.dir, binaries.built = dir, map[string]error{}
	}
	name := filepath.Base(pkg)
	if runtime.GOOS == "windows" {
		name += ".exe"
	}
	path := filepath.Join(binaries.dir, name)
	if _, ok := binaries.built[pkg]; !ok {
		binaries.built[pkg] = build(pkg, path)
	}
	if err := binaries.built[pkg]; err != nil {
		t.Fatal(err)
	}
	return path
}

func build(pkg, path string) error {
	root, err := moduleRoot()
	if err != nil {
		return err
	}
	cmd := exec.Command("go", "build", "-o", path, pkg)
	cmd.Dir = root
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, out)
	}
	return nil
}

// moduleRoot returns the folder of go.mod above the test's package, in which
// `go test` runs it.
func moduleRoot() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the module: %w", err)
	}
	for ; ; dir = filepath.Dir(dir) {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", errors.New("find the module: no go.mod above the test")
		}
	}
}

// removeBinaries deletes what Build made.
func removeBinaries() error {
	binaries.Lock()
	defer binaries.Unlock()
	if binaries.dir == "" {
		return nil
	}
	return os.RemoveAll(binaries.dir)
}
