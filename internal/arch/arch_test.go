package arch

import (
	"flag"
	"fmt"
	"go/ast"
	"go/token"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

var rewrite = flag.Bool("rewrite", false, "write testdata/bad.golden anew")

// TestTree is the check of this module itself.
func TestTree(t *testing.T) {
	found, err := Check("../..")
	require.NoError(t, err)
	for _, f := range found {
		t.Error(f)
	}
}

// TestViolations shows that the rules find what breaks them, and nothing else:
// testdata/bad has both kinds, testdata/bad.golden has what is found.
func TestViolations(t *testing.T) {
	found, err := Check("testdata/bad")
	require.NoError(t, err)
	var b strings.Builder
	for _, f := range found {
		fmt.Fprintln(&b, f)
	}
	if *rewrite {
		require.NoError(t, os.WriteFile("testdata/bad.golden", []byte(b.String()), 0o644))
	}
	want, err := os.ReadFile("testdata/bad.golden")
	require.NoError(t, err)
	require.Equal(t, string(want), b.String())
}

// Each line of the table of imports is broken once, and obeyed once by a package
// that it excepts.
func TestImportRules(t *testing.T) {
	for _, r := range importRules() {
		require.NotEmpty(t, r.why)
		for _, in := range r.in {
			for _, never := range r.never {
				target := "example.org/m/" + example(never)
				if strings.Contains(never, ".") && never != everyOwn || standard(never) {
					target = example(never)
				}
				pkg := example(in)
				require.Contains(t, whys(t, pkg, "x.go", target), r.why, "%s imports %s", pkg, target)
				if r.tests {
					require.Contains(t, whys(t, pkg, "x_test.go", target), r.why, "a test of %s imports %s", pkg, target)
				} else {
					require.NotContains(t, whys(t, pkg, "x_test.go", target), r.why)
				}
				for _, except := range r.except {
					require.NotContains(t, whys(t, example(except), "x.go", target), r.why)
				}
			}
		}
	}
}

// example returns a package that a pattern matches.
func example(pattern string) string {
	if pattern == everyOwn {
		return "some/package"
	}
	if above, ok := strings.CutSuffix(pattern, "/..."); ok {
		return above + "/below"
	}
	return pattern
}

// standard reports whether a pattern is one of the standard library.
func standard(pattern string) bool {
	switch first, _, _ := strings.Cut(pattern, "/"); first {
	case "log", "testing", "net", "math", "io":
		return true
	}
	return false
}

// whys returns the reasons of the findings in a module of one file, which has one
// import.
func whys(t *testing.T, pkg, name, target string) string {
	t.Helper()
	root := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(root, "go.mod"), []byte("module example.org/m\n"), 0o644))
	require.NoError(t, os.MkdirAll(filepath.Join(root, pkg), 0o755))
	source := fmt.Sprintf("// Package p is one.\npackage p\n\nimport _ %q\n", target)
	require.NoError(t, os.WriteFile(filepath.Join(root, pkg, name), []byte(source), 0o644))
	found, err := Check(root)
	require.NoError(t, err)
	return fmt.Sprint(found)
}

// The exceptions must not outlive what they except.
func TestExceptionsAreNeeded(t *testing.T) {
	for path := range sleepers() {
		source, err := os.ReadFile(filepath.Join("../..", path))
		require.NoError(t, err)
		require.Contains(t, string(source), "time.Sleep")
	}
	tree, err := load("../..")
	require.NoError(t, err)
	for name := range globalsAllowed() {
		require.Contains(t, tree.variables(), name)
	}
}

func TestCheckErrors(t *testing.T) {
	_, err := Check(t.TempDir())
	require.ErrorContains(t, err, "read the module's name")

	root := t.TempDir()
	require.NoError(t, os.WriteFile(filepath.Join(root, "go.mod"), []byte("go 1.26\n"), 0o644))
	_, err = Check(root)
	require.ErrorContains(t, err, "no module line")

	require.NoError(t, os.WriteFile(filepath.Join(root, "go.mod"), []byte("module m\n"), 0o644))
	require.NoError(t, os.WriteFile(filepath.Join(root, "broken.go"), []byte("package {"), 0o644))
	_, err = Check(root)
	require.ErrorContains(t, err, "read the source tree")
}

// variables returns the package variables of a tree, as globalsAllowed names them.
func (t *tree) variables() []string {
	var all []string
	for _, f := range t.files {
		for _, decl := range f.ast.Decls {
			g, ok := decl.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, spec := range g.Specs {
				for _, name := range spec.(*ast.ValueSpec).Names {
					all = append(all, f.pkg+"."+name.Name)
				}
			}
		}
	}
	return all
}
