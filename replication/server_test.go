package replication

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/pgtest"
)

// The whole way, ten times over: look, stream, confirm, stop. Each time the server
// knows the last position afterwards, which a plain close loses nine times in ten,
// and the next stream begins behind it.
func TestStreamAndConfirm(t *testing.T) {
	pgtest.Matrix(t, func(t *testing.T, c *pgtest.Cluster) {
		db := c.DB(t)
		s := testSource(t, db, db.DSN())
		at := ready(t, s, db)
		srv, err := s.Inspect(t.Context())
		require.NoError(t, err)
		require.NoError(t, srv.ReplicationErr)
		require.Equal(t, c.Major(), srv.Major())
		require.Equal(t, db.Name(), srv.Database)
		require.Equal(t, srv.SQLSystemID, srv.SystemID)
		require.EqualValues(t, 1, srv.Timeline)
		require.GreaterOrEqual(t, srv.WALEnd, at)
		require.Equal(t, at, srv.Slot.ConfirmedFlush)
		require.Equal(t, c.Major() >= 17, srv.Slot.Failover)
		require.NotZero(t, srv.NextXid)
		require.Equal(t, Usage{Max: 100, Used: 1}, srv.Slots)
		require.Equal(t, []string{"public.a"}, srv.Published.Explicit)

		for i := range 10 {
			p := positionAt(at)
			st := open(t, s, at, p.get)
			db.Exec(t, "INSERT INTO a VALUES ($1, 'first')", i)
			f := until(t, st, isCommit)
			require.Greater(t, f.End, at, "what was confirmed does not come again")
			db.Exec(t, "INSERT INTO a SELECT i, repeat('x', 1000) FROM generate_series($1::int, $1 + 1999) i", 1000+i*2000)
			p.set(f.End)
			require.NoError(t, st.Stop(t.Context()))
			require.Equal(t, f.End.String(), confirmedFlush(t, db, s))
			at = lastCommit(t, s, db, f.End)
		}
	})
}

// lastCommit streams the one transaction that is left, confirms it and returns its
// end.
func lastCommit(t *testing.T, s *Source, db *pgtest.DB, from lsn.LSN) lsn.LSN {
	t.Helper()
	p := positionAt(from)
	st := open(t, s, from, p.get)
	f := until(t, st, isCommit)
	p.set(f.End)
	require.NoError(t, st.Stop(t.Context()))
	require.Equal(t, f.End.String(), confirmedFlush(t, db, s))
	return f.End
}
