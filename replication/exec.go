package replication

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"
)

// Connect opens an SQL connection of the caller's own, with the password of the
// configuration. Nothing but its name is set on it, and it may go through a pooler that
// gives each transaction another session. Errors are as Classify makes them.
func (s *Source) Connect(ctx context.Context) (*pgconn.PgConn, error) {
	conn, err := s.sql(ctx)
	if err != nil {
		return nil, Classify(fmt.Errorf("connect to the source: %w", err))
	}
	return conn, nil
}

// EmitMessage writes a transactional logical message into the source's log (manual,
// pg_logical_emit_message), as a transaction of its own whose commit waits for no
// standby: it has to be in the log, not visible.
func (s *Source) EmitMessage(ctx context.Context, prefix string, content []byte) error {
	return s.Exec(ctx, "write a message into the source's log",
		"BEGIN READ WRITE; SET LOCAL synchronous_commit = local; SELECT pg_catalog.pg_logical_emit_message(true, "+
			quoteLiteral(prefix)+", "+quoteLiteral(string(content))+"); COMMIT")
}

// Exec runs statements on an SQL connection of its own, with the password of the
// configuration. Several, separated by semicolons, are one transaction (manual,
// "Multiple Statements in a Simple Query"). doing begins the text of an error, which
// is as Classify makes them.
func (s *Source) Exec(ctx context.Context, doing, sql string) error {
	return s.onSQL(ctx, doing, func(ctx context.Context, conn *pgconn.PgConn) error {
		return run(ctx, conn, sql)
	})
}
