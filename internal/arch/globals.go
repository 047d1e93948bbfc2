package arch

import (
	"go/ast"
	"go/token"
	"slices"
)

// globals checks that package variables are constants in all but name: errors and
// tables that are set where they are declared and never again. State belongs to a
// value that somebody made and passes on.
func (t *tree) globals() []Finding {
	changed := t.changedNames()
	var found []Finding
	for _, f := range t.files {
		if f.test {
			continue
		}
		for _, decl := range f.ast.Decls {
			g, ok := decl.(*ast.GenDecl)
			if !ok || g.Tok != token.VAR {
				continue
			}
			for _, spec := range g.Specs {
				found = append(found, f.global(g, spec.(*ast.ValueSpec), changed[f.pkg])...)
			}
		}
	}
	return found
}

func (f *file) global(g *ast.GenDecl, spec *ast.ValueSpec, changed []string) []Finding {
	const why = "no globals: state belongs to a value that is made and passed on"
	var found []Finding
	for _, name := range spec.Names {
		_, allowed := globalsAllowed()[f.pkg+"."+name.Name]
		switch {
		case name.Name == "_" || allowed || embedded(g, spec):
		case len(spec.Values) == 0:
			found = append(found, f.at(name.Pos(), "variable %s has no value where it is declared: %s", name.Name, why))
		case slices.Contains(changed, name.Name):
			found = append(found, f.at(name.Pos(), "variable %s is changed after its declaration: %s", name.Name, why))
		}
	}
	return found
}

// embedded reports whether a variable is filled by a go:embed comment.
func embedded(g *ast.GenDecl, spec *ast.ValueSpec) bool {
	for _, doc := range []*ast.CommentGroup{g.Doc, spec.Doc} {
		if hasDirective(doc, "//go:embed") {
			return true
		}
	}
	return false
}

// changedNames returns, by package, names that are assigned to, counted up, or
// whose address is taken, outside of a declaration. A local variable of the same
// name counts too, which a rename cures.
func (t *tree) changedNames() map[string][]string {
	changed := map[string][]string{}
	for _, f := range t.files {
		if f.test {
			continue
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			for _, e := range targets(n) {
				if name := root(e); name != "" {
					changed[f.pkg] = append(changed[f.pkg], name)
				}
			}
			return true
		})
	}
	return changed
}

// targets returns the expressions that a statement changes.
func targets(n ast.Node) []ast.Expr {
	switch n := n.(type) {
	case *ast.AssignStmt:
		if n.Tok != token.DEFINE {
			return n.Lhs
		}
	case *ast.IncDecStmt:
		return []ast.Expr{n.X}
	case *ast.UnaryExpr:
		if n.Op == token.AND {
			return []ast.Expr{n.X}
		}
	}
	return nil
}

// root returns the variable at the bottom of an expression such as a.b[c]; empty
// when there is none.
func root(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.SelectorExpr:
		return root(e.X)
	case *ast.IndexExpr:
		return root(e.X)
	case *ast.StarExpr:
		return root(e.X)
	case *ast.ParenExpr:
		return root(e.X)
	}
	return ""
}
