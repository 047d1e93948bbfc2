// Command cdc-replica keeps a copy of tables that nobody may change, from the change
// records of their rows. Several workers apply them side by side.
//
// The tables own the truth, and they say what a row is, not what it means. They have
// REPLICA IDENTITY FULL, so that each record has the whole old row. The copy holds
// rows as documents: their columns may change at any time.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/walbridge/walbridge/examples/internal/play"
	"github.com/walbridge/walbridge/queue"
)

func main() { play.Main(setup(), story) }

func setup() play.Config {
	return play.Config{
		Tables: `
CREATE SCHEMA legacy;
CREATE TABLE legacy.customer (id bigint PRIMARY KEY, name text NOT NULL, note text);
CREATE TABLE legacy.part (machine text, no int, amount int NOT NULL, PRIMARY KEY (machine, no));
CREATE TABLE legacy.audit (line text, n int);
ALTER TABLE legacy.customer REPLICA IDENTITY FULL;
ALTER TABLE legacy.part REPLICA IDENTITY FULL;
ALTER TABLE legacy.audit REPLICA IDENTITY FULL;
CREATE TABLE replica (n bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, relation text NOT NULL, key text, lane int NOT NULL, data jsonb NOT NULL);
CREATE UNIQUE INDEX ON replica (key) WHERE key IS NOT NULL;
CREATE INDEX ON replica (relation, lane);
INSERT INTO legacy.customer SELECT i, 'old customer ' || i FROM generate_series(2001, 2010) i;
INSERT INTO legacy.audit SELECT 'old', i % 3 FROM generate_series(1, 10) i;`,
		Routes: "- tables: [legacy.*]\n  changes: {}", // the rows that are there are read first
	}
}

// record is what apply needs of a change record.
type record struct {
	Op, Schema, Table string                     // a row that was there has the Op read
	Key               map[string]json.RawMessage // nil: the table has none
	Before, After     map[string]json.RawMessage
	Unchanged         []string // large values that did not come; with REPLICA IDENTITY FULL none
}

// work applies records until ctx ends. Exactly once: the copy and the checkpoint of a
// lane are one transaction.
func work(ctx context.Context, pool *pgxpool.Pool) error {
	sub, err := queue.Subscribe(ctx, pool, queue.Config{
		Name: "replica", Streams: []string{"legacy.*"}, Lease: time.Second, Poll: 50 * time.Millisecond, Concurrency: 4,
	})
	if err != nil {
		return err
	}
	return sub.RunTx(ctx, func(ctx context.Context, tx pgx.Tx, items []queue.Item) error {
		for _, it := range items {
			if err := apply(ctx, tx, it); err != nil {
				return fmt.Errorf("apply %s to %s: %w", it.Type, it.Key, err)
			}
		}
		return nil
	})
}

// errIdentity is for a table that the copy cannot follow.
var errIdentity = errors.New("the record is not whole: the table needs REPLICA IDENTITY FULL")

// apply applies a record. The records of a row, and all of a table without a key, come
// in one lane and in order, so that lanes need not wait for each other: a row whose key
// changes is a delete in one and an insert in the other, and a truncate comes in every
// lane and concerns the rows of that lane.
func apply(ctx context.Context, tx pgx.Tx, it queue.Item) error {
	var r record
	if err := it.Decode(&r); err != nil {
		return err
	}
	if len(r.Unchanged) > 0 {
		return queue.Dead(errIdentity)
	}
	relation := r.Schema + "." + r.Table
	switch {
	case r.Op == "truncate":
		return exec(ctx, tx, "DELETE FROM replica WHERE relation = $1 AND lane = $2", relation, it.Lane)
	case r.Key == nil:
		return applyKeyless(ctx, tx, it, relation, r)
	case r.Op == "delete":
		return exec(ctx, tx, "DELETE FROM replica WHERE key = $1", it.Key)
	}
	return exec(ctx, tx, `INSERT INTO replica (relation, key, lane, data) VALUES ($1, $2, $3, $4)
		ON CONFLICT (key) WHERE key IS NOT NULL DO UPDATE SET data = excluded.data`, relation, it.Key, it.Lane, r.After)
}

// applyKeyless takes one of the rows that equal the old one: nobody can tell them
// apart, so it does not matter which.
func applyKeyless(ctx context.Context, tx pgx.Tx, it queue.Item, relation string, r record) error {
	if r.Op != "insert" {
		err := exec(ctx, tx, "DELETE FROM replica WHERE n = (SELECT min(n) FROM replica WHERE relation = $1 AND lane = $2 AND data = $3)", relation, it.Lane, r.Before)
		if err != nil {
			return err
		}
	}
	if r.Op == "delete" {
		return nil
	}
	return exec(ctx, tx, "INSERT INTO replica (relation, lane, data) VALUES ($1, $2, $3)", relation, it.Lane, r.After)
}

func exec(ctx context.Context, tx pgx.Tx, sql string, args ...any) error {
	_, err := tx.Exec(ctx, sql, args...)
	return err
}

// differences counts rows that the tables and the copy do not have in common.
const differences = `WITH source AS (
		SELECT 'legacy.customer' AS relation, to_jsonb(t) AS data FROM legacy.customer t
		UNION ALL SELECT 'legacy.part', to_jsonb(t) FROM legacy.part t
		UNION ALL SELECT 'legacy.audit', to_jsonb(t) FROM legacy.audit t)
	SELECT count(*) FROM (
		(SELECT relation, data FROM source EXCEPT ALL SELECT relation, data FROM replica)
		UNION ALL (SELECT relation, data FROM replica EXCEPT ALL SELECT relation, data FROM source)) d`

func story(ctx context.Context, p *play.Play) error {
	worker := func(ctx context.Context) error { return work(ctx, p.Pool) }
	return play.While(ctx, worker, func(ctx context.Context) error {
		for _, sql := range []string{
			"INSERT INTO legacy.customer SELECT i, 'customer ' || i, repeat(md5(i::text), 500) FROM generate_series(1, 100) i",
			"UPDATE legacy.customer SET name = upper(name) WHERE id <= 50",
			"UPDATE legacy.customer SET id = id + 1000 WHERE id > 90",
			"INSERT INTO legacy.audit SELECT 'twice', i % 10 FROM generate_series(1, 20) i",
			"DELETE FROM legacy.audit WHERE ctid IN (SELECT ctid FROM legacy.audit LIMIT 5)",
			"INSERT INTO legacy.part SELECT 'press', i, i FROM generate_series(1, 10) i",
			"TRUNCATE legacy.part",
			"ALTER TABLE legacy.customer ADD COLUMN city text",
			"UPDATE legacy.customer SET city = 'Ulm'",
		} {
			if _, err := p.Pool.Exec(ctx, sql); err != nil {
				return err
			}
		}
		if err := p.Await(ctx, p.Pool, "SELECT count(*) = 110 FROM replica WHERE data ->> 'city' = 'Ulm'"); err != nil {
			return err
		}
		if err := p.Await(ctx, p.Pool, "SELECT ("+differences+") = 0"); err != nil {
			return err
		}
		var rows int
		err := p.Pool.QueryRow(ctx, "SELECT count(*) FROM replica").Scan(&rows)
		p.Say("%d rows, no difference", rows)
		return err
	})
}
