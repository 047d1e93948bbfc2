// Command saga shows progress across several local commits: an order reserves stock,
// charges a card, waits for the parcel and closes. What cannot be finished is undone
// in reverse order. Events start the saga and move it; each arrives through the
// outbox, and the consumer that turns it into a step of the saga is a RunTx.
//
// Stock, payments and orders own their truth; the saga owns only how far it is.
package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"golang.org/x/sync/errgroup"

	"github.com/walbridge/walbridge/examples/internal/play"
	"github.com/walbridge/walbridge/queue"
	"github.com/walbridge/walbridge/workflow"
)

func main() { play.Main(setup(), story) }

func setup() play.Config {
	return play.Config{
		Tables: `
CREATE TABLE outbox (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), aggregatetype text NOT NULL, aggregateid text NOT NULL, type text NOT NULL, payload json NOT NULL);
CREATE TABLE stock (item text PRIMARY KEY, amount int NOT NULL);
INSERT INTO stock VALUES ('lamp', 1000);
CREATE TABLE payment (key text PRIMARY KEY, order_key text NOT NULL, refunded boolean NOT NULL DEFAULT false); -- stands for the provider
CREATE TABLE history (n bigint GENERATED ALWAYS AS IDENTITY, order_key text NOT NULL, what text NOT NULL);`,
		Routes: "- tables: [public.outbox]\n  outbox: {}",
	}
}

// Order is the state of the saga.
type Order struct {
	Item string
	Card string
}

// execer is a pool or a transaction.
type execer interface {
	Exec(ctx context.Context, sql string, arguments ...any) (pgconn.CommandTag, error)
}

// publish writes an event beside what the caller has decided.
func publish(ctx context.Context, db execer, order, typ string, payload any) error {
	_, err := db.Exec(ctx, "INSERT INTO outbox (aggregatetype, aggregateid, type, payload) VALUES ('orders', $1, $2, $3)", order, typ, payload)
	return err
}

func history(ctx context.Context, tx pgx.Tx, run *workflow.Run[Order], what string) error {
	_, err := tx.Exec(ctx, "INSERT INTO history (order_key, what) VALUES ($1, $2)", run.Instance(), what)
	return err
}

func stock(by int, what string) func(context.Context, *workflow.Run[Order], pgx.Tx) error {
	return func(ctx context.Context, run *workflow.Run[Order], tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "UPDATE stock SET amount = amount + $2 WHERE item = $1", run.State().Item, by)
		return errors.Join(err, history(ctx, tx, run, what))
	}
}

func closeOrder(ctx context.Context, run *workflow.Run[Order], tx pgx.Tx) error {
	return errors.Join(history(ctx, tx, run, "close"), publish(ctx, tx, run.Instance(), "OrderClosed", map[string]any{}))
}

// provider is the outside party. It knows a key again and refuses some cards.
type provider struct{ pool *pgxpool.Pool }

func (p provider) charge(ctx context.Context, run *workflow.Run[Order]) error {
	if run.State().Card == "stolen" {
		return workflow.Fail(errors.New("the card is refused"))
	}
	_, err := p.pool.Exec(ctx, "INSERT INTO payment VALUES ($1, $2) ON CONFLICT DO NOTHING", run.Key(), run.Instance())
	return err
}

// refund undoes a charge of which it is not known whether it took place.
func (p provider) refund(ctx context.Context, run *workflow.Run[Order]) error {
	_, err := p.pool.Exec(ctx, "INSERT INTO payment VALUES ($1, $2, true) ON CONFLICT (key) DO UPDATE SET refunded = true", run.KeyOf("charge"), run.Instance())
	return err
}

func checkout(pool *pgxpool.Pool, parcel time.Duration) *workflow.Definition[Order] {
	p := provider{pool}
	return workflow.Define[Order]("checkout", 1,
		workflow.Tx("reserve", stock(-1, "reserve")).Undo(stock(+1, "release")),
		workflow.Activity("charge", p.charge).Undo(p.refund).Timeout(5*time.Second),
		workflow.Wait("shipped", parcel),
		workflow.Tx("close", closeOrder))
}

// engine waits for a parcel for as long as it is told to.
func engine(pool *pgxpool.Pool, parcel time.Duration) (*workflow.Engine, *workflow.Definition[Order], error) {
	w := checkout(pool, parcel)
	eng, err := workflow.New(pool, workflow.Config{
		Lease: time.Second, Poll: 50 * time.Millisecond, FirstBackoff: 50 * time.Millisecond, MaxAttempts: 1000,
	}, w)
	return eng, w, err
}

// work runs the saga and the consumer that events move it by.
func work(ctx context.Context, pool *pgxpool.Pool, parcel time.Duration) error {
	eng, w, err := engine(pool, parcel)
	if err != nil {
		return err
	}
	sub, err := queue.Subscribe(ctx, pool, queue.Config{Name: "checkout", Streams: []string{"orders"}, Lease: time.Second, Poll: 50 * time.Millisecond, Concurrency: 4})
	if err != nil {
		return err
	}
	g, ctx := errgroup.WithContext(ctx)
	g.Go(func() error { return eng.Run(ctx) })
	g.Go(func() error {
		return sub.RunTx(ctx, func(ctx context.Context, tx pgx.Tx, items []queue.Item) error {
			for _, it := range items {
				if err := move(ctx, tx, eng, w, it); err != nil {
					return err
				}
			}
			return nil
		})
	})
	return g.Wait()
}

// move starts or moves the saga of an order, in the transaction of the checkpoint.
func move(ctx context.Context, tx pgx.Tx, eng *workflow.Engine, w *workflow.Definition[Order], it queue.Item) error {
	switch it.Type {
	case "OrderPlaced":
		var o Order
		if err := it.Decode(&o); err != nil {
			return err
		}
		return eng.StartTx(ctx, tx, w, it.Key, o)
	case "ParcelShipped":
		err := eng.SignalTx(ctx, tx, w.Name(), it.Key, "shipped", it.Payload, workflow.SignalID(it.ID))
		if errors.Is(err, workflow.ErrFinished) {
			return nil // too late: the order is compensated already
		}
		return err
	}
	return nil
}

const finished = "SELECT count(*) = $1 FROM walbridge.workflow_instance WHERE status IN ('completed', 'compensated')"

func story(ctx context.Context, p *play.Play) error {
	worker := func(ctx context.Context) error { return work(ctx, p.Pool, 2*time.Second) }
	err := play.While(ctx, worker, func(ctx context.Context) error {
		for order, card := range map[string]string{"1": "good", "2": "stolen", "3": "good"} {
			if err := publish(ctx, p.Pool, order, "OrderPlaced", Order{"lamp", card}); err != nil {
				return err
			}
		}
		// The parcel of order 3 is lost.
		if err := publish(ctx, p.Pool, "1", "ParcelShipped", map[string]string{"parcel": "7F"}); err != nil {
			return err
		}
		return p.Await(ctx, p.Pool, finished, 3)
	})
	if err != nil {
		return err
	}
	rows, err := p.Pool.Query(ctx, "SELECT key, status, coalesce(reason, ''), (SELECT string_agg(what, ', ' ORDER BY n) FROM history WHERE order_key = key) FROM walbridge.workflow_instance ORDER BY key")
	if err != nil {
		return err
	}
	var key, status, reason, what string
	_, err = pgx.ForEachRow(rows, []any{&key, &status, &reason, &what}, func() error {
		p.Say("order %s: %s (%s)%s", key, status, what, because(reason))
		return nil
	})
	return err
}

func because(reason string) string {
	if reason == "" {
		return ""
	}
	return fmt.Sprintf(", since %s", reason)
}
