package main

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// Relayed rows that are old go, and only those; what keeps them from going is said.
func TestPruneOfAnOutbox(t *testing.T) {
	t.Parallel()
	db := shopDB(t)
	db.Exec(t, "ALTER TABLE public.outbox ADD created_at timestamptz NOT NULL DEFAULT now(); CREATE TABLE public.outbox2 (LIKE public.outbox INCLUDING ALL)")
	s := newSite(t, db, config(bridgeName(db.Name()), db.DSN(), worktableAt(db.DSN())))
	s.change(t, "outbox: {}}", "outbox: {prune: 10m, timestamp: created_at}}, {tables: [public.outbox2], outbox: {prune: 7d}}")
	require.Contains(t, s.do(t, exitOK, "setup", "--print", "--role", "relay").stdout, `GRANT SELECT, DELETE, UPDATE ("id") ON "public"."outbox" TO "relay";`)
	s.do(t, exitOK, "setup")
	require.Contains(t, s.do(t, exitOK, "doctor").stdout, "its age counts from the start of the bridge")
	db.Exec(t, "ALTER PUBLICATION walbridge_"+s.name()+" SET (publish = 'update')")
	require.Contains(t, s.do(t, exitOK, "doctor").stdout, "public.outbox is not pruned: the publication leaves out every insert")
	db.Exec(t, "ALTER PUBLICATION walbridge_"+s.name()+" SET (publish = 'insert, update, delete, truncate')")

	a := &app{stderr: &strings.Builder{}, stdout: &strings.Builder{}, version: "0.0.0-test", configPath: s.path, env: noVariables}
	loaded, err := a.load()
	require.NoError(t, err)
	b, err := a.bridge(loaded, hclog.NewNullLogger(), runOptions{pruneEvery: 50 * time.Millisecond})
	require.NoError(t, err)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- b.pipeline.Run(ctx) }()
	defer func() {
		cancel()
		require.NoError(t, <-ended)
	}()
	pgtest.Eventually(t, within, func() bool { return b.pipeline.Status().State == "streaming" }, "the bridge streams")
	db.Exec(t, `INSERT INTO public.outbox (aggregatetype, aggregateid, type, payload, created_at)
		SELECT 'order', i::text, 'OrderPaid', '{}', now() - make_interval(mins => 5 * (i % 4)) FROM generate_series(1, 4000) i`)
	pgtest.Eventually(t, within, func() bool {
		db.Exec(t, "INSERT INTO public.orders VALUES ((SELECT count(*) FROM public.orders), 'paid')") // confirms what came before
		return db.One(t, "SELECT count(*) FROM public.outbox") == "2000"
	}, "the rows that are old go")
	require.Equal(t, "4000", db.One(t, "SELECT count(*) FROM walbridge.log WHERE kind = 'event'"))
	require.Equal(t, "0", db.One(t, "SELECT count(*) FROM public.outbox WHERE created_at < now() - interval '10 min'"))
	families, err := b.metrics.Gather()
	require.NoError(t, err)
	for _, f := range families {
		if f.GetName() == "walbridge_pruned_rows_total" {
			require.EqualValues(t, 2000, f.GetMetric()[0].GetCounter().GetValue())
			return
		}
	}
	t.Fatal("the metric is missing")
}
