package torture_test

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/torture"
)

// bagTable has no key, and rows that are alike: what it holds is a bag.
const bagTable = `
CREATE SCHEMA snap;
CREATE TABLE snap.bag (v int, note text);
ALTER TABLE snap.bag REPLICA IDENTITY FULL;
`

// bagWriter changes one of several rows that are alike at a time.
func bagWriter(t *testing.T, source *pgtest.DB, seed uint64) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	conn, err := pgx.Connect(t.Context(), source.DSN())
	require.NoError(t, err)
	ended := make(chan error, 1)
	r := torture.Rand(seed, 400)
	go func() {
		defer conn.Close(context.Background())
		for ctx.Err() == nil {
			sql := fmt.Sprintf([]string{
				"INSERT INTO snap.bag VALUES (%d, 'new')", "UPDATE snap.bag SET v = v + 1 WHERE ctid = (SELECT ctid FROM snap.bag WHERE v = %d LIMIT 1)",
				"DELETE FROM snap.bag WHERE ctid = (SELECT ctid FROM snap.bag WHERE v = %d LIMIT 1)",
			}[r.IntN(3)], r.IntN(50))
			if _, err := conn.Exec(context.Background(), sql); err != nil {
				ended <- err
				return
			}
		}
		ended <- nil
	}()
	return func() {
		cancel()
		require.NoError(t, <-ended)
	}
}

// bag is what the items add up to: an update and a delete must find their row.
func bag(t *testing.T, sink *pgtest.DB) (rows []string, truncates int) {
	t.Helper()
	held := map[string]int{}
	for _, item := range sink.Query(t, "SELECT type, payload::text FROM walbridge.log ORDER BY seq") {
		var change struct{ Before, After json.RawMessage }
		require.NoError(t, json.Unmarshal([]byte(item[1]), &change))
		if item[0] == "truncate" {
			truncates++
			clear(held)
			continue
		}
		if item[0] == "update" || item[0] == "delete" {
			held[string(change.Before)]--
			require.GreaterOrEqual(t, held[string(change.Before)], 0, "%v", item)
		}
		if item[0] != "delete" {
			held[string(change.After)]++
		}
	}
	for row, n := range held {
		for range n {
			rows = append(rows, row)
		}
	}
	slices.Sort(rows)
	return rows, truncates
}

// A table without a key is read whole before its stream begins, however often that is
// broken off: what the items add up to is the table, rows that are alike among them, and
// no change comes of a row that is not there.
func TestTableWithoutAKeyIsReadWhole(t *testing.T) {
	t.Parallel()
	pgtest.Matrix(t, func(t *testing.T, c *pgtest.Cluster) {
		s := seed(t)
		rand := torture.Rand(s, 64)
		rows, kills := sized(6000, 200_000), sized(5, 60)
		db := c.DB(t)
		db.Exec(t, bagTable)
		db.Exec(t, "INSERT INTO snap.bag SELECT i % 40, CASE i % 3 WHEN 0 THEN NULL ELSE 'old' END FROM generate_series(1, $1::int) i", rows)
		r := bareRig(t, db, pgtest.Shared(t).DB(t))
		r.routes = "\n  - tables: [snap.bag]\n    changes: {}\n    snapshot: initial\n"
		r.extra = "batch: {max_items: 20}"
		r.setup(t)
		stop := bagWriter(t, db, s)
		b := r.run(t)
		for range kills {
			items := 1 + rand.IntN(rows/2)
			pgtest.Eventually(t, drainWithin(), func() bool {
				return r.sink.One(t, "SELECT (to_regclass('walbridge.log') IS NOT NULL)::text") == "true" &&
					r.sink.One(t, "SELECT (count(*) >= $1::int)::text FROM walbridge.log WHERE seq > coalesce((SELECT max(seq) FROM walbridge.log WHERE type = 'truncate'), 0)", items) == "true"
			}, "some of it is read")
			require.NoError(t, b.Kill())
			<-b.Done()
			b = r.run(t)
		}
		b.await(t, startWithin(), "streaming")
		moment(t, rand, 500*time.Millisecond)
		stop()
		db.Exec(t, "INSERT INTO snap.bag VALUES (-1, 'last')")
		pgtest.Eventually(t, drainWithin(), func() bool {
			return r.sink.One(t, "SELECT count(*) FROM walbridge.log WHERE payload::text LIKE '%\"v\":-1%'") == "1"
		}, "the last row is delivered")
		var want []string
		for _, row := range db.Query(t, "SELECT json_build_object('v', v, 'note', note)::text FROM snap.bag") {
			want = append(want, strings.NewReplacer(" : ", ":", ", ", ",").Replace(row[0]))
		}
		slices.Sort(want)
		got, truncates := bag(t, r.sink)
		require.Equal(t, want, got)
		t.Logf("%d rows, begun anew %d times", len(got), truncates/8) // one for each lane
		require.NotZero(t, truncates)
		require.Equal(t, "0", r.sink.One(t, "SELECT count(*) - count(DISTINCT idempotency_key) FROM walbridge.log WHERE type <> 'truncate'"))
	})
}
