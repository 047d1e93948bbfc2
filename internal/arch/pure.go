package arch

import (
	"go/ast"
	"go/token"
	"strconv"
)

// pure are the packages that only compute. Their test files may do more.
func pure() []string { return []string{"decoder", "mapper", "internal/lsn"} }

// impure are packages that a pure one must not import, as in importRule.
func impure() []string {
	return []string{
		"net/...", "os/...", "context", "log/...", "math/rand/...", "crypto/rand",
		"github.com/hashicorp/go-hclog", "github.com/prometheus/...",
	}
}

// purity checks that pure packages are: no input or output, no clock, no
// goroutine, no logger. What they return depends on what they are given alone, so
// that a stored frame gives the same items on every machine and at any time.
func (f *file) purity() []Finding {
	if f.test || !within(f.pkg, pure()...) {
		return nil
	}
	const why = "this package is pure: the same input gives the same output, anywhere and at any time"
	var found []Finding
	for _, spec := range f.ast.Imports {
		if name, err := strconv.Unquote(spec.Path.Value); err == nil && within(name, impure()...) {
			found = append(found, f.at(spec.Pos(), "imports %s: %s", name, why))
		}
	}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		switch n := n.(type) {
		case *ast.GoStmt:
			found = append(found, f.at(n.Pos(), "starts a goroutine: %s", why))
		case *ast.SelectorExpr:
			for _, name := range []string{"Now", "Since", "Until", "Sleep", "After", "AfterFunc", "Tick", "NewTimer", "NewTicker"} {
				if f.is(n, "time", name) {
					found = append(found, f.at(n.Pos(), "uses time.%s: %s", name, why))
				}
			}
		}
		return true
	})
	return found
}

// is reports whether an expression is pkg.name of an imported package, under
// whatever name the file knows it.
func (f *file) is(e *ast.SelectorExpr, importPath, name string) bool {
	x, ok := e.X.(*ast.Ident)
	return ok && e.Sel.Name == name && f.imported(x.Name) == importPath
}

// imported returns the path of the import that has a name in this file; empty
// when there is none. A package without a name of its own is taken to be called
// as its path ends.
func (f *file) imported(name string) string {
	for _, spec := range f.ast.Imports {
		p, err := strconv.Unquote(spec.Path.Value)
		if err != nil {
			continue
		}
		known := lastElement(p)
		if spec.Name != nil {
			known = spec.Name.Name
		}
		if known == name {
			return p
		}
	}
	return ""
}

// uses returns the places where the file names one of the things of a package.
func (f *file) uses(importPath string, names ...string) map[token.Pos]string {
	found := map[token.Pos]string{}
	ast.Inspect(f.ast, func(n ast.Node) bool {
		e, ok := n.(*ast.SelectorExpr)
		if !ok {
			return true
		}
		for _, name := range names {
			if f.is(e, importPath, name) {
				found[e.Pos()] = name
			}
		}
		return true
	})
	return found
}
