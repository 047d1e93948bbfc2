package main

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/examples/internal/proof"
)

// The worker processes are engines; their argument is the length of a trial and the
// number of versions they know.
func TestMain(m *testing.M) {
	proof.Main(m, func(ctx context.Context, pool *pgxpool.Pool, arg string) error {
		length, versions, _ := strings.Cut(arg, " ")
		d, err := time.ParseDuration(length)
		if err != nil {
			return err
		}
		n, err := strconv.Atoi(versions)
		if err != nil {
			return err
		}
		return work(ctx, pool, d, n)
	})
}

// The engine is killed while everything sleeps, and nothing runs when the time is up.
func TestSleepThroughARestartResumesOnTimeAndEarlySignalsAreKept(t *testing.T) {
	t.Parallel()
	s := proof.New(t, setup())
	eng, all, err := engine(s.Pool, time.Second, 2)
	require.NoError(t, err)
	require.NoError(t, eng.Start(t.Context(), all[1], "anna", Trial{}))
	require.NoError(t, eng.Signal(t.Context(), "trial", "anna", "plan", "yearly"))
	w := s.Worker("1s 2")
	s.Until("SELECT count(*) = 1 FROM diary")
	s.Until("SELECT status = 'waiting' FROM walbridge.workflow_instance")
	proof.Kill(t, w)
	s.RestartServer(s.Server)
	s.Until("SELECT clock_timestamp() > at + '1.5 s' FROM diary")
	s.Worker("1s 2")
	s.Until(isCompleted, 1)
	require.Equal(t, `begin, choose "yearly", end`, s.One("SELECT string_agg(entry, ', ' ORDER BY at) FROM diary"))
	require.Equal(t, "true", s.One("SELECT (max(at) - min(at) >= '1 s')::text FROM diary"))
}

// Engines are killed at random moments, first ones of the old version, then of both.
func TestOldInstancesFinishOnTheOldVersionAcrossKills(t *testing.T) {
	t.Parallel()
	s := proof.New(t, setup())
	const length = 200 * time.Millisecond
	eng, all, err := engine(s.Pool, length, 2)
	require.NoError(t, err)
	n := proof.Size(10, 200)
	start := func(version int) {
		for i := range n {
			key := fmt.Sprintf("v%d-%d", version, i)
			require.NoError(t, eng.Start(t.Context(), all[version-1], key, Trial{}))
			if version == 2 {
				require.NoError(t, eng.Signal(t.Context(), "trial", key, "plan", "monthly"))
			}
		}
	}
	start(1)
	old := s.Worker("200ms 1")
	s.Pause(time.Second)
	proof.Kill(t, old)
	start(2)
	for range proof.Size(3, 30) {
		w := s.Worker("200ms 2")
		s.Pause(time.Second)
		proof.Kill(t, w)
		if s.Rand.IntN(3) == 0 {
			s.RestartServer(s.Server)
		}
	}
	s.Worker("200ms 2")
	s.Until(isCompleted, 2*n)
	require.Equal(t, "0", s.One(`SELECT count(*)::text FROM (SELECT trial, string_agg(entry, ', ' ORDER BY at) AS entries FROM diary GROUP BY 1) d
		WHERE entries <> CASE WHEN trial LIKE 'v1-%' THEN 'begin, end' ELSE 'begin, choose "monthly", end' END`), "each step once, of its version")
	require.Equal(t, strconv.Itoa(2*n), s.One("SELECT count(DISTINCT trial)::text FROM diary"))
	require.Equal(t, strconv.Itoa(2*n), s.One("SELECT count(*)::text FROM mail"), "one mail each, whatever was tried again")
}

// The example shows what it says.
func TestExample(t *testing.T) {
	t.Parallel()
	require.Equal(t, `the program is stopped while the trial of anna sleeps; the next one has version 2 too
anna: version 1, completed, {"Address":"anna@example.com","Plan":""}
bert: version 2, completed, {"Address":"bert@example.com","Plan":"\"yearly\""}
`, proof.Output(t, "workflow"))
}
