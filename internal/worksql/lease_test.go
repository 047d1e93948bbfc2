package worksql

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/migrations"
)

// settleOne settles lane 0 of generation 1 up to a seq.
const settleOne = "SELECT walbridge.settle('sub', '{0}', '{%d}', '{%d}', '{%d}', '{\"{}\"}')"

// expire ends all leases, as the clock does.
func (w table) expire() {
	w.t.Helper()
	w.Exec(w.t, "UPDATE walbridge.lane SET lease_expires_at = clock_timestamp()")
}

// A lane that is being settled is passed over; taken afterwards, its state is what
// the earlier owner has settled.
func takeOverDoesNotPassSettling(t *testing.T, w table) {
	w.subscribed()
	require.Len(t, w.Query(t, "SELECT * FROM walbridge.lease_lanes('sub', 'a')"), lanes)
	w.expire()
	a := w.Conn(t)
	_, err := a.Exec(t.Context(), "BEGIN; "+fmt.Sprintf(settleOne, 1, 2, 5))
	require.NoError(t, err)
	taken := w.Query(t, "SELECT lane, lease_generation FROM walbridge.lease_lanes('sub', 'b', max_lanes => 8) ORDER BY 1")
	require.NotContains(t, taken, []string{"0", "2"}, "lane 0 is being settled")
	_, err = a.Exec(t.Context(), "COMMIT")
	require.NoError(t, err)
	w.Exec(t, "DELETE FROM walbridge.worker WHERE id = 'a'") // b's share is all
	require.Equal(t, [][]string{{"0", "2"}}, w.Query(t, "SELECT lane, lease_generation FROM walbridge.lease_lanes('sub', 'b', max_lanes => 8, held => '{1,2,3}') WHERE lane = 0"))
	require.Equal(t, [][]string{{"5", "2", "2"}}, w.Query(t, "SELECT seq, n, lease_generation FROM walbridge.lane_state('sub', '{0}')"))
	_, err = a.Exec(t.Context(), fmt.Sprintf(settleOne, 1, 3, 9))
	require.Equal(t, "0", code(t, err, migrations.CodeLostLease).Detail)
	require.Equal(t, "5", w.One(t, "SELECT seq FROM walbridge.lane_state('sub', '{0}')"))
}

// A worker that settles while its lane is being taken over waits, and is fenced.
func settlingMeetsTakeOver(t *testing.T, w table) {
	w.subscribed()
	w.Exec(t, "SELECT * FROM walbridge.lease_lanes('sub', 'a')")
	w.expire()
	b := w.Conn(t)
	_, err := b.Exec(t.Context(), "BEGIN; SELECT * FROM walbridge.lease_lanes('sub', 'b')")
	require.NoError(t, err)
	late := w.start(w.Conn(t), fmt.Sprintf(settleOne, 1, 2, 5))
	late.blocked()
	_, err = b.Exec(t.Context(), "COMMIT")
	require.NoError(t, err)
	code(t, late.result(), migrations.CodeLostLease)
	require.Equal(t, "0", w.One(t, "SELECT seq FROM walbridge.lane_state('sub', '{0}')"), "nothing of it is left")
}

// An UPDATE alone would pass beside a transaction that is settling: why a take-over
// locks first.
func updateAloneFencesNobody(t *testing.T, w table) {
	w.subscribed()
	w.Exec(t, "SELECT * FROM walbridge.lease_lanes('sub', 'a')")
	a, b := w.Conn(t), w.Conn(t)
	_, err := a.Exec(t.Context(), "BEGIN; SELECT walbridge.fence_lanes('sub', '{0}', '{1}')")
	require.NoError(t, err)
	_, err = b.Exec(t.Context(), "UPDATE walbridge.lane SET lease_generation = 2 WHERE lane = 0")
	require.NoError(t, err, "the hole that locking first avoids")
	_, err = a.Exec(t.Context(), "COMMIT")
	require.NoError(t, err)
}

// Heartbeats and settling do not wait for each other.
func heartbeatBesideSettling(t *testing.T, w table) {
	w.subscribed()
	w.Exec(t, "SELECT * FROM walbridge.lease_lanes('sub', 'a')")
	a, b := w.Conn(t), w.Conn(t)
	_, err := a.Exec(t.Context(), "BEGIN; SELECT walbridge.settle('sub', '"+all+"', '"+ones+"', '{2,2,2,2,2,2,2,2}', '{1,1,1,1,1,1,1,1}', '{\"{}\",\"{}\",\"{}\",\"{}\",\"{}\",\"{}\",\"{}\",\"{}\"}')")
	require.NoError(t, err)
	_, err = b.Exec(t.Context(), "SET lock_timeout = '5s'; BEGIN; SELECT walbridge.renew('sub', 'a', '1 min', '"+all+"', '"+ones+"')")
	require.NoError(t, err)
	_, err = a.Exec(t.Context(), "COMMIT; BEGIN; SET lock_timeout = '5s'; "+fmt.Sprintf(settleOne, 1, 3, 2)+"; COMMIT")
	require.NoError(t, err, "while a heartbeat is not committed")
	_, err = b.Exec(t.Context(), "COMMIT")
	require.NoError(t, err)
}

