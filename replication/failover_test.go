package replication

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/embeddedpg"
	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/pgtest"
)

// A standby is promoted. Where slots survive that (17 and later) the bridge goes on,
// on the new timeline; before, the slot is gone and that is a halt. A position that
// the standby never received is a halt in any case.
func TestPromotedStandby(t *testing.T) {
	pgtest.Matrix(t, func(t *testing.T, c *pgtest.Cluster) {
		ctx, cancel := context.WithTimeout(t.Context(), 2*within)
		defer cancel()
		db := c.DB(t)
		s := testSource(t, db, db.DSN())
		at := ready(t, s, db)
		standby, err := c.Server().Standby(ctx, embeddedpg.StandbyConfig{})
		require.NoError(t, err)
		t.Cleanup(func() {
			require.NoError(t, standby.Kill())
			require.NoError(t, standby.Remove())
		})
		onStandby, err := pgx.Connect(ctx, standby.DSN(db.Name()))
		require.NoError(t, err)
		defer onStandby.Close(context.WithoutCancel(ctx))

		heir := testSource(t, db, standby.DSN(db.Name()))
		srv, err := heir.Inspect(ctx)
		require.NoError(t, err)
		require.True(t, srv.InRecovery)

		p := streamedThere(ctx, t, s, db, at, onStandby)
		require.NoError(t, c.Server().Stop(ctx, embeddedpg.Immediate))
		require.NoError(t, standby.Promote(ctx))
		srv, err = heir.Inspect(ctx)
		require.NoError(t, err)
		require.NoError(t, srv.ReplicationErr)
		require.EqualValues(t, 2, srv.Timeline)
		fork, known := srv.History.End(1)
		require.True(t, known)

		gone := p
		gone.Position.LastTxEnd, gone.Position.End = fork+8, fork+8
		if c.Major() < 17 {
			requireHalt(t, srv, p, "slot-missing")
		} else {
			requireHalt(t, srv, gone, "diverged")
			goesOn(ctx, t, heir, srv, p, onStandby)
		}
		old := p
		old.Timeline = 3
		srv.Slot = &Slot{Name: s.Slot(), Plugin: "pgoutput", Database: db.Name()}
		requireHalt(t, srv, old, "old-primary")
		require.NoError(t, c.Server().Restart(ctx)) // to be dropped in good order
	})
}

func requireHalt(t *testing.T, srv *Server, p lsn.Progress, rule string) {
	t.Helper()
	_, err := Reconcile(srv, p)
	var halt *fault.Halt
	require.ErrorAs(t, err, &halt)
	require.Equal(t, rule, halt.Rule)
	requireWaysOut(t, halt)
}

// streamedThere streams until the standby has all of it, and from 17 on the slot in
// a state that survives a promotion: for that the consumer must have confirmed
// something past the standby's own horizon.
func streamedThere(ctx context.Context, t *testing.T, s *Source, db *pgtest.DB, at lsn.LSN, standby *pgx.Conn) lsn.Progress {
	t.Helper()
	srv, err := s.Inspect(ctx)
	require.NoError(t, err)
	pos := positionAt(at)
	st := open(t, s, at, pos.get)
	ready := "SELECT pg_last_wal_replay_lsn() >= $1::pg_lsn"
	if srv.Major() >= 17 {
		ready += " AND EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = '" + s.Slot() + "' AND synced AND NOT temporary)"
	}
	id := 0
	pgtest.Eventually(t, 2*within, func() bool {
		id++
		db.Exec(t, "INSERT INTO a VALUES ($1, 'before')", id)
		if srv.Major() >= 16 {
			db.Exec(t, "SELECT pg_log_standby_snapshot()")
		}
		end := until(t, st, isCommit).End
		pos.set(end)
		st.Wake()
		at = end
		var ok bool
		require.NoError(t, standby.QueryRow(ctx, ready, end.String()).Scan(&ok))
		return ok
	}, "the standby has what was streamed")
	require.NoError(t, st.Stop(ctx))
	return lsn.Progress{SystemID: srv.SystemID, Timeline: srv.Timeline, Slot: s.Slot(), Phase: lsn.PhaseStreaming,
		Position: lsn.Position{End: at, LastTxEnd: at}}
}

// goesOn streams from the promoted server: the next change is the first that was
// made there.
func goesOn(ctx context.Context, t *testing.T, s *Source, srv *Server, p lsn.Progress, on *pgx.Conn) {
	t.Helper()
	d, err := Reconcile(srv, p)
	require.NoError(t, err)
	require.Equal(t, Resume, d.Action)
	require.True(t, d.Moved)
	require.EqualValues(t, 2, d.Progress.Timeline)
	_, err = on.Exec(ctx, "INSERT INTO a VALUES (-1, 'after the promotion')")
	require.NoError(t, err)
	st := open(t, s, d.Progress.Position.End, positionAt(d.Progress.Position.End).get)
	row := until(t, st, func(f *Frame) bool { return kind(f) == 'I' })
	require.Contains(t, string(row.Data), "after the promotion")
	require.NoError(t, st.Close())
}
