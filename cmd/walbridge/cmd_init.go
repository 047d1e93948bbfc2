package main

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/walbridge/walbridge/configs"
	"github.com/walbridge/walbridge/internal/catalog"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/secret"
	"github.com/walbridge/walbridge/replication"
)

type initOptions struct {
	source, sink, name string
}

func (a *app) initCommand() *cobra.Command {
	var o initOptions
	cmd := &cobra.Command{
		Use: "init --source DSN", Short: "Write a configuration for a database",
		Long: `Look at a database and write a configuration for it to standard output: outbox-shaped
tables become an outbox route, all other tables a changes route, whose first start reads
the rows that are there, and tables without a key are left out with a word why. A password
of the DSN is not written: the file names an environment variable in its place,
WALBRIDGE_SOURCE_PASSWORD, and for the database of --sink WALBRIDGE_SINK_PASSWORD. A DSN
without a password takes it from ~/.pgpass.

Nothing is changed. A database without a table for a route is refused, since a
configuration needs one. Exit codes: 0 written, 1 failure, 2 nothing to write, or usage.`,
		Example: `  walbridge init --source postgres://me@db/shop > walbridge.yaml
  walbridge init --source postgres://me@db/shop --sink postgres://me@work/items`,
		Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.init(cmd.Context(), o) },
	}
	cmd.Flags().StringVar(&o.source, "source", "", "the database to read, as a URL or keyword/value pairs")
	cmd.Flags().StringVar(&o.sink, "sink", "", "the database of the work table; the source's own without it")
	cmd.Flags().StringVar(&o.name, "name", "", "name of the bridge; made of the database's name without it")
	_ = cmd.MarkFlagRequired("source")
	return cmd
}

func (a *app) init(ctx context.Context, o initOptions) error {
	src, err := replication.New(replication.Config{DSN: secret.DSN(o.source)}.WithDefaults("init"), "init", a.quiet())
	if err != nil {
		return err
	}
	srv, err := src.Inspect(ctx)
	if err != nil {
		return err
	}
	tables, err := src.Tables(ctx)
	if err != nil {
		return err
	}
	if o.name == "" {
		o.name = bridgeName(srv.Database)
	}
	found := sortTables(tables)
	if !found.usable() {
		return nothingToRead(srv.Database, found.keyless)
	}
	text := draft(o, found)
	if _, err := configs.Parse(configs.DefaultPath, []byte(text), withPasswords); err != nil {
		return err // a name that no slot can have, say
	}
	_, err = fmt.Fprint(a.stdout, text)
	return err
}

// withPasswords is the environment that a configuration of init's needs, to check it.
func withPasswords(name string) (string, bool) {
	return "password", name == sourcePassword || name == sinkPassword
}

// nothingToRead says why there is no route to write, and how to go on.
func nothingToRead(database string, keyless []string) error {
	p := fault.Problem{
		Check: "table", Where: database, What: "the database has no tables, so there is no route to write",
		Fix: "make the tables and run this again; or write a route for tables to come into the file of `walbridge config example`: routes: [{tables: [\"public.*\"], changes: {}}]",
	}
	if len(keyless) > 0 {
		p.What = "no table of the database can be read: without a key are " + strings.Join(keyless, ", ")
		p.Why = "once such a table is published, UPDATE and DELETE on it fail for the application"
		p.Fix = "ALTER TABLE … ADD PRIMARY KEY (…), or ALTER TABLE … REPLICA IDENTITY FULL (more WAL), and run this again"
	}
	return fault.Config(p)
}

// bridgeName makes a name of a database's: what slots may be called.
func bridgeName(database string) string {
	name := strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= '0' && r <= '9', r == '_':
			return r
		case r >= 'A' && r <= 'Z':
			return r + 'a' - 'A'
		}
		return '_'
	}, database)
	return name[:min(len(name), 40)]
}

// found are the tables of a database by what becomes of them.
type found struct {
	outboxes, inboxes, others []string
	// unread can be streamed, by REPLICA IDENTITY FULL, and are read whole or not at all.
	unread []string
	// keyless are left out: UPDATE and DELETE on them would fail once they are published.
	keyless []string
}

func (f found) usable() bool { return len(f.outboxes)+len(f.inboxes)+len(f.others)+len(f.unread) > 0 }

