package doctest_test

import (
	"net/url"
	"path"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var function = regexp.MustCompile(`^([\w/]+\.go):(\w+)$`)

// Every `file.go:Func` is there.
func TestNamedFunctionsExist(t *testing.T) {
	files, seen := sources(t), 0
	for _, d := range documents(t) {
		for _, code := range d.code() {
			m := function.FindStringSubmatch(code)
			if m == nil || m[1] == "file.go" {
				continue
			}
			seen++
			there := slices.ContainsFunc(files, func(s source) bool { return s.named(m[1]) && s.declares(m[2]) })
			require.True(t, there, "%s names %s, and there is no such function", d.path, code)
		}
	}
	require.Greater(t, seen, 40)
}

var testName = regexp.MustCompile(`^([a-z][a-z/]*)\.((?:Test|Fuzz)\w+)$`)

// Every test that proves a promise or a fault is there.
func TestNamedTestsExist(t *testing.T) {
	files, seen := sources(t), 0
	for _, d := range documents(t) {
		for _, code := range d.code() {
			m := testName.FindStringSubmatch(code)
			if m == nil {
				continue
			}
			seen++
			there := slices.ContainsFunc(files, func(s source) bool {
				return s.test() && path.Dir(s.path) == m[1] && s.declares(m[2])
			})
			require.True(t, there, "%s names %s, and there is no such test", d.path, code)
		}
	}
	require.Greater(t, seen, 40)
}

// Every promise is proven by a test.
func TestEveryPromiseNamesItsTests(t *testing.T) {
	sections := strings.Split(read(t, "docs/guarantees.md").text, "\n## ")
	require.Greater(t, len(sections), 10)
	for _, s := range sections[1:] {
		heading, body, _ := strings.Cut(s, "\n")
		_, proof, found := strings.Cut(body, "\nProven by: ")
		require.True(t, found, "%s: not proven", heading)
		require.NotEmpty(t, codeIn(proof), heading)
	}
}

var pathName = regexp.MustCompile(`^[A-Za-z0-9_.-]+(/[A-Za-z0-9_.-]+)+/?$`)

// Every path that begins with a folder of the tree is there. bench/results is made
// by the first measurement.
func TestNamedPathsExist(t *testing.T) {
	seen := 0
	for _, d := range documents(t) {
		for _, code := range d.code() {
			top, _, _ := strings.Cut(code, "/")
			if !pathName.MatchString(code) || testName.MatchString(code) || !exists(top) || code == "bench/results" {
				continue
			}
			seen++
			require.True(t, exists(code), "%s names %s, and there is no such file or folder", d.path, code)
		}
	}
	require.Greater(t, seen, 40)
}

var link = regexp.MustCompile(`\]\(([^)\s]+)\)`)

// Every link within the tree leads somewhere, and every other one is https or the
// status page's.
func TestLinks(t *testing.T) {
	seen := 0
	for _, d := range documents(t) {
		for _, m := range link.FindAllStringSubmatch(d.prose(), -1) {
			u, err := url.Parse(m[1])
			require.NoError(t, err, d.path)
			if u.Scheme != "" {
				require.Equal(t, "https", u.Scheme, "%s links to %s", d.path, m[1])
				continue
			}
			seen++
			require.True(t, u.Path == "" || exists(path.Join(path.Dir(d.path), u.Path)), "%s links to %s, which is not there", d.path, m[1])
		}
	}
	require.Greater(t, seen, 20)
}
