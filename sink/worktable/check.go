package worktable

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/secret"
	"github.com/walbridge/walbridge/migrations"
)

// minServer is the oldest server version, as server_version_num has it.
const minServer = 140000

// SourceOf says which database the bridge reads, to find out whether it is the
// work table's own.
type SourceOf struct {
	SystemID    uint64 // of the cluster; 0: unknown
	Database    string
	Publication string // of the bridge
}

// Check looks at all that has to be right before the sink can be opened, and
// changes nothing. What is wrong is in the problems; the error is for a check that
// could not be finished.
func Check(ctx context.Context, cfg Config, src SourceOf) ([]fault.Problem, error) {
	parsed, err := cfg.parse(appPrefix + " doctor")
	if err != nil {
		return problems(err), nil
	}
	conn, err := pgx.ConnectConfig(ctx, parsed)
	if err != nil {
		return unreachable(err), nil
	}
	defer closeConn(conn)
	c := &checker{conn: conn, cfg: cfg, src: src, q: statements{migrations.Ident(cfg.Schema)}}
	for _, check := range []func(context.Context) error{c.server, c.schema, c.rights, c.sameDatabase} {
		if err := check(ctx); err != nil {
			return c.found, fmt.Errorf("check the work table: %w", redacted(err))
		}
	}
	return c.found, nil
}

// unreachable says why no connection could be had: as a start would, where only the
// configuration or an administrator can cure it.
func unreachable(err error) []fault.Problem {
	if found := problems(connectError(err)); found != nil {
		return found
	}
	return []fault.Problem{{
		Check: "sink-connect", Where: "sink.worktable.dsn", What: secret.Redact(err.Error()),
		Why: "Nothing can be delivered.", Fix: "see that the server runs and that the role may log in",
	}}
}

// problems takes the problems out of a configuration error.
func problems(err error) []fault.Problem {
	var c *fault.ConfigError
	if errors.As(err, &c) {
		return c.Problems
	}
	return nil
}

// checker collects what the checks find.
type checker struct {
	conn  *pgx.Conn
	cfg   Config
	src   SourceOf
	q     statements
	found []fault.Problem
	made  bool // the schema is there, of a version that fits
}

func (c *checker) add(p fault.Problem) { c.found = append(c.found, p) }

// server looks at version, role in replication and durability.
func (c *checker) server(ctx context.Context) error {
	var version int
	var recovery bool
	var fsync, fullPages, encoding string
	err := c.conn.QueryRow(ctx, `SELECT current_setting('server_version_num')::int, pg_is_in_recovery(), current_setting('fsync'),
		current_setting('full_page_writes'), current_setting('server_encoding')`).Scan(&version, &recovery, &fsync, &fullPages, &encoding)
	if err != nil {
		return err
	}
	if version < minServer {
		c.add(fault.Problem{Check: "sink-version", Where: "sink.worktable.dsn", What: fmt.Sprintf("the server has version %d", version/10000),
			Why: "The schema needs PostgreSQL 14 or newer.", Fix: "use a newer server"})
	}
	if recovery {
		c.add(fault.Problem{Check: "sink-standby", Where: "sink.worktable.dsn", What: "the server is a standby",
			Why: "Nothing can be written to it.", Fix: "connect to the primary; target_session_attrs=read-write finds it among several hosts"})
	}
	if fsync == "off" {
		c.add(fault.Problem{Check: "sink-fsync", Warning: true, Where: "fsync", What: "off",
			Why: "A crash of the server's machine can lose or damage what the source was told is durable.", Fix: "ALTER SYSTEM SET fsync = on; SELECT pg_reload_conf();"})
	}
	if fullPages == "off" {
		c.add(fault.Problem{Check: "sink-full-page-writes", Warning: true, Where: "full_page_writes", What: "off",
			Why: "A crash of the server's machine can damage pages, unless the file system never tears them.", Fix: "ALTER SYSTEM SET full_page_writes = on; SELECT pg_reload_conf();"})
	}
	if encoding != "UTF8" {
		c.add(fault.Problem{Check: "sink-encoding", Where: "sink.worktable.dsn", What: "the database's encoding is " + encoding,
			Why: "Text that it cannot hold would become dead letters.", Fix: "CREATE DATABASE … ENCODING 'UTF8'"})
	}
	return nil
}

