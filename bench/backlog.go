package main

import (
	"context"
	"fmt"
	"log"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/walbridge/walbridge/internal/migrate"
	"github.com/walbridge/walbridge/internal/secret"
)

// backlog is a work table with items that nobody has read, and beside it a table of
// the same items to be claimed one by one.
type backlog struct {
	schema string
	items  int64
	pool   *pgxpool.Pool
}

// keysOf is how many keys the items have.
const keysOf = 10_000

// appendItems appends items as a bridge does: 300 bytes of payload, and one in so many of
// the stream rare, the others of orders.
const appendItems = `DO $$
DECLARE first bigint; total bigint := %[2]d;
BEGIN
	PERFORM %[1]s.make_partitions((SELECT last_value FROM %[1]s.log_seq) + total, 1, 10000000);
	PERFORM %[1]s.lock_log();
	first := %[1]s.take_seq(total);
	INSERT INTO %[1]s.log (seq, commit_lsn, tx_seq, committed_at, created_at, stream_id, sub, lane, tx_end, kind, stream, partition_key, idempotency_key, type, source, payload)
	SELECT first + i, pg_lsn '0/1000' + first + i, 0, clock_timestamp(), clock_timestamp(), s.id, 0, %[1]s.lane('k' || (i %% %[4]d)), true, 'event', s.name, 'k' || (i %% %[4]d),
		'id-' || (first + i), 'Paid', 'shop', json_build_object('n', first + i, 'text', repeat('x', 270))
	FROM generate_series(0, total - 1) i JOIN %[1]s.stream s ON s.name = CASE WHEN (first + i) %% %[3]d = 0 THEN 'rare' ELSE 'orders' END ORDER BY i;
	INSERT INTO %[1]s.batch (source, n, first_seq, last_seq, end_lsn, last_tx_end, timeline)
	SELECT 'shop', coalesce(max(n), 0) + 1, first, first + total - 1, pg_lsn '0/1000' + first + total, pg_lsn '0/1000' + first + total, 1 FROM %[1]s.batch WHERE source = 'shop';
	PERFORM pg_notify('walbridge_log', '%[1]s');
END $$`

// claimTable is what a queue of rows is: read_ct and vt as in pgmq.
const claimTable = `CREATE TABLE %[1]s.claim (msg_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, read_ct int NOT NULL DEFAULT 0,
	enqueued_at timestamptz NOT NULL DEFAULT now(), vt timestamptz NOT NULL DEFAULT now(), message json);
CREATE INDEX ON %[1]s.claim (vt)`

// makeBacklog makes a work table with so many items, of which one in rareEvery is of the
// stream rare.
func (b *bench) makeBacklog(ctx context.Context, items, rareEvery int64) (backlog, error) {
	b.schemas++
	q := backlog{schema: b.schema(), items: items}
	if _, err := migrate.Up(ctx, migrate.Config{DSN: secret.DSN(b.server.DSN("postgres")), Schema: q.schema}); err != nil {
		return q, err
	}
	cfg, err := pgxpool.ParseConfig(b.server.SocketDSN("postgres"))
	if err != nil {
		return q, err
	}
	cfg.MaxConns = 4
	if q.pool, err = pgxpool.NewWithConfig(ctx, cfg); err != nil {
		return q, err
	}
	if items > 0 {
		log.Printf("making a log of %d items", items)
	}
	setup := fmt.Sprintf("INSERT INTO %[1]s.source (name) VALUES ('shop'); INSERT INTO %[1]s.stream (name) VALUES ('orders'), ('rare');", q.schema) + fmt.Sprintf(claimTable, q.schema)
	if err := b.exec(ctx, setup); err != nil {
		return q, err
	}
	for left := items; left > 0; left -= 100_000 {
		if err := q.append(ctx, b.admin, min(left, 100_000), rareEvery); err != nil {
			return q, err
		}
	}
	return q, b.exec(ctx, "VACUUM ANALYZE "+q.schema+".log")
}

func (q backlog) append(ctx context.Context, conn *pgx.Conn, items, rareEvery int64) error {
	if _, err := conn.Exec(ctx, fmt.Sprintf(appendItems, q.schema, items, rareEvery, keysOf), pgx.QueryExecModeSimpleProtocol); err != nil {
		return fmt.Errorf("append items: %w", err)
	}
	return nil
}

func (b *bench) dropBacklog(ctx context.Context, q backlog) error {
	q.pool.Close()
	if err := b.exec(ctx, "DROP SCHEMA "+q.schema+" CASCADE"); err != nil {
		return err
	}
	return b.exec(ctx, "CHECKPOINT")
}

// never is a share of the stream rare that no log here reaches.
const never = int64(1) << 40
