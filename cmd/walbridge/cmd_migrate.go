package main

import (
	"context"
	"fmt"

	"github.com/hashicorp/go-hclog"
	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/spf13/cobra"

	"github.com/walbridge/walbridge/configs"
	"github.com/walbridge/walbridge/internal/migrate"
	"github.com/walbridge/walbridge/internal/secret"
	"github.com/walbridge/walbridge/migrations"
)

func (a *app) migrateCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use: "migrate", Short: "Bring the walbridge schema up to date, or back",
		Long:    "Run or show the numbered migrations of the walbridge schema in the destination. Each runs in a transaction of its own, one process at a time.",
		Example: "  walbridge migrate status\n  walbridge migrate up --print",
		Args:    arguments(cobra.NoArgs),
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	var print bool
	var to int
	up := &cobra.Command{
		Use: "up", Short: "Run the migrations that have not run",
		Long:    "Run the migrations that have not run. `walbridge setup` does so too.",
		Example: "  walbridge migrate up", Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.migrate(cmd.Context(), print, 0, migrations.Version, migrate.Up)
		},
	}
	up.Flags().BoolVar(&print, "print", false, "print the SQL of all migrations and run nothing")
	down := &cobra.Command{
		Use: "down --to N", Short: "Take migrations back",
		Long:    "Take back the migrations above N. 0 takes back everything: the tables and all that they hold are gone; the schema stays, with the list of migrations.",
		Example: "  walbridge migrate down --to 0 --print", Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error {
			return a.migrate(cmd.Context(), print, migrations.Version, to, func(ctx context.Context, cfg migrate.Config) ([]int, error) {
				return migrate.Down(ctx, cfg, to)
			})
		},
	}
	down.Flags().BoolVar(&print, "print", false, "print the SQL and run nothing")
	down.Flags().IntVar(&to, "to", 0, "the version to go back to")
	_ = down.MarkFlagRequired("to")
	status := &cobra.Command{
		Use: "status", Short: "List the migrations and whether they have run",
		Long:    "List the migrations and whether they have run in the destination.",
		Example: "  walbridge migrate status --json", Args: arguments(cobra.NoArgs),
		RunE: func(cmd *cobra.Command, _ []string) error { return a.migrateStatus(cmd.Context()) },
	}
	a.jsonFlag(status)
	cmd.AddCommand(up, down, status)
	return cmd
}

// migrateConfig is where the configuration's schema is; as wins over its role.
func (a *app) migrateConfig(l configs.Loaded, as secret.DSN) (migrate.Config, error) {
	out, err := workTableConfig(l)
	if err != nil {
		return migrate.Config{}, err
	}
	dsn := as
	if dsn == "" {
		if dsn, err = l.Resolver.DSN(out.DSN); err != nil {
			return migrate.Config{}, err
		}
	}
	return migrate.Config{DSN: dsn, Schema: out.Schema, Lanes: out.Lanes, ToolVersion: a.version}, nil
}

func (a *app) migrate(ctx context.Context, print bool, from, to int, run func(context.Context, migrate.Config) ([]int, error)) error {
	loaded, err := a.load()
	if err != nil {
		return err
	}
	cfg, err := a.migrateConfig(loaded, "")
	if err != nil {
		return err
	}
	if print {
		sql, err := migrate.Print(cfg, from, to)
		if err != nil {
			return err
		}
		_, err = fmt.Fprint(a.stdout, sql)
		return err
	}
	ran, err := run(ctx, cfg)
	if err != nil {
		return err
	}
	if len(ran) == 0 {
		_, err = fmt.Fprintln(a.stdout, "nothing to do")
		return err
	}
	_, err = fmt.Fprintf(a.stdout, "ran migrations %v\n", ran)
	return err
}

func (a *app) migrateStatus(ctx context.Context) error {
	loaded, err := a.load()
	if err != nil {
		return err
	}
	cfg, err := a.migrateConfig(loaded, "")
	if err != nil {
		return err
	}
	steps, version, compatibleFrom, err := migrate.Status(ctx, cfg)
	if err != nil {
		return err
	}
	if a.json {
		return a.printJSON(map[string]any{"version": version, "compatible_from": compatibleFrom, "migrations": steps})
	}
	t := table.NewWriter()
	t.SetOutputMirror(a.stdout)
	t.AppendHeader(table.Row{"version", "migration", "applied"})
	for _, s := range steps {
		t.AppendRow(table.Row{s.Version, s.Name, yesNo(s.Applied)})
	}
	t.Render()
	return nil
}

func yesNo(b bool) string {
	if b {
		return "yes"
	}
	return "no"
}

// migrateIfAuto brings the schema up to date at a start that is allowed to.
func (a *app) migrateIfAuto(ctx context.Context, l configs.Loaded, log hclog.Logger) error {
	if l.Config.Migrate != configs.MigrateAuto || l.Config.Sink.Worktable == nil {
		return nil
	}
	cfg, err := a.migrateConfig(l, "")
	if err != nil {
		return err
	}
	ran, err := migrate.Up(ctx, cfg)
	if len(ran) > 0 {
		log.Info("migrated the schema of the work table", "schema", cfg.Schema, "migrations", fmt.Sprint(ran))
	}
	return err
}
