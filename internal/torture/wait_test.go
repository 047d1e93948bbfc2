package torture_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// Who waits for a position that nothing but WAL of others lies before gets an answer
// at once, not with the next idle mark, which may be five minutes away; and however
// many wait, the bridge stores few positions for them.
func TestWaitForInAQuietDatabase(t *testing.T) {
	t.Parallel()
	r := sharedRig(t)
	r.setup(t)
	r.start(t)
	r.drain(t)
	r.sink.Exec(t, "SELECT walbridge.subscribe('idle', '{absent}')") // has settled whatever there is
	r.source.Exec(t, "CREATE TABLE public.unpublished (n integer)")
	unpublished := func() string {
		r.source.Exec(t, "INSERT INTO public.unpublished VALUES (1)")
		return r.source.One(t, "SELECT pg_current_wal_insert_lsn()")
	}
	before := r.writes(t)
	for range 3 { // inside a transaction, of several at once
		at := unpublished()
		done := make(chan string)
		for range 4 {
			go func() {
				done <- r.sink.One(t, "SELECT walbridge.wait_for('idle', $1, $2::text::pg_lsn, '40 s')", r.name, at)
			}()
		}
		for range 4 {
			require.Equal(t, "t", <-done)
		}
	}
	for range 3 { // asking again and again
		at := unpublished()
		pgtest.Eventually(t, startWithin(), func() bool {
			return r.sink.One(t, "SELECT walbridge.wait_for('idle', $1, $2::text::pg_lsn, '0', ask => true)", r.name, at) == "t"
		}, "the position %s", at)
	}
	require.Equal(t, "0", r.sink.One(t, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND objsubid = 2 AND classid = $1::bigint::oid AND database = (SELECT oid FROM pg_database WHERE datname = current_database())", 0x57420006))
	t.Logf("%d positions for 15 waits", r.writes(t)-before)
	require.Equal(t, "f", r.sink.One(t, "SELECT walbridge.wait_for('idle', $1, 'FFFF/0', '1 s')", r.name), "a position of the future")
}

// However many ask, and however often, for a position that never comes, the bridge
// stores at most ten positions a second for them. Source and work table are in one
// cluster, so that each position stored is WAL that the next one could be stored for.
func TestAskingIsBounded(t *testing.T) {
	t.Parallel()
	r := sharedRig(t)
	r.setup(t)
	r.start(t)
	r.drain(t)
	r.sink.Exec(t, "SELECT walbridge.subscribe('idle', '{absent}')")
	began, before := time.Now(), r.writes(t)
	done := make(chan int)
	for range 4 {
		go func() {
			asked := 0
			for time.Since(began) < 2*time.Second {
				r.sink.Exec(t, "SELECT walbridge.wait_for('idle', $1, 'FFFF/0', '0', ask => true)", r.name)
				asked++
			}
			done <- asked
		}()
	}
	asked := 0
	for range 4 {
		asked += <-done
	}
	stored := r.writes(t) - before
	most := int(time.Since(began)/(100*time.Millisecond)) + 2 // one may have been due, and one be under way
	t.Logf("%d positions for %d questions in %v", stored, asked, time.Since(began))
	require.Positive(t, stored)
	require.LessOrEqual(t, stored, most)
}
