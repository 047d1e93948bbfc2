package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/examples/internal/proof"
)

// The worker processes follow the stream for the projection that they are given.
func TestMain(m *testing.M) { proof.Main(m, work) }

// One projection runs live from the first event on, one is rebuilt again and again.
// The log loses its old events on the way.
func TestProjectionRebuiltFromZeroEqualsOneThatRanLive(t *testing.T) {
	t.Parallel()
	s := proof.New(t, setup())
	sub, err := subscribe(t.Context(), s.Pool, "rebuilt")
	require.NoError(t, err)
	_, err = subscribe(t.Context(), s.Pool, "live")
	require.NoError(t, err)
	stop, cancel := context.WithCancel(t.Context())
	defer cancel()
	var writers sync.WaitGroup
	for range 3 {
		rnd := rand.New(rand.NewPCG(s.Rand.Uint64(), 2))
		writers.Go(func() { write(stop, s, rnd, proof.Size(3000, 50_000)) })
	}
	live, rebuilt := s.Worker("live"), s.Worker("rebuilt")
	for i := range proof.Size(3, 30) {
		s.Pause(time.Second)
		proof.Kill(t, live)
		proof.Kill(t, rebuilt)
		live, rebuilt = s.Worker("live"), s.Worker("rebuilt")
		s.Pause(time.Second)
		s.Retry(func() error { return rebuild(t.Context(), s.Pool, sub) })
		switch i % 3 {
		case 0:
			s.RestartBridge()
		case 1:
			s.RestartServer(s.Server)
		}
	}
	cancel()
	writers.Wait()
	for _, projection := range []string{"live", "rebuilt"} {
		s.Until("SELECT ("+differs+") = 0", projection)
	}
	require.NotEqual(t, "0", s.One("SELECT count(*)::text FROM events"))
	require.Equal(t, "0", s.One("SELECT (SELECT count(*) FROM walbridge.parked) + (SELECT count(*) FROM walbridge.dead_letter) || ''"), "no event found a gap before it")

	// The log is emptied, as retention may do. The history is not there.
	_, err = s.Pool.Exec(t.Context(), "DELETE FROM walbridge.log; DELETE FROM balance WHERE projection = 'rebuilt'")
	require.NoError(t, err)
	require.NoError(t, rebuild(t.Context(), s.Pool, sub))
	require.NoError(t, appendEvent(t.Context(), s.Pool, "account 1", 1))
	for _, projection := range []string{"live", "rebuilt"} {
		s.Until("SELECT ("+differs+") = 0", projection)
	}
}

// write appends events; an append that lost against another, or whose answer was lost,
// is passed over.
func write(ctx context.Context, s *proof.Stage, rnd *rand.Rand, most int) {
	for range most {
		if ctx.Err() != nil {
			return
		}
		_ = appendEvent(s.T.Context(), s.Pool, fmt.Sprint("account ", rnd.IntN(8)), rnd.IntN(100)-50)
	}
}

// A commit that the stream has and that others do not see yet: the server waits for a
// standby that is not there. A rebuild waits for it, and then has it once.
func TestRebuildHasACommitThatTheStreamSawFirst(t *testing.T) {
	t.Parallel()
	s := proof.New(t, setup())
	ctx := t.Context()
	sub, err := subscribe(ctx, s.Pool, "rebuilt")
	require.NoError(t, err)
	standby := func(names string) {
		for _, sql := range []string{"ALTER SYSTEM SET synchronous_standby_names = '" + names + "'", "SELECT pg_reload_conf()"} {
			_, err := s.Pool.Exec(ctx, sql)
			require.NoError(t, err)
		}
	}
	require.NoError(t, appendEvent(ctx, s.Pool, "account 1", 1))
	s.Until("SELECT count(*) = 1 FROM walbridge.log")
	_, err = s.Pool.Exec(ctx, "ALTER ROLE postgres SET synchronous_commit = local")
	require.NoError(t, err)
	s.Pool.Reset()
	standby("nobody")
	appended := make(chan error, 1)
	go func() { appended <- stalled(ctx, s.Pool) }()
	// The bridge's own commit waits as well; cancelled, it becomes visible (syncrep.c, SyncRepWaitForLSN).
	s.Until(`SELECT count(*) FILTER (WHERE pg_cancel_backend(pid)) > 0 FROM pg_stat_activity
		WHERE wait_event = 'SyncRep' AND query NOT LIKE '%INSERT INTO events%'`)
	s.Until("SELECT count(*) = 2 FROM walbridge.log")
	require.Equal(t, "1", s.One("SELECT count(*)::text FROM events"), "the stream is ahead")
	rebuilt := make(chan error, 1)
	go func() { rebuilt <- rebuild(ctx, s.Pool, sub) }()
	s.Until("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE '%pg_snapshot_xip%ANY%' AND pid <> pg_backend_pid())")
	require.Empty(t, rebuilt, "it waits")
	standby("")
	require.NoError(t, <-appended)
	require.NoError(t, <-rebuilt)
	s.Worker("rebuilt")
	require.NoError(t, appendEvent(ctx, s.Pool, "account 1", 4))
	s.Until("SELECT version = 3 AND cents = 7 FROM balance")
}

// stalled appends an event whose commit waits for a standby.
func stalled(ctx context.Context, pool *pgxpool.Pool) error {
	_, err := pool.Exec(ctx, "SET synchronous_commit = on; INSERT INTO events (account, version, type, data) VALUES ('account 1', 2, 'Deposited', '{\"cents\": 2}')")
	return err
}

// The example shows what it says.
func TestExample(t *testing.T) {
	t.Parallel()
	require.Equal(t, "rebuilt from the table after 150 events\nafter 300 events all balances are right: 44850 cents\n", proof.Output(t, "event-sourcing"))
}
