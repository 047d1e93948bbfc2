package torture_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/torture"
)

// install makes a database with the tables of the workload.
func install(t *testing.T, c *pgtest.Cluster) *pgtest.DB {
	t.Helper()
	db := c.DB(t)
	require.NoError(t, torture.Install(t.Context(), db.DSN()))
	return db
}

// runUntil runs a workload until it has committed that many transactions.
func runUntil(t *testing.T, cfg torture.Config, transactions int64) torture.Counts {
	t.Helper()
	w := torture.NewWorkload(cfg)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- w.Run(ctx) }()
	pgtest.Eventually(t, time.Minute, func() bool { return w.Counts().Committed >= transactions || len(ended) > 0 },
		"%d transactions", transactions)
	stop()
	require.NoError(t, <-ended)
	return w.Counts()
}

// A log without a fault passes, and holds every kind of change.
func TestFaultlessLogPasses(t *testing.T) {
	t.Parallel()
	for _, viaRoot := range []bool{true, false} {
		t.Run(fmt.Sprintf("root=%t", viaRoot), func(t *testing.T) {
			t.Parallel()
			db := install(t, pgtest.Shared(t))
			ref := newReference(t, db, viaRoot)
			counts := runUntil(t, torture.Config{DSN: db.DSN(), Seed: seed(t), LargeRows: 500}, 700)
			ref.read(t)
			t.Logf("%+v, %d items", counts, len(ref.items))
			c, err := check(ref.items)
			require.NoError(t, err)
			require.NoError(t, c.Compare(t.Context(), db.DSN(), referenceName, ref.publication))
			require.Positive(t, c.Events(referenceName))
			require.Positive(t, c.Rows(referenceName))
		})
	}
}

// The workload brings about what a proof needs, whatever its seed.
func TestWorkloadHasEveryShape(t *testing.T) {
	t.Parallel()
	db := install(t, pgtest.Shared(t))
	ref := newReference(t, db, true)
	first := seed(t)
	missing := wantedShapes()
	for round := uint64(0); len(missing) > 0 && round < 8; round++ { // rare ones may take a second round
		counts := runUntil(t, torture.Config{DSN: db.DSN(), Seed: first + round, LargeRows: 100}, 800)
		require.Positive(t, counts.RolledBack)
		ref.items = nil
		ref.read(t)
		for i := range ref.items {
			it := &ref.items[i]
			text := it.Stream + " " + it.Type + " " + string(it.Payload)
			maps.DeleteFunc(missing, func(_ string, has func(string) bool) bool { return has(text) })
		}
	}
	require.Empty(t, slices.Collect(maps.Keys(missing)))
}

func wantedShapes() map[string]func(string) bool {
	all := func(parts ...string) func(string) bool {
		return func(text string) bool {
			return !slices.ContainsFunc(parts, func(p string) bool { return !strings.Contains(text, p) })
		}
	}
	wanted := map[string]func(string) bool{
		"key change with an unchanged value": all("load.blob insert", `"old_key"`, `"unchanged":["`),
		"update with an unchanged value":     all("load.blob update", `"unchanged":["`),
		"whole old row with a large value":   func(s string) bool { return strings.HasPrefix(s, "load.blob_full update") && len(s) > 16<<10 },
		"move between partitions":            all("load.part delete"),
		"event":                              all("Type"),
		"column added":                       all("load.shape", `"c0_`),
		"large transaction":                  all("load.item insert", `"v":"large `),
		"key of hostile text":                all("load.label update", `\"`),
		"key of an index":                    all("load.asset update", `"tag":`),
		"truncate restarts sequences":        all("truncate", `"restart_identity":true`),
	}
	for _, op := range []string{"insert", "update", "delete"} {
		for _, table := range []string{"item", "doc", "label", "line", "reading", "asset", "blob", "blob_full", "part", "shape"} {
			wanted[op+" of "+table] = all("load." + table + " " + op + " ")
		}
	}
	return wanted
}
