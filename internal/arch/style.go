package arch

import (
	"go/ast"
	"path"
	"regexp"
	"strings"
)

// Limits of the house style, in lines.
const (
	maxFile     = 500
	maxFunction = 60
)

// flat is the comment that lets a function be long.
const flat = "//arch:flat"

// sizes checks the length of files and functions.
func (f *file) sizes() []Finding {
	var found []Finding
	if f.lines > maxFile {
		found = append(found, f.at(f.ast.Name.Pos(), "has %d lines, more than %d: split it by reason to change", f.lines, maxFile))
	}
	for _, decl := range f.ast.Decls {
		fn, ok := decl.(*ast.FuncDecl)
		if !ok || hasDirective(fn.Doc, flat) {
			continue
		}
		n := f.tree.fset.Position(fn.End()).Line - f.tree.fset.Position(fn.Pos()).Line + 1
		if n > maxFunction {
			found = append(found, f.at(fn.Pos(), "function %s has %d lines, more than %d: split it (a flat switch is marked %s)",
				fn.Name.Name, n, maxFunction, flat))
		}
	}
	return found
}

// inits checks that nothing runs before main.
func (f *file) inits() []Finding {
	var found []Finding
	for _, decl := range f.ast.Decls {
		if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
			found = append(found, f.at(fn.Pos(), "has an init function: what a program needs it makes and passes on"))
		}
	}
	return found
}

// unfinished checks that no work is left for later.
func (f *file) unfinished() []Finding {
	marks := regexp.MustCompile(`\b(TO` + `DO|FIX` + `ME|X` + `XX)\b`)
	var found []Finding
	for _, group := range f.ast.Comments {
		for _, c := range group.List {
			if m := marks.FindString(c.Text); m != "" {
				found = append(found, f.at(c.Pos(), "comment with %s: do it, or file an issue", m))
			}
		}
	}
	return found
}

// packageComments checks that each package says what it is for.
func (t *tree) packageComments() []Finding {
	documented := map[string]bool{}
	first := map[string]*file{}
	for _, f := range t.files {
		if f.test {
			continue
		}
		if first[f.pkg] == nil {
			first[f.pkg] = f
		}
		documented[f.pkg] = documented[f.pkg] || f.ast.Doc != nil
	}
	var found []Finding
	for pkg, f := range first {
		if !documented[pkg] {
			found = append(found, f.at(f.ast.Name.Pos(), "package %s has no package comment: what is it for, what does it refuse?", f.ast.Name.Name))
		}
	}
	return found
}

// hasDirective reports whether a comment group has a line that begins so.
func hasDirective(doc *ast.CommentGroup, directive string) bool {
	if doc == nil {
		return false
	}
	for _, c := range doc.List {
		if strings.HasPrefix(c.Text, directive) {
			return true
		}
	}
	return false
}

// lastElement returns the name by which a package of this path is known in code:
// the last part that is no version.
func lastElement(importPath string) string {
	base := path.Base(importPath)
	if regexp.MustCompile(`^v\d+$`).MatchString(base) {
		base = path.Base(path.Dir(importPath))
	}
	return base
}
