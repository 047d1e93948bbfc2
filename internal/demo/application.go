package demo

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// application stands for the one that the bridge serves: it knows nothing of the
// bridge. It writes an order and its event in one transaction, moves orders on, and
// changes rows of a legacy table that nobody may touch.
type application struct {
	pool *pgxpool.Pool
	rate int
	// log is where the delivered items are, to be compared.
	log    destination
	orders atomic.Int64
	// events and records count what was committed and has to arrive.
	events, records atomic.Int64
	// last is the id of the event that committed last. Only run's goroutine changes it.
	last string
}

const appSchema = `
CREATE TABLE orders (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, customer bigint NOT NULL, status text NOT NULL, total numeric(12,2) NOT NULL, updated_at timestamptz NOT NULL DEFAULT now());
CREATE TABLE outbox (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), aggregatetype text NOT NULL, aggregateid text NOT NULL, type text NOT NULL, payload jsonb NOT NULL);
CREATE TABLE legacy_customers (no bigint PRIMARY KEY, name text NOT NULL, credit numeric(12,2) NOT NULL DEFAULT 0);
INSERT INTO legacy_customers SELECT i, 'customer ' || i FROM generate_series(1, 500) i;
`

// customers is how many rows the legacy table has.
const customers = 500

func newApplication(ctx context.Context, dsn string, rate int) (*application, error) {
	pool, err := pgxpool.New(ctx, dsn)
	if err != nil {
		return nil, err
	}
	a := &application{pool: pool, rate: rate, log: inWorkTable()}
	if _, err := pool.Exec(ctx, appSchema); err != nil {
		pool.Close()
		return nil, fmt.Errorf("make the application's tables: %w", err)
	}
	return a, nil
}

func (a *application) close() { a.pool.Close() }

// run places orders at the rate until ctx ends.
func (a *application) run(ctx context.Context) error {
	tick := time.NewTicker(time.Second / time.Duration(a.rate))
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
		// An order that has begun is finished, so that the counts are true.
		if err := a.order(context.WithoutCancel(ctx)); err != nil {
			return fmt.Errorf("the application's transaction: %w", err)
		}
	}
}

// order is one decision of the business and what follows of it. One in ten is
// refused: it is rolled back, and must leave no event.
func (a *application) order(ctx context.Context) error {
	refused := rand.IntN(10) == 0
	var id int64
	var last string
	err := pgx.BeginFunc(ctx, a.pool, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, "INSERT INTO orders (customer, status, total) VALUES ($1, 'placed', $2) RETURNING id", 1+rand.IntN(customers), rand.IntN(10000)).Scan(&id)
		if err != nil {
			return err
		}
		if last, err = event(ctx, tx, id, "OrderPlaced"); err != nil {
			return err
		}
		if refused {
			return errRefused
		}
		return nil
	})
	switch {
	case errors.Is(err, errRefused):
		return nil
	case err != nil:
		return err
	}
	a.orders.Add(1)
	a.committed(last, 1)
	return a.pay(ctx, id)
}

var errRefused = errors.New("refused")

// pay moves the order on and charges the legacy table's customer.
func (a *application) pay(ctx context.Context, id int64) error {
	var last string
	err := pgx.BeginFunc(ctx, a.pool, func(tx pgx.Tx) (err error) {
		if _, err := tx.Exec(ctx, "UPDATE orders SET status = 'paid', updated_at = now() WHERE id = $1", id); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "UPDATE legacy_customers SET credit = credit + 1 WHERE no = (SELECT customer FROM orders WHERE id = $1)", id); err != nil {
			return err
		}
		last, err = event(ctx, tx, id, "OrderPaid")
		return err
	})
	if err == nil {
		a.committed(last, 2)
	}
	return err
}

// committed counts a transaction of one event and some row changes.
func (a *application) committed(event string, records int64) {
	a.events.Add(1)
	a.records.Add(records)
	a.last = event
}

// event writes an outbox row and returns its id.
func event(ctx context.Context, tx pgx.Tx, order int64, typ string) (id string, err error) {
	err = tx.QueryRow(ctx, "INSERT INTO outbox (aggregatetype, aggregateid, type, payload) VALUES ('order', $1, $2, jsonb_build_object('order', $3::bigint)) RETURNING id::text",
		fmt.Sprint(order), typ, order).Scan(&id)
	return id, err
}

// drained waits until the event that committed last has arrived, and with it all
// that committed before: the work table is filled in the order of commits, and a
// transaction of Kafka holds all up to a commit. How many
// items there are says the comparison. It is asked when run has ended.
func (a *application) drained(ctx context.Context) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for after := int64(0); a.last != ""; {
		var arrived bool
		err := a.pool.QueryRow(ctx, a.log.in(`SELECT coalesce(bool_or(idempotency_key = $1), false), coalesce(max(seq), $2)
			FROM walbridge.log WHERE kind = 'event' AND seq > $2`), a.last, after).Scan(&arrived, &after)
		switch {
		case ctx.Err() != nil:
			return fmt.Errorf("the last event has not arrived: %w", context.Cause(ctx))
		case err != nil:
			return fmt.Errorf("look for the last event: %w", err)
		case arrived:
			return nil
		}
		select {
		case <-ctx.Done():
		case <-tick.C:
		}
	}
	return nil
}
