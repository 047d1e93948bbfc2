package pipeline

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/secret"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/replication"
)

// pruneRig is a pruner of an outbox in a real database, whose clock and sink a test is.
type pruneRig struct {
	db        *pgtest.DB
	pruner    *pruner
	confirmed lsn.LSN
	now       time.Time
	unread    map[string]bool
	behind    bool
	counted   int64
}

const pruneAge = 5 * time.Minute

func newPruneRig(t *testing.T, outbox mapper.Outbox, create string) *pruneRig {
	t.Helper()
	db := pgtest.Shared(t).DB(t)
	db.Exec(t, create+"; CREATE PUBLICATION walbridge_prune FOR TABLE public.outbox WITH (publish_via_partition_root = true)")
	source, err := replication.New(replication.Config{DSN: secret.DSN(db.DSN())}.WithDefaults("prune"), "prune", hclog.NewNullLogger())
	require.NoError(t, err)
	outbox.Prune = pruneAge
	tables, err := source.Tables(t.Context())
	require.NoError(t, err)
	m, err := mapper.New(mapper.Config{Routes: []mapper.Route{{Tables: []string{"public.outbox"}, Outbox: &outbox}}}, mapper.Env{Bridge: "prune", Tables: tables})
	require.NoError(t, err)
	h, err := source.Horizon(t.Context())
	require.NoError(t, err)
	r := &pruneRig{db: db, now: time.Now()}
	r.pruner = &pruner{
		source: source, mapper: m, log: hclog.NewNullLogger(), place: h.Place,
		confirmed: func() lsn.LSN { return r.confirmed }, calm: func() bool { return !r.behind }, now: func() time.Time { return r.now },
		deleted: func(_ string, rows int64) { r.counted += rows },
		unread:  func() (map[string]bool, error) { return r.unread, nil },
		known:   &horizons{span: pruneAge}, due: make(map[uint32]pruneState),
	}
	r.pruner.setTables(tables)
	return r
}

// round is one a minute later.
func (r *pruneRig) round(t *testing.T) {
	t.Helper()
	r.now = r.now.Add(time.Minute)
	require.NoError(t, r.pruner.round(context.Background()))
}

// until goes on until so many rows are left, with all confirmed. A transaction anywhere in
// the cluster holds the horizon back, such as one of autovacuum's.
func (r *pruneRig) until(t *testing.T, rows string) {
	t.Helper()
	pgtest.Eventually(t, time.Minute, func() bool {
		r.round(t)
		r.confirmed = r.end(t)
		return r.rows(t) == rows
	}, "%s rows are left", rows)
}

func (r *pruneRig) end(t *testing.T) lsn.LSN {
	t.Helper()
	at, err := lsn.Parse(r.db.One(t, "SELECT pg_current_wal_insert_lsn()::text"))
	require.NoError(t, err)
	return at
}

func (r *pruneRig) rows(t *testing.T) string {
	t.Helper()
	return r.db.One(t, "SELECT count(*) FROM public.outbox")
}

const pruneTable = "CREATE TABLE public.outbox (id int PRIMARY KEY, aggregatetype text, aggregateid text, type text, payload jsonb)"

// written is a transaction of the model.
type written struct {
	tx       pgx.Tx
	ids      []int
	end      lsn.LSN // of the WAL after its commit
	at       time.Time
	finished bool
}

// Whenever transactions begin, write in savepoints, commit or roll back, and however far
// the sink is: a row that is gone had been confirmed, and was old enough. In the end all
// that committed is gone.
func TestPruneModel(t *testing.T) {
	seed := rand.Uint64()
	t.Logf("seed %d", seed)
	random := rand.New(rand.NewPCG(seed, 0))
	r := newPruneRig(t, mapper.Outbox{}, pruneTable)
	var open, done []*written
	next := 0
	for range 120 {
		switch random.IntN(6) {
		case 0:
			tx, err := r.db.Conn(t).Begin(t.Context())
			require.NoError(t, err)
			open = append(open, &written{tx: tx})
		case 1, 2:
			if len(open) > 0 {
				next++
				open[random.IntN(len(open))].insert(t, next, random.IntN(2) == 0)
			}
		case 3:
			if len(open) > 0 {
				i := random.IntN(len(open))
				w := open[i]
				open = append(open[:i], open[i+1:]...)
				if random.IntN(4) == 0 {
					require.NoError(t, w.tx.Rollback(t.Context()))
					break
				}
				require.NoError(t, w.tx.Commit(t.Context()))
				w.end, w.at, w.finished = r.end(t), r.now, true
				done = append(done, w)
			}
		case 4:
			if len(done) > 0 {
				r.confirmed = max(r.confirmed, done[random.IntN(len(done))].end)
			}
		case 5:
			r.round(t)
			r.check(t, done)
		}
	}
	for _, w := range open {
		require.NoError(t, w.tx.Commit(t.Context()))
	}
	r.until(t, "0")
	require.Positive(t, r.counted)
}

func (w *written) insert(t *testing.T, id int, savepoint bool) {
	t.Helper()
	sql := fmt.Sprintf("INSERT INTO public.outbox VALUES (%d)", id)
	if savepoint {
		sql = "SAVEPOINT s; " + sql + "; RELEASE s"
	}
	_, err := w.tx.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol)
	require.NoError(t, err)
	w.ids = append(w.ids, id)
}

// check finds rows that are gone too early.
func (r *pruneRig) check(t *testing.T, done []*written) {
	t.Helper()
	left := map[string]bool{}
	for _, row := range r.db.Query(t, "SELECT id::text FROM public.outbox") {
		left[row[0]] = true
	}
	for _, w := range done {
		for _, id := range w.ids {
			if left[fmt.Sprint(id)] {
				continue
			}
			require.LessOrEqual(t, w.end, r.confirmed, "row %d is gone and was not confirmed", id)
			require.GreaterOrEqual(t, r.now.Sub(w.at), pruneAge, "row %d is gone too young", id)
		}
	}
}

