package torture_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/kafkatest"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/torture"
)

// outboxOfBefore is an outbox with rows, in two partitions, before there is a bridge. Its
// keys are random: rows of before and of the stream lie between each other.
const outboxOfBefore = `
CREATE SCHEMA snap;
CREATE TABLE snap.outbox (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), aggregatetype text, aggregateid text, type text, payload json) PARTITION BY RANGE (id);
CREATE TABLE snap.outbox_low PARTITION OF snap.outbox FOR VALUES FROM (MINVALUE) TO ('80000000-0000-0000-0000-000000000000');
CREATE TABLE snap.outbox_high PARTITION OF snap.outbox FOR VALUES FROM ('80000000-0000-0000-0000-000000000000') TO (MAXVALUE);
CREATE FUNCTION snap.emit(n int) RETURNS void LANGUAGE sql AS
  $$INSERT INTO snap.outbox (aggregatetype, aggregateid, type, payload) SELECT 'order', (i % 7)::text, 'OrderPaid', '{"n":1}' FROM generate_series(1, n) i$$;
`

const outboxRoutes = `
  - tables: [snap.outbox]
    outbox: {}
    snapshot: initial
`

func outboxRig(t *testing.T, source *pgtest.DB, rows int) *rig {
	t.Helper()
	source.Exec(t, outboxOfBefore)
	source.Exec(t, "SELECT snap.emit($1)", rows)
	r := bareRig(t, source, pgtest.Shared(t).DB(t))
	r.routes = outboxRoutes
	r.setup(t)
	return r
}

// outboxWriters insert in transactions of all forms, which are open when the slot is
// made: savepoints that are kept and rolled back, rows that are deleted again, aborts.
func outboxWriters(t *testing.T, source *pgtest.DB, seed uint64, n int) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan error, n)
	for i := range n {
		conn, err := pgx.Connect(t.Context(), source.DSN())
		require.NoError(t, err)
		r := torture.Rand(seed, 300+uint64(i))
		go func() {
			defer conn.Close(context.Background())
			for ctx.Err() == nil {
				if _, err := conn.Exec(context.Background(), outboxTransaction(r)); err != nil {
					ended <- err
					return
				}
			}
			ended <- nil
		}()
	}
	var done bool
	stop = func() {
		if done {
			return
		}
		done = true
		cancel()
		for range n {
			if err := <-ended; err != nil {
				t.Errorf("write: %v", err)
			}
		}
	}
	t.Cleanup(stop)
	return stop
}

// outboxTransaction is the text of one. Some are open for a while.
func outboxTransaction(r *rand.Rand) string {
	var b strings.Builder
	b.WriteString("BEGIN; ")
	for i := range 1 + r.IntN(4) {
		switch r.IntN(5) {
		case 0:
			fmt.Fprintf(&b, "SAVEPOINT s%[1]d; SELECT snap.emit(1); RELEASE s%[1]d; ", i)
		case 1:
			fmt.Fprintf(&b, "SAVEPOINT s%[1]d; SELECT snap.emit(2); ROLLBACK TO s%[1]d; ", i)
		case 2:
			fmt.Fprintf(&b, "SAVEPOINT s%[1]d; SELECT snap.emit(1); SAVEPOINT t%[1]d; SELECT snap.emit(1); ", i)
		case 3:
			b.WriteString("WITH gone AS (INSERT INTO snap.outbox (aggregatetype, aggregateid, type, payload) VALUES ('order', '1', 'Gone', '{}') RETURNING id) SELECT * FROM gone; DELETE FROM snap.outbox WHERE type = 'Gone' AND xmin::text = pg_current_xact_id()::xid::text; ")
		default:
			b.WriteString("SELECT snap.emit(1); ")
		}
		if r.IntN(3) == 0 {
			fmt.Fprintf(&b, "SELECT pg_sleep(%f); ", r.Float64()/20) // so that others begin and end meanwhile
		}
	}
	if r.IntN(6) == 0 {
		b.WriteString("ROLLBACK")
	} else {
		b.WriteString("COMMIT")
	}
	return b.String()
}

