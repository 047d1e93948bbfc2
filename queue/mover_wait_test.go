package queue

import (
	"context"
	"fmt"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/pgtest"
)

// moverWaitFor: reading one's writes through the inbox, also where other WAL follows
// them and then nothing more.
func moverWaitFor(t *testing.T, db *pgtest.DB) {
	cfg := testConfig(t, "mail")
	cfg.Streams = []string{"inbox"}
	sub := subscribed(t, db, cfg)
	handled := map[string]bool{}
	var mu sync.Mutex
	r := start(t, func(ctx context.Context) error {
		return sub.Run(ctx, func(_ context.Context, it Item) error {
			mu.Lock()
			defer mu.Unlock()
			handled[it.ID] = true
			return nil
		})
	})
	pgtest.Eventually(t, patience, func() bool { return db.One(t, "SELECT owner IS NOT NULL FROM walbridge.keeper") == "t" }, "a keeper")
	db.Exec(t, "CREATE TABLE elsewhere (n int)")
	for i := range 12 {
		id := fmt.Sprint("id-", i)
		db.Exec(t, "INSERT INTO walbridge.inbox (partition_key, payload, idempotency_key) VALUES ($1, '{}', $1)", id)
		if i%2 == 1 { // its own marks are passed already
			pgtest.Eventually(t, patience, func() bool { return quietSinceMove(t, db) }, "the mover rests")
			db.Exec(t, "INSERT INTO elsewhere VALUES (1)")
		}
		at := db.One(t, "SELECT pg_current_wal_insert_lsn()")
		if i == 0 {
			pgtest.Eventually(t, patience, func() bool { return db.One(t, "SELECT count(*) FROM walbridge.source") == "1" }, "the source")
		}
		if i < 6 {
			require.Equal(t, "t", db.One(t, "SELECT walbridge.wait_for('mail', 'inbox', $1::text::pg_lsn, '25 s')", at))
		} else {
			end, err := lsn.Parse(at)
			require.NoError(t, err)
			require.NoError(t, sub.WaitFor(t.Context(), "inbox", LSN(end), 25*time.Second))
		}
		mu.Lock()
		require.True(t, handled[id], id)
		mu.Unlock()
	}
	r.end()
}

// moverMarksAreBounded: however many wait, by the library, by asking again and again,
// and inside a call, for a position that never comes, the mover stores at most ten positions a second for them.
func moverMarksAreBounded(t *testing.T, db *pgtest.DB) {
	cfg := testConfig(t, "mail")
	cfg.Streams = []string{"inbox"}
	sub := subscribed(t, db, cfg)
	r := start(t, func(ctx context.Context) error {
		return sub.Run(ctx, func(context.Context, Item) error { return nil })
	})
	stored := func() int64 {
		n, err := strconv.ParseInt(db.One(t, "SELECT coalesce(max(n), 0) FROM walbridge.batch WHERE source = 'inbox'"), 10, 64)
		require.NoError(t, err)
		return n
	}
	insert(t, db, "k", 1)
	pgtest.Eventually(t, patience, func() bool { return quietSinceMove(t, db) }, "the mover rests")
	began, before := time.Now(), stored()
	var waiters sync.WaitGroup
	for range 3 {
		waiters.Go(func() {
			db.Exec(t, "SELECT walbridge.wait_for('mail', 'inbox', 'FFFF/0', '3 s')")
		})
		waiters.Go(func() {
			assert.ErrorIs(t, sub.WaitFor(t.Context(), "inbox", 0xFFFF_0000_0000, 3*time.Second), ErrTimeout)
		})
		waiters.Go(func() {
			for time.Since(began) < 3*time.Second {
				db.Exec(t, "SELECT walbridge.wait_for('mail', 'inbox', 'FFFF/0', '0', ask => true)")
			}
		})
	}
	waiters.Wait()
	got := stored() - before
	most := int64(time.Since(began)/markPause)*11/10 + 3 // two may be due at once, and between two clocks one more
	t.Logf("%d positions in %v", got, time.Since(began))
	require.Positive(t, got)
	require.LessOrEqual(t, got, most)
	r.end()
}

// quietSinceMove: the two marks that follow what was moved have been stored.
func quietSinceMove(t *testing.T, db *pgtest.DB) bool {
	return db.One(t, `SELECT count(*) >= 1 AND min(n) + 2 <= (SELECT max(n) FROM walbridge.batch WHERE source = 'inbox') FROM (
		SELECT n FROM walbridge.batch WHERE source = 'inbox' AND last_seq = (SELECT max(seq) FROM walbridge.log) AND (SELECT count(*) FROM walbridge.log) = (SELECT count(*) FROM walbridge.inbox)) b`) == "t"
}

// TestAskedPutsNothingOff: who waits for the mover's position makes its next step
// earlier, never later, and no earlier than the last positions that were asked for let.
func TestAskedPutsNothingOff(t *testing.T) {
	t.Parallel()
	const ago = -markPause // of the last two positions that were asked for
	for name, test := range map[string]struct {
		k           keeper
		first, due  time.Duration // from now: the earlier of the two positions, and the step
		wantIn      time.Duration
		wantedMarks int
	}{
		"the step is due earlier":  {keeper{mine: true, moves: true}, ago, time.Millisecond, time.Millisecond, 2},
		"at once":                  {keeper{mine: true, moves: true}, 3 * ago, time.Minute, 0, 2},
		"not before the pause":     {keeper{mine: true, moves: true}, ago, time.Minute, markPause, 2},
		"one of two is stored":     {keeper{mine: true, moves: true, marks: 1}, ago, time.Millisecond, time.Millisecond, 2},
		"two are to come anyway":   {keeper{mine: true, moves: true, marks: 2}, 3 * ago, time.Minute, time.Minute, 2},
		"another has the upkeep":   {keeper{moves: true}, 3 * ago, time.Minute, time.Minute, 0},
		"a bridge reads the inbox": {keeper{mine: true}, 3 * ago, time.Minute, time.Minute, 0},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				k, began := test.k, time.Now()
				k.marked[0], k.stepAt = began.Add(test.first), began.Add(test.due)
				timer := time.NewTimer(test.due)
				k.asked(timer)
				<-timer.C
				require.Equal(t, test.wantIn, time.Since(began))
				require.Equal(t, test.wantedMarks, k.marks)
			})
		})
	}
}
