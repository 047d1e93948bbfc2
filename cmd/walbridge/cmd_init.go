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
		Long: `Look at a database and write a commented configuration for it to standard output:
outbox-shaped tables become an outbox route, all other tables a changes route, and
tables without a key are left out with a word why. The password of the DSN is not
written: put it into ~/.pgpass, or into the environment as
WALBRIDGE_PASSWORD.`,
		Example: "  walbridge init --source postgres://me@db/shop > walbridge.yaml",
		Args:    arguments(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.init(cmd.Context(), o) },
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
	if o.sink == "" {
		o.sink = o.source
	}
	_, err = fmt.Fprint(a.stdout, draft(o, tables))
	return err
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

// draft writes the configuration, at most fifteen lines and what has to be said of
// single tables.
func draft(o initOptions, tables []catalog.Table) string {
	var outboxes, others, inboxes, keyless []string
	for i := range tables {
		t := &tables[i]
		switch {
		case t.Schema == "walbridge" && t.Name == "inbox":
			inboxes = append(inboxes, t.QualifiedName())
		case t.Schema == "walbridge", t.Unlogged, t.Root != "":
		case outboxShaped(t):
			outboxes = append(outboxes, t.QualifiedName())
		case !t.SafeToPublish():
			keyless = append(keyless, t.QualifiedName())
		default:
			others = append(others, t.QualifiedName())
		}
	}
	var b strings.Builder
	fmt.Fprintf(&b, "# Every key is explained by `walbridge config example`. Next: walbridge doctor, setup, run.\n")
	fmt.Fprintf(&b, "name: %s\nsource:\n  dsn: %s\nroutes:\n", o.name, strconv.Quote(withoutPassword(o.source)))
	route := func(names []string, what string) {
		if len(names) > 0 {
			fmt.Fprintf(&b, "  - tables: %s\n    %s: {}\n", flow(names), what)
		}
	}
	route(outboxes, "outbox")
	route(inboxes, "inbox")
	route(others, "changes")
	if len(keyless) > 0 {
		fmt.Fprintf(&b, "  # without a key, UPDATE and DELETE would fail once published; give them a primary key or REPLICA IDENTITY FULL:\n  # %s\n", strings.Join(keyless, ", "))
	}
	fmt.Fprintf(&b, "sink:\n  worktable:\n    dsn: %s\n", strconv.Quote(withoutPassword(o.sink)))
	return b.String()
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

// withoutPassword drops a password, which has no place in a file that is shown.
func withoutPassword(dsn string) string {
	redacted := secret.Redact(dsn)
	if redacted == dsn {
		return dsn
	}
	return strings.ReplaceAll(redacted, secret.Redacted, "${"+configs.EnvPrefix+"PASSWORD}")
}
