package queue

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// TestMoverKilled: worker processes that have the upkeep die by SIGKILL at random
// points while applications insert. Each row is in the log once, each key in order.
func TestMoverKilled(t *testing.T) {
	t.Parallel()
	db := migrated(t, testLanes)
	readModel(t, db)
	random := seeded(t)
	done := make(chan struct{})
	go func() {
		defer close(done)
		apps(t, db, rand.New(rand.NewPCG(random.Uint64(), 3)), 4, 250)
	}()
	kills := 0
	for running := true; running || kills < 3; kills++ {
		victim := spawn(t, db, "run")
		require.NoError(t, victim.Start())
		pgtest.Eventually(t, patience, func() bool { return db.One(t, "SELECT owner IS NOT NULL FROM walbridge.keeper") == "t" }, "it has the upkeep")
		timer := time.NewTimer(time.Duration(random.IntN(300)) * time.Millisecond)
		select {
		case <-timer.C:
		case <-done:
			running = false
		}
		require.NoError(t, victim.Process.Kill())
		_ = victim.Wait()
		db.Exec(t, "SELECT walbridge.leave_upkeep(owner) FROM walbridge.keeper") // as if its lease had run out
	}
	db.Exec(t, "SELECT walbridge.keep_partitions()")
	pgtest.Eventually(t, patience, func() bool { return moves(t, db) == "0 f 0 0" }, "all is moved")
	t.Logf("%d processes killed, %s batches", kills, db.One(t, "SELECT count(*) FROM walbridge.batch WHERE last_seq IS NOT NULL"))
	requireMoved(t, db)
}
