package worktable

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/secret"
	"github.com/walbridge/walbridge/sink"
)

// isLost reports whether the lock's session has ended.
func isLost(l sink.Lock) bool {
	select {
	case <-l.Lost():
		return true
	default:
		return false
	}
}

// lockAsync waits for a name and sends what it got.
func lockAsync(t *testing.T, s *Sink, name string, after time.Duration) (got <-chan sink.Lock, told <-chan string) {
	locks, owners := make(chan sink.Lock, 1), make(chan string, 100)
	ctx := ctxOf(t)
	go func() {
		l, err := s.Lock(ctx, name, after, func(owner string) { owners <- owner })
		if err != nil {
			t.Error(err)
		}
		locks <- l
	}()
	return locks, owners
}

func receive[T any](t *testing.T, c <-chan T, what string) T {
	t.Helper()
	select {
	case v := <-c:
		return v
	case <-time.After(within):
		t.Fatalf("not within %s: %s", within, what)
	}
	panic("unreachable")
}

// A name has one owner; the next gets it when the owner lets go, and is told whom
// it waits for. Another name, and the same one in another schema, is free.
func TestLockHandover(t *testing.T) {
	t.Parallel()
	db := shared(t)
	a, b := newTest(t, testConfig(db)), newTest(t, testConfig(db))
	l, err := a.Lock(ctxOf(t), "shop", time.Minute, nil)
	require.NoError(t, err)
	got, told := lockAsync(t, b, "shop", time.Minute)
	require.Contains(t, receive(t, told, "whom it waits for"), "walbridge_shop/side, pid ")
	c := newTest(t, testConfig(db))
	other, err := c.Lock(ctxOf(t), "legacy", time.Minute, nil)
	require.NoError(t, err)
	require.Empty(t, got)
	require.Equal(t, "0", db.One(t, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE 'walbridge%' AND backend_xmin IS NOT NULL"), "waiting holds no snapshot")
	require.NoError(t, l.Unlock(ctxOf(t)))
	require.NoError(t, l.Unlock(ctxOf(t)), "twice")
	l = receive(t, got, "the lock")
	require.False(t, isLost(l))
	require.NoError(t, l.Unlock(ctxOf(t)))
	require.NoError(t, other.Unlock(ctxOf(t)))
}

// An owner that closes its sink lets go.
func TestCloseUnlocks(t *testing.T) {
	t.Parallel()
	db := shared(t)
	a, b := newTest(t, testConfig(db)), newTest(t, testConfig(db))
	l, err := a.Lock(ctxOf(t), "shop", time.Minute, nil)
	require.NoError(t, err)
	mustOpen(t, a, "shop")
	got, _ := lockAsync(t, b, "shop", time.Minute)
	require.NoError(t, a.Close(ctxOf(t)))
	require.True(t, isLost(l))
	require.NoError(t, l.Unlock(ctxOf(t)))
	receive(t, got, "the lock")
}

// A living owner keeps the lock, however short takeoverAfter is for those who wait,
// while it does nothing else than live.
func TestLivingOwnerIsNotTakenOver(t *testing.T) {
	t.Parallel()
	db := shared(t)
	a, b := newTest(t, testConfig(db)), newTest(t, testConfig(db))
	l, err := a.Lock(ctxOf(t), "shop", 500*time.Millisecond, nil)
	require.NoError(t, err)
	start := time.Now()
	got, _ := lockAsync(t, b, "shop", 2*time.Second)
	pgtest.Eventually(t, within, func() bool { return time.Since(start) > 3*time.Second }, "longer than takeoverAfter")
	require.Empty(t, got)
	require.False(t, isLost(l))
	require.NoError(t, l.Unlock(ctxOf(t)))
	receive(t, got, "the lock")
}

// A silent owner is taken over after takeoverAfter: its session is ended, and it
// knows when it wakes. A session that is not ours keeps the lock.
func TestSilentOwnerIsTakenOver(t *testing.T) {
	t.Parallel()
	db := shared(t)
	silent := func(app string) *pgx.Conn {
		conn, err := pgx.Connect(t.Context(), db.DSN()+"&application_name="+app)
		require.NoError(t, err)
		_, err = conn.Exec(t.Context(), "SELECT pg_advisory_lock($1)", lockKey("walbridge", app))
		require.NoError(t, err)
		return conn
	}
	ours, theirs := silent("walbridge_shop"), silent("psql")
	defer func() { _ = theirs.Close(context.Background()) }()
	start := time.Now()
	a, b := newTest(t, testConfig(db)), newTest(t, testConfig(db))
	got, _ := lockAsync(t, a, "walbridge_shop", time.Second)
	receive(t, got, "the silent owner's lock")
	require.GreaterOrEqual(t, time.Since(start), time.Second)
	_, err := ours.Exec(t.Context(), "SELECT 1")
	require.Error(t, err, "the silent owner's session was ended")

	ctx, cancel := context.WithTimeout(t.Context(), 2500*time.Millisecond)
	defer cancel()
	_, err = b.Lock(ctx, "psql", time.Second, nil)
	require.ErrorIs(t, err, context.DeadlineExceeded)
	_, err = theirs.Exec(t.Context(), "SELECT 1")
	require.NoError(t, err, "a session that is not ours lives")
}

// An owner whose network is gone gives its lock up before another may take it.
func TestOwnerWithoutNetworkKnows(t *testing.T) {
	t.Parallel()
	db := shared(t)
	proxy := pgtest.NewProxy(t, db.DSN())
	far := testConfig(db)
	far.DSN = secret.DSN(proxy.DSN(db.DSN()))
	a, b := newTest(t, far), newTest(t, testConfig(db))
	const after = 2 * time.Second
	l, err := a.Lock(ctxOf(t), "shop", after, nil)
	require.NoError(t, err)
	got, _ := lockAsync(t, b, "shop", after)
	proxy.BlackHole(true)
	next := receive(t, got, "the next owner's lock")
	require.True(t, isLost(l), "the former owner knew first")
	require.False(t, isLost(next))
	proxy.Cut()
	proxy.Heal()
	mustOpen(t, b, "shop")
	writeN(t, b, 10, 1)
}

// Whoever ends the side session takes the lock away; the owner may take it again,
// and its writes go on meanwhile.
func TestLostAndTakenAgain(t *testing.T) {
	t.Parallel()
	db := shared(t)
	s := newTest(t, testConfig(db))
	l, err := s.Lock(ctxOf(t), "shop", time.Second, nil)
	require.NoError(t, err)
	_, err = s.Lock(ctxOf(t), "shop", time.Second, nil)
	require.ErrorContains(t, err, "already")
	mustOpen(t, s, "shop")
	db.One(t, "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity WHERE datname = current_database() AND application_name LIKE '%/side'")
	receive(t, l.Lost(), "the loss")
	writeN(t, s, 10, 1)
	again, err := s.Lock(ctxOf(t), "shop", time.Second, nil)
	require.NoError(t, err)
	require.False(t, isLost(again))
	writeN(t, s, 0x100, 1)
}
