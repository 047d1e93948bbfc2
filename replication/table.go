package replication

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/internal/catalog"
	"github.com/walbridge/walbridge/internal/pause"
)

const (
	// tableRetry is how often Table looks for a table whose commit is not visible yet.
	tableRetry = 50 * time.Millisecond
	// tableSlow is when it says that it waits.
	tableSlow = 5 * time.Second
)

// Table reads one table of the catalog by its OID; nil when it is gone.
//
// It is for an OID that has come in the stream. A transaction is in the stream as soon
// as its commit is flushed, and visible only after that, with synchronous replication
// much later: so a table that is not there may be one that was just made. Its maker
// holds a lock on it until the commit is visible, and Table waits for as long.
func (s *Source) Table(ctx context.Context, oid uint32) (*catalog.Table, error) {
	for begun, told := time.Now(), false; ; {
		t, pending, err := s.tableOnce(ctx, oid)
		if err != nil || t != nil || !pending {
			return t, err
		}
		if !told && time.Since(begun) > tableSlow {
			told = true
			s.log.Warn("waiting for the transaction that made a table: its commit is in the WAL and not visible, as with a standby that does not answer", "oid", oid)
		}
		if err := pause.For(ctx, tableRetry); err != nil {
			return nil, err
		}
	}
}

// tableOnce reports with a table that is missing whether somebody holds a lock on it. It
// asks for the lock first: released before, the commit is visible to what is read then.
func (s *Source) tableOnce(ctx context.Context, oid uint32) (found *catalog.Table, pending bool, err error) {
	err = s.onSQL(ctx, "read a table of the source", func(ctx context.Context, conn *pgconn.PgConn) error {
		if pending, err = rowOf[bool](ctx, conn, fmt.Sprintf(`
SELECT pg_catalog.to_jsonb(EXISTS (SELECT FROM pg_catalog.pg_locks l WHERE l.locktype = 'relation' AND l.relation = %d AND l.granted
  AND l.database = (SELECT oid FROM pg_catalog.pg_database WHERE datname = pg_catalog.current_database())))`, oid)); err != nil {
			return err
		}
		all, err := s.tables(ctx, conn, fmt.Sprintf(" AND c.oid = %d", oid))
		if len(all) > 0 {
			found = &all[0]
		}
		return err
	})
	return found, pending, err
}