// Of two writes of one checkpoint row only one counts, though both hold the lease:
// the second waits for the first and is fenced.
func checkpointIsCompareAndAppend(t *testing.T, w table) {
	w.subscribed()
	w.Exec(t, "SELECT * FROM walbridge.lease_lanes('sub', 'a')")
	first := w.Conn(t)
	_, err := first.Exec(t.Context(), "BEGIN; "+fmt.Sprintf(settleOne, 1, 2, 5))
	require.NoError(t, err)
	second := w.start(w.Conn(t), fmt.Sprintf(settleOne, 1, 2, 9))
	second.blocked()
	_, err = first.Exec(t.Context(), "COMMIT")
	require.NoError(t, err)
	code(t, second.result(), migrations.CodeLostLease)
	require.Equal(t, "5", w.One(t, "SELECT seq FROM walbridge.lane_state('sub', '{0}')"))
}

// In another isolation level a function would read what was true before it waited.
func otherIsolationIsRefused(t *testing.T, w table) {
	w.subscribed()
	for _, f := range []string{
		"subscribe('x', '{s}')", "set_streams('sub', '{s}')", "reset('sub')", "pause('sub')", "resume('sub')", "expire('sub')", "drop_subscription('sub')",
		"lease_lanes('sub', 'a')", "renew('sub', 'a', '1 s', '{}', '{}')", "release('sub', 'a', '{}', '{}')", "fence_lanes('sub', '{}', '{}')",
		"settle('sub', '{}', '{}', '{}', '{}', '{}')", "park('sub', 1::smallint, 1, 's', 1, 1, 'x', '1 s')", "bury('sub', 1::smallint, 1, 's', 1, 1, 'x')",
		"trim('sub', '{}', '{}')", "next('sub', 'a')", "done('sub', '0:1')", "fail('sub', '0:1', 1, 'x')", "replay(1)", "discard(1)", "wait_for('sub', 'a', '0/1')",
	} {
		for _, level := range []string{"REPEATABLE READ", "SERIALIZABLE"} {
			_, err := w.Conn(t).Exec(t.Context(), "BEGIN ISOLATION LEVEL "+level+"; SELECT walbridge."+f)
			require.Error(t, err, f)
			code(t, err, migrations.CodeIsolation)
		}
	}
}

// Workers that ask at once never get the same lane, and all together get all.
func lanesAreSharedFairly(t *testing.T, w table) {
	w.subscribed()
	const workers = 3
	got := make([][]string, workers)
	var g errgroup.Group
	for i := range workers {
		c := w.Conn(t)
		g.Go(func() error {
			// The others are known, as they are after their first heartbeats.
			_, err := c.Exec(t.Context(), "SELECT walbridge.renew('sub', $1, '1 min', '{}', '{}')", fmt.Sprint("w", i))
			return err
		})
	}
	require.NoError(t, g.Wait())
	pgtest.Eventually(t, within, func() bool {
		var g errgroup.Group
		for i := range workers {
			c := w.Conn(t)
			g.Go(func() error {
				rows, err := c.Query(t.Context(), "SELECT lane::text FROM walbridge.lease_lanes('sub', $1, '1 min', held => $2::text::smallint[])", fmt.Sprint("w", i), array(got[i]))
				if err != nil {
					return err
				}
				for rows.Next() {
					var l string
					if err := rows.Scan(&l); err != nil {
						return err
					}
					got[i] = append(got[i], l)
				}
				return rows.Err()
			})
		}
		require.NoError(t, g.Wait())
		return len(slices.Concat(got...)) == lanes
	}, "all lanes are leased")
	union := slices.Concat(got...)
	slices.Sort(union)
	require.Equal(t, []string{"0", "1", "2", "3", "4", "5", "6", "7"}, union, "each lane once")
	require.Equal(t, []int{3, 3, 2}, []int{len(got[0]), len(got[1]), len(got[2])})
}

