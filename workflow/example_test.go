package workflow_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/migrate"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/secret"
	"github.com/walbridge/walbridge/workflow"
)

// Order is the state of a checkout: what its steps have to know of each other.
type Order struct {
	Number  int
	Cents   int
	Payment string
}

func reserve(ctx context.Context, run *workflow.Run[Order], tx pgx.Tx) error {
	tag, err := tx.Exec(ctx, "UPDATE stock SET left_over = left_over - 1 WHERE left_over > 0")
	if err == nil && tag.RowsAffected() == 0 {
		return workflow.Fail(errors.New("sold out"))
	}
	return err
}

func release(ctx context.Context, run *workflow.Run[Order], tx pgx.Tx) error {
	_, err := tx.Exec(ctx, "UPDATE stock SET left_over = left_over + 1")
	return err
}

func charge(ctx context.Context, run *workflow.Run[Order]) error {
	// A call of the payment provider, with run.Key() as its idempotency key.
	run.State().Payment = fmt.Sprintf("payment of %d cents", run.State().Cents)
	return nil
}

func refund(ctx context.Context, run *workflow.Run[Order]) error {
	fmt.Println("refunded since", run.Reason())
	return nil
}

func closeOrder(ctx context.Context, run *workflow.Run[Order], tx pgx.Tx) error {
	parcel, _ := run.Signal("shipped")
	// The event leaves with the commit of this step.
	_, err := tx.Exec(ctx, "INSERT INTO walbridge.inbox (partition_key, type, payload) VALUES ($1, 'OrderShipped', $2::json)", run.Instance(), string(parcel))
	return err
}

// Example is a whole program: a checkout that reserves, charges, waits for the
// parcel and closes the order, and another one that is cancelled.
func Example() {
	ctx, stop := context.WithTimeout(context.Background(), time.Minute)
	defer stop()
	pool, err := pgxpool.New(ctx, os.Getenv("DATABASE_URL"))
	if err != nil {
		fmt.Println(err)
		return
	}
	defer pool.Close()

	checkout := workflow.Define[Order]("checkout", 1,
		workflow.Tx("reserve", reserve).Undo(release),
		workflow.Activity("charge", charge).Undo(refund).Retry(8, time.Minute).Timeout(10*time.Second),
		workflow.Wait("shipped", 72*time.Hour),
		workflow.Tx("close", closeOrder))
	eng, err := workflow.New(pool, workflow.Config{}, checkout)
	if err != nil {
		fmt.Println(err)
		return
	}
	running, end := context.WithCancel(ctx)
	defer end()
	done := make(chan error, 1)
	go func() { done <- eng.Run(running) }()

	// With the order's own row, in one transaction.
	err = pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "INSERT INTO orders VALUES (9182), (9183)"); err != nil {
			return err
		}
		return errors.Join(
			eng.StartTx(ctx, tx, checkout, "order:9182", Order{Number: 9182, Cents: 1250}),
			eng.StartTx(ctx, tx, checkout, "order:9183", Order{Number: 9183, Cents: 900}))
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	_ = eng.Wake(ctx) // engines find it anyway, with their next poll
	// The signal may come before the workflow waits for it.
	if err := eng.Signal(ctx, "checkout", "order:9182", "shipped", map[string]string{"parcel": "7F"}, workflow.SignalID("parcel:7F")); err != nil {
		fmt.Println(err)
	}
	await(ctx, eng, "order:9182", workflow.Completed)
	await(ctx, eng, "order:9183", workflow.Waiting)
	if err := eng.Cancel(ctx, "checkout", "order:9183", "out of the shop"); err != nil {
		fmt.Println(err)
	}
	await(ctx, eng, "order:9183", workflow.Compensated)
	end()
	if err := <-done; err != nil {
		fmt.Println(err)
	}
	// It prints:
	//
	// order:9182 is completed: {"Number":9182,"Cents":1250,"Payment":"payment of 1250 cents"}
	// order:9183 is waiting: {"Number":9183,"Cents":900,"Payment":"payment of 900 cents"}
	// refunded since cancelled: out of the shop
	// order:9183 is compensated: {"Number":9183,"Cents":900,"Payment":"payment of 900 cents"}
}

// await polls for a status, as a program that shows progress would.
func await(ctx context.Context, eng *workflow.Engine, key string, want workflow.Status) {
	tick := time.NewTicker(20 * time.Millisecond)
	defer tick.Stop()
	for {
		d, err := eng.Show(ctx, "checkout", key)
		if err != nil || d.Status == want {
			fmt.Printf("%s is %s: %s\n", key, d.Status, d.State)
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
		}
	}
}

// printed is what a function prints.
func printed(t *testing.T, f func()) string {
	t.Helper()
	stdout := os.Stdout
	r, w, err := os.Pipe()
	require.NoError(t, err)
	os.Stdout = w
	defer func() { os.Stdout = stdout }()
	f() // less than a pipe holds
	require.NoError(t, w.Close())
	out, err := io.ReadAll(r)
	require.NoError(t, err)
	return string(out)
}

// The example runs as it is printed, and leaves what it promises.
func TestExample(t *testing.T) {
	db := pgtest.Shared(t).DB(t)
	_, err := migrate.Up(t.Context(), migrate.Config{DSN: secret.DSN(db.DSN()), ToolVersion: "test"})
	require.NoError(t, err)
	db.Exec(t, "CREATE TABLE orders (id int); CREATE TABLE stock (left_over int); INSERT INTO stock VALUES (5)")
	t.Setenv("DATABASE_URL", db.DSN())
	out := printed(t, Example)
	require.Equal(t, `order:9182 is completed: {"Number":9182,"Cents":1250,"Payment":"payment of 1250 cents"}
order:9183 is waiting: {"Number":9183,"Cents":900,"Payment":"payment of 900 cents"}
refunded since cancelled: out of the shop
order:9183 is compensated: {"Number":9183,"Cents":900,"Payment":"payment of 900 cents"}
`, out)
	require.Equal(t, "4", db.One(t, "SELECT left_over FROM stock"))
	require.Equal(t, [][]string{{"order:9182", "OrderShipped", `{"parcel":"7F"}`}}, db.Query(t, "SELECT partition_key, type, payload FROM walbridge.inbox"))
}
