package replication

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/internal/catalog"
)

// MaxPruned is how many rows one Delete deletes at most.
const MaxPruned = 1000

// Pruner deletes rows of outboxes over one SQL connection. It is for one goroutine.
type Pruner struct {
	s     *Source
	conn  *pgconn.PgConn
	place Place
}

// Pruner opens the connection. Errors are as Classify makes them.
func (s *Source) Pruner(ctx context.Context) (*Pruner, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, s.limits.command, fmt.Errorf("not done within %v", s.limits.command))
	defer cancel()
	conn, err := s.sql(ctx)
	if err != nil {
		return nil, fmt.Errorf("connect to prune: %w", err)
	}
	p := &Pruner{s: s, conn: conn}
	if _, p.place, err = whereNow(ctx, conn); err != nil {
		closeConn(conn)
		return nil, Classify(fmt.Errorf("connect to prune: %w", err))
	}
	return p, nil
}

// Close ends the connection.
func (p *Pruner) Close() { closeConn(p.conn) }

// Place is where the connection is. It stays there: a primary whose timeline changes has
// been restarted.
func (p *Pruner) Place() Place { return p.place }

// Prunable says which rows of a table may go.
type Prunable struct {
	Table *catalog.Table // not partitioned; its partitions and children have their own
	// Relayed is a horizon that the sink has confirmed; only rows of transactions below
	// it go.
	Relayed Horizon
	// Old is one that is as old as rows must be; zero: none is yet.
	Old Horizon
	// Column, if not empty, is a column of type timestamp (UTC) or timestamptz that says
	// how old a row is, in place of Old, which stands in where it is NULL.
	Column string
	Zoned  bool // Column is timestamptz
	Age    time.Duration
}

// Refused says why rows of a table must not go: the publication does not stream every
// insert of it. Empty: it does, as of now.
func (p *Pruner) Refused(ctx context.Context, t *catalog.Table) (why string, err error) {
	err = p.within(ctx, "look at publication "+p.s.cfg.Publication, func(ctx context.Context) error {
		pub, err := p.s.publication(ctx, p.conn)
		why = Unstreamed(pub, t)
		return err
	})
	return why, err
}

// Unstreamed says why not every insert into a table is streamed, empty when all are.
func Unstreamed(pub *Publication, t *catalog.Table) string {
	if pub == nil {
		return "the publication is gone"
	}
	if !pub.Insert {
		return "the publication leaves out every insert"
	}
	why := "the publication lacks the table"
	for _, p := range pub.Tables {
		if name := p.QualifiedName(); name != t.QualifiedName() && name != t.Root {
			continue
		}
		if p.Filter != "" {
			return "the publication has a row filter for the table"
		}
		why = ""
	}
	if t.Unlogged {
		return "the table is unlogged, so its rows are in no stream"
	}
	return why
}

// Pages is how many pages the table has.
func (p *Pruner) Pages(ctx context.Context, t *catalog.Table) (n int64, err error) {
	err = p.within(ctx, "read the size of "+t.QualifiedName(), func(ctx context.Context) error {
		n, err = rowOf[int64](ctx, p.conn, "SELECT pg_catalog.to_jsonb(pg_catalog.pg_relation_size("+
			quoteLiteral(quoteQualified(t.Schema, t.Name))+"::regclass) / pg_catalog.current_setting('block_size')::bigint)")
		return err
	})
	return n, err
}

// Delete deletes rows of the pages from first on, of so many pages, MaxPruned at most,
// and returns how many. Rows that somebody has locked are left; ErrPruneBusy when the
// table was, or when a row changed meanwhile: nothing was deleted then, and the
// connection goes on. It needs SELECT, DELETE and, for the row locks, UPDATE on some
// column.
func (p *Pruner) Delete(ctx context.Context, what Prunable, first, pages int64) (rows int64, err error) {
	if what.Relayed.Place != p.place || what.Old.Place != p.place && what.Old != (Horizon{}) {
		return 0, errors.New("prune: the horizon is of another server or timeline")
	}
	err = p.within(ctx, "prune "+what.Table.QualifiedName(), func(ctx context.Context) error {
		results, err := p.conn.Exec(ctx, deleteSQL(what, first, pages)).ReadAll()
		if err != nil {
			_ = run(ctx, p.conn, "ROLLBACK")
			return err
		}
		for _, r := range results {
			if r.CommandTag.Delete() {
				rows += r.CommandTag.RowsAffected()
			}
		}
		return nil
	})
	var pg *pgconn.PgError
	if errors.As(err, &pg) && (pg.Code == "55P03" || pg.Code == "40001" || pg.Code == "40P01") {
		return 0, ErrPruneBusy
	}
	return rows, err
}

// ErrPruneBusy says that somebody else was at work on a table or its rows.
var ErrPruneBusy = errors.New("the table or a row of it is in use")

func (p *Pruner) within(ctx context.Context, doing string, f func(context.Context) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, p.s.limits.command, fmt.Errorf("not done within %v", p.s.limits.command))
	defer cancel()
	if err := f(ctx); err != nil {
		if cause := context.Cause(ctx); cause != nil && !errors.As(err, new(*pgconn.PgError)) {
			err = cause
		}
		return Classify(fmt.Errorf("%s: %w", doing, err))
	}
	return nil
}

// deleteSQL is one transaction. It is REPEATABLE READ, so that no row is looked at that
// is newer than the snapshot: xmin has 32 bits, and how long ago it was is counted back
// from the snapshot's xmax, which is above all that it sees. A row so old that 32 bits
// have gone round counts as younger than it is, and goes later. That nobody waits for
// this commit's flush costs nothing: rows that come back after a crash go again.
func deleteSQL(what Prunable, first, pages int64) string {
	table := quoteQualified(what.Table.Schema, what.Table.Name)
	const next = "(SELECT pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::bigint)"
	below := func(xid uint64) string {
		return fmt.Sprintf("((%s - xmin::text::bigint) & 4294967295) > %s - %d", next, next, xid)
	}
	age := below(what.Old.Xid)
	if what.Column != "" {
		now := "pg_catalog.now()"
		if !what.Zoned {
			now = "(pg_catalog.now() AT TIME ZONE 'UTC')"
		}
		col := quoteIdent(what.Column)
		age = fmt.Sprintf("(%s < %s - interval '%d microseconds' OR %s IS NULL AND %s)", col, now, what.Age.Microseconds(), col, age)
	}
	return fmt.Sprintf(`BEGIN ISOLATION LEVEL REPEATABLE READ READ WRITE;
SET LOCAL lock_timeout = '1s'; SET LOCAL statement_timeout = '20s'; SET LOCAL synchronous_commit = off;
DELETE FROM ONLY %[1]s WHERE ctid = ANY (ARRAY(
  SELECT ctid FROM ONLY %[1]s
  WHERE ctid >= '(%[2]d,0)' AND ctid < '(%[3]d,0)' AND %[4]s >= %[5]d AND %[6]s AND %[7]s
  LIMIT %[8]d FOR UPDATE SKIP LOCKED));
COMMIT`, table, first, first+pages, next, what.Relayed.Xid, below(what.Relayed.Xid), age, MaxPruned)
}