func sortTables(tables []catalog.Table) found {
	var f found
	for i := range tables {
		t := &tables[i]
		switch {
		case t.Schema == "walbridge" && t.Name == "inbox":
			f.inboxes = append(f.inboxes, t.QualifiedName())
		case t.Schema == "walbridge", t.Unlogged, t.Root != "":
		case !t.SafeToPublish():
			f.keyless = append(f.keyless, t.QualifiedName())
		case outboxShaped(t):
			f.outboxes = append(f.outboxes, t.QualifiedName())
		case len(t.IdentityColumns) == 0:
			f.unread = append(f.unread, t.QualifiedName())
		default:
			f.others = append(f.others, t.QualifiedName())
		}
	}
	return f
}

// draft writes the configuration, in at most fifteen lines.
func draft(o initOptions, f found) string {
	sourceDSN, sinkDSN := passwordFrom(o.source, sourcePassword), passwordFrom(o.sink, sinkPassword)
	if o.sink == "" {
		sinkDSN = sourceDSN
	}
	var b strings.Builder
	fmt.Fprintln(&b, "# `walbridge config example` explains every key. Next: walbridge setup, doctor, run.")
	if variables := passwordsIn(sourceDSN, sinkDSN); len(variables) > 0 {
		fmt.Fprintf(&b, "# The password comes from the environment: %s.\n", strings.Join(variables, ", "))
	}
	fmt.Fprintf(&b, "name: %s\nsource: {dsn: %s}\nroutes: # the first that matches a table takes it\n", o.name, strconv.Quote(sourceDSN))
	route := func(names []string, what string) {
		if len(names) > 0 {
			fmt.Fprintf(&b, "  - tables: %s\n    %s: {}\n", flow(names), what)
		}
	}
	route(f.outboxes, "outbox")
	route(f.inboxes, "inbox")
	route(f.others, "changes")
	if len(f.others) > 0 {
		fmt.Fprintln(&b, "    snapshot: initial # the first start reads the rows that are there; never: it reads none")
	}
	if len(f.unread) > 0 {
		fmt.Fprintf(&b, "  - {tables: %s, changes: {}, snapshot: never} # without a key; initial reads them whole, before the stream\n", flow(f.unread))
	}
	if len(f.keyless) > 0 {
		fmt.Fprintf(&b, "  # left out until they have a primary key or REPLICA IDENTITY FULL: %s\n", comment(f.keyless))
	}
	fmt.Fprintf(&b, "sink: {worktable: {dsn: %s}}\n", strconv.Quote(sinkDSN))
	return b.String()
}

// comment writes names for a comment: one with a line break in it ends no comment.
func comment(names []string) string {
	return strings.Join(strings.Fields(strings.Join(names, ", ")), " ")
}

// outboxShaped reports whether a table has the columns that outbox events need.
func outboxShaped(t *catalog.Table) bool {
	for _, name := range []string{"id", "aggregatetype", "aggregateid", "type", "payload"} {
		if !slices.ContainsFunc(t.Columns, func(c catalog.Column) bool { return c.Name == name }) {
			return false
		}
	}
	return true
}

// flow writes names as a YAML list in one line.
func flow(names []string) string {
	quoted := make([]string, len(names))
	for i, n := range names {
		quoted[i] = strconv.Quote(n)
	}
	return "[" + strings.Join(quoted, ", ") + "]"
}

// The variables that hold the passwords of a configuration that init writes.
const (
	sourcePassword = configs.EnvPrefix + "SOURCE_PASSWORD"
	sinkPassword   = configs.EnvPrefix + "SINK_PASSWORD"
)

// passwordFrom puts a variable in the place of a password, which has no place in a
// file that is shown.
func passwordFrom(dsn, variable string) string {
	redacted := secret.Redact(dsn)
	if redacted == dsn {
		return dsn
	}
	return strings.ReplaceAll(redacted, secret.Redacted, "${"+variable+"}")
}

// passwordsIn are the variables that connection strings take a password from.
func passwordsIn(dsns ...string) []string {
	var all []string
	for _, variable := range []string{sourcePassword, sinkPassword} {
		if strings.Contains(strings.Join(dsns, "\n"), "${"+variable+"}") {
			all = append(all, variable)
		}
	}
	return all
}
