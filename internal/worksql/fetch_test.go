package worksql

import (
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/migrations"
)

// seed is printed, so that a failure can be looked at again.
func seed(t *testing.T) *rand.Rand {
	t.Helper()
	n := uint64(time.Now().UnixNano())
	t.Logf("seed %d", n)
	return rand.New(rand.NewPCG(n, 0))
}

// reader reads a subscription in random pieces, and knows what it must get.
type reader struct {
	w         table
	c         *pgx.Conn
	rand      *rand.Rand
	sub       string
	after     []int64 // by lane
	want, got [][]int64
}

func (w table) reader(r *rand.Rand, sub string) *reader {
	w.t.Helper()
	x := &reader{w, w.Conn(w.t), r, sub, make([]int64, w.lanes), make([][]int64, w.lanes), make([][]int64, w.lanes)}
	for l := range x.after {
		x.after[l] = int64(r.IntN(500))
		for _, s := range w.Query(w.t, `SELECT seq FROM walbridge.log l JOIN walbridge.subscription s ON s.name = $1
			WHERE lane = $2 AND seq > $3 AND EXISTS (SELECT FROM unnest(streams) p WHERE stream = p OR p LIKE '%*' AND stream LIKE left(p, -1) || '%') ORDER BY 1`, sub, l, x.after[l]) {
			x.want[l] = append(x.want[l], number(w.t, s[0]))
		}
	}
	return x
}

// fetch asks for a random piece and reports whether anything came or moved.
func (x *reader) fetch(subset []int) bool {
	t := x.w.t
	t.Helper()
	var from []int64
	for _, l := range subset {
		from = append(from, x.after[l])
	}
	moved, last := false, int64(0)
	for _, i := range fetch(t, x.c, x.sub, array(subset), array(from), 1+x.rand.IntN(40), int64(1+x.rand.IntN(600))) {
		require.Contains(t, subset, i.lane)
		if !i.mark {
			require.Greater(t, i.seq, last, "in order over all lanes")
			last, moved = i.seq, true
			x.got[i.lane] = append(x.got[i.lane], i.seq)
			continue
		}
		require.GreaterOrEqual(t, i.seq, x.after[i.lane], "a mark never goes back")
		for _, s := range x.want[i.lane] {
			if s <= i.seq {
				require.Contains(t, x.got[i.lane], s, "mark %d of lane %d passed an item", i.seq, i.lane)
			}
		}
		moved = moved || i.seq > x.after[i.lane]
		x.after[i.lane] = i.seq
	}
	return moved
}

// all fetches until nothing moves any more.
func (x *reader) all() {
	x.w.t.Helper()
	for calls, idle := 0, 0; idle < 8; calls++ {
		require.Less(x.w.t, calls, 2000)
		subset := x.rand.Perm(x.w.lanes)
		if idle == 0 { // at the end ask for all
			subset = subset[:1+x.rand.IntN(x.w.lanes)]
		}
		idle++
		if x.fetch(subset) {
			idle = 0
		}
	}
}

// Whatever is asked for, in whatever pieces: each item of the lanes' streams comes
// once, in order, and no mark passes one that was not given.
func fetchMissesNothing(t *testing.T, w table) {
	r := seed(t)
	w.Exec(t, "SELECT walbridge.make_partitions(5000, 1, 1000000)")
	streams := []string{"a", "b", "p.x", "p.y", "q"}
	write := w.Conn(t)
	for range 12 {
		var rows []row
		for range 1 + r.IntN(30) {
			rows = append(rows, row{stream: streams[r.IntN(len(streams))], key: fmt.Sprint("k", r.IntN(40)), kind: []string{"event", "change"}[r.IntN(2)]})
		}
		w.writeOn(write, true, rows...)
		if r.IntN(3) == 0 { // what was rolled back leaves a gap, here one that is wider than a window
			w.Exec(t, "SELECT walbridge.take_seq($1)", 1+r.IntN(150_000))
		}
	}
	for i, subscribed := range []string{"{a}", "{a,b,q}", "{p.*}", "{*}", "{absent}", "{p.*,p.x,a}"} {
		sub := fmt.Sprint("sub", i)
		w.Exec(t, "SELECT walbridge.subscribe($1, $2::text::text[])", sub, subscribed)
		for range 4 {
			x := w.reader(r, sub)
			x.all()
			require.Equal(t, x.want, x.got, "%s", subscribed)
			require.Equal(t, w.One(t, "SELECT max(last_seq) FROM walbridge.batch"), fmt.Sprint(slices.Min(x.after)), "all lanes are looked through to the end")
		}
	}
}

// Where the lanes are too many to be looked for one by one, they are told apart in
// the rows.
func fetchOfManyLanes(t *testing.T, w table) { fetchMissesNothing(t, newTableOf(t, w.Cluster(), 32)) }

