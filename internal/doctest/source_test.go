package doctest_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// source is one parsed Go file.
type source struct {
	path string // from the top of the tree
	ast  *ast.File
}

// sources parses all Go files but those of testdata.
func sources(t *testing.T) []source {
	t.Helper()
	var all []source
	fset := token.NewFileSet()
	err := filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && (d.Name() == "testdata" || strings.HasPrefix(d.Name(), ".") && len(d.Name()) > 2):
			return fs.SkipDir
		case d.IsDir() || !strings.HasSuffix(path, ".go"):
			return nil
		}
		file, err := parser.ParseFile(fset, path, nil, parser.SkipObjectResolution)
		if err != nil {
			return err
		}
		rel, err := filepath.Rel(root, path)
		all = append(all, source{filepath.ToSlash(rel), file})
		return err
	})
	require.NoError(t, err)
	require.Greater(t, len(all), 100)
	return all
}

func (s source) test() bool { return strings.HasSuffix(s.path, "_test.go") }

// named reports whether a document's name for a file means this one.
func (s source) named(name string) bool {
	return s.path == name || strings.HasSuffix(s.path, "/"+name)
}

// declares reports whether the file has a function, a method or a name of the top
// level.
func (s source) declares(name string) bool {
	for _, decl := range s.ast.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Name.Name == name {
				return true
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				if ts, ok := spec.(*ast.TypeSpec); ok && ts.Name.Name == name {
					return true
				}
			}
		}
	}
	return false
}

// literal is the value of a string literal.
func literal(e ast.Expr) (string, bool) {
	lit, ok := e.(*ast.BasicLit)
	if !ok || lit.Kind != token.STRING {
		return "", false
	}
	text, err := strconv.Unquote(lit.Value)
	return text, err == nil
}

// literals returns all string literals of a file.
func (s source) literals() []string {
	var all []string
	ast.Inspect(s.ast, func(n ast.Node) bool {
		if e, ok := n.(ast.Expr); ok {
			if text, ok := literal(e); ok {
				all = append(all, text)
			}
		}
		return true
	})
	return all
}
