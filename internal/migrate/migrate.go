// Package migrate runs the migrations of the walbridge schema with goose, one
// process at a time, each migration in a transaction of its own together with the
// note that it ran and an operation row.
//
// It makes and drops what the migrations say and nothing else: no role, no grant.
// It never guesses a direction: who calls Down has asked the operator.
package migrate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/secret"
	"github.com/walbridge/walbridge/migrations"
)

// Config says where the schema is and how it is made.
type Config struct {
	// DSN is the database, as a role that owns the schema or may make one.
	DSN secret.DSN
	// Schema defaults to walbridge.
	Schema string
	// Lanes is fixed by the first migration; later runs refuse another number.
	// Defaults to 64.
	Lanes int
	// Who and ToolVersion are for the operation rows. Who defaults to the database role.
	Who         string
	ToolVersion string
}

func (c Config) withDefaults() Config {
	if c.Schema == "" {
		c.Schema = migrations.DefaultSchema
	}
	if c.Lanes == 0 {
		c.Lanes = migrations.DefaultLanes
	}
	return c
}

// Step is one migration.
type Step struct {
	Version int
	Name    string // file name
	Applied bool
}

// Up runs the migrations that have not run, and returns their numbers. It waits
// while another process migrates. Afterwards the schema's version is
// migrations.Version or, when a newer program has migrated it, a higher one.
//
// Errors: *fault.ConfigError when the schema has another number of lanes.
func Up(ctx context.Context, cfg Config) ([]int, error) {
	return run(ctx, cfg, func(p *goose.Provider) ([]*goose.MigrationResult, error) { return p.Up(ctx) })
}

// Down undoes the migrations above version to, the newest first, with all that is
// stored in what they made. It returns their numbers.
func Down(ctx context.Context, cfg Config, to int) ([]int, error) {
	return run(ctx, cfg, func(p *goose.Provider) ([]*goose.MigrationResult, error) { return p.DownTo(ctx, int64(to)) })
}

func run(ctx context.Context, cfg Config, do func(*goose.Provider) ([]*goose.MigrationResult, error)) ([]int, error) {
	cfg = cfg.withDefaults()
	var ran []int
	err := with(ctx, cfg, func(db *sql.DB, p *goose.Provider) error {
		if err := sameLanes(ctx, db, cfg); err != nil {
			return err
		}
		results, err := do(p)
		var partial *goose.PartialError
		if errors.As(err, &partial) {
			results = partial.Applied
		}
		for _, r := range results {
			ran = append(ran, int(r.Source.Version))
		}
		if err != nil {
			return fmt.Errorf("migrate schema %s: %w", cfg.Schema, err)
		}
		return nil
	})
	return ran, err
}

// with opens the database and a provider, for one use.
func with(ctx context.Context, cfg Config, use func(*sql.DB, *goose.Provider) error) error {
	conn, err := pgx.ParseConfig(cfg.DSN.Reveal())
	if err != nil {
		return fault.Config(fault.Problem{
			Check: "sink-dsn", Where: "sink.worktable.dsn", What: secret.Redact(err.Error()), Fix: "give a connection string of PostgreSQL",
		})
	}
	// Not beginning with walbridge: a writer ends such a session when it blocks for long.
	conn.RuntimeParams["application_name"] = "migrate walbridge"
	db := stdlib.OpenDB(*conn)
	defer func() { _ = db.Close() }() // what was done is committed
	fsys, err := migrations.FS(cfg.Schema, cfg.Lanes)
	if err != nil {
		return err
	}
	s := &store{schema: cfg.Schema, who: cfg.Who, toolVersion: cfg.ToolVersion}
	p, err := goose.NewProvider(goose.DialectCustom, db, fsys,
		goose.WithStore(s), goose.WithSessionLocker(locker{cfg.Schema}), goose.WithDisableGlobalRegistry(true),
		goose.WithSlog(slog.New(slog.DiscardHandler)))
	if err != nil {
		return fmt.Errorf("read the embedded migrations: %w", err)
	}
	if err := db.PingContext(ctx); err != nil {
		return fmt.Errorf("connect to the sink: %w", redacted(err))
	}
	return use(db, p)
}

