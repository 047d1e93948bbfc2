package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
	"github.com/spf13/cobra"

	"github.com/walbridge/walbridge/configs"
	"github.com/walbridge/walbridge/internal/catalog"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/migrate"
	"github.com/walbridge/walbridge/internal/secret"
	"github.com/walbridge/walbridge/migrations"
	"github.com/walbridge/walbridge/replication"
	"github.com/walbridge/walbridge/sink/kafka"
	"github.com/walbridge/walbridge/sink/worktable"
)

type setupOptions struct {
	print, slot bool
	as, role    string
}

func (a *app) setupCommand() *cobra.Command {
	var o setupOptions
	cmd := &cobra.Command{
		Use: "setup", Short: "Make the publication and what the destination needs",
		Long: `Make what the bridge needs: the publication in the source and, in the destination, the
walbridge schema of a work table or the missing topics of a Kafka cluster. It shows the difference first, changes nothing that is right already,
and can be run again at any time. The replication slot is made by the first run, so
that no WAL is kept for nobody; --slot makes it at once.`,
		Example: "  walbridge setup --print\n  walbridge setup --as postgres://admin@db/shop",
		Args:    arguments(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return a.setup(cmd.Context(), o) },
	}
	cmd.Flags().BoolVar(&o.print, "print", false, "print the SQL, with the GRANTs of the bridge's role, and do nothing; for Kafka the commands, with its ACLs")
	cmd.Flags().StringVar(&o.as, "as", "", "connection string of an owner or administrator to do it as; never stored")
	cmd.Flags().StringVar(&o.role, "role", "", "with --print: the role that the GRANTs are for; the one of the configuration without it")
	cmd.Flags().BoolVar(&o.slot, "slot", false, "make the replication slot too, and store where it begins")
	return cmd
}

// installation is what setup works with.
type installation struct {
	loaded configs.Loaded
	source *replication.Source
	server *replication.Server
	plan   replication.PublicationPlan
	want   []catalog.Table
	inbox  bool     // the source needs the inbox table
	unread []string // added tables whose rows a first start would have read
}

func (a *app) setup(ctx context.Context, o setupOptions) error {
	loaded, err := a.load()
	if err != nil {
		return err
	}
	in, err := a.survey(ctx, loaded, o)
	if err != nil {
		return err
	}
	if o.print {
		return a.printSetup(in, o)
	}
	if err := a.install(ctx, in, o); err != nil {
		return err
	}
	// as it has published them, whoever may read them
	if plan := firstPlan(loaded, &replication.Server{Slot: in.server.Slot}, in.want); plan != "" {
		fmt.Fprintf(a.stdout, "the first start reads %s\n", plan)
	}
	if o.slot {
		return a.makeSlot(ctx, loaded)
	}
	return nil
}

// survey looks at the source, as the administrator when one is given.
func (a *app) survey(ctx context.Context, l configs.Loaded, o setupOptions) (*installation, error) {
	as := l
	if o.as != "" {
		as.Config.Source.DSN = secret.DSN(o.as)
		as.Config.Source.PasswordCommand = nil
	}
	src, err := source(as, a.quiet())
	if err != nil {
		return nil, err
	}
	in := &installation{loaded: l, source: src}
	if in.inbox = hasInbox(l); in.inbox && !o.print {
		if err := makeInbox(ctx, src, ownSchema(l)); err != nil {
			return nil, err
		}
	}
	srv, err := src.Inspect(ctx)
	if err != nil {
		return nil, err
	}
	tables, err := src.Tables(ctx)
	if err != nil {
		return nil, err
	}
	if in.inbox && o.print && indexOf(tables, ownSchema(l)+".inbox") < 0 {
		// what is printed makes it before the publication
		tables = append(tables, catalog.Table{Schema: ownSchema(l), Name: "inbox", Kind: 'r', Identity: 'd', IdentityColumns: []string{"n"}})
	}
	if in.want, err = routed(l, tables); err != nil {
		return nil, err
	}
	if missing := unmatchedRoutes(l, tables); len(missing) > 0 && !o.print {
		return nil, &fault.ConfigError{Problems: missing}
	}
	if !o.print {
		asked, err := outboxRows(ctx, l, src, srv, in.want)
		if err != nil {
			return nil, err
		}
		if len(asked) > 0 {
			return nil, &fault.ConfigError{Problems: asked}
		}
	}
	in.server = srv
	if in.plan, err = src.PlanPublication(srv, in.want); err == nil && srv.Slot != nil {
		in.unread, err = initial(l, in.want, in.plan.Add)
	}
	return in, err
}

// initial are those of the added tables whose rows a first start reads.
func initial(l configs.Loaded, want []catalog.Table, added []string) ([]string, error) {
	m, err := newMapper(l, mapped{})(nil, want)
	if err != nil {
		return nil, err
	}
	var names []string
	for i := range want {
		if _, ok := m.Initial(&want[i]); ok && !m.Outbox(&want[i]) && slices.Contains(added, want[i].QualifiedName()) {
			names = append(names, want[i].QualifiedName())
		}
	}
	return names, nil
}

func hasInbox(l configs.Loaded) bool {
	for _, r := range l.Config.Routes {
		if r.Inbox != nil {
			return true
		}
	}
	return false
}

// makeInbox makes the inbox in the source's database, where applications use it.
func makeInbox(ctx context.Context, src *replication.Source, schema string) error {
	sql, err := migrations.InboxSQL(schema)
	if err != nil {
		return err
	}
	return src.Exec(ctx, "make the inbox", sql)
}

