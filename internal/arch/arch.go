// Package arch checks the source tree against the rules of its architecture and
// of the house style. Its test fails with a line for each violation, with the
// reason of the rule.
//
// Rules about imports are in imports.go, about pure packages in pure.go, about
// what belongs to the whole process in process.go and globals.go, about how code
// is written in style.go and document.go. Exceptions are in exceptions.go, each
// with its reason. One comment in the code itself counts,
// in the doc comment of a function that may be long because it is a flat switch
// or a table:
//
//	//arch:flat
//
// Files are parsed, not built: a test that asked `go list` would be cached by
// `go test` and pass on an old answer, while files that a test opens are part of
// its cache key. Packages of testdata, of folders that begin with a dot or an
// underscore, and of nested modules are not looked at.
package arch

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
)

// Finding is one violation.
type Finding struct {
	Path string // of the file, relative to the root, with slashes
	Line int
	Text string // what is wrong, and why that matters
}

// String is path:line: text.
func (f Finding) String() string { return fmt.Sprintf("%s:%d: %s", f.Path, f.Line, f.Text) }

// file is one parsed Go file.
type file struct {
	path  string // relative to the tree's root, with slashes
	pkg   string // its folder, likewise; "." is the root
	test  bool   // a _test.go file
	lines int
	ast   *ast.File
	tree  *tree
}

// tree is all Go files of a module.
type tree struct {
	module string // path of the module, such as "github.com/walbridge/walbridge"
	fset   *token.FileSet
	files  []*file
}

// load parses the module whose go.mod lies in root. Generated files are left out.
func load(root string) (*tree, error) {
	module, err := modulePath(root)
	if err != nil {
		return nil, err
	}
	t := &tree{module: module, fset: token.NewFileSet()}
	err = filepath.WalkDir(root, func(p string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && p != root && skipDir(p, d.Name()):
			return fs.SkipDir
		case d.IsDir() || filepath.Ext(p) != ".go":
			return nil
		}
		return t.parse(root, p)
	})
	if err != nil {
		return nil, fmt.Errorf("read the source tree: %w", err)
	}
	return t, nil
}

func skipDir(p, name string) bool {
	if name == "testdata" || name == "vendor" || strings.HasPrefix(name, ".") || strings.HasPrefix(name, "_") {
		return true
	}
	_, err := os.Stat(filepath.Join(p, "go.mod"))
	return err == nil
}

func (t *tree) parse(root, p string) error {
	rel, err := filepath.Rel(root, p)
	if err != nil {
		return err
	}
	a, err := parser.ParseFile(t.fset, p, nil, parser.ParseComments|parser.SkipObjectResolution)
	if err != nil {
		return err
	}
	if ast.IsGenerated(a) {
		return nil
	}
	rel = filepath.ToSlash(rel)
	t.files = append(t.files, &file{
		path: rel, pkg: path.Dir(rel), test: strings.HasSuffix(rel, "_test.go"),
		lines: t.fset.File(a.Pos()).LineCount(), ast: a, tree: t,
	})
	return nil
}

// modulePath reads the module line of go.mod.
func modulePath(root string) (string, error) {
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		return "", fmt.Errorf("read the module's name: %w", err)
	}
	for line := range strings.Lines(string(mod)) {
		if name, ok := strings.CutPrefix(strings.TrimSpace(line), "module "); ok {
			return name, nil
		}
	}
	return "", fmt.Errorf("read the module's name: no module line in %s", filepath.Join(root, "go.mod"))
}

// Check returns the violations in the module whose go.mod lies in root, sorted by
// path and line.
func Check(root string) ([]Finding, error) {
	t, err := load(root)
	if err != nil {
		return nil, err
	}
	var found []Finding
	for _, f := range t.files {
		for _, check := range fileChecks() {
			found = append(found, check(f)...)
		}
	}
	found = append(found, t.packageComments()...)
	found = append(found, t.globals()...)
	slices.SortFunc(found, func(a, b Finding) int {
		if c := strings.Compare(a.Path, b.Path); c != 0 {
			return c
		}
		if a.Line != b.Line {
			return a.Line - b.Line
		}
		return strings.Compare(a.Text, b.Text)
	})
	return found, nil
}

// fileChecks are the rules that look at one file at a time.
func fileChecks() []func(*file) []Finding {
	return []func(*file) []Finding{
		(*file).imports, (*file).purity, (*file).process, (*file).sleeps, (*file).inits,
		(*file).unfinished, (*file).documented, (*file).sizes,
	}
}

// at makes a finding of the file.
func (f *file) at(pos token.Pos, format string, args ...any) Finding {
	return Finding{f.path, f.tree.fset.Position(pos).Line, fmt.Sprintf(format, args...)}
}

// within reports whether pkg is one of the patterns: a folder, or a folder and
// all below with "/...".
func within(pkg string, patterns ...string) bool {
	return slices.ContainsFunc(patterns, func(p string) bool {
		if above, ok := strings.CutSuffix(p, "/..."); ok {
			return above == "." || pkg == above || strings.HasPrefix(pkg, above+"/")
		}
		return pkg == p
	})
}
