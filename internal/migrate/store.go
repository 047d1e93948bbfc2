package migrate

import (
	"context"
	"database/sql"
	"errors"
	"fmt"

	"github.com/pressly/goose/v3/database"

	"github.com/walbridge/walbridge/migrations"
)

// store keeps the list of migrations that ran in table migration of the schema.
// goose's own one cannot: it takes a table's name apart without quotes.
type store struct {
	schema, who, toolVersion string
}

func (s *store) Tablename() string { return migrations.Ident(s.schema) + ".migration" }

func (s *store) TableExists(ctx context.Context, db database.DBTxConn) (exists bool, err error) {
	err = db.QueryRowContext(ctx, `SELECT to_regclass($1) IS NOT NULL`, s.Tablename()).Scan(&exists)
	return exists, err
}

// CreateVersionTable makes the schema too: it is where the table is.
func (s *store) CreateVersionTable(ctx context.Context, db database.DBTxConn) error {
	for _, sql := range createStatements(s.schema) {
		if _, err := db.ExecContext(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

func createStatements(schema string) []string {
	return []string{
		"CREATE SCHEMA IF NOT EXISTS " + migrations.Ident(schema),
		"CREATE TABLE " + migrations.Ident(schema) + ".migration (version bigint PRIMARY KEY, applied_at timestamptz NOT NULL DEFAULT clock_timestamp())",
	}
}

// Insert runs in the transaction of the migration.
func (s *store) Insert(ctx context.Context, db database.DBTxConn, req database.InsertRequest) error {
	if _, err := db.ExecContext(ctx, "INSERT INTO "+s.Tablename()+" (version) VALUES ($1)", req.Version); err != nil {
		return err
	}
	return s.operation(ctx, db, "migrate up", req.Version)
}

// Delete runs in the transaction of the way back.
func (s *store) Delete(ctx context.Context, db database.DBTxConn, version int64) error {
	if _, err := db.ExecContext(ctx, "DELETE FROM "+s.Tablename()+" WHERE version = $1", version); err != nil {
		return err
	}
	return s.operation(ctx, db, "migrate down", version)
}

// operation notes the deed where there is a table for it: the first migration
// makes it, and its way back drops it.
func (s *store) operation(ctx context.Context, db database.DBTxConn, command string, version int64) error {
	table := migrations.Ident(s.schema) + ".operation"
	var exists bool
	if err := db.QueryRowContext(ctx, `SELECT to_regclass($1) IS NOT NULL`, table).Scan(&exists); err != nil || !exists {
		return err
	}
	_, err := db.ExecContext(ctx,
		"INSERT INTO "+table+" (who, tool_version, command, target) VALUES (coalesce(nullif($1, ''), session_user), $2, $3, $4)",
		s.who, s.toolVersion, command, fmt.Sprintf("schema version %d", version))
	return err
}

func (s *store) GetMigration(ctx context.Context, db database.DBTxConn, version int64) (*database.GetMigrationResult, error) {
	r := database.GetMigrationResult{IsApplied: true}
	err := db.QueryRowContext(ctx, "SELECT applied_at FROM "+s.Tablename()+" WHERE version = $1", version).Scan(&r.Timestamp)
	if errors.Is(err, sql.ErrNoRows) {
		return nil, fmt.Errorf("%w: %d", database.ErrVersionNotFound, version)
	}
	return &r, err
}

func (s *store) GetLatestVersion(ctx context.Context, db database.DBTxConn) (int64, error) {
	var latest sql.NullInt64
	err := db.QueryRowContext(ctx, "SELECT max(version) FROM "+s.Tablename()).Scan(&latest)
	if err == nil && !latest.Valid {
		return -1, database.ErrVersionNotFound
	}
	return latest.Int64, err
}

func (s *store) ListMigrations(ctx context.Context, db database.DBTxConn) ([]*database.ListMigrationsResult, error) {
	rows, err := db.QueryContext(ctx, "SELECT version FROM "+s.Tablename()+" ORDER BY version DESC")
	if err != nil {
		return nil, err
	}
	defer func() { _ = rows.Close() }() // rows.Err says what matters
	var all []*database.ListMigrationsResult
	for rows.Next() {
		r := database.ListMigrationsResult{IsApplied: true}
		if err := rows.Scan(&r.Version); err != nil {
			return nil, err
		}
		all = append(all, &r)
	}
	return all, rows.Err()
}

// locker lets one process migrate a schema at a time. The lock belongs to the
// session, so that it ends with a process that dies.
type locker struct{ schema string }

func (l locker) SessionLock(ctx context.Context, conn *sql.Conn) error {
	_, err := conn.ExecContext(ctx, "SELECT pg_advisory_lock($1::integer, hashtext($2::text))", migrations.LockMigrations, l.schema)
	return err
}

func (l locker) SessionUnlock(ctx context.Context, conn *sql.Conn) error {
	_, err := conn.ExecContext(ctx, "SELECT pg_advisory_unlock($1::integer, hashtext($2::text))", migrations.LockMigrations, l.schema)
	return err
}
