package worksql

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/migrations"
)

// done in the transaction of the effects: both are there, or neither.
func doneBelongsToTheEffects(t *testing.T, w table) {
	w.subscribed()
	w.Exec(t, "CREATE TABLE effect (seq bigint)")
	w.keys("a", "b")
	h := w.next("w", 10)
	require.Equal(t, []int64{1, 2}, h.seqs)
	c := w.Conn(t)
	work := fmt.Sprintf("BEGIN; INSERT INTO effect SELECT unnest('%s'::bigint[]); SELECT walbridge.done('sub', '%s')", array(h.seqs), h.receipt)
	_, err := c.Exec(t.Context(), work+"; ROLLBACK")
	require.NoError(t, err)
	_, err = c.Exec(t.Context(), work+"; COMMIT")
	require.NoError(t, err)
	require.Equal(t, "2", w.One(t, "SELECT count(*) FROM effect"))
	_, err = c.Exec(t.Context(), work)
	code(t, err, migrations.CodeLostLease)
	_, err = c.Exec(t.Context(), "ROLLBACK")
	require.NoError(t, err)
	require.Empty(t, w.next("w", 10).seqs)
}

// next must have committed before the work begins.
func nextRefusesAfterAWrite(t *testing.T, w table) {
	w.subscribed()
	w.Exec(t, "CREATE TABLE effect (seq bigint)")
	_, err := w.Conn(t).Exec(t.Context(), "BEGIN; INSERT INTO effect VALUES (1); SELECT walbridge.next('sub', 'w')")
	code(t, err, migrations.CodeTransaction)
	_, err = w.Conn(t).Exec(t.Context(), "BEGIN; SELECT * FROM effect; SELECT walbridge.next('sub', 'w'); COMMIT")
	require.NoError(t, err, "reading is no work")
}

// A worker whose lease ran out and whose lanes were taken settles nothing, also when
// the other is taking them at this moment.
func lateDoneIsFenced(t *testing.T, w table) {
	w.subscribed()
	w.keys("k")
	late := w.next("w1", 10)
	require.Empty(t, w.next("w2", 10).seqs, "while the lease holds")
	w.expire()
	other := w.Conn(t)
	_, err := other.Exec(t.Context(), "BEGIN; SELECT walbridge.next('sub', 'w2')")
	require.NoError(t, err)
	waiting := w.start(w.Conn(t), "SELECT walbridge.done('sub', $1)", late.receipt)
	waiting.blocked()
	_, err = other.Exec(t.Context(), "COMMIT")
	require.NoError(t, err)
	code(t, waiting.result(), migrations.CodeLostLease)
	_, err = w.Conn(t).Exec(t.Context(), "SELECT walbridge.fail('sub', $1, 1, 'x')", late.receipt)
	code(t, err, migrations.CodeLostLease)

	w.expire()
	h := w.next("w3", 10)
	require.Equal(t, []int64{1}, h.seqs)
	w.expire() // but nobody took them: the work counts
	w.finish(h)
}

// A failed item takes the later ones of its key along, and no other.
func failTakesItsFollowers(t *testing.T, w table) {
	w.subscribed(`{"backoff_min_ms":3600000,"backoff_max_ms":3600000}`)
	w.write(row{stream: "s", key: "k"}, row{stream: "s", key: "k"}, row{stream: "s", key: "l"}, row{stream: "s"}, row{stream: "s"}, row{stream: "s", key: "k"})
	h := w.next("w", 10)
	require.Equal(t, []int64{1, 2, 3, 4, 5, 6}, h.seqs)
	require.Equal(t, [][]string{{"2", "retry"}, {"6", "blocked"}}, w.Query(t, "SELECT * FROM walbridge.fail('sub', $1, 2, 'boom')", h.receipt))
	require.Equal(t, [][]string{{"4", "retry"}}, w.Query(t, "SELECT * FROM walbridge.fail('sub', $1, 4, 'boom', '0 s')", h.receipt), "an item without a key holds nothing")
	_, err := w.Conn(t).Exec(t.Context(), "SELECT walbridge.fail('sub', $1, 2, 'boom')", h.receipt)
	code(t, err, migrations.CodeNoItem)
	require.Equal(t, "3", w.One(t, "SELECT walbridge.done('sub', $1)", h.receipt))
	require.Equal(t, "t", w.One(t, "SELECT available_at BETWEEN clock_timestamp() + '40 min' AND clock_timestamp() + '80 min' FROM walbridge.parked WHERE seq = 2"))
	w.keys("k")
	h = w.next("w", 10)
	require.Equal(t, []int64{4}, h.seqs, "7 waits behind 2")
	require.Equal(t, []int{2}, h.tries)
	require.Equal(t, "2 retry, 4 retry, 6 blocked held, 7 blocked held", w.parked())
	require.Equal(t, [][]string{{"4", "dead"}}, w.Query(t, "SELECT * FROM walbridge.fail('sub', $1, 4, 'boom', dead => true)", h.receipt))
	w.finish(h)
}

