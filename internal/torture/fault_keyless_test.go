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

	"github.com/walbridge/walbridge/internal/kafkatest"
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

// bag is what items add up to, each its type and its payload: an update and a delete
// must find their row.
func bag(t *testing.T, items [][]string) (rows []string, truncates int) {
	t.Helper()
	held := map[string]int{}
	for _, item := range items {
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

// bagOf is what the table holds.
func bagOf(t *testing.T, db *pgtest.DB) (rows []string) {
	t.Helper()
	for _, row := range db.Query(t, "SELECT json_build_object('v', v, 'note', note)::text FROM snap.bag") {
		rows = append(rows, strings.NewReplacer(" : ", ":", ", ", ",").Replace(row[0]))
	}
	slices.Sort(rows)
	return rows
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
		got, truncates := bag(t, r.sink.Query(t, "SELECT type, payload::text FROM walbridge.log ORDER BY seq"))
		require.Equal(t, bagOf(t, db), got)
		t.Logf("%d rows, begun anew %d times", len(got), truncates/8) // one for each lane
		require.NotZero(t, truncates)
		require.Equal(t, "0", r.sink.One(t, "SELECT count(*) - count(DISTINCT idempotency_key) FROM walbridge.log WHERE type <> 'truncate'"))
	})
}

// keylessToKafka kills the bridge while it reads a table without a key into a cluster.
func keylessToKafka(t *testing.T, broker *kafkatest.Broker) {
	s := seed(t)
	rand := torture.Rand(s, 65)
	db := pgtest.Shared(t).DB(t)
	db.Exec(t, bagTable)
	db.Exec(t, "INSERT INTO snap.bag SELECT i % 40, 'old' FROM generate_series(1, $1::int) i", sized(6000, 100_000))
	r := bareRig(t, db, db)
	r.routes = "\n  - tables: [snap.bag]\n    changes: {}\n    snapshot: initial\n"
	r.toKafka, r.delivery, r.extra = broker.Addr(), "exactly_once", "batch: {max_items: 20}"
	r.setup(t)
	stop := bagWriter(t, db, s)
	b := r.run(t)
	for range sized(2, 20) {
		b.WaitLine(t, startWithin(), "reading a table that has no key")
		moment(t, rand, 300*time.Millisecond)
		require.NoError(t, b.Kill())
		<-b.Done()
		b = r.run(t)
	}
	b.await(t, startWithin(), "streaming")
	stop()
	before := db.One(t, "SELECT pg_current_wal_insert_lsn()::text")
	db.Exec(t, "INSERT INTO snap.bag VALUES (-1, 'behind')")
	pgtest.Eventually(t, drainWithin(), func() bool {
		return db.One(t, "SELECT (confirmed_flush_lsn > $2::text::pg_lsn)::text FROM pg_replication_slots WHERE slot_name = $1", r.slot(), before) == "true"
	}, "all that has committed is confirmed")
	db.Exec(t, "DELETE FROM snap.bag WHERE v = -1")
	items, repeated := readKafka(t, broker.Addr(), r.name, false, false)
	require.Zero(t, repeated)
	var all [][]string
	for _, it := range items {
		if !strings.Contains(string(it.Payload), "behind") {
			all = append(all, []string{it.Type, string(it.Payload)})
		}
	}
	got, truncates := bag(t, all)
	require.Equal(t, bagOf(t, db), got)
	t.Logf("%d rows, begun anew %d times", len(got), truncates)
}
