package torture

import (
	"context"
	"fmt"
	"slices"
	"strconv"
)

// alter changes the columns of load.shape between rows. Replication sends no rows
// for it, though every stored row is another one afterwards; so the transaction
// ends by touching them all, which makes the two sides comparable again.
func (w *writer) alter(ctx context.Context) error {
	if err := w.exec(ctx, "LOCK TABLE load.shape IN ACCESS EXCLUSIVE MODE"); err != nil {
		return err
	}
	for n := 1 + w.rand.IntN(3); n > 0; n-- {
		row := fmt.Sprintf("INSERT INTO load.shape (id, v) VALUES (%d, '%d') ON CONFLICT DO NOTHING", w.rand.IntN(w.cfg.Keys), w.rand.IntN(1000))
		change, err := w.alteration(ctx)
		if err != nil {
			return err
		}
		for _, sql := range []string{row, change, row, "UPDATE load.shape SET v = v WHERE id % 3 = 0"} {
			if err := w.exec(ctx, sql); err != nil {
				return err
			}
		}
	}
	return w.exec(ctx, "UPDATE load.shape SET id = id")
}

// freshColumn is a name that no column has: a workload before this one may have used
// the first ones.
func (w *writer) freshColumn(taken []string) string {
	for {
		w.columnN++
		if name := fmt.Sprintf("c%d_%d", w.id, w.columnN%1000); !slices.Contains(taken, name) {
			return name
		}
	}
}

// alteration draws a change that the table's present columns allow.
func (w *writer) alteration(ctx context.Context) (string, error) {
	var extra []string
	err := w.conn.QueryRow(ctx, `SELECT coalesce(array_agg(attname::text ORDER BY attnum), '{}') FROM pg_attribute
		WHERE attrelid = 'load.shape'::regclass AND attnum > 0 AND NOT attisdropped AND attname NOT IN ('id', 'v', 'ver')`).Scan(&extra)
	if err != nil {
		return "", err
	}
	fresh := w.freshColumn(extra)
	if len(extra) == 0 || len(extra) < 4 && w.rand.IntN(3) == 0 {
		definition := []string{"int", "text DEFAULT 'it''s'", "int NOT NULL DEFAULT 7", "numeric DEFAULT 1.50"}[w.rand.IntN(4)]
		return "ALTER TABLE load.shape ADD COLUMN IF NOT EXISTS " + fresh + " " + definition, nil
	}
	c := extra[w.rand.IntN(len(extra))]
	switch w.rand.IntN(4) {
	case 0:
		return "ALTER TABLE load.shape DROP COLUMN " + c, nil
	case 1:
		return "ALTER TABLE load.shape RENAME COLUMN " + c + " TO " + fresh, nil
	case 2:
		return "ALTER TABLE load.shape ALTER COLUMN " + c + " DROP DEFAULT, ALTER COLUMN " + c + " DROP NOT NULL, ALTER COLUMN " + c + " TYPE text USING " + c + "::text", nil
	}
	// v is drawn as a number, so both directions work.
	typ := []string{"text", "int", "bigint", "numeric"}[w.rand.IntN(4)]
	return "ALTER TABLE load.shape ALTER COLUMN v TYPE " + typ + " USING v::" + typ, nil
}

// firstLarge is the first key of the rows of large transactions, beyond those that
// are drawn.
const firstLarge = 1_000_000

// large inserts, updates, moves or deletes a range of rows of this writer's own.
func (w *writer) large(ctx context.Context) error {
	first := firstLarge * (w.id + 1)
	last := first + w.cfg.LargeRows - 1
	between := fmt.Sprintf("id BETWEEN %d AND %d", first, last)
	insert := fmt.Sprintf("INSERT INTO load.item (id, n, v) SELECT g, g, 'large ' || g FROM generate_series(%d, %d) g ON CONFLICT DO NOTHING", first, last)
	update := "UPDATE load.item SET n = n + 1 WHERE " + between
	remove := "DELETE FROM load.item WHERE " + between
	return w.exec(ctx, []string{insert, insert, update, remove}[w.rand.IntN(4)])
}

// nothing leaves no item behind: no statement, a write to a table that is not
// read, or rows that are rolled back.
func (w *writer) nothing(ctx context.Context) error {
	switch w.rand.IntN(4) {
	case 0:
		return nil
	case 1:
		return w.exec(ctx, "INSERT INTO load_truth.elsewhere VALUES ($1, $2)", small(w.rand), text(w.rand))
	case 2:
		return w.exec(ctx, "CREATE TEMP TABLE IF NOT EXISTS torture_temp (v text) ON COMMIT DELETE ROWS")
	}
	if err := w.exec(ctx, "SAVEPOINT all_of_it"); err != nil {
		return err
	}
	if err := w.step(ctx); err != nil {
		return err
	}
	return w.exec(ctx, "ROLLBACK TO all_of_it")
}

// messages emits logical messages that no route names, also of the bridge's own
// prefixes, which any role may do.
func (w *writer) messages(ctx context.Context) error {
	for n := 1 + w.rand.IntN(3); n > 0; n-- {
		prefix := []string{"torture", "walbridge.hb", "walbridge.chunk", "outbox", ""}[w.rand.IntN(5)]
		err := w.exec(ctx, "SELECT pg_logical_emit_message($1::boolean, $2, $3::text)", boolean(w.rand), prefix, text(w.rand))
		if err != nil {
			return err
		}
		if err := w.step(ctx); err != nil {
			return err
		}
	}
	return nil
}

// savepoints writes each row in a subtransaction of its own and takes back some.
func (w *writer) savepoints(ctx context.Context) error {
	for i := range w.cfg.Savepoints {
		if err := w.exec(ctx, "SAVEPOINT s"); err != nil {
			return err
		}
		err := w.exec(ctx, "INSERT INTO load.item (id, n) VALUES ($1, $2) ON CONFLICT (id) DO UPDATE SET n = EXCLUDED.n",
			strconv.Itoa(w.rand.IntN(w.cfg.Keys)), strconv.Itoa(i))
		if err != nil {
			return err
		}
		if w.rand.IntN(4) == 0 {
			if err := w.exec(ctx, "ROLLBACK TO s"); err != nil {
				return err
			}
		}
	}
	return nil
}
