package queue_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/queue"
)

// What TestExample gives the example in place of a program's configuration.
var (
	ctx, stop = context.WithCancel(context.Background())
	dsn       string
)

// A whole working subscription.
func Example() {
	pool, err := pgxpool.New(ctx, dsn)
	if err != nil {
		panic(err)
	}
	defer pool.Close()
	sub, err := queue.Subscribe(ctx, pool, queue.Config{Name: "search", Streams: []string{"orders"}})
	if err != nil {
		panic(err)
	}
	err = sub.Run(ctx, func(_ context.Context, it queue.Item) error {
		fmt.Println(it.Type, it.Key, string(it.Payload))
		stop() // as a signal would
		return nil
	})
	fmt.Println("stopped:", err)
}

func TestExample(t *testing.T) {
	db := queue.Migrated(t, 8)
	dsn = db.DSN()
	queue.Produce(t, db, 1, 1)
	Example()
	require.Equal(t, "1", db.One(t, "SELECT max(seq) FROM walbridge.checkpoint WHERE subscription = 'search'"), "the item is settled")
}
