package main

import (
	"context"
	"errors"
	"fmt"
)

// snapshotRestart kills a bridge when it has read half of a table into a work table,
// and counts what was done twice when all is read: rows that were delivered, and rows
// that the server has read, by its own statistics.
func (b *bench) snapshotRestart(ctx context.Context) error {
	rows := min(b.snapshotRows(), snapshotLoad)
	if err := b.refill(ctx, "snap_half1", rows); err != nil {
		return err
	}
	for run := range b.o.runs {
		if err := b.restartRun(ctx, rows, run); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) restartRun(ctx context.Context, rows int64, run int) error {
	b.slots++
	slot := fmt.Sprintf("walbridge_again%d", b.slots)
	if err := b.emptySlot(ctx, slot); err != nil {
		return err
	}
	before, err := b.rowsRead(ctx, "snap_half1")
	if err != nil {
		return err
	}
	br, _, err := b.snapshotBridge(ctx, slot, []string{"snap_half1"})
	if err != nil {
		return err
	}
	half, err := b.awaitRead(ctx, br, rows/2)
	if err != nil {
		br.stop()
		return err
	}
	if err := br.cmd.Process.Kill(); err != nil {
		return err
	}
	<-br.exited
	br, _, err = b.snapshotBridgeAgain(ctx, slot)
	if err != nil {
		return err
	}
	_, err = b.awaitRead(ctx, br, rows)
	br.stop()
	if err != nil {
		return err
	}
	r := result{Measure: "snapshot restart", Case: fmt.Sprintf("killed in 1 table of %d", rows), Contender: "walbridge", Run: run}
	if r.Figures, err = b.repeated(ctx, rows, before); err != nil {
		return err
	}
	r.Figures["killed_at"] = float64(half)
	if err := b.results.add(r); err != nil {
		return err
	}
	if err := b.exec(ctx, "DROP SCHEMA "+b.schema()+" CASCADE"); err != nil {
		return err
	}
	return b.dropSlot(ctx, slot)
}

// awaitRead waits until so many rows are delivered, by what the work table has stored,
// and returns how many are.
func (b *bench) awaitRead(ctx context.Context, br *bridge, rows int64) (int64, error) {
	w := slotWatch{reading: true}
	err := pollAt(ctx, askEvery, func() (bool, error) {
		_, err := b.watchReading(ctx, b.admin, &w)
		return w.rows >= rows, errors.Join(err, br.running())
	})
	return w.rows, err
}

// repeated counts what was delivered and read more than once.
func (b *bench) repeated(ctx context.Context, rows, before int64) (map[string]float64, error) {
	var delivered, distinct int64
	err := b.admin.QueryRow(ctx, "SELECT count(*), count(DISTINCT payload->'after'->>'id') FROM "+b.schema()+".log WHERE type = 'read'").Scan(&delivered, &distinct)
	if err != nil {
		return nil, err
	}
	if distinct != rows {
		return nil, fmt.Errorf("%d of %d rows were delivered", distinct, rows)
	}
	read, err := b.rowsRead(ctx, "snap_half1")
	return map[string]float64{"delivered_twice": float64(delivered - distinct), "read_twice": float64(read - before - rows)}, err
}

// rowsRead is how many rows of a table were read by any scan, once all bridges are gone:
// their sessions tell it at their end at the latest.
func (b *bench) rowsRead(ctx context.Context, table string) (n int64, err error) {
	err = poll(ctx, func() (bool, error) {
		var left int
		err := b.admin.QueryRow(ctx, "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'walbridge%'").Scan(&left)
		return left == 0, err
	})
	if err != nil {
		return 0, err
	}
	err = b.admin.QueryRow(ctx, "SELECT coalesce(seq_tup_read, 0) + coalesce(idx_tup_fetch, 0) FROM pg_stat_user_tables WHERE relname = $1", table).Scan(&n)
	return n, err
}
