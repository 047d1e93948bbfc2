package pgtest

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// drop removes the database and its slots. A cluster that is going away anyway
// and does not run is left alone.
func (d *DB) drop(t testing.TB) {
	d.mu.Lock()
	pool := d.pool
	d.mu.Unlock()
	if pool != nil {
		pool.Close()
	}
	if !d.cluster.shared {
		return // the whole cluster is removed
	}
	ctx, cancel := context.WithTimeout(context.Background(), sqlTimeout)
	defer cancel()
	conn, err := pgx.Connect(ctx, d.admin)
	if err != nil {
		t.Errorf("drop database %s: %v", d.name, err)
		return
	}
	defer conn.Close(ctx)
	if err := d.dropWith(ctx, conn); err != nil {
		t.Errorf("drop database %s: %v", d.name, err)
	}
}

// dropWith ends what keeps a database from being dropped (manual, DROP DATABASE,
// FORCE: prepared transactions and logical slots do).
func (d *DB) dropWith(ctx context.Context, conn *pgx.Conn) error {
	if err := d.rollbackPrepared(ctx, conn); err != nil {
		return err
	}
	for {
		// Walsenders first: a slot in use cannot be dropped, and the end of a
		// process takes a moment, hence the loop.
		_, err := conn.Exec(ctx, `SELECT pg_terminate_backend(active_pid, 5000) FROM pg_replication_slots
			WHERE database = $1 AND active_pid IS NOT NULL`, d.name)
		if err != nil {
			return fmt.Errorf("end walsenders: %w", err)
		}
		_, err = conn.Exec(ctx, `SELECT pg_drop_replication_slot(slot_name) FROM pg_replication_slots
			WHERE database = $1`, d.name)
		if err != nil && !sqlState(err, "55006", "42704") { // in use again; gone meanwhile
			return fmt.Errorf("drop slots: %w", err)
		}
		if err != nil {
			continue
		}
		_, err = conn.Exec(ctx, "DROP DATABASE IF EXISTS "+pgx.Identifier{d.name}.Sanitize()+" WITH (FORCE)")
		if !sqlState(err, "55006") {
			return err
		}
	}
}

// rollbackPrepared rolls back prepared transactions, which only a session of the
// same database can do.
func (d *DB) rollbackPrepared(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, "SELECT gid FROM pg_prepared_xacts WHERE database = $1", d.name)
	if err != nil {
		return fmt.Errorf("look for prepared transactions: %w", err)
	}
	gids, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil || len(gids) == 0 {
		return err
	}
	own, err := pgx.Connect(ctx, d.DSN())
	if err != nil {
		return fmt.Errorf("connect to end prepared transactions: %w", err)
	}
	defer own.Close(ctx)
	for _, gid := range gids {
		// The statement takes no parameter.
		if _, err := own.Exec(ctx, "ROLLBACK PREPARED '"+strings.ReplaceAll(gid, "'", "''")+"'"); err != nil {
			return fmt.Errorf("roll back prepared transaction %s: %w", gid, err)
		}
	}
	return nil
}

func sqlState(err error, codes ...string) bool {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return false
	}
	for _, c := range codes {
		if pg.Code == c {
			return true
		}
	}
	return false
}
