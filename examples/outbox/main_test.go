package main

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/examples/internal/proof"
)

func TestMain(m *testing.M) { proof.Main(m, nil) }

// Source and work table are servers of their own here. The comparison is by the rows
// that the source has at the end, since the answer of a commit may be lost.
func TestNoEventLostOrRepeatedAcrossKillsOfBridgeSourceAndSink(t *testing.T) {
	t.Parallel()
	cfg := setup()
	cfg.Apart = true
	s := proof.New(t, cfg)
	paid := make(chan struct{})
	stop, cancel := context.WithCancel(t.Context())
	defer cancel()
	go func() {
		defer close(paid)
		for i := int64(1); stop.Err() == nil; i++ {
			_ = pay(t.Context(), s.Pool, i)
		}
	}()
	for range proof.Size(2, 20) {
		for _, kill := range []func(){s.RestartBridge, func() { s.RestartServer(s.Server) }, func() { s.RestartServer(s.SinkServer) }} {
			s.Pause(time.Second)
			kill()
		}
	}
	s.Pause(time.Second)
	cancel()
	<-paid
	ids := func(conn interface {
		Query(context.Context, string, ...any) (pgx.Rows, error)
	}, query string) []string {
		rows, err := conn.Query(t.Context(), query)
		require.NoError(t, err)
		all, err := pgx.CollectRows(rows, pgx.RowTo[string])
		require.NoError(t, err)
		return all
	}
	events := ids(s.Pool, "SELECT id::text FROM outbox ORDER BY (payload ->> 'order')::bigint")
	require.NotEmpty(t, events)
	s.Until("SELECT count(*) >= $1 FROM walbridge.log", len(events))
	// one writer, so the order of the commits is that of the orders
	require.Equal(t, events, ids(s.Sink, "SELECT idempotency_key FROM walbridge.log ORDER BY seq"))
}

// In steady state the bridge does not ask the outbox table, and what is inserted and
// deleted by one transaction is relayed all the same.
func TestOutboxTableIsNotQueriedInSteadyState(t *testing.T) {
	t.Parallel()
	s := proof.New(t, setup())
	for _, sql := range []string{"ALTER SYSTEM SET log_line_prefix = '[%a] '", "ALTER SYSTEM SET log_statement = 'all'", "SELECT pg_reload_conf()"} {
		_, err := s.Pool.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	logged := func() string {
		text, err := os.ReadFile(s.Server.LogFile())
		require.NoError(t, err)
		return string(text)
	}
	for i := int64(0); i < 50 || !strings.Contains(logged(), "[walbridge"); i++ { // until the bridge's own sessions log
		require.NoError(t, pay(t.Context(), s.Pool, i))
	}
	s.Until("SELECT count(*) >= 50 FROM walbridge.log")
	var of []string
	for line := range strings.Lines(logged()) {
		if strings.HasPrefix(line, "[walbridge") && strings.Contains(line, "outbox") {
			of = append(of, line)
		}
	}
	require.Empty(t, of, "statements of the bridge about the outbox table")
	require.Contains(t, logged(), "INSERT INTO outbox", "the log shows statements")

	require.NoError(t, prune(t.Context(), s.Pool, 1<<40))
	_, err := s.Pool.Exec(t.Context(), `BEGIN; INSERT INTO outbox (aggregatetype, aggregateid, type, payload) VALUES ('orders', '1', 'OrderPaid', '{"order": -1}'); DELETE FROM outbox; COMMIT`)
	require.NoError(t, err)
	s.Until("SELECT count(*) = 1 FROM walbridge.log WHERE payload ->> 'order' = '-1'")
	require.Equal(t, "0", s.One("SELECT count(*)::text FROM walbridge.log WHERE type <> 'OrderPaid'"), "the deletes are no items")
}

// The example shows what it says.
func TestExample(t *testing.T) {
	t.Parallel()
	require.Equal(t, "the bridge is killed after 100 orders\n200 orders paid: 200 items of 200 events\n", proof.Output(t, "outbox"))
}
