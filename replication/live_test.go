package replication

import (
	"context"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/embeddedpg"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pgtest"
)

// This file has the sessions with a real server: what keeps one, what ends one, and
// what is left behind.

// shortened is a wal_sender_timeout that a test can wait for.
const shortened = 1500 * time.Millisecond

// backlog writes more than the buffers of both kernels hold.
func backlog(t *testing.T, db *pgtest.DB) {
	t.Helper()
	db.Exec(t, "INSERT INTO a SELECT i, repeat('x', 4000) FROM generate_series(1, 5000) i")
}

// walsenders counts the sessions of a process id.
func walsenders(t *testing.T, db *pgtest.DB, pid uint32) int {
	t.Helper()
	n, err := strconv.Atoi(db.One(t, "SELECT count(*) FROM pg_stat_replication WHERE pid = $1", int64(pid)))
	require.NoError(t, err)
	return n
}

// A reader that does not read for three times the server's time-out keeps its
// session, because the reporter goes on writing.
func TestBlockedReaderStaysConnected(t *testing.T) {
	t.Parallel()
	db := pgtest.Shared(t).DB(t)
	s := testSource(t, db, db.DSN())
	s.limits.senderTime = shortened
	at := ready(t, s, db)
	st := open(t, s, at, positionAt(at).get)
	backlog(t, db)
	began := time.Now()
	pgtest.Eventually(t, within, func() bool {
		require.Equal(t, 1, walsenders(t, db, st.PID()), "the walsender is gone after %v", time.Since(began))
		return time.Since(began) > 3*shortened
	}, "three times the time-out")
	until(t, st, isCommit)
	require.Greater(t, st.Bytes(), int64(20_000_000))
}

// The server goes on listening and nothing arrives: only the own clock finds out.
func TestBlackHoleIsFound(t *testing.T) {
	t.Parallel()
	db := pgtest.Shared(t).DB(t)
	proxy := pgtest.NewProxy(t, db.DSN())
	s := testSource(t, db, proxy.DSN(db.DSN()))
	s.limits.senderTime = shortened
	at := ready(t, s, db)
	st := open(t, s, at, positionAt(at).get)
	db.Exec(t, "INSERT INTO a VALUES (1, 'x')")
	until(t, st, isCommit)

	proxy.BlackHole(true)
	began := time.Now()
	var err error
	for err == nil {
		_, err = st.Next()
	}
	require.ErrorIs(t, err, ErrSilent)
	require.Equal(t, ReasonSilent, fault.Reason(err))
	require.Less(t, time.Since(began), within)
	_, again := st.Next()
	require.Equal(t, err, again, "the error stays")
}

// An idle server that answers is not silent: the probe's reply counts.
func TestIdleServerIsNotSilent(t *testing.T) {
	t.Parallel()
	db := pgtest.Shared(t).DB(t)
	s := testSource(t, db, db.DSN())
	s.limits.senderTime = shortened
	at := ready(t, s, db)
	st := open(t, s, at, positionAt(at).get)
	timer := time.AfterFunc(3*shortened, st.Interrupt)
	defer timer.Stop()
	var err error
	for err == nil {
		_, err = st.Next()
	}
	require.ErrorIs(t, err, ErrInterrupted)
	db.Exec(t, "INSERT INTO a VALUES (1, 'x')")
	until(t, st, isCommit)
}

// A cut connection is transient, and what was not confirmed comes again, whole.
func TestCutConnectionRepeats(t *testing.T) {
	t.Parallel()
	db := pgtest.Shared(t).DB(t)
	proxy := pgtest.NewProxy(t, db.DSN())
	s := testSource(t, db, proxy.DSN(db.DSN()))
	at := ready(t, s, db)
	st := open(t, s, at, positionAt(at).get)
	db.Exec(t, "INSERT INTO a VALUES (1, 'x')")
	first := until(t, st, isCommit)
	proxy.Cut()
	var err error
	for err == nil {
		_, err = st.Next()
	}
	require.Equal(t, ReasonNetwork, fault.Reason(err), "%v", err)

	pgtest.Eventually(t, within, func() bool { return walsenders(t, db, st.PID()) == 0 }, "the old session ends")
	again := until(t, open(t, s, at, positionAt(at).get), isCommit)
	require.Equal(t, first.End, again.End)
	require.Equal(t, first.Data, again.Data)
}

