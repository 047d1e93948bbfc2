package torture_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// Every fault of the catalogue names the tests that prove it, and they exist.
func TestCatalogueNamesTests(t *testing.T) {
	const root = "../.."
	text, err := os.ReadFile(filepath.Join(root, "docs", "faults.md"))
	require.NoError(t, err)
	named := regexp.MustCompile("`([a-z][a-z/]*)\\.((?:Test|Fuzz)[A-Za-z0-9_]+)`")
	rows := 0
	for line := range strings.Lines(string(text)) {
		if !regexp.MustCompile(`^\| *\d+ `).MatchString(line) {
			continue
		}
		rows++
		tests := named.FindAllStringSubmatch(line, -1)
		require.NotEmpty(t, tests, "a fault without a test: %s", line)
		for _, m := range tests {
			require.True(t, hasTest(t, filepath.Join(root, m[1]), m[2]), "%s has no %s", m[1], m[2])
		}
	}
	require.GreaterOrEqual(t, rows, 28)
}

// hasTest looks for a test in the files of a folder.
func hasTest(t *testing.T, dir, name string) bool {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(dir, "*_test.go"))
	require.NoError(t, err)
	for _, f := range files {
		text, err := os.ReadFile(f)
		require.NoError(t, err)
		if strings.Contains(string(text), "func "+name+"(") {
			return true
		}
	}
	return false
}
