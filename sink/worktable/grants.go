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

// rights are all that the bridge's role needs: to write, to show the status of the
// bridge and of those that read the log, to resolve dead letters, and to do what
// operators ask for with the bridge's configuration.
//
//arch:flat
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
		{"FUNCTION", "set_retention(text, interval, interval, bigint, text, text)", []string{"EXECUTE"}, "to store how long items are kept"},
		{"FUNCTION", "retain(text)", []string{"EXECUTE"}, "to decide which partitions go"},
		{"FUNCTION", "detachments()", []string{"EXECUTE"}, "to take partitions out of log"},
		{"FUNCTION", "drop_partitions(boolean)", []string{"EXECUTE"}, "to drop them"},
		{"FUNCTION", "prune_inbox(interval, bigint, integer)", []string{"EXECUTE"}, "to delete rows of inbox that workers have moved"},
		{"TABLE", "retention", []string{"SELECT"}, "to show for whom log is kept beyond its limits"},
		{"TABLE", "subscription", []string{"SELECT"}, "to show subscriptions"},
		{"TABLE", "lane", []string{"SELECT"}, "to show who has leased the lanes of a subscription"},
		{"TABLE", "checkpoint", []string{"SELECT"}, "to show how far a subscription is"},
		{"TABLE", "parked", []string{"SELECT"}, "to show what a subscription has parked"},
		{"TABLE", "worker", []string{"SELECT"}, "to show the workers of a subscription"},
		{"FUNCTION", "subscription_progress(text)", []string{"EXECUTE"}, "to show the lag of a subscription"},
		{"FUNCTION", "pause(text, text)", []string{"EXECUTE"}, "by walbridge queue pause"},
		{"FUNCTION", "resume(text, text)", []string{"EXECUTE"}, "by walbridge queue resume"},
		{"FUNCTION", "reset(text, text, text)", []string{"EXECUTE"}, "by walbridge queue reset"},
		{"FUNCTION", "drop_subscription(text, text)", []string{"EXECUTE"}, "by walbridge queue drop"},
		{"FUNCTION", "replay(bigint, boolean, text)", []string{"EXECUTE"}, "by walbridge dlq replay, for letters of a subscription"},
		{"FUNCTION", "discard(bigint, text)", []string{"EXECUTE"}, "by walbridge dlq discard, for letters of a subscription"},
		{"TABLE", "workflow_instance", []string{"SELECT", "UPDATE"}, "to show workflows, to resume and to cancel them"},
		{"TABLE", "workflow_step", []string{"SELECT"}, "to show the steps of a workflow"},
		{"TABLE", "workflow_timer", []string{"SELECT"}, "to show the timers of a workflow"},
		{"TABLE", "workflow_signal", []string{"SELECT", "INSERT"}, "to show the signals of a workflow, and to send them"},
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
