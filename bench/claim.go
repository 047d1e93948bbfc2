package main

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

// mostClaims bounds the rows of a run of the claim table; its backlog is as long as
// that of the log.
const mostClaims = 200_000

const (
	claimers   = 2
	claimBatch = 1000
	claimSQL   = `WITH c AS (SELECT msg_id FROM %[1]s.claim WHERE vt <= clock_timestamp() ORDER BY msg_id LIMIT $1 FOR UPDATE SKIP LOCKED)
UPDATE %[1]s.claim m SET vt = clock_timestamp() + interval '30 s', read_ct = read_ct + 1 FROM c WHERE m.msg_id = c.msg_id
RETURNING m.msg_id, m.read_ct, m.enqueued_at, m.vt, m.message`
)

// fillClaims makes the claim table as long as the log, with the same payloads.
func (b *bench) fillClaims(ctx context.Context, q backlog) error {
	return b.exec(ctx, fmt.Sprintf(`INSERT INTO %[1]s.claim (message) SELECT json_build_object('n', i, 'text', repeat('x', 270))
		FROM generate_series((SELECT count(*) FROM %[1]s.claim) + 1, %[2]d) i; ANALYZE %[1]s.claim`, q.schema, q.items))
}

// claimAll claims rows in batches, each in a statement, and deletes them in another.
func (b *bench) claimAll(ctx context.Context, q backlog, r *result) error {
	var conns [claimers]*pgx.Conn
	for i := range conns {
		conn, err := pgx.Connect(ctx, b.server.SocketDSN("postgres"))
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		conns[i] = conn
	}
	begun, cpu := time.Now(), ownCPU()
	work, ctx := errgroup.WithContext(ctx)
	for _, conn := range conns {
		work.Go(func() error { return claim(ctx, conn, q.schema, r.Rows/claimers) })
	}
	err := work.Wait()
	r.Seconds, r.ClientCPU = time.Since(begun).Seconds(), ownCPU()-cpu
	return err
}

func claim(ctx context.Context, conn *pgx.Conn, schema string, n int64) error {
	for done := int64(0); done < n; {
		rows, err := conn.Query(ctx, fmt.Sprintf(claimSQL, schema), min(claimBatch, n-done))
		if err != nil {
			return err
		}
		ids, err := pgx.CollectRows(rows, func(row pgx.CollectableRow) (id int64, err error) {
			var readCt int
			var enqueued, vt time.Time
			var message []byte
			return id, row.Scan(&id, &readCt, &enqueued, &vt, &message)
		})
		if err != nil {
			return err
		}
		if _, err := conn.Exec(ctx, "DELETE FROM "+schema+".claim WHERE msg_id = ANY ($1)", ids); err != nil {
			return err
		}
		done += int64(len(ids))
	}
	return nil
}
