package worktable

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/migrations"
	"github.com/walbridge/walbridge/sink"
)

// Who waits for the position is heard: by a notification, which may come at any time,
// and by the lock that one has who waits inside a transaction. Others' are not.
func TestWaitersAreHeard(t *testing.T) {
	t.Parallel()
	db := shared(t)
	s := newTest(t, testConfig(db))
	l, err := s.Lock(ctxOf(t), "shop", time.Minute, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Unlock(context.Background()) })
	var told atomic.Int64
	_, err = s.Open(ctxOf(t), sink.Source{Name: "shop", OnMark: func() { told.Add(1) }})
	require.NoError(t, err)
	db.Exec(t, "SELECT walbridge.subscribe('all', '{orders}')")
	require.Equal(t, "f", db.One(t, "SELECT walbridge.wait_for('all', 'shop', '0/FFFF', '0')"), "looks, and asks nobody")
	db.Exec(t, "SELECT pg_notify($1, $2)", migrations.MarkChannel, migrations.Mark("walbridge", "other"))
	db.Exec(t, "SELECT pg_notify($1, $2)", migrations.MarkChannel, migrations.Mark("other", "shop"))
	require.Equal(t, "f", db.One(t, "SELECT walbridge.wait_for('all', 'shop', '0/FFFF', '0', ask => true)"))
	pgtest.Eventually(t, within, func() bool { return told.Load() == 1 }, "the notification")
	for range 20 { // in between its other uses
		require.NoError(t, s.side.do(ctxOf(t), within, func(ctx context.Context, c *pgx.Conn) error {
			_, err := c.Exec(ctx, "SELECT 1")
			return err
		}))
	}
	require.EqualValues(t, 1, told.Load())
	waiter := db.Conn(t)
	_, err = waiter.Exec(ctxOf(t), "BEGIN")
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() {
		_, err := waiter.Exec(context.Background(), "SELECT 1 / walbridge.wait_for('all', 'shop', '0/FFFF', '2 min')::integer")
		done <- err
	}()
	pgtest.Eventually(t, within, func() bool { return told.Load() >= 2 }, "the lock")
	require.NoError(t, s.Write(ctxOf(t), s.NewBatch(), at(0xFFFF)))
	require.NoError(t, receive(t, done, "the wait ends"))
	heard := told.Load()
	require.Equal(t, "0", db.One(t, "SELECT count(*) FROM pg_locks WHERE pid = $1 AND locktype = 'advisory'", waiter.PgConn().PID()), "the transaction goes on without the lock")
	require.LessOrEqual(t, told.Load(), heard+1)
	require.False(t, isLost(l))
}