// requireEvents compares the events, by id, with the rows of the outbox.
func requireEvents(t *testing.T, source *pgtest.DB, events map[string]int) {
	t.Helper()
	rows := source.Query(t, "SELECT id::text FROM snap.outbox WHERE type <> 'Behind'")
	for _, row := range rows {
		require.Equal(t, 1, events[row[0]], "event %s", row[0])
	}
	for id, n := range events {
		require.Equal(t, 1, n, "event %s", id)
	}
}

func (r *rig) outboxEvents(t *testing.T) (events map[string]int, read int) {
	t.Helper()
	events = map[string]int{}
	for _, row := range r.sink.Query(t, "SELECT idempotency_key, (coalesce(headers::json->>'snapshot', '') = 'true')::text FROM walbridge.log") {
		events[row[0]]++
		if row[1] == "true" {
			read++
		}
	}
	return events, read
}

// Rows of an outbox that were there before the slot, whose transactions were open or
// had savepoints when it was made, are events, each once: read or streamed, whatever
// kills the bridge, and however long a commit is not visible.
func TestOutboxOfBeforeIsDeliveredOnce(t *testing.T) {
	t.Parallel()
	pgtest.Matrix(t, func(t *testing.T, c *pgtest.Cluster) {
		s := seed(t)
		rand := torture.Rand(s, 62)
		rows, kills := sized(1500, 50_000), sized(5, 100)
		c = pgtest.New(t, pgtest.Major(c.Major()))
		r := outboxRig(t, c.DB(t), rows)
		r.extra = "batch: {max_items: 40}\nsnapshot: {rows_per_second: 1000}"
		stop := outboxWriters(t, r.source, s, 4)
		stall := stallCommits(t, c)
		b := r.run(t)
		for range kills {
			moment(t, rand, 900*time.Millisecond)
			require.NoError(t, b.Kill())
			<-b.Done()
			b = r.run(t)
		}
		r.awaitSnapshot(t)
		stall()
		stop()
		r.drainOutbox(t)
		events, read := r.outboxEvents(t)
		requireEvents(t, r.source, events)
		require.Zero(t, r.deadLetters(t))
		t.Logf("%d events, %d of them read", len(events), read)
		require.GreaterOrEqual(t, read, rows)
	})
}

func (r *rig) drainOutbox(t *testing.T) {
	t.Helper()
	id := r.source.One(t, "INSERT INTO snap.outbox (aggregatetype, aggregateid, type, payload) VALUES ('order', '1', 'Last', '{}') RETURNING id::text")
	pgtest.Eventually(t, drainWithin(), func() bool {
		return r.sink.One(t, "SELECT count(*) FROM walbridge.log WHERE idempotency_key = $1", id) != "0"
	}, "the last event is delivered")
}

// What is done to rows before they are read: an update is a dead letter, which is an
// event when it is replayed; a delete takes the row away; one that the stream has
// brought is updated without anything. Nothing is pruned before it is read.
func TestOutboxChangedBeforeItIsRead(t *testing.T) {
	t.Parallel()
	r := outboxRig(t, pgtest.Shared(t).DB(t), 40)
	r.routes = strings.Replace(outboxRoutes, "{}", "{prune: 1m}", 1)
	r.extra = "snapshot: {rows_per_second: 2}"
	b := r.start(t)
	pgtest.Eventually(t, drainWithin(), func() bool { return r.sink.One(t, "SELECT count(*) FROM walbridge.log") != "0" }, "it is being read")
	late := r.source.One(t, "SELECT id::text FROM snap.outbox ORDER BY id DESC LIMIT 1")
	gone := r.source.One(t, "SELECT id::text FROM snap.outbox ORDER BY id DESC OFFSET 1 LIMIT 1")
	r.source.Exec(t, "UPDATE snap.outbox SET type = 'OrderRefunded' WHERE id = $1", late)
	r.source.Exec(t, "DELETE FROM snap.outbox WHERE id = $1", gone)
	r.drainOutbox(t)
	r.source.Exec(t, "UPDATE snap.outbox SET payload = '[]' WHERE type = 'Last'")
	pgtest.Eventually(t, drainWithin(), func() bool { return r.deadLetters(t) == 1 }, "the update is a dead letter")
	require.Equal(t, "snapshot_in_doubt", r.sink.One(t, "SELECT reason FROM walbridge.dead_letter"))
	r.awaitSnapshot(t)
	events, read := r.outboxEvents(t)
	require.Equal(t, 38, read)
	require.Zero(t, events[late])
	require.Zero(t, events[gone])
	r.mustCLI(t, b, "dlq", "replay", r.sink.One(t, "SELECT id::text FROM walbridge.dead_letter"))
	pgtest.Eventually(t, drainWithin(), func() bool {
		events, _ = r.outboxEvents(t)
		return events[late] == 1
	}, "the replayed update is its event")
	requireEvents(t, r.source, events)
	require.Equal(t, "OrderRefunded", r.sink.One(t, "SELECT type FROM walbridge.log WHERE idempotency_key = $1", late))
}

