package replication

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/internal/lsn"
)

// Place is where LSNs and transaction ids mean something: a cluster on one timeline.
type Place struct {
	SystemID uint64
	Timeline uint32
}

// Horizon is a moment of the server by which it can be told that a row's transaction is
// over: every transaction with an id below Xid, subtransactions too, had ended, and what
// had committed of them lies before LSN in the WAL.
//
// Xid is the oldest that was under way and not the set of those that were: a
// subtransaction's id is higher than its transaction's, and only the latter is in a
// snapshot (xid8funcs.c, pg_current_snapshot), so that a row of a savepoint whose
// transaction is still open would pass for one that has ended.
//
// It holds for its Place and for as long as LSN is not lost in a crash: a sink that has
// confirmed it is the proof that it was not. The server's WAL is inserted before it is
// flushed, and a crash in between gives the same LSNs and ids away again.
type Horizon struct {
	Place
	Xid uint64 // 64 bits, the epoch in the upper half
	LSN lsn.LSN
}

// Horizon reads the horizon of now. Fails on a server in recovery.
func (s *Source) Horizon(ctx context.Context) (h Horizon, err error) {
	err = s.onSQL(ctx, "read which transactions have ended", func(ctx context.Context, conn *pgconn.PgConn) error {
		if h.Xid, err = rowOf[uint64](ctx, conn, `SELECT pg_catalog.to_jsonb(pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())::text::numeric)`); err != nil {
			return err
		}
		// Later: what had ended by then has its commit record before this.
		h.LSN, h.Place, err = whereNow(ctx, conn)
		return err
	})
	return h, err
}

// whereNow reads the end of what is inserted into the WAL. Its file's name bears the
// timeline (xlogfuncs.c, pg_walfile_name).
func whereNow(ctx context.Context, conn *pgconn.PgConn) (lsn.LSN, Place, error) {
	type row struct {
		LSN  jsonLSN
		File string
	}
	r, err := rowOf[row](ctx, conn, `SELECT pg_catalog.jsonb_build_object('LSN', l, 'File', pg_catalog.pg_walfile_name(l)) FROM pg_catalog.pg_current_wal_insert_lsn() l`)
	if err != nil {
		return 0, Place{}, err
	}
	if len(r.File) < 8 {
		return 0, Place{}, fmt.Errorf("the server calls a WAL file %q", r.File)
	}
	timeline, err := strconv.ParseUint(r.File[:8], 16, 32)
	if err != nil {
		return 0, Place{}, fmt.Errorf("read the timeline of WAL file %q: %w", r.File, err)
	}
	id, err := systemID(ctx, conn)
	return lsn.LSN(r.LSN), Place{id, uint32(timeline)}, err
}
