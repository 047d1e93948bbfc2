package replication

import (
	"slices"
	"strings"

	"github.com/walbridge/walbridge/internal/catalog"
)

// GrantsSQL returns what the bridge's role needs in the source's database once the
// publication exists: the right to log in and to replicate, and to connect. To stream it
// needs no right on any table: a role that may replicate receives every row of a published
// table, row security notwithstanding (walsender.c checks nothing more), so guard its
// password like a superuser's. Making the publication needs the tables' owner.
func GrantsSQL(role string) string {
	name := quoteIdent(role)
	return "ALTER ROLE " + name + " LOGIN REPLICATION;\n" +
		"DO $$ BEGIN EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), " + quoteLiteral(role) + "); END $$;\n"
}

// ReadGrantSQL returns what the role needs on tables whose rows are read, until they are:
// the right to SELECT, and to use their schemas. No tables: nothing.
func ReadGrantSQL(tables []*catalog.Table, role string) string {
	var schemas, names []string
	for _, t := range tables {
		if s := quoteIdent(t.Schema); !slices.Contains(schemas, s) {
			schemas = append(schemas, s)
		}
		names = append(names, quoteQualified(t.Schema, t.Name))
	}
	if len(names) == 0 {
		return ""
	}
	to := " TO " + quoteIdent(role) + ";\n"
	return "GRANT USAGE ON SCHEMA " + strings.Join(schemas, ", ") + to + "GRANT SELECT ON " + strings.Join(names, ", ") + to
}

// PruneGrantSQL returns what the role needs to prune an outbox. Locking rows takes UPDATE
// on some column, and no more (manual, SELECT, "The Locking Clause"; execMain.c,
// ExecCheckPermissionsModified).
func PruneGrantSQL(t *catalog.Table, role string) string {
	on := " ON " + quoteQualified(t.Schema, t.Name) + " TO " + quoteIdent(role) + ";\n"
	if len(t.IdentityColumns) > 0 {
		return "GRANT SELECT, DELETE, UPDATE (" + quoteIdent(t.IdentityColumns[0]) + ")" + on
	}
	return "GRANT SELECT, DELETE, UPDATE" + on
}