// What is being written is not looked through, though its seqs are taken, and a batch
// that waits behind it is not visible before it.
func fetchDoesNotPassWhatIsBeingWritten(t *testing.T, w table) {
	w.subscribed()
	w.Exec(t, "SELECT walbridge.subscribe('new', '{new.*}')")
	w.keys("k")
	first, c := w.Conn(t), w.Conn(t)
	at := w.writeOn(first, false, row{stream: "s", key: "k"}, row{stream: "new.1", key: "k"})
	second := w.Conn(t)
	waiting := w.start(second, "SELECT walbridge.lock_log()")
	waiting.blocked()
	for _, sub := range []string{"sub", "new"} {
		for _, x := range fetch(t, c, sub, all, "{0,0,0,0,0,0,0,0}", 100, 1000) {
			require.Less(t, x.seq, at, "of %s", sub)
		}
	}
	_, err := first.Exec(t.Context(), "COMMIT")
	require.NoError(t, err)
	require.NoError(t, waiting.result())
	for _, sub := range []string{"sub", "new"} {
		require.Contains(t, fetch(t, c, sub, all, "{1,1,1,1,1,1,1,1}", 100, 1000), item{lane: lane("k"), seq: at + map[string]int64{"sub": 0, "new": 1}[sub]})
	}
}

// Items that were added without a batch row, as a replay adds them, are found.
func fetchFindsWhatHasNoBatch(t *testing.T, w table) {
	w.subscribed()
	at := w.keys("k")
	w.Exec(t, "DELETE FROM walbridge.batch")
	require.Contains(t, fetch(t, w.Conn(t), "sub", all, "{0,0,0,0,0,0,0,0}", 100, 1000), item{lane: lane("k"), seq: at})
	w.Exec(t, "SELECT walbridge.pause('sub')")
	require.Empty(t, fetch(t, w.Conn(t), "sub", all, "{0,0,0,0,0,0,0,0}", 100, 1000))
}

// buffers counts the pages that a statement touches, at its second run.
func buffers(t *testing.T, c *pgx.Conn, sql string) int {
	t.Helper()
	var plan []struct {
		Plan struct {
			Hit  int `json:"Shared Hit Blocks"`
			Read int `json:"Shared Read Blocks"`
		}
	}
	for range 2 {
		var text []byte
		require.NoError(t, c.QueryRow(t.Context(), "EXPLAIN (ANALYZE, BUFFERS, FORMAT JSON) "+sql).Scan(&text))
		require.NoError(t, json.Unmarshal(text, &plan))
	}
	return plan[0].Plan.Hit + plan[0].Plan.Read
}

// bulk adds items of a stream in one go.
func (w table) bulk(stream string, n int) {
	w.t.Helper()
	w.Exec(w.t, "INSERT INTO walbridge.stream (name) VALUES ($1) ON CONFLICT DO NOTHING", stream)
	w.Exec(w.t, "SELECT walbridge.make_partitions((SELECT last_value FROM walbridge.log_seq) + $1, 1, 1000000)", n)
	w.Exec(w.t, `INSERT INTO walbridge.log (seq, commit_lsn, tx_seq, committed_at, created_at, stream_id, sub, lane, tx_end, kind, stream, partition_key, idempotency_key, type, source, payload)
		SELECT first + i, '0/0'::pg_lsn + first + i, 1, now(), now(), id, 0, walbridge.lane('k' || i % 500), true, 'event', name, 'k' || i % 500, 'id' || first + i, 't', 'a', '{"some": "text of an item"}'
		FROM walbridge.take_seq($2) first, walbridge.stream, generate_series(0, $2 - 1) i WHERE name = $1`, stream, n)
	w.Exec(w.t, `INSERT INTO walbridge.batch (source, n, last_seq, end_lsn, last_tx_end, timeline)
		SELECT 'a', coalesce(max(n), 0) + 1, last_value, '0/0'::pg_lsn + last_value, '0/0'::pg_lsn + last_value, 1 FROM walbridge.batch, walbridge.log_seq GROUP BY last_value`)
}