// Lanes without items move on, so that they do not hold the log.
func emptyLanesMoveOn(t *testing.T, w table) {
	w.subscribed()
	w.bulk("other", 6000)
	w.keys("k")
	h := w.next("w", 10)
	require.Len(t, h.seqs, 1)
	w.finish(h)
	require.Equal(t, "t", w.One(t, "SELECT min(seq) >= 6000 FROM walbridge.lane_state('sub', '"+all+"')"))
}

// crew is some workers of the short form who die, fail and lose their leases.
type crew struct {
	w    table
	rand *rand.Rand
	fail int // one item of so many fails; 0: only what is poison
}

// work is one round of a worker: everything it does is one key's turn.
func (x crew) work(ctx context.Context, c *pgx.Conn, name string) error {
	var receipt string
	var seqs []int64
	keys := map[int64]string{}
	rows, err := c.Query(ctx, "SELECT receipt, seq, coalesce(partition_key, '') FROM walbridge.next('sub', $1, $2, '300 ms')", name, 1+x.rand.IntN(20))
	if err != nil {
		return err
	}
	for rows.Next() {
		var seq int64
		var key string
		if err := rows.Scan(&receipt, &seq, &key); err != nil {
			return err
		}
		seqs, keys[seq] = append(seqs, seq), key
	}
	if err := rows.Err(); err != nil || len(seqs) == 0 {
		return err
	}
	if x.rand.IntN(8) == 0 {
		return nil // it dies with the work in hand
	}
	gone := map[int64]bool{}
	for _, seq := range seqs {
		if gone[seq] || !strings.HasPrefix(keys[seq], "poison") && (x.fail == 0 || x.rand.IntN(x.fail) != 0) {
			continue
		}
		out, err := c.Query(ctx, "SELECT item FROM walbridge.fail('sub', $1, $2, 'boom', '10 ms')", receipt, seq)
		if err != nil {
			return err
		}
		lost, err := pgx.CollectRows(out, pgx.RowTo[int64])
		if err != nil {
			return err
		}
		for _, s := range lost {
			gone[s] = true
		}
	}
	return pgx.BeginFunc(ctx, c, func(tx pgx.Tx) error {
		for _, seq := range seqs {
			if gone[seq] {
				continue
			}
			if _, err := tx.Exec(ctx, "INSERT INTO effect (seq, key) VALUES ($1, $2)", seq, keys[seq]); err != nil {
				return err
			}
		}
		_, err := tx.Exec(ctx, "SELECT walbridge.done('sub', $1)", receipt)
		return err
	})
}

