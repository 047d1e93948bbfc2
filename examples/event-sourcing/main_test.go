package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/examples/internal/proof"
	"github.com/walbridge/walbridge/internal/child"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/queue"
)

// The worker processes follow the stream for the projection that they are given.
func TestMain(m *testing.M) { proof.Main(m, work) }

// One projection runs live from the first start on, and one is rebuilt again and again,
// while all are killed: before and after the log loses its old partitions. Before, one
// more takes what the log has.
func TestProjectionRebuiltFromZeroEqualsOneThatRanLive(t *testing.T) {
	t.Parallel()
	s := proof.New(t, setup())
	r := &rounds{Stage: s, workers: map[string]*child.Process{}}
	for _, projection := range []string{"live", "rebuilt"} {
		r.subscribe(projection)
	}
	r.run(proof.Size(3, 10))
	r.subscribe("replayed") // from the beginning of the log
	r.equal()
	r.forget()
	r.run(proof.Size(2, 10))
	r.equal()
	require.NotEqual(t, "0", s.One("SELECT count(*)::text FROM walbridge.log WHERE type = 'insert'"))
	require.Equal(t, "0", s.One("SELECT ((SELECT count(*) FROM walbridge.parked) + (SELECT count(*) FROM walbridge.dead_letter) + (SELECT count(*) FROM ahead))::text"), "no event found a gap before it")
}

// rounds are kills and rebuilds while events are appended.
type rounds struct {
	*proof.Stage
	workers map[string]*child.Process // by projection
}

func (r *rounds) subscribe(projection string) {
	_, err := subscribe(r.T.Context(), r.Pool, projection)
	require.NoError(r.T, err)
	r.workers[projection] = r.Worker(projection)
}

func (r *rounds) run(n int) {
	sub, err := subscribe(r.T.Context(), r.Pool, "rebuilt")
	require.NoError(r.T, err)
	stop, cancel := context.WithCancel(r.T.Context())
	defer cancel()
	var writers sync.WaitGroup
	for range 3 {
		rnd := rand.New(rand.NewPCG(r.Rand.Uint64(), 2))
		writers.Go(func() { write(stop, r.Stage, rnd, proof.Size(3000, 10_000)) })
	}
	for i := range n {
		r.Pause(time.Second)
		for projection, worker := range r.workers {
			proof.Kill(r.T, worker)
			r.workers[projection] = r.Worker(projection)
		}
		rebuilding := make(chan error, 1)
		go func() { rebuilding <- rebuild(r.T.Context(), r.Play, sub) }()
		r.Pause(time.Second)
		switch i % 3 {
		case 0:
			r.RestartBridge()
		case 1:
			r.RestartServer(r.Server)
		}
		if <-rebuilding != nil { // killed under it: an application tries again
			r.Retry(func() error { return rebuild(r.T.Context(), r.Play, sub) })
		}
	}
	cancel()
	writers.Wait()
}

// equal waits until each projection is what the table's own fold says.
func (r *rounds) equal() {
	for projection := range r.workers {
		pgtest.Eventually(r.T, time.Duration(proof.Size(1, 10))*proof.Within, func() bool {
			return r.holds("SELECT ("+differs+") = 0", projection) == nil
		}, "%s is what the table says", projection)
	}
}

// write appends events; an append that lost against another, or whose answer was lost,
// is passed over.
func write(ctx context.Context, s *proof.Stage, rnd *rand.Rand, most int) {
	for range most {
		if ctx.Err() != nil {
			return
		}
		_ = appendEvent(s.T.Context(), s.Pool, fmt.Sprint("account ", rnd.IntN(12)), rnd.IntN(100)-50)
	}
}

// bound is where the second partition of the log begins.
const bound = "10000000"

// forget has the log drop all that it holds, by the rules of retention: as if ten million
// more items had filled its partition, and were old.
func (r *rounds) forget() {
	require.NoError(r.T, r.exec("SELECT walbridge.lock_log(), setval('walbridge.log_seq', greatest(last_value, "+bound+")) FROM walbridge.log_seq"))
	require.NoError(r.T, appendEvent(r.T.Context(), r.Pool, "account 1", 1))
	r.Until("SELECT max(seq) > " + bound + " FROM walbridge.log")
	for projection := range r.workers {
		r.pass(projection)
	}
	r.Retry(func() error {
		if err := r.exec("SELECT walbridge.set_retention('change', '0 s', '1 day')", "SELECT FROM walbridge.retain()", "SELECT FROM walbridge.drop_partitions(true)"); err != nil {
			return err
		}
		return r.holds("SELECT NOT EXISTS (SELECT FROM walbridge.log WHERE seq < " + bound + ")")
	})
}

// pass ends a projection's workers in good order, which stores that its empty lanes have
// passed the partition: at work they store that once a minute.
func (r *rounds) pass(projection string) {
	proof.Kill(r.T, r.workers[projection])
	r.Retry(func() error {
		ctx, cancel := context.WithTimeout(r.T.Context(), 2*time.Second) // the killed one's lease, and a look
		defer cancel()
		if err := work(ctx, r.Pool, projection); err != nil {
			return err
		}
		return r.holds("SELECT walbridge._passed($1, 0, "+bound+")", projection)
	})
}