// printSetup writes the SQL as scripts for psql, one for each database.
func (a *app) printSetup(in *installation, o setupOptions) error {
	var b strings.Builder
	role := o.role
	if role == "" {
		role = roleOf(in.loaded)
	}
	b.WriteString("-- In the source's database, as the owner of the tables (or a superuser):\n")
	if in.inbox {
		sql, err := migrations.InboxSQL(ownSchema(in.loaded))
		if err != nil {
			return err
		}
		b.WriteString(sql + "\n")
	}
	for _, s := range in.plan.Statements {
		b.WriteString(s + ";\n")
	}
	b.WriteString(replication.GrantsSQL(role))
	if m, err := newMapper(in.loaded, mapped{})(nil, in.want); err == nil {
		if read := firstRead(in.loaded, m, &replication.Server{}, in.want); len(read) > 0 {
			b.WriteString("-- Until the rows are read that are there at the first start (snapshot: never needs none of it):\n" + replication.ReadGrantSQL(read, role))
		}
		for _, p := range m.Prunes(in.want) {
			b.WriteString(replication.PruneGrantSQL(p.Table, role))
		}
	}
	if cfg, err := workTableConfig(in.loaded); err == nil {
		sql, err := migrate.Print(migrate.Config{Schema: cfg.Schema, Lanes: cfg.Lanes}, 0, migrations.Version)
		if err != nil {
			return err
		}
		b.WriteString("\n-- In the work table's database, as whoever is to own the schema:\n" + sql + worktable.GrantsSQL(cfg.Schema, role))
	}
	if in.loaded.Config.Sink.Kafka != nil {
		b.WriteString("\n-- For the Kafka cluster, as an administrator of it:\n")
		for _, line := range kafka.Commands(kafkaConfig(in.loaded, in.want), in.loaded.Config.Name, kafkaUser(in.loaded)) {
			b.WriteString("-- " + line + "\n")
		}
	}
	_, err := fmt.Fprint(a.stdout, b.String())
	return err
}

// kafkaUser is whom the rights in a Kafka cluster are for, as far as that is known.
func kafkaUser(l configs.Loaded) string {
	if s := l.Config.Sink.Kafka.SASL; s != nil && s.Username != "" {
		return s.Username
	}
	return "<user>"
}

// roleOf is the role that the configuration connects as, for GRANTs.
func roleOf(l configs.Loaded) string {
	if cfg, err := pgx.ParseConfig(l.Config.Source.DSN.Reveal()); err == nil && cfg.User != "" {
		return cfg.User
	}
	return "walbridge"
}

// install shows the difference and makes it.
func (a *app) install(ctx context.Context, in *installation, o setupOptions) error {
	name := in.loaded.Config.Source.Publication
	switch {
	case in.plan.Create:
		fmt.Fprintf(a.stdout, "publication %s: made, with %s\n", name, listed(in.plan.Add))
	case len(in.plan.Statements) == 0:
		fmt.Fprintf(a.stdout, "publication %s: as it should be, %d tables\n", name, len(in.want))
	default:
		fmt.Fprintf(a.stdout, "publication %s: adding %s; removing %s\n", name, listed(in.plan.Add), listed(in.plan.Drop))
	}
	if err := in.source.ApplyPublication(ctx, in.plan); err != nil {
		return err
	}
	if len(in.unread) > 0 {
		fmt.Fprintf(a.stdout, "rows that were in them before are not in the stream: walbridge snapshot --tables %s\n", strings.Join(in.unread, ","))
	}
	if in.loaded.Config.Sink.Kafka != nil {
		return a.makeTopics(ctx, in)
	}
	if _, err := workTableConfig(in.loaded); err != nil {
		return nil // nothing to make for another sink
	}
	cfg, err := a.migrateConfig(in.loaded, secret.DSN(o.as))
	if err != nil {
		return err
	}
	ran, err := migrate.Up(ctx, cfg)
	if err != nil {
		return err
	}
	what := "as it should be"
	if len(ran) > 0 {
		what = fmt.Sprintf("brought to version %d", slices.Max(ran))
	}
	_, err = fmt.Fprintf(a.stdout, "schema %s: %s\n", cfg.Schema, what)
	return err
}

// makeTopics makes the missing topics, those of the routed tables among them.
func (a *app) makeTopics(ctx context.Context, in *installation) error {
	cfg := kafkaConfig(in.loaded, in.want)
	made, err := kafka.Setup(ctx, cfg, in.loaded.Config.Name)
	var halt *fault.Halt
	if errors.As(err, &halt) {
		return &fault.ConfigError{Problems: problemsOf("sink.kafka", err)}
	}
	if err != nil {
		return err
	}
	what := "as they should be"
	if len(made) > 0 {
		what = "made " + listed(made)
	}
	_, err = fmt.Fprintf(a.stdout, "topics: %s\n", what)
	return err
}

// makeSlot does what the first run does before it streams, and so refuses what that
// would not be able to read.
func (a *app) makeSlot(ctx context.Context, l configs.Loaded) error {
	src, err := source(l, a.quiet())
	if err != nil {
		return err
	}
	srv, _, tables, err := look(ctx, src)
	if err != nil {
		return err
	}
	if found := snapshotFindings(l, srv, tables); len(found) > 0 {
		return &fault.ConfigError{Problems: found}
	}
	b, err := a.bridge(l, a.logger(l.Config.Log), runOptions{})
	if err != nil {
		return err
	}
	at, err := b.pipeline.Prepare(ctx)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(a.stdout, "slot %s: begins at %s\n", l.Config.Source.Slot, at)
	return err
}

func listed(names []string) string {
	if len(names) == 0 {
		return "nothing"
	}
	return strings.Join(names, ", ")
}
