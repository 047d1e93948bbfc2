package pgtest

import (
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/walbridge/walbridge/internal/child"
	"github.com/walbridge/walbridge/internal/embeddedpg"
)

// find returns the binaries of a major version; 0 is the newest that is wanted.
func find(major int) (embeddedpg.Install, error) {
	majors, err := wanted()
	if err != nil {
		return embeddedpg.Install{}, err
	}
	if major == 0 && len(majors) > 0 {
		major = slices.Max(majors)
	}
	return embeddedpg.Search{BinDir: os.Getenv("WALBRIDGE_PG_BIN")}.Find(major)
}

// wanted returns the versions of WALBRIDGE_TEST_PG, or nil.
func wanted() ([]int, error) {
	var majors []int
	for f := range strings.FieldsFuncSeq(os.Getenv("WALBRIDGE_TEST_PG"), func(r rune) bool { return r == ',' || r == ' ' }) {
		m, err := strconv.Atoi(f)
		if err != nil {
			return nil, fmt.Errorf("read WALBRIDGE_TEST_PG: %q is no major version", f)
		}
		majors = append(majors, m)
	}
	return majors, nil
}

// Matrix runs f as a subtest on a cluster of each major version that
// WALBRIDGE_TEST_PG names, or of those found of 15 and 18. A cluster is of the
// subtest's own.
func Matrix(t *testing.T, f func(t *testing.T, c *Cluster), opts ...Option) {
	t.Helper()
	majors, err := wanted()
	if err != nil {
		t.Fatal(err)
	}
	if len(majors) == 0 {
		majors = []int{15, 18}
	}
	for _, m := range majors {
		withMajor := append(slices.Clone(opts), Major(m)) // subtests may run at once
		t.Run("pg"+strconv.Itoa(m), func(t *testing.T) { f(t, New(t, withMajor...)) })
	}
}

// staleAfter is the age at which the folder of a process that is not there is
// surely nobody's: a process in another container may share our temporary folder,
// but not our process table.
const staleAfter = 2 * time.Hour

// tempDir makes a folder named after this process, and removes those of
// processes that were killed before they could clean up.
func tempDir() (string, error) {
	const prefix = "walbridge-pgtest-"
	old, _ := filepath.Glob(filepath.Join(os.TempDir(), prefix+"*")) // the pattern is well formed
	for _, dir := range old {
		pid, _, _ := strings.Cut(strings.TrimPrefix(filepath.Base(dir), prefix), "-")
		n, err := strconv.Atoi(pid)
		if fi, statErr := os.Stat(dir); err == nil && statErr == nil && !child.Exists(n) && time.Since(fi.ModTime()) > staleAfter {
			_ = os.RemoveAll(dir) // it may be another user's
		}
	}
	dir, err := os.MkdirTemp("", fmt.Sprintf("%s%d-", prefix, os.Getpid()))
	if err != nil {
		return "", fmt.Errorf("make a folder for the test: %w", err)
	}
	return dir, nil
}