// A session that ends takes with it what was not confirmed in it; what was, counts on.
func TestPruneAcrossSessions(t *testing.T) {
	r := newPruneRig(t, mapper.Outbox{}, pruneTable)
	r.db.Exec(t, "INSERT INTO public.outbox VALUES (1)")
	r.round(t)
	r.pruner.pending = nil // as a new session's
	r.confirmed = r.end(t)
	r.db.Exec(t, "INSERT INTO public.outbox VALUES (2)")
	for range int(pruneAge / time.Minute) {
		r.round(t)
	}
	require.Equal(t, "2", r.rows(t), "the horizon of the session before does not count")
	r.confirmed = r.end(t)
	r.round(t)
	next := *r.pruner
	next.pending, next.due = nil, make(map[uint32]pruneState)
	r.pruner = &next
	r.until(t, "0")
}

// What holds a pass back: a bridge that is behind, a publication that does not stream
// every insert, a stream from elsewhere.
func TestPruneHeldBack(t *testing.T) {
	r := newPruneRig(t, mapper.Outbox{Timestamp: "payload"}, pruneTable+"; ALTER TABLE public.outbox ALTER payload TYPE timestamptz USING now()")
	require.NotEmpty(t, r.pruner.tables[0].Column)
	r.db.Exec(t, "INSERT INTO public.outbox SELECT i, 'a', 'a', 'a', now() - interval '1 hour' FROM generate_series(1, 3000) i; INSERT INTO public.outbox (id, payload) VALUES (0, now())")
	r.round(t)
	r.confirmed = r.end(t)
	r.behind = true
	r.round(t)
	require.Equal(t, "3001", r.rows(t))
	r.behind = false
	r.db.Exec(t, "ALTER PUBLICATION walbridge_prune SET (publish = 'update')")
	r.round(t)
	require.Equal(t, "3001", r.rows(t))
	r.db.Exec(t, "ALTER PUBLICATION walbridge_prune SET (publish = 'insert')")
	r.round(t)
	require.Equal(t, "3001", r.rows(t), "an error is left alone for a while")
	r.now = r.now.Add(pruneAgain)
	place := r.pruner.place
	r.pruner.place.Timeline++
	require.ErrorContains(t, r.pruner.round(t.Context()), "timeline")
	require.Equal(t, "3001", r.rows(t))
	r.pruner.place = place
	r.until(t, "1") // the young one
	require.EqualValues(t, 3000, r.counted)
}

// Rows of before the stream that have not been read are not relayed, in partitions
// neither.
func TestPruneLeavesWhatIsUnread(t *testing.T) {
	r := newPruneRig(t, mapper.Outbox{}, pruneTable+" PARTITION BY RANGE (id); CREATE TABLE public.p0 PARTITION OF public.outbox FOR VALUES FROM (0) TO (10); INSERT INTO public.outbox VALUES (1)")
	for _, name := range []string{"public.outbox", "public.p0"} {
		r.unread = map[string]bool{name: true}
		for range 20 {
			r.round(t)
			r.confirmed = r.end(t)
		}
		require.Equal(t, "1", r.rows(t))
	}
	r.unread = nil
	r.until(t, "0")
}

// Partitions are gone over one by one, also those made while the bridge runs.
func TestPrunePartitions(t *testing.T) {
	r := newPruneRig(t, mapper.Outbox{}, pruneTable+" PARTITION BY RANGE (id); CREATE TABLE public.p0 PARTITION OF public.outbox FOR VALUES FROM (0) TO (10)")
	r.db.Exec(t, "CREATE TABLE public.p1 PARTITION OF public.outbox FOR VALUES FROM (10) TO (20); INSERT INTO public.outbox VALUES (1), (11)")
	r.until(t, "0")
}

func TestHorizonsAreBounded(t *testing.T) {
	const span = 7 * 24 * time.Hour
	h := horizons{span: span}
	place := replication.Place{SystemID: 1, Timeline: 1}
	began := time.Now()
	n := uint64(0)
	for at := time.Duration(0); at < 3*span; at += time.Minute {
		n++
		h.add(horizonAt{replication.Horizon{Place: place, Xid: n}, began.Add(at)})
	}
	require.Less(t, len(h.kept), denseHorizons+2*sparseHorizons)
	now := began.Add(3 * span)
	for _, age := range []time.Duration{time.Minute, time.Hour, 24 * time.Hour, span} {
		newest, old := h.newest(place, now.Add(-age))
		require.Equal(t, n, newest.Xid)
		is := time.Duration(n-old.Xid) * time.Minute
		require.InDelta(t, age, is, float64(2*span/sparseHorizons), "%v", age)
		require.GreaterOrEqual(t, is+time.Minute, age)
	}
	elsewhere := replication.Place{SystemID: 1, Timeline: 2}
	newest, _ := h.newest(elsewhere, now)
	require.Zero(t, newest)
	h.add(horizonAt{replication.Horizon{Place: elsewhere, Xid: 1}, now})
	newest, _ = h.newest(place, now)
	require.Zero(t, newest, "another timeline makes those before it worthless")
}

func TestNextPages(t *testing.T) {
	require.EqualValues(t, 128, nextPages(64, time.Millisecond))
	require.EqualValues(t, 64, nextPages(64, pruneQuick))
	require.EqualValues(t, 32, nextPages(64, time.Second))
	require.EqualValues(t, pruneMinPages, nextPages(pruneMinPages, time.Second))
	require.EqualValues(t, pruneMaxPages, nextPages(pruneMaxPages, 0))
}