// The cost of a fetch is that of what it returns: it grows neither with the backlog,
// nor with what is parked, nor with a transaction that stays open; and a rare stream
// is read without the log.
func fetchCostsWhatItReturns(t *testing.T, w table) {
	w.subscribed()
	w.Exec(t, "SELECT walbridge.subscribe('rare', '{rare}')")
	c, old := w.Conn(t), w.Conn(t)
	w.keys("k")
	w.bulk("s", 1000)
	const (
		some  = "SELECT * FROM walbridge.fetch('sub', '" + all + "', '{0,0,0,0,0,0,0,0}', 100)"
		few   = "SELECT * FROM walbridge.fetch('sub', '{1}', '{0}', 100)"
		rare  = "SELECT * FROM walbridge.fetch('rare', '" + all + "', '{0,0,0,0,0,0,0,0}', 100)"
		state = "SELECT * FROM walbridge.lane_state('sub', '{1}')"
	)
	w.write(row{stream: "rare", key: "k"})
	before := map[string]int{some: buffers(t, c, some), few: buffers(t, c, few), rare: buffers(t, c, rare), state: buffers(t, c, state)}
	_, err := old.Exec(t.Context(), "BEGIN ISOLATION LEVEL REPEATABLE READ; SELECT count(*) FROM walbridge.log, walbridge.lane, walbridge.checkpoint, walbridge.parked")
	require.NoError(t, err)
	w.bulk("s", 40_000)
	w.write(row{stream: "rare", key: "k"})
	w.Exec(t, "SELECT * FROM walbridge.lease_lanes('sub', 'a')")
	for n := 2; n < 300; n++ {
		w.Exec(t, "SELECT walbridge.settle('sub', '{1}', '{1}', ARRAY[$1::bigint], '{0}', '{\"{}\"}')", n)
	}
	w.Exec(t, `INSERT INTO walbridge.parked (subscription, seq, lane, reason, bytes, stream, kind, idempotency_key, source, commit_lsn, tx_seq, sub, tx_end, committed_at, created_at)
		SELECT 'sub', -i, 2, 'retry', 1, 's', 'event', 'x', 'a', '0/1', 1, 0, true, now(), now() FROM generate_series(1, 20000) i`)
	for sql, cost := range before {
		got := buffers(t, c, sql)
		t.Logf("%d pages, before %d: %s", got, cost, sql)
		require.Less(t, got, 2*cost+100, "%s", sql)
	}
}

// One stream of a thousand is one range of the index, for all lanes.
func fetchOfManyStreams(t *testing.T, w table) {
	w.Exec(t, "INSERT INTO walbridge.stream (name) SELECT 'many.' || i FROM generate_series(1, 1000) i")
	w.Exec(t, "SELECT walbridge.subscribe('many', '{many.*}')")
	w.bulk("other", 2000)
	at := w.write(row{stream: "many.7", key: "a"}, row{stream: "many.900", key: "b"})
	got := fetch(t, w.Conn(t), "many", all, "{0,0,0,0,0,0,0,0}", 100, 1<<20)
	require.Equal(t, []item{{lane: lane("a"), seq: at}, {lane: lane("b"), seq: at + 1}}, got[:2])
	require.Len(t, got, 2+lanes)
}

func startsAndFloors(t *testing.T, w table) {
	w.keys("a", "b", "c")
	sub := func(name, start string) error {
		_, err := w.Conn(t).Exec(t.Context(), "SELECT walbridge.subscribe($1, '{s}', start => $2)", name, start)
		return err
	}
	require.NoError(t, sub("beginning", "beginning"))
	require.NoError(t, sub("end", "end"))
	require.NoError(t, sub("two", "2"))
	require.Equal(t, [][]string{{"beginning", "0"}, {"end", "3"}, {"two", "2"}}, w.Query(t, "SELECT name, start_seq FROM walbridge.subscription ORDER BY 1"))
	for _, kind := range []string{"event", "change"} {
		w.Exec(t, "DROP TABLE walbridge.log_"+kind+"_0000000000000000000")
	}
	err := code(t, sub("low", "5"), migrations.CodeBelowFloor)
	require.Contains(t, err.Message, "1000")
	require.Equal(t, "1000", err.Detail)
	_, reset := w.Conn(t).Exec(t.Context(), "SELECT walbridge.reset('two', '998')")
	require.Equal(t, "1000", code(t, reset, migrations.CodeBelowFloor).Detail)
	require.NoError(t, sub("high", "999"))
	require.Equal(t, "999", w.One(t, "SELECT walbridge.reset('beginning')"))
	for _, bad := range []string{"", "-1", "yesterday", "12345678901234567890"} {
		code(t, sub("bad", bad), migrations.CodeArgument)
	}
	for _, bad := range []string{"NULL", "'{}'", "'{\"\"}'", "'{a*b}'", "'{NULL}'"} {
		_, err := w.Conn(t).Exec(t.Context(), "SELECT walbridge.subscribe('bad', "+bad+")")
		require.Error(t, err, bad)
		code(t, err, migrations.CodeArgument)
	}
	for _, bad := range []string{`{"x":1}`, `{"max_attempts":0}`, `{"max_attempts":"1"}`, `{"on_dead":"stop"}`, `[]`, `{"max_parked":null}`} {
		_, err := w.Conn(t).Exec(t.Context(), "SELECT walbridge.subscribe('bad', '{s}', settings => $1)", bad)
		require.Error(t, err, bad)
		code(t, err, migrations.CodeArgument)
	}
	_, exists := w.Conn(t).Exec(t.Context(), "SELECT walbridge.subscribe('two', '{s,x}')")
	code(t, exists, migrations.CodeExists)
	w.Exec(t, "SELECT walbridge.set_streams('two', '{s,x}')")
	require.NoError(t, func() error {
		_, err := w.Conn(t).Exec(t.Context(), "SELECT walbridge.subscribe('two', '{x,s}', settings => '{\"max_attempts\":3}')")
		return err
	}())
	require.Equal(t, "2", w.One(t, "SELECT changed FROM walbridge.subscription WHERE name = 'two'"), "streams, then settings")
}
