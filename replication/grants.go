package replication

import "github.com/walbridge/walbridge/internal/catalog"

// GrantsSQL returns what the bridge's role needs in the source's database once the
// publication exists: the right to log in and to replicate, and to connect. It needs
// no right on any table: a role that may replicate receives every row of a published
// table, row security notwithstanding (walsender.c checks nothing more), so guard its
// password like a superuser's. Making the publication needs the tables' owner.
func GrantsSQL(role string) string {
	name := quoteIdent(role)
	return "ALTER ROLE " + name + " LOGIN REPLICATION;\n" +
		"DO $$ BEGIN EXECUTE format('GRANT CONNECT ON DATABASE %I TO %I', current_database(), " + quoteLiteral(role) + "); END $$;\n"
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
