package worktable

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/sink"
)

// HasReaders is true while there is a subscription, a workflow under way or one that
// failed, and finds out over a session that the bridge has in any case: a bridge that
// nobody reads from has two sessions.
func TestHasReaders(t *testing.T) {
	t.Parallel()
	db := shared(t)
	s := newTest(t, testConfig(db))
	l, err := s.Lock(ctxOf(t), "shop", time.Minute, nil)
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Unlock(ctxOf(t)) })
	_, err = s.Open(ctxOf(t), sink.Source{Name: "shop"})
	require.NoError(t, err)
	readers := func(want bool) {
		t.Helper()
		got, err := s.HasReaders(ctxOf(t))
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	readers(false)
	require.Equal(t, "2", db.One(t, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'walbridge%'"))
	db.Exec(t, "SELECT walbridge.subscribe('all', '{orders}')")
	readers(true)
	db.Exec(t, "SELECT walbridge.drop_subscription('all')")
	readers(false)
	db.Exec(t, "INSERT INTO walbridge.workflow_instance (name, version, key, steps, state) VALUES ('order', 1, 'order-1', 'pay', '{}')")
	readers(true)
	db.Exec(t, "UPDATE walbridge.workflow_instance SET status = 'failed', available_at = NULL")
	readers(true)
	db.Exec(t, "UPDATE walbridge.workflow_instance SET status = 'completed'")
	readers(false)
}
