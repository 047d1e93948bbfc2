// Command domain-event shows that a domain event is not a change record. The event says
// what happened in the words of the business, with a type and an id of its own. A change
// of the tables' form leaves it as it is; the change records of the same tables follow
// the tables.
package main

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/walbridge/walbridge/examples/internal/play"
)

func main() { play.Main(setup(), story) }

func setup() play.Config {
	return play.Config{
		Tables: `
CREATE TABLE orders (id bigint PRIMARY KEY, name text NOT NULL, status text NOT NULL);
CREATE TABLE outbox (id text PRIMARY KEY, aggregatetype text NOT NULL, aggregateid text NOT NULL, type text NOT NULL, payload json NOT NULL);`,
		Routes: `
- tables: [public.outbox]
  outbox: {}
- tables: [public.orders]
  changes: {}
  snapshot: never`,
	}
}

// pay is the only place that knows the tables; insert is how they look now. The event
// is of the same transaction, and its id is of the business: the same fact twice is an
// error.
func pay(ctx context.Context, pool *pgxpool.Pool, insert string, order int) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, insert, order); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO outbox VALUES ('paid:' || $1::int, 'order', $1, 'OrderPaid', json_build_object('order', $1::int, 'paid', true))`, order)
		return err
	})
}

// The forms that the tables have one after the other, and how an order is paid then.
const (
	insertFirst = "INSERT INTO orders VALUES ($1, 'Anna Example', 'paid')"
	refactor    = `
ALTER TABLE orders DROP COLUMN name, ADD COLUMN given text, ADD COLUMN family text;
ALTER TABLE orders RENAME COLUMN status TO state;
ALTER TABLE orders ALTER COLUMN state TYPE int USING 2;`
	insertThen = "INSERT INTO orders (id, given, family, state) VALUES ($1, 'Anna', 'Example', 2)"
)

func story(ctx context.Context, p *play.Play) error {
	if err := pay(ctx, p.Pool, insertFirst, 1); err != nil {
		return err
	}
	if _, err := p.Pool.Exec(ctx, refactor); err != nil {
		return err
	}
	if err := pay(ctx, p.Pool, insertThen, 2); err != nil {
		return err
	}
	if err := p.Await(ctx, p.Sink, "SELECT count(*) >= 4 FROM walbridge.log"); err != nil {
		return err
	}
	rows, err := p.Sink.Query(ctx, `SELECT stream, kind, type, coalesce(payload -> 'after', payload)::text FROM walbridge.log ORDER BY stream, seq`)
	if err != nil {
		return err
	}
	var stream, kind, typ, payload string
	_, err = pgx.ForEachRow(rows, []any{&stream, &kind, &typ, &payload}, func() error {
		p.Say("%s: %s %s %s", stream, kind, typ, payload)
		return nil
	})
	return err
}