// redacted keeps an error's chain, and no password in its text.
func redacted(err error) error {
	if text := secret.Redact(err.Error()); text != err.Error() {
		return errors.New(text)
	}
	return err
}

// sameLanes refuses to go on with another number of lanes than the schema has.
func sameLanes(ctx context.Context, db *sql.DB, cfg Config) error {
	var made bool
	err := db.QueryRowContext(ctx, `SELECT to_regprocedure($1) IS NOT NULL`, migrations.Ident(cfg.Schema)+".lanes()").Scan(&made)
	if err != nil {
		return fmt.Errorf("look for the schema: %w", err)
	}
	if !made {
		return nil
	}
	var lanes int
	if err := db.QueryRowContext(ctx, "SELECT "+migrations.Ident(cfg.Schema)+".lanes()").Scan(&lanes); err != nil {
		return fmt.Errorf("read the number of lanes: %w", err)
	}
	if lanes != cfg.Lanes {
		return fault.Config(fault.Problem{
			Check: "lanes", Where: "sink.worktable.lanes",
			What: fmt.Sprintf("%d, but the schema was made with %d", cfg.Lanes, lanes),
			Why:  "The lane of a key depends on the number of lanes, which is fixed when the schema is made.",
			Fix:  fmt.Sprintf("lanes: %d", lanes),
		})
	}
	return nil
}

// Status lists all migrations that this program knows, in order, and the version
// and compatible_from of the schema, 0 for a schema that does not exist.
func Status(ctx context.Context, cfg Config) (steps []Step, version, compatibleFrom int, err error) {
	cfg = cfg.withDefaults()
	err = with(ctx, cfg, func(db *sql.DB, _ *goose.Provider) error {
		var qerr error
		version, compatibleFrom, qerr = versions(ctx, db, cfg.Schema)
		return qerr
	})
	if err != nil {
		return nil, 0, 0, err
	}
	fsys, err := migrations.FS(cfg.Schema, cfg.Lanes)
	if err != nil {
		return nil, 0, 0, err
	}
	names, err := fs.Glob(fsys, "*.sql")
	if err != nil {
		return nil, 0, 0, fmt.Errorf("list the embedded migrations: %w", err)
	}
	for i, name := range names {
		steps = append(steps, Step{Version: i + 1, Name: name, Applied: i+1 <= version})
	}
	return steps, version, compatibleFrom, nil
}

// versions reads schema_version; 0 and 0 when there is none.
func versions(ctx context.Context, db *sql.DB, schema string) (version, compatibleFrom int, err error) {
	table := migrations.Ident(schema) + ".schema_version"
	var made bool
	if err := db.QueryRowContext(ctx, `SELECT to_regclass($1) IS NOT NULL`, table).Scan(&made); err != nil {
		return 0, 0, fmt.Errorf("look for the schema: %w", err)
	}
	if !made {
		return 0, 0, nil
	}
	if err := db.QueryRowContext(ctx, "SELECT version, compatible_from FROM "+table).Scan(&version, &compatibleFrom); err != nil {
		return 0, 0, fmt.Errorf("read schema_version: %w", err)
	}
	return version, compatibleFrom, nil
}

// CompatCheck compares the schema with this program. The error is an
// *migrations.Incompatible, also for a schema that does not exist (version 0).
func CompatCheck(ctx context.Context, cfg Config) error {
	cfg = cfg.withDefaults()
	return with(ctx, cfg, func(db *sql.DB, _ *goose.Provider) error {
		version, from, err := versions(ctx, db, cfg.Schema)
		if err != nil {
			return err
		}
		return migrations.Compatible(version, from)
	})
}
