package replication

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/internal/lsn"
)

// rowsOf runs a query of one JSON column by the simple protocol, which goes through
// every pooler, and decodes each row.
func rowsOf[T any](ctx context.Context, conn *pgconn.PgConn, sql string) ([]T, error) {
	results, err := conn.Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, err
	}
	var all []T
	for _, r := range results {
		for _, row := range r.Rows {
			var v T
			if err := json.Unmarshal(row[0], &v); err != nil {
				return nil, fmt.Errorf("decode a row of the catalog: %w", err)
			}
			all = append(all, v)
		}
	}
	return all, nil
}

// rowOf is rowsOf for a query of exactly one row.
func rowOf[T any](ctx context.Context, conn *pgconn.PgConn, sql string) (T, error) {
	all, err := rowsOf[T](ctx, conn, sql)
	if err == nil && len(all) != 1 {
		err = fmt.Errorf("the catalog answered with %d rows instead of one", len(all))
	}
	if err != nil {
		var zero T
		return zero, err
	}
	return all[0], nil
}

// jsonLSN is a pg_lsn as JSON has it: a string, or null for none.
type jsonLSN lsn.LSN

// UnmarshalText reads PostgreSQL's text form.
func (l *jsonLSN) UnmarshalText(b []byte) error {
	v, err := lsn.Parse(string(b))
	*l = jsonLSN(v)
	return err
}

// onSQL runs f on an SQL connection of its own, within the time of one command.
func (s *Source) onSQL(ctx context.Context, doing string, f func(context.Context, *pgconn.PgConn) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.limits.command, fmt.Errorf("not done within %v", s.limits.command))
	defer cancel()
	conn, err := s.sql(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", doing, err)
	}
	defer closeConn(conn)
	if err := f(ctx, conn); err != nil {
		if cause := context.Cause(ctx); cause != nil && !errors.As(err, new(*pgconn.PgError)) {
			err = cause
		}
		return Classify(fmt.Errorf("%s: %w", doing, err))
	}
	return nil
}