// The session of a bridge that was cut off holds the slot; its successor ends it, and
// nobody else's.
func TestTerminateZombie(t *testing.T) {
	t.Parallel()
	db := pgtest.Shared(t).DB(t)
	proxy := pgtest.NewProxy(t, db.DSN())
	s := testSource(t, db, proxy.DSN(db.DSN()))
	at := ready(t, s, db)
	zombie := open(t, s, at, positionAt(at).get)
	proxy.BlackHole(true)

	heir := testSource(t, db, db.DSN())
	_, err := heir.Stream(t.Context(), StreamConfig{From: at, Confirmed: positionAt(at).get})
	require.Equal(t, ReasonSlotActive, fault.Reason(err), "%v", err)

	stranger := testSource(t, db, db.DSN())
	stranger.bridge = "stranger"
	ended, err := stranger.TerminateZombie(t.Context())
	require.False(t, ended)
	require.Equal(t, ReasonSlotActive, fault.Reason(err))
	require.ErrorContains(t, err, s.applicationName())
	require.Equal(t, 1, walsenders(t, db, zombie.PID()))

	ended, err = heir.TerminateZombie(t.Context())
	require.NoError(t, err)
	require.True(t, ended)
	pgtest.Eventually(t, within, func() bool { return walsenders(t, db, zombie.PID()) == 0 }, "the zombie ends")
	open(t, heir, at, positionAt(at).get)

	ended, err = testSource(t, db, db.DSN()).TerminateZombie(t.Context())
	require.NoError(t, err)
	require.True(t, ended, "it is the same bridge's by its name")
	pgtest.Eventually(t, within, func() bool {
		return db.One(t, "SELECT active FROM pg_replication_slots WHERE slot_name = $1", s.Slot()) == "f"
	}, "the slot is free")
	ended, err = heir.TerminateZombie(t.Context())
	require.NoError(t, err)
	require.False(t, ended, "nobody holds it")
}

// A fast shutdown waits for a walsender whose client does not read. Watch sees it
// coming, and the closed stream lets it go.
func TestShutdownIsSeenWhileTheReaderIsBlocked(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t)
	db := c.DB(t)
	s := testSource(t, db, db.DSN())
	at := ready(t, s, db)
	st := open(t, s, at, positionAt(at).get)
	backlog(t, db)

	samples := make(chan Sample, 100)
	watched := make(chan error, 1)
	go func() {
		watched <- s.Watch(t.Context(), 50*time.Millisecond, func(sample Sample) {
			select {
			case samples <- sample:
			default:
			}
		})
	}()
	sample := <-samples
	require.NotNil(t, sample.Slot)
	require.True(t, sample.Slot.Active)
	require.Positive(t, sample.WAL)
	require.WithinDuration(t, time.Now(), sample.Time, within)

	stopped := make(chan error, 1)
	began := time.Now()
	go func() {
		ctx, cancel := context.WithTimeout(context.Background(), within)
		defer cancel()
		stopped <- c.Server().Stop(ctx, embeddedpg.Fast)
	}()
	require.ErrorIs(t, <-watched, ErrShutdown)
	require.NoError(t, st.Close())
	require.NoError(t, <-stopped)
	require.Less(t, time.Since(began), within, "not only after wal_sender_timeout")
	require.NoError(t, c.Server().Restart(t.Context())) // to be dropped in good order
}