// A rewrite gives rows other transactions, so that nobody can tell them from the
// stream's: the reading stops, and says so until it is cancelled. A TRUNCATE leaves
// nothing to read.
func TestOutboxRewrittenBeforeItIsRead(t *testing.T) {
	t.Parallel()
	r := outboxRig(t, pgtest.Shared(t).DB(t), 40)
	r.extra = "snapshot: {rows_per_second: 2}"
	b := r.start(t)
	pgtest.Eventually(t, drainWithin(), func() bool { return r.sink.One(t, "SELECT count(*) FROM walbridge.log") != "0" }, "it is being read")
	r.source.Exec(t, "ALTER TABLE snap.outbox ADD noise float DEFAULT random()")
	pgtest.Eventually(t, drainWithin(), func() bool {
		s, ok := b.status()
		return ok && s.Snapshot != nil && len(s.Snapshot.Tables) == 1 && strings.Contains(s.Snapshot.Tables[0].Problem, "rewritten")
	}, "the reading stops")
	r.source.Exec(t, "TRUNCATE snap.outbox")
	r.awaitSnapshot(t)
	r.drainOutbox(t)
	events, read := r.outboxEvents(t)
	require.Less(t, read, 40)
	require.Len(t, events, read+1)
}

// outboxToKafka is TestOutboxOfBeforeIsDeliveredOnce into a cluster.
func outboxToKafka(t *testing.T, broker *kafkatest.Broker) {
	s := seed(t)
	rand := torture.Rand(s, 63)
	rows, kills := sized(500, 50_000), sized(4, 50)
	r := outboxRig(t, pgtest.Shared(t).DB(t), rows)
	r.toKafka, r.delivery = broker.Addr(), "exactly_once"
	r.extra = "batch: {max_items: 40}\nsnapshot: {rows_per_second: 600}"
	r.setup(t)
	stop := outboxWriters(t, r.source, s, 3)
	b := r.start(t)
	for range kills {
		moment(t, rand, 900*time.Millisecond)
		require.NoError(t, b.Kill())
		<-b.Done()
		b = r.start(t)
	}
	b.awaitRead(t)
	stop()
	before := r.source.One(t, "SELECT pg_current_wal_insert_lsn()::text")
	r.source.Exec(t, "INSERT INTO snap.outbox (aggregatetype, aggregateid, type, payload) VALUES ('order', '1', 'Behind', '{}')")
	pgtest.Eventually(t, drainWithin(), func() bool {
		return r.source.One(t, "SELECT (confirmed_flush_lsn > $2::text::pg_lsn)::text FROM pg_replication_slots WHERE slot_name = $1", r.slot(), before) == "true"
	}, "all that has committed is confirmed")
	items, repeated := readKafka(t, broker.Addr(), r.name, false, false)
	require.Zero(t, repeated)
	events := map[string]int{}
	for _, it := range items {
		events[it.EventID]++
	}
	requireEvents(t, r.source, events)
}
