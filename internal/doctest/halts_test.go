package doctest_test

import (
	"go/ast"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// rules returns the rules of all halts in the code. One that is not a literal
// would escape this test, so it fails.
func rules(t *testing.T) []string {
	t.Helper()
	found := map[string]bool{}
	add := func(s source, e ast.Expr) {
		rule, ok := literal(e)
		require.True(t, ok, "%s: the rule of a halt is no literal", s.path)
		found[rule] = true
	}
	for _, s := range sources(t) {
		if s.test() {
			continue
		}
		halts := false
		ast.Inspect(s.ast, func(n ast.Node) bool {
			if lit, ok := n.(*ast.CompositeLit); ok && isHalt(lit.Type) {
				halts = true
				rule := field(lit, "Rule")
				require.NotNil(t, rule, "%s: a halt without a rule", s.path)
				add(s, rule)
			}
			return true
		})
		if halts {
			assigned(s, "Rule", func(e ast.Expr) { add(s, e) })
		}
	}
	return slices.Sorted(maps.Keys(found))
}

// isHalt reports whether a type is fault.Halt.
func isHalt(e ast.Expr) bool {
	sel, ok := e.(*ast.SelectorExpr)
	if !ok || sel.Sel.Name != "Halt" {
		return false
	}
	pkg, ok := sel.X.(*ast.Ident)
	return ok && pkg.Name == "fault"
}

func field(lit *ast.CompositeLit, name string) ast.Expr {
	for _, e := range lit.Elts {
		if kv, ok := e.(*ast.KeyValueExpr); ok {
			if key, ok := kv.Key.(*ast.Ident); ok && key.Name == name {
				return kv.Value
			}
		}
	}
	return nil
}

// assigned calls f with what is assigned to a field of that name.
func assigned(s source, name string, f func(ast.Expr)) {
	ast.Inspect(s.ast, func(n ast.Node) bool {
		a, ok := n.(*ast.AssignStmt)
		if !ok || len(a.Lhs) != len(a.Rhs) {
			return true
		}
		for i, to := range a.Lhs {
			if sel, ok := to.(*ast.SelectorExpr); ok && sel.Sel.Name == name {
				f(a.Rhs[i])
			}
		}
		return true
	})
}

// Every rule of a halt has its heading in the manual, and no other has.
func TestEveryHaltIsDocumented(t *testing.T) {
	text := read(t, "docs/operations.md").section(t, "## Halts", "## ")
	var headings []string
	for _, part := range strings.Split(text, "\n### ")[1:] {
		heading, body, _ := strings.Cut(part, "\n")
		headings = append(headings, heading)
		for _, want := range []string{"\n- Costs: ", "\n- Ways: "} {
			require.Contains(t, body, want, heading)
		}
	}
	slices.Sort(headings)
	require.Equal(t, rules(t), headings)
	require.Greater(t, len(headings), 20)
}
