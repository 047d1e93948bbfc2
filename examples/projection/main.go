// Command projection shows a read model that is filled by RunTx: the effects of items
// and the checkpoint are one transaction, so that each item counts exactly once, also
// when the projector is killed.
//
// The orders own the truth. The read model is emptied and rebuilt from the log while
// orders come in, and whoever has written can wait until it shows what he wrote.
package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
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
CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer text NOT NULL, total int NOT NULL);
CREATE TABLE outbox (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), aggregatetype text NOT NULL, aggregateid text NOT NULL, type text NOT NULL, payload json NOT NULL);
CREATE TABLE revenue (projection text, customer text, orders int NOT NULL, total bigint NOT NULL, PRIMARY KEY (projection, customer));`,
		Routes: "- tables: [public.outbox]\n  outbox: {}",
	}
}

// place is the application's own transaction.
func place(ctx context.Context, pool *pgxpool.Pool, customer string, total int) error {
	_, err := pool.Exec(ctx, `WITH o AS (INSERT INTO orders (customer, total) VALUES ($1, $2) RETURNING *)
		INSERT INTO outbox (aggregatetype, aggregateid, type, payload) SELECT 'orders', id, 'OrderPlaced', row_to_json(o) FROM o`, customer, total)
	return err
}

// orderPlaced is the payload of the event.
type orderPlaced struct {
	Customer string
	Total    int
}

// projection is a subscription and its part of the read model, by the same name.
func projection(ctx context.Context, pool *pgxpool.Pool, name string, batch int) (*queue.Subscription, queue.TxHandler, error) {
	sub, err := queue.Subscribe(ctx, pool, queue.Config{
		Name: name, Streams: []string{"orders"}, BatchItems: batch, Lease: 2 * time.Second, Poll: 50 * time.Millisecond,
	})
	project := func(ctx context.Context, tx pgx.Tx, items []queue.Item) error { return add(ctx, tx, name, items) }
	return sub, project, err
}

// add adds orders to the read model. Lanes are by order and rows by customer, so two
// lanes may write the same rows: each takes them in one order, else they deadlock.
func add(ctx context.Context, tx pgx.Tx, name string, items []queue.Item) error {
	orders, totals := map[string]int{}, map[string]int{}
	for _, it := range items {
		var e orderPlaced
		if err := it.Decode(&e); err != nil {
			return err
		}
		orders[e.Customer]++
		totals[e.Customer] += e.Total
	}
	for _, customer := range slices.Sorted(maps.Keys(orders)) {
		_, err := tx.Exec(ctx, `INSERT INTO revenue AS r VALUES ($1, $2, $3, $4)
			ON CONFLICT (projection, customer) DO UPDATE SET orders = r.orders + excluded.orders, total = r.total + excluded.total`,
			name, customer, orders[customer], totals[customer])
		if err != nil {
			return err
		}
	}
	return nil
}

// work runs a projector until ctx ends.
func work(ctx context.Context, pool *pgxpool.Pool, name string, batch int) error {
	sub, project, err := projection(ctx, pool, name, batch)
	if err != nil {
		return err
	}
	return sub.RunTx(ctx, project)
}

// rebuild empties the read model and goes back to the beginning of the log, in one
// transaction: no projector sees one without the other. Projectors lock rows of the
// read model first and their lanes last, and so does this.
func rebuild(ctx context.Context, pool *pgxpool.Pool, sub *queue.Subscription) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "LOCK TABLE revenue IN SHARE ROW EXCLUSIVE MODE"); err != nil {
			return err
		}
		if err := sub.ResetTx(ctx, tx, queue.Beginning()); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "DELETE FROM revenue WHERE projection = $1", sub.Name())
		return err
	})
}

// shown waits until the projection shows everything that is committed now.
func shown(ctx context.Context, pool *pgxpool.Pool, sub *queue.Subscription) error {
	var lsn uint64
	if err := pool.QueryRow(ctx, "SELECT (pg_current_wal_insert_lsn() - '0/0')::int8").Scan(&lsn); err != nil {
		return err
	}
	return sub.WaitFor(ctx, "example", queue.LSN(lsn), time.Minute)
}

// total is what the read model says.
func total(ctx context.Context, pool *pgxpool.Pool, name string) (orders, total int64, err error) {
	err = pool.QueryRow(ctx, "SELECT coalesce(sum(orders), 0)::int8, coalesce(sum(total), 0)::int8 FROM revenue WHERE projection = $1", name).Scan(&orders, &total)
	return orders, total, err
}

func story(ctx context.Context, p *play.Play) error {
	sub, _, err := projection(ctx, p.Pool, "revenue", 100)
	if err != nil {
		return err
	}
	say := func(when string) error {
		if err := shown(ctx, p.Pool, sub); err != nil {
			return err
		}
		orders, sum, err := total(ctx, p.Pool, "revenue")
		p.Say("%s: %d orders, %d in total", when, orders, sum)
		return err
	}
	projector := func(ctx context.Context) error { return work(ctx, p.Pool, "revenue", 100) }
	return play.While(ctx, projector, func(ctx context.Context) error {
		for i := range 100 {
			if err := place(ctx, p.Pool, fmt.Sprint("customer ", i%7), i); err != nil {
				return err
			}
		}
		if err := say("a hundred orders"); err != nil {
			return err
		}
		if err := rebuild(ctx, p.Pool, sub); err != nil {
			return err
		}
		if err := place(ctx, p.Pool, "customer 1", 1000); err != nil {
			return err
		}
		return say("rebuilt, with one more")
	})
}