// schema looks for the schema and compares its version and lanes.
func (c *checker) schema(ctx context.Context) error {
	var made bool
	err := c.conn.QueryRow(ctx, "SELECT to_regclass($1) IS NOT NULL", c.q.schema+".schema_version").Scan(&made)
	if hasCode(err, "42501") { // no USAGE: the schema is there; rights names it
		return nil
	}
	if err != nil {
		return err
	}
	if !made {
		c.add(noSchema(c.cfg))
		return nil
	}
	row, err := textRow(ctx, c.conn, c.q.version())
	if hasCode(err, "42501") {
		c.made = true
		return nil
	}
	if err != nil {
		return err
	}
	if err := checkVersion(c.cfg, row); err != nil {
		found := problems(err)
		if found == nil {
			return err
		}
		c.found = append(c.found, found...)
		return nil
	}
	c.made = true
	return nil
}

// rights names each privilege that the role lacks, with its GRANT.
func (c *checker) rights(ctx context.Context) error {
	var role string
	var usage *bool
	err := c.conn.QueryRow(ctx, `SELECT current_user, (SELECT has_schema_privilege(oid, 'USAGE') FROM pg_namespace WHERE nspname = $1)`, c.cfg.Schema).Scan(&role, &usage)
	if err != nil || usage == nil {
		return err
	}
	for i, r := range rights() {
		if i > 0 && (!*usage || !c.made) {
			return nil // what is in it cannot be seen
		}
		missing, err := c.missing(ctx, r)
		if err != nil {
			return err
		}
		if len(missing) > 0 {
			c.add(fault.Problem{Check: "sink-rights", Where: r.object(c.cfg.Schema),
				What: fmt.Sprintf("the role %s lacks %s", role, strings.Join(missing, ", ")), Why: "It is needed " + r.why + ".", Fix: r.grant(c.cfg.Schema, role)})
		}
	}
	return nil
}

// missing returns the privileges that the role lacks on an object.
func (c *checker) missing(ctx context.Context, r right) ([]string, error) {
	var missing []string
	ask := fmt.Sprintf("SELECT has_%s_privilege($1::text, $2::text)", strings.ToLower(r.kind))
	object := r.object(c.cfg.Schema)
	if r.kind == "SCHEMA" {
		object = c.cfg.Schema // has_schema_privilege takes a name, not an identifier
	}
	for _, p := range r.privileges {
		var has bool
		if err := c.conn.QueryRow(ctx, ask, object, p).Scan(&has); err != nil {
			return nil, err
		}
		if !has {
			missing = append(missing, p)
		}
	}
	return missing, nil
}

// sameDatabase looks, when the source is this database, for publications that would
// send our own writes round again.
func (c *checker) sameDatabase(ctx context.Context) error {
	same, err := sameDatabase(ctx, c.conn, c.src)
	if err != nil || !same {
		return err
	}
	rows, err := c.conn.Query(ctx, "SELECT pubname::text, tablename::text FROM pg_publication_tables WHERE schemaname = $1 AND tablename <> 'inbox' ORDER BY 1, 2", c.cfg.Schema)
	if err != nil {
		return err
	}
	type published struct{ Publication, Table string }
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[published])
	if err != nil {
		return err
	}
	seen := map[string]bool{}
	for _, p := range all {
		if seen[p.Publication] {
			continue
		}
		seen[p.Publication] = true
		c.add(fault.Problem{
			Check: "sink-published", Warning: p.Publication != c.src.Publication, Where: p.Publication,
			What: fmt.Sprintf("the publication covers the work table (%s.%s)", c.cfg.Schema, p.Table),
			Why:  "Each item that is stored would be a change to deliver, without end.", Fix: "publish the tables by name instead of FOR ALL TABLES, and leave out the schema " + c.cfg.Schema,
		})
	}
	return nil
}

// SameDatabase reports whether the work table is in the database that the bridge
// reads.
func SameDatabase(ctx context.Context, cfg Config, src SourceOf) (bool, error) {
	conn, err := connect(ctx, cfg, appPrefix)
	if err != nil {
		return false, err
	}
	defer closeConn(conn)
	same, err := sameDatabase(ctx, conn, src)
	if err != nil {
		return false, operationError(ctx, "compare source and sink", err)
	}
	return same, nil
}

func sameDatabase(ctx context.Context, conn *pgx.Conn, src SourceOf) (same bool, err error) {
	var id int64
	err = conn.QueryRow(ctx, "SELECT system_identifier, current_database() = $1::text FROM pg_control_system()", src.Database).Scan(&id, &same)
	return same && src.SystemID == uint64(id), err
}