// An administrator who ends the watching session alone is no shutdown.
func TestWatchSurvivesItsOwnEnd(t *testing.T) {
	t.Parallel()
	db := pgtest.Shared(t).DB(t)
	s := testSource(t, db, db.DSN())
	ctx, cancel := context.WithCancel(t.Context())
	samples := make(chan Sample)
	watched := make(chan error, 1)
	go func() {
		watched <- s.Watch(ctx, 10*time.Millisecond, func(sample Sample) {
			select {
			case samples <- sample:
			case <-ctx.Done():
			}
		})
	}()
	require.Nil(t, (<-samples).Slot, "there is none yet")
	db.Exec(t, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE application_name = $1", s.applicationName())
	for range 3 {
		<-samples
	}
	cancel()
	require.NoError(t, <-watched)
}

// Stopping in good order tells the server the last position, however the reader
// stands: here with a backlog that nobody has read.
func TestStopWithABacklog(t *testing.T) {
	t.Parallel()
	db := pgtest.Shared(t).DB(t)
	s := testSource(t, db, db.DSN())
	at := ready(t, s, db)
	p := positionAt(at)
	st := open(t, s, at, p.get)
	db.Exec(t, "INSERT INTO a VALUES (0, 'x')")
	first := until(t, st, isCommit)
	backlog(t, db)
	p.set(first.End)
	require.NoError(t, st.Stop(t.Context()))
	require.Equal(t, first.End.String(), confirmedFlush(t, db, s))
	require.NoError(t, st.Stop(t.Context()), "twice does nothing")
	require.NoError(t, st.Close())
}

// A position that was reported by Wake arrives without Stop.
func TestWakeReports(t *testing.T) {
	t.Parallel()
	db := pgtest.Shared(t).DB(t)
	s := testSource(t, db, db.DSN())
	at := ready(t, s, db)
	p := positionAt(at)
	st := open(t, s, at, p.get)
	db.Exec(t, "INSERT INTO a VALUES (1, 'x')")
	f := until(t, st, isCommit)
	require.Equal(t, at, st.Reported())
	p.set(f.End)
	st.Wake()
	pgtest.Eventually(t, within, func() bool { return confirmedFlush(t, db, s) == f.End.String() }, "the server knows")
	require.Equal(t, f.End, st.Reported())
}

func TestTemporarySlotLeavesNothing(t *testing.T) {
	pgtest.Matrix(t, func(t *testing.T, c *pgtest.Cluster) {
		db := c.DB(t)
		s := testSource(t, db, db.DSN())
		db.Exec(t, "CREATE TABLE a (id int PRIMARY KEY, v text)")
		db.Exec(t, "CREATE PUBLICATION "+quoteIdent(s.Publication())+" FOR TABLE a")
		st, err := s.Stream(t.Context(), StreamConfig{Temporary: true})
		require.NoError(t, err)
		t.Cleanup(func() { _ = st.Close() })
		require.Equal(t, "t", db.One(t, "SELECT temporary FROM pg_replication_slots WHERE slot_name = $1", s.Slot()))
		db.Exec(t, "INSERT INTO a VALUES (1, 'x')")
		until(t, st, isCommit)
		require.NoError(t, st.Close())
		pgtest.Eventually(t, within, func() bool { return db.One(t, "SELECT count(*) FROM pg_replication_slots") == "0" }, "the slot is gone")
	})
}

// Without its publication the server must not stream on: up to 17 decoding fails,
// 18 leaves changes out with a notice (pgoutput.c, LoadPublications).
func TestMissingPublicationHalts(t *testing.T) {
	pgtest.Matrix(t, func(t *testing.T, c *pgtest.Cluster) {
		db := c.DB(t)
		s := testSource(t, db, db.DSN())
		db.Exec(t, "CREATE TABLE a (id int PRIMARY KEY, v text)")
		at, err := s.CreateSlot(t.Context())
		require.NoError(t, err)
		st := open(t, s, at, positionAt(at).get)
		db.Exec(t, "INSERT INTO a VALUES (1, 'x')")
		for err == nil {
			_, err = st.Next()
		}
		var halt *fault.Halt
		require.ErrorAs(t, err, &halt)
		require.Equal(t, "publication-missing", halt.Rule)
		requireWaysOut(t, halt)
	})
}
