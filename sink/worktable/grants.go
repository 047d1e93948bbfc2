package worktable

import (
	"fmt"
	"strings"

	"github.com/walbridge/walbridge/migrations"
)

// right is what the bridge's role needs on one object.
type right struct {
	kind       string // SCHEMA, TABLE, SEQUENCE, FUNCTION
	name       string // without the schema; a function with its arguments
	privileges []string
	why        string
}

// rights are all that the bridge needs: to write, to show its status, to resolve
// dead letters.
func rights() []right {
	return []right{
		{"SCHEMA", "", []string{"USAGE"}, "to see the tables"},
		{"TABLE", "schema_version", []string{"SELECT"}, "to check the schema's version"},
		{"TABLE", "source", []string{"SELECT", "INSERT", "UPDATE"}, "to own a source; the fence locks its row"},
		{"TABLE", "batch", []string{"SELECT", "INSERT", "DELETE"}, "to store the position, and to trim old rows"},
		{"TABLE", "stream", []string{"SELECT", "INSERT"}, "to number streams"},
		{"TABLE", "log", []string{"SELECT", "INSERT"}, "to store items, and to show them"},
		{"TABLE", "dead_letter", []string{"SELECT", "INSERT", "UPDATE"}, "to keep dead letters, and to resolve them"},
		{"TABLE", "operation", []string{"SELECT", "INSERT"}, "to note what operators do"},
		{"TABLE", "progress", []string{"SELECT"}, "to show the progress"},
		{"SEQUENCE", "log_seq", []string{"SELECT", "USAGE", "UPDATE"}, "to number the items"},
		{"FUNCTION", "make_partitions(bigint, integer, bigint)", []string{"EXECUTE"}, "to make partitions ahead"},
	}
}

// object is the right's object as GRANT names it.
func (r right) object(schema string) string {
	if r.kind == "SCHEMA" {
		return migrations.Ident(schema)
	}
	return migrations.Ident(schema) + "." + r.name
}

func (r right) grant(schema, role string) string {
	return fmt.Sprintf("GRANT %s ON %s %s TO %s;", strings.Join(r.privileges, ", "), r.kind, r.object(schema), migrations.Ident(role))
}

// GrantsSQL returns the statements that give a role all that a bridge needs in the
// schema, and nothing more. The schema's owner runs them; the role needs CONNECT on
// the database besides, which it has unless it was taken away from PUBLIC.
func GrantsSQL(schema, role string) string {
	var b strings.Builder
	for _, r := range rights() {
		b.WriteString(r.grant(schema, role) + "\n")
	}
	return b.String()
}