// A worker that does not know what became of its last settling takes its own lanes
// anew, once the old transaction is over.
func ownLanesAreTakenAnew(t *testing.T, w table) {
	w.subscribed()
	w.Exec(t, "SELECT * FROM walbridge.lease_lanes('sub', 'a')")
	lost := w.Conn(t)
	_, err := lost.Exec(t.Context(), "BEGIN; "+fmt.Sprintf(settleOne, 1, 2, 5))
	require.NoError(t, err)
	again := "SELECT lane, lease_generation FROM walbridge.lease_lanes('sub', 'a', held => '{1,2,3,4,5,6,7}')"
	require.Empty(t, w.Query(t, again), "the old transaction is still there")
	_, err = lost.Exec(t.Context(), "COMMIT")
	require.NoError(t, err)
	require.Equal(t, [][]string{{"0", "2"}}, w.Query(t, again))
	require.Empty(t, w.Query(t, "SELECT * FROM walbridge.lease_lanes('sub', 'a', held => '"+all+"')"))
}

func renewAndRelease(t *testing.T, w table) {
	w.subscribed()
	w.Exec(t, "SELECT * FROM walbridge.lease_lanes('sub', 'a', host => 'h', pid => 7, version => '1')")
	w.expire()
	w.Exec(t, "SELECT * FROM walbridge.lease_lanes('sub', 'b', max_lanes => 3)")
	require.Equal(t, [][]string{{"{3,4,5,6,7}", "{0,1,2}", "active", "0", "2", "4"}},
		w.Query(t, "SELECT held, lost, state, changed, workers, share FROM walbridge.renew('sub', 'a', '1 min', '"+all+"', '"+ones+"')"))
	require.Equal(t, "3", w.One(t, "SELECT walbridge.release('sub', 'b', '{0,1,2,3}', '{2,2,2,1}', leave => true)"), "of the lanes named, three are its own")
	require.Equal(t, [][]string{{"a", "h", "5"}}, w.Query(t, "SELECT id, host, lanes FROM walbridge.worker"))
	w.Exec(t, "SELECT walbridge.pause('sub')")
	require.Equal(t, [][]string{{"paused", "1", "8"}}, w.Query(t, "SELECT state, changed, share FROM walbridge.renew('sub', 'a', '1 min', '{}', '{}')"))
	require.Empty(t, w.Query(t, "SELECT * FROM walbridge.lease_lanes('sub', 'a')"))
	w.Exec(t, "SELECT walbridge.resume('sub')")
	w.Exec(t, "SELECT walbridge.expire('sub')")
	for _, f := range []string{"renew('sub', 'a', '1 min', '{}', '{}')", "lease_lanes('sub', 'a')", "fetch('sub', '{0}', '{0}')", "next('sub', 'a')", "resume('sub')"} {
		_, err := w.Conn(t).Exec(t.Context(), "SELECT walbridge."+f)
		code(t, err, migrations.CodeExpired)
	}
	_, err := w.Conn(t).Exec(t.Context(), "SELECT walbridge.lease_lanes('absent', 'a')")
	code(t, err, migrations.CodeUnknownSubscription)
	for _, f := range []string{
		"lease_lanes('sub', '')", "lease_lanes('sub', 'a', '0 s')", "renew('sub', 'a', '1 s', '{1,0}', '{1,1}')", "renew('sub', 'a', '1 s', '{0}', '{}')",
		"fetch('sub', '{8}', '{0}')", "fetch('sub', '{0}', '{}')", "fetch('sub', '{0}', '{0}', 0)", "done('sub', 'x')", "next('sub', 'a', 0)",
		"settle('sub', '{0}', '{1}', '{1}', '{1}', '{\"{}\"}')", "settle('sub', '{0}', '{1}', '{2}', '{5}', '{\"{[5,6)}\"}')",
	} {
		_, err := w.Conn(t).Exec(t.Context(), "SELECT walbridge."+f)
		require.Error(t, err, f)
		code(t, err, migrations.CodeArgument)
	}
}

// Trimming keeps the newest rows, and begins where the last one ended.
func trimKeepsTheNewest(t *testing.T, w table) {
	w.subscribed()
	w.Exec(t, "SELECT * FROM walbridge.lease_lanes('sub', 'a')")
	w.Exec(t, "SELECT walbridge.settle('sub', '{0}', '{1}', ARRAY[n], ARRAY[n], '{\"{}\"}') FROM generate_series(2, 100) n")
	require.Equal(t, "89", w.One(t, "SELECT walbridge.trim('sub', '"+all+"', '"+ones+"')"))
	require.Equal(t, [][]string{{"90", "100"}}, w.Query(t, "SELECT min(n), max(n) FROM walbridge.checkpoint WHERE lane = 0"))
	require.Equal(t, "90", w.One(t, "SELECT trimmed FROM walbridge.lane WHERE lane = 0"))
	require.Equal(t, "0", w.One(t, "SELECT walbridge.trim('sub', '"+all+"', '"+ones+"')"))
	require.Equal(t, "0", w.One(t, "SELECT walbridge.trim('sub', '{0}', '{2}')"), "not my generation")
	require.Equal(t, "100", w.One(t, "SELECT seq FROM walbridge.lane_state('sub', '{0}')"))
}
