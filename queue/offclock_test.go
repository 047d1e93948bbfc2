package queue

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// shiftClock makes the database's clock differ from that of all processes: every
// function of the schema asks pg_catalog for the time, by name, when a session first
// calls it.
func shiftClock(t *testing.T, db *pgtest.DB, by string) {
	t.Helper()
	conn := db.Conn(t)
	_, err := conn.Exec(t.Context(), fmt.Sprintf(`SET allow_system_table_mods = on;
		ALTER FUNCTION pg_catalog.clock_timestamp() RENAME TO unshifted_clock;
		CREATE FUNCTION pg_catalog.clock_timestamp() RETURNS timestamptz LANGUAGE sql VOLATILE AS $$ SELECT pg_catalog.unshifted_clock() + interval '%s' $$`, by))
	require.NoError(t, err)
}

// TestClockAnHourOff: worker processes whose clocks are an hour behind or ahead of the
// database's take over from one that was killed in the time of a lease, try again what
// failed and handle what is scheduled in its time, and each item takes effect once.
func TestClockAnHourOff(t *testing.T) {
	for name, by := range map[string]string{"Behind": "1 hour", "Ahead": "-1 hour"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			db := migrated(t, testLanes)
			shiftClock(t, db, by)
			readModel(t, db)
			subscribed(t, db, testConfig(t, "work"))
			produce(t, db, 300, 30)
			db.Exec(t, "UPDATE walbridge.log SET available_at = clock_timestamp() + interval '1 s' WHERE seq = 50")
			first := spawn(t, db, "runtx", holdVar+"=150")
			require.NoError(t, first.Start())
			pgtest.Eventually(t, patience, func() bool { return rows(t, db) > 0 }, "the first works")
			require.NoError(t, first.Process.Kill())
			_ = first.Wait()
			produce(t, db, 300, 30)
			second := spawn(t, db, "runtx")
			require.NoError(t, second.Start())
			pgtest.Eventually(t, patience, func() bool { // 99 and 599 are poison
				return rows(t, db) == 598 && db.One(t, "SELECT count(*) FROM walbridge.dead_letter") == "2"
			}, "the second has its lanes, and does the rest")
			requireModel(t, db, 598)
			off := db.One(t, "SELECT abs(extract(epoch FROM lease_expires_at - pg_catalog.unshifted_clock())) BETWEEN 3500 AND 3700 FROM walbridge.lane WHERE owner IS NOT NULL LIMIT 1")
			require.Equal(t, "t", off, "leases are on the database's clock")
		})
	}
}
