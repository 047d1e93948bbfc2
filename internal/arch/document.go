package arch

import (
	"go/ast"
	"go/token"
	"strings"
)

// documented checks that every exported name has a comment, and that the comment
// of a function or type begins with its name, as go doc expects.
func (f *file) documented() []Finding {
	if f.test || f.ast.Name.Name == "main" {
		return nil
	}
	var found []Finding
	for _, decl := range f.ast.Decls {
		switch d := decl.(type) {
		case *ast.FuncDecl:
			if d.Name.IsExported() && exportedReceiver(d) {
				found = append(found, f.comment(d.Name, d.Doc)...)
			}
		case *ast.GenDecl:
			for _, spec := range d.Specs {
				found = append(found, f.spec(d, spec)...)
			}
		}
	}
	return found
}

// spec checks one type, or the constants or variables of one line. A comment on
// their group is enough for the latter.
func (f *file) spec(d *ast.GenDecl, spec ast.Spec) []Finding {
	switch s := spec.(type) {
	case *ast.TypeSpec:
		if !s.Name.IsExported() {
			return nil
		}
		doc := s.Doc
		if doc == nil {
			doc = d.Doc
		}
		return append(f.comment(s.Name, doc), f.methods(s)...)
	case *ast.ValueSpec:
		for _, name := range s.Names {
			if name.IsExported() && s.Doc == nil && s.Comment == nil && d.Doc == nil {
				return []Finding{f.at(name.Pos(), "%s %s has no comment", strings.ToLower(d.Tok.String()), name.Name)}
			}
		}
	}
	return nil
}

// methods checks the methods of an interface.
func (f *file) methods(s *ast.TypeSpec) []Finding {
	i, ok := s.Type.(*ast.InterfaceType)
	if !ok {
		return nil
	}
	var found []Finding
	for _, m := range i.Methods.List {
		for _, name := range m.Names {
			if name.IsExported() && m.Doc == nil && m.Comment == nil {
				found = append(found, f.at(name.Pos(), "method %s.%s has no comment", s.Name.Name, name.Name))
			}
		}
	}
	return found
}

// comment checks the comment of a function or type.
func (f *file) comment(name *ast.Ident, doc *ast.CommentGroup) []Finding {
	text := doc.Text()
	if text == "" {
		return []Finding{f.at(name.Pos(), "%s has no comment", name.Name)}
	}
	for _, article := range []string{"", "A ", "An ", "The "} {
		rest, ok := strings.CutPrefix(text, article+name.Name)
		if ok && !token.IsIdentifier("a"+rest[:1]) {
			return nil
		}
	}
	return []Finding{f.at(name.Pos(), "the comment of %s does not begin with its name", name.Name)}
}

// exportedReceiver reports whether a function is no method, or one of an exported
// type.
func exportedReceiver(d *ast.FuncDecl) bool {
	if d.Recv == nil || len(d.Recv.List) == 0 {
		return true
	}
	return ast.IsExported(receiver(d.Recv.List[0].Type))
}

// receiver returns the type's name of *T, T and T[K].
func receiver(e ast.Expr) string {
	switch e := e.(type) {
	case *ast.Ident:
		return e.Name
	case *ast.StarExpr:
		return receiver(e.X)
	case *ast.IndexExpr:
		return receiver(e.X)
	case *ast.IndexListExpr:
		return receiver(e.X)
	}
	return ""
}
