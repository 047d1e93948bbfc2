package replication

import (
	"context"

	"github.com/jackc/pgx/v5/pgconn"
)

// Exec runs statements on an SQL connection of its own, with the password of the
// configuration. Several, separated by semicolons, are one transaction (manual,
// "Multiple Statements in a Simple Query"). doing begins the text of an error, which
// is as Classify makes them.
func (s *Source) Exec(ctx context.Context, doing, sql string) error {
	return s.onSQL(ctx, doing, func(ctx context.Context, conn *pgconn.PgConn) error {
		return run(ctx, conn, sql)
	})
}
