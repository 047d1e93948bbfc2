package replication

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/internal/catalog"
)

// Publish adds a table to the publication while nobody writes to it. What is committed in
// it by then is in no stream; all that comes later is.
//
// It waits two seconds for the lock, in which others who want to write wait behind it, and
// then gives up; where the table has partitions, for all of their locks together. message, if not nil, makes the content of a logical message that is
// written by the same transaction, whose id it is told: both are there, or neither. The
// commit waits for no standby, since the lock would be held for as long.
//
// A table that has to be empty and is not stays out, since nobody would deliver its rows.
//
// A table that is gone, or was added by somebody else, is no error, and no message is
// written. An error says who writes to the table, or which statement another role may run.
func (s *Source) Publish(ctx context.Context, a *Addition, prefix string, message func(xid uint64) ([]byte, error)) error {
	t := &a.Table
	return s.onSQL(ctx, "publish "+t.QualifiedName(), func(ctx context.Context, conn *pgconn.PgConn) error {
		err := s.publishLocked(ctx, conn, a, prefix, message)
		if err == nil {
			return nil
		}
		if run(ctx, conn, "ROLLBACK") != nil {
			return err // the connection is gone, and the transaction with it
		}
		return s.refusal(ctx, conn, t, err)
	})
}

var errNotEmpty = errors.New("it is an outbox with rows that were committed before it is published, and they would never be delivered: " +
	"insert them again when it is published (see the fix), or say with snapshot: never in its route that they are settled")

func (s *Source) publishLocked(ctx context.Context, conn *pgconn.PgConn, a *Addition, prefix string, message func(xid uint64) ([]byte, error)) error {
	table := quoteQualified(a.Table.Schema, a.Table.Name)
	err := run(ctx, conn, "BEGIN READ WRITE; SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = '2s'; SET LOCAL synchronous_commit = local; "+
		"LOCK TABLE "+table+" IN SHARE ROW EXCLUSIVE MODE; ALTER PUBLICATION "+quoteIdent(s.cfg.Publication)+" ADD TABLE ONLY "+table)
	if err != nil {
		return err
	}
	if a.Empty {
		// A statement of its own: it sees what was committed before the lock was had.
		rows, err := rowOf[bool](ctx, conn, "SELECT pg_catalog.to_jsonb(EXISTS (SELECT FROM "+table+"))")
		if err != nil {
			return err
		}
		if rows {
			return errNotEmpty
		}
	}
	if message != nil {
		// The message comes last: a position inside the transaction lies before it.
		xid, err := rowOf[uint64](ctx, conn, "SELECT pg_catalog.to_jsonb(pg_catalog.pg_current_xact_id()::text::numeric)")
		if err != nil {
			return err
		}
		content, err := message(xid)
		if err != nil {
			return err
		}
		if err := run(ctx, conn, "SELECT pg_catalog.pg_logical_emit_message(true, "+quoteLiteral(prefix)+", "+quoteLiteral(string(content))+")"); err != nil {
			return err
		}
	}
	return run(ctx, conn, "COMMIT")
}

// refusal says why a table was not published.
func (s *Source) refusal(ctx context.Context, conn *pgconn.PgConn, t *catalog.Table, err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return err
	}
	switch pg.Code {
	case "42710", "42P01", "3F000": // duplicate_object, undefined_table, invalid_schema_name
		return nil
	case "55P03", "57014": // lock_not_available, query_canceled
		return fmt.Errorf("somebody writes to it, and has not ended: %s", writers(ctx, conn, t))
	case "42501":
		return fmt.Errorf("%s; run this as the owner of the table and of the publication: %s", pg.Message, s.AddStatement(t))
	}
	return err
}

// writers names who holds the table, or a partition of it, against Publish.
func writers(ctx context.Context, conn *pgconn.PgConn, t *catalog.Table) string {
	found := holders(ctx, conn, fmt.Sprintf(`SELECT DISTINCT coalesce(l.pid, 0) AS pid FROM pg_catalog.pg_locks l
WHERE l.locktype = 'relation' AND l.granted AND l.mode NOT IN ('AccessShareLock', 'RowShareLock')
  AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())
  AND l.relation IN (SELECT %d UNION SELECT relid FROM pg_catalog.pg_partition_tree(%[1]d))`, t.OID))
	if found == "" {
		return "it is over by now"
	}
	return found
}
