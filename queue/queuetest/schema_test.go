package queuetest

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/queue"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// A handler runs against a work table of its own, which is gone afterwards.
func TestSchema(t *testing.T) {
	db := pgtest.Shared(t).DB(t)
	t.Run("in use", func(t *testing.T) {
		s := NewSchema(t, db.DSN())
		pool := db.Pool(t)
		sub, err := queue.Subscribe(t.Context(), pool, queue.Config{Name: "search", Streams: []string{"orders"}, Schema: s.Name})
		require.NoError(t, err)
		first := s.Add("orders", "Paid", "a", paid{1})
		second := s.Add("orders", "Paid", "a", paid{2})
		require.Less(t, first, second)
		var seqs []int64
		ctx, stop := context.WithTimeout(t.Context(), 30*time.Second)
		defer stop()
		require.NoError(t, sub.Run(ctx, func(_ context.Context, it queue.Item) error {
			if seqs = append(seqs, it.Seq); len(seqs) == 2 {
				stop()
			}
			return nil
		}))
		require.Equal(t, []int64{first, second}, seqs)
	})
	require.Equal(t, "0", db.One(t, "SELECT count(*) FROM pg_namespace WHERE nspname LIKE 'queuetest%'"))
}
