package workflow

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// What a claim reads does not grow with finished instances, with those that wait, or
// with what another transaction keeps from being removed.
func TestClaimStaysCheap(t *testing.T) {
	db := shared(t)
	w := Define[order]("flow", 1, Activity("a", nothing), Tx("b", func(context.Context, *Run[order], pgx.Tx) error { return nil }))
	e := engine(t, db, quick(t), w)
	db.Exec(t, `INSERT INTO walbridge.workflow_instance (name, version, key, steps, state, status, available_at, finished_at)
		SELECT 'flow', 1, 'done ' || n, $1, '{}', 'completed', NULL, clock_timestamp() FROM generate_series(1, 5000) n`, w.definition().list())
	db.Exec(t, `INSERT INTO walbridge.workflow_instance (name, version, key, steps, state, status, available_at)
		SELECT 'flow', 1, 'waits ' || n, $1, '{}', 'waiting', clock_timestamp() + '1 day' FROM generate_series(1, 5000) n`, w.definition().list())
	long, err := e.pool.BeginTx(t.Context(), pgx.TxOptions{IsoLevel: pgx.RepeatableRead})
	require.NoError(t, err)
	defer rollback(long)
	_, err = long.Exec(t.Context(), "SELECT count(*) FROM walbridge.workflow_instance")
	require.NoError(t, err)
	// Three entries of the index for each of 3000 instances that came and went, which
	// the long transaction keeps.
	for _, sql := range []string{
		`INSERT INTO walbridge.workflow_instance (name, version, key, steps, state, available_at)
			SELECT 'flow', 1, 'went ' || n, '', '{}', clock_timestamp() - '1 hour'::interval FROM generate_series(1, 3000) n`,
		`UPDATE walbridge.workflow_instance SET available_at = clock_timestamp() - '59 min'::interval WHERE key LIKE 'went%'`,
		`UPDATE walbridge.workflow_instance SET available_at = NULL, status = 'completed' WHERE key LIKE 'went%'`,
		`ANALYZE walbridge.workflow_instance`,
	} {
		db.Exec(t, sql)
	}
	blocks := func(low time.Time) (n int) {
		rows := db.Query(t, "EXPLAIN (ANALYZE, BUFFERS, COSTS OFF, TIMING OFF, SUMMARY OFF)"+e.sql.lockDue, []string{"flow"}, []int32{1}, low, time.Now(), 10)
		var hit, read int
		_, _ = fmt.Sscanf(buffers(rows), "hit=%d read=%d", &hit, &read)
		return hit + read
	}
	runner := newRunner(e)
	runner.hard = t.Context()
	taken, err := runner.due.take(t.Context(), runner, 10)
	require.NoError(t, err)
	require.Empty(t, taken)
	require.False(t, runner.due.low.IsZero())
	sweep, quick := blocks(time.Time{}), blocks(runner.due.low)
	t.Logf("a sweep reads %d blocks, another claim %d", sweep, quick)
	require.Greater(t, sweep, 100, "the trap works")
	require.Less(t, quick, 20)
	require.False(t, runner.due.sweeping(), "sweeps are rare")
}

// buffers is the first line of an explained plan that counts blocks.
func buffers(plan [][]string) string {
	for _, row := range plan {
		var text string
		if n, _ := fmt.Sscanf(row[0], " Buffers: shared %s", &text); n == 1 {
			for i := range row[0] {
				if row[0][i:min(len(row[0]), i+4)] == "hit=" {
					return row[0][i:]
				}
			}
		}
	}
	return ""
}
