// Command outbox shows how to publish after a commit: the event is a row beside the
// business data, in one transaction, and the bridge relays it from the write-ahead
// log. Nothing asks the outbox table whether there is something new.
//
// The bridge is killed in the middle. Each event arrives once.
package main

import (
	"context"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/walbridge/walbridge/examples/internal/play"
)

func main() {
	cfg := setup()
	cfg.Apart = true // the consumers' database is another server
	play.Main(cfg, story)
}

func setup() play.Config {
	return play.Config{
		Tables: `
CREATE TABLE orders (id bigint PRIMARY KEY, status text NOT NULL);
CREATE TABLE outbox (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), aggregatetype text NOT NULL, aggregateid text NOT NULL, type text NOT NULL, payload jsonb NOT NULL);`,
		Routes: "- tables: [public.outbox]\n  outbox: {}",
	}
}

// pay is a decision and its event. Both commit, or neither does.
func pay(ctx context.Context, pool *pgxpool.Pool, order int64) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "INSERT INTO orders VALUES ($1, 'paid')", order); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO outbox (aggregatetype, aggregateid, type, payload)
			VALUES ('orders', $1::bigint % 7, 'OrderPaid', jsonb_build_object('order', $1::bigint))`, order)
		return err
	})
}

// prune deletes events that have been relayed. The delete of an outbox row is no
// event; so it may even stand in the transaction of the insert.
func prune(ctx context.Context, pool *pgxpool.Pool, relayed int64) error {
	_, err := pool.Exec(ctx, "DELETE FROM outbox WHERE (payload ->> 'order')::bigint <= $1", relayed)
	return err
}

func story(ctx context.Context, p *play.Play) error {
	for i := range int64(200) {
		if i == 100 {
			if err := p.KillBridge(); err != nil {
				return err
			}
			p.Say("the bridge is killed after 100 orders")
		}
		if err := pay(ctx, p.Pool, i); err != nil {
			return err
		}
	}
	if err := p.StartBridge(ctx); err != nil {
		return err
	}
	if err := p.Await(ctx, p.Sink, "SELECT count(*) >= 200 FROM walbridge.log"); err != nil {
		return err
	}
	var items, ids int64
	if err := p.Sink.QueryRow(ctx, "SELECT count(*), count(DISTINCT idempotency_key) FROM walbridge.log").Scan(&items, &ids); err != nil {
		return err
	}
	p.Say("200 orders paid: %d items of %d events", items, ids)
	return prune(ctx, p.Pool, 199)
}