// Whatever workers do, each item takes effect once, those of a key in order.
func effectsAreOnceAndInOrder(t *testing.T, w table) {
	w.subscribed(`{"max_attempts":1000}`)
	w.Exec(t, "CREATE TABLE effect (n bigint GENERATED ALWAYS AS IDENTITY, seq bigint PRIMARY KEY, key text)")
	r := seed(t)
	const items = 150
	var rows []row
	for range items {
		x := row{stream: "s", key: fmt.Sprint("k", r.IntN(12))}
		if r.IntN(10) == 0 {
			x.key = ""
		}
		rows = append(rows, x)
	}
	w.write(rows[:items/2]...)
	var g errgroup.Group
	for i := range 3 {
		c := w.Conn(t)
		x := crew{w, rand.New(rand.NewPCG(r.Uint64(), 0)), 12}
		g.Go(func() error {
			for {
				var n int
				if err := c.QueryRow(t.Context(), "SELECT count(*) FROM effect").Scan(&n); err != nil || n == items {
					return err
				}
				err := x.work(t.Context(), c, fmt.Sprint("w", i))
				var pg *pgconn.PgError
				if err != nil && !(errors.As(err, &pg) && pg.Code == migrations.CodeLostLease) {
					return err
				}
			}
		})
	}
	w.write(rows[items/2:]...)
	ended := make(chan error, 1)
	go func() { ended <- g.Wait() }()
	pgtest.Eventually(t, 2*within, func() bool { return len(ended) == 1 }, "all items have taken effect")
	require.NoError(t, <-ended)
	last := map[string]int64{}
	for _, e := range w.Query(t, "SELECT seq, key FROM effect WHERE key <> '' ORDER BY n") {
		require.Greater(t, number(t, e[0]), last[e[1]], "key %s", e[1])
		last[e[1]] = number(t, e[0])
	}
	require.Empty(t, w.parked())
}

// Workers that ask at once never get the same item.
func nextIsSafeAtOnce(t *testing.T, w table) {
	w.subscribed()
	var keys []string
	for i := range 60 {
		keys = append(keys, fmt.Sprint("k", i))
	}
	w.keys(keys...)
	got := make([][]int64, 4)
	var g errgroup.Group
	for i := range got {
		c := w.Conn(t)
		g.Go(func() error {
			for range 5 {
				rows, err := c.Query(t.Context(), "SELECT seq FROM walbridge.next('sub', $1, 10)", fmt.Sprint("w", i))
				if err != nil {
					return err
				}
				seqs, err := pgx.CollectRows(rows, pgx.RowTo[int64])
				if err != nil {
					return err
				}
				got[i] = append(got[i], seqs...)
			}
			return nil
		})
	}
	require.NoError(t, g.Wait())
	union := slices.Concat(got...)
	require.NotEmpty(t, union)
	slices.Sort(union)
	require.Len(t, slices.Compact(slices.Clone(union)), len(union), "an item was given twice")
}

// wait_for answers when everything at or below the position is settled, no earlier.
func waitForNeverAnswersTooEarly(t *testing.T, w table) {
	w.subscribed()
	ask := func(at int64) string {
		return w.One(t, "SELECT walbridge.wait_for('sub', 'a', '0/0'::pg_lsn + $1::bigint, '0')", at)
	}
	w.keys("k", "l")
	require.Equal(t, "f", ask(1), "nothing is settled")
	require.Equal(t, "f", ask(3), "the source is not there")
	h := w.next("w", 10)
	w.Exec(t, "SELECT walbridge.fail('sub', $1, 1, 'boom', '0 s')", h.receipt)
	w.finish(h)
	require.Equal(t, "f", ask(2), "1 is parked")
	waiting := w.start(w.Conn(t), "SELECT 1 / walbridge.wait_for('sub', 'a', '0/2', '20 s')::integer")
	h = w.next("w", 10)
	require.Equal(t, []int64{1}, h.seqs)
	w.finish(h)
	require.NoError(t, waiting.result(), "it wakes, and is true")
	w.write(row{stream: "s", key: "k"}, row{stream: "other", key: "k"})
	require.Equal(t, "t", ask(2), "what is newer does not matter")
	require.Equal(t, "f", ask(3))
	h = w.next("w", 10)
	w.finish(h)
	require.Equal(t, "t", ask(4), "another stream's item does not matter, nor a lane without items")
	for _, f := range []string{"wait_for('sub', 'absent', '0/1')", "wait_for('sub', 'a', '0/1', '1 h')", "wait_for('sub', 'a', NULL)"} {
		_, err := w.Conn(t).Exec(t.Context(), "SELECT walbridge."+f)
		code(t, err, migrations.CodeArgument)
	}
}