// exec runs statements, each in a transaction of its own.
func (r *rounds) exec(sql ...string) error {
	for _, s := range sql {
		if _, err := r.Pool.Exec(r.T.Context(), s); err != nil {
			return fmt.Errorf("%s: %w", s, err)
		}
	}
	return nil
}

// holds is an error unless a query says true.
func (r *rounds) holds(query string, args ...any) error {
	var yes bool
	err := r.Pool.QueryRow(r.T.Context(), query, args...).Scan(&yes)
	if err == nil && !yes {
		err = errors.New("not yet: " + query)
	}
	return err
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
	const streamed = "SELECT EXISTS (SELECT FROM walbridge.log WHERE payload ->> 'account' = 'x' AND payload ->> 'version' = $1)"
	s.Until("SELECT count(*) = 140 FROM walbridge.log WHERE type = 'read'")
	require.NoError(t, appendEvent(ctx, s.Pool, "x", 1))
	s.Until(streamed, "1")
	_, err = s.Pool.Exec(ctx, "ALTER ROLE postgres SET synchronous_commit = local")
	require.NoError(t, err)
	s.Pool.Reset()
	standby("nobody")
	s.Retry(func() error { // the server's processes take a new setting one after the other
		if err := appendEvent(ctx, s.Pool, "probe", 1); err != nil {
			return err
		}
		return (&rounds{Stage: s}).holds("SELECT EXISTS (SELECT FROM pg_stat_activity WHERE wait_event = 'SyncRep')")
	})
	appended := make(chan error, 1)
	go func() { appended <- stalled(ctx, s.Pool) }()
	// The bridge's own commits wait as well; cancelled, they become visible (syncrep.c, SyncRepWaitForLSN).
	const release = `(SELECT count(pg_cancel_backend(pid)) FROM pg_stat_activity WHERE wait_event = 'SyncRep' AND query NOT LIKE '%INSERT INTO events%') >= 0`
	s.Until("SELECT "+release+" AND EXISTS (SELECT FROM walbridge.log WHERE payload ->> 'account' = 'x' AND payload ->> 'version' = $1)", "2")
	require.Equal(t, "1", s.One("SELECT count(*)::text FROM events WHERE account = 'x'"), "the stream is ahead")
	rebuilt := make(chan error, 1)
	go func() { rebuilt <- rebuild(ctx, s.Play, sub) }()
	s.Until("SELECT " + release + " AND EXISTS (SELECT FROM pg_stat_activity WHERE query LIKE '%pg_snapshot_xmin%' AND pid <> pg_backend_pid())")
	require.Empty(t, rebuilt, "it waits")
	standby("")
	require.NoError(t, <-appended)
	require.NoError(t, <-rebuilt)
	s.Worker("rebuilt")
	require.NoError(t, appendEvent(ctx, s.Pool, "x", 4))
	s.Until("SELECT version = 3 AND cents = 7 FROM balance WHERE account = 'x'")
	s.Until("SELECT ("+differs+") = 0", "rebuilt")
}

// stalled appends an event whose commit waits for a standby.
func stalled(ctx context.Context, pool *pgxpool.Pool) error {
	_, err := pool.Exec(ctx, "SET synchronous_commit = on; INSERT INTO events (account, version, type, data) VALUES ('x', 2, 'Deposited', '{\"cents\": 2}')")
	return err
}

// Each event counts once, in whatever order reading and stream bring it; one that is read
// and leaves a gap is refused.
func TestApplyTakesEachEventOnceAndRefusesAGap(t *testing.T) {
	t.Parallel()
	cfg := setup()
	cfg.Routes = ""
	s := proof.New(t, cfg)
	take := func(account string, version int, read bool) error {
		e := event{Account: account, Version: version}
		e.Data.Cents = int64(version)
		return pgx.BeginFunc(t.Context(), s.Pool, func(tx pgx.Tx) error {
			return batch{tx, "p", map[string]int{}}.apply(t.Context(), e, read)
		})
	}
	for i, c := range []struct {
		version int
		read    bool
		want    string // versions applied, and waiting
	}{
		{4, false, "0/1"}, {4, false, "0/1"}, {6, false, "0/2"}, {1, true, "1/2"}, {1, true, "1/2"}, {2, true, "2/2"},
		{3, true, "4/1"}, {4, true, "4/1"}, {5, true, "6/0"}, {6, true, "6/0"}, {7, false, "7/0"}, {7, true, "7/0"},
	} {
		require.NoError(t, take("a", c.version, c.read))
		require.Equal(t, c.want, s.One("SELECT coalesce((SELECT version FROM balance WHERE account = 'a'), 0) || '/' || (SELECT count(*) FROM ahead)"), i)
	}
	require.Equal(t, "28", s.One("SELECT cents::text FROM balance WHERE account = 'a'"))
	require.NoError(t, take("b", 1, true))
	err := take("b", 3, true)
	require.ErrorIs(t, err, errGap)
	var dead *queue.DeadError
	require.ErrorAs(t, err, &dead)
}

// The example shows what it says.
func TestExample(t *testing.T) {
	t.Parallel()
	require.Equal(t, "140 events from before the bridge are in all balances\nrebuilt from the table after 150 more\nafter 300 more all balances are right: 45270 cents\n", proof.Output(t, "event-sourcing"))
}
