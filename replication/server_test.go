package replication

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

func TestStreamAndConfirm(t *testing.T) {
	pgtest.Matrix(t, func(t *testing.T, c *pgtest.Cluster) {
		db := c.DB(t)
		s := testSource(t, db, db.DSN())
		at := ready(t, s, db)
		srv, err := s.Inspect(t.Context())
		require.NoError(t, err)
		require.NoError(t, srv.ReplicationErr)
		t.Logf("%+v\n%+v\n%+v", srv, srv.Slot, srv.Published)
		tables, err := s.Tables(t.Context())
		require.NoError(t, err)
		t.Logf("%+v", tables)
		types, err := s.Types(t.Context())
		require.NoError(t, err)
		t.Log(len(types))
		p := positionAt(at)
		st := open(t, s, at, p.get)
		db.Exec(t, "INSERT INTO a VALUES (1, 'x')")
		f := until(t, st, isCommit)
		p.set(f.End)
		require.NoError(t, st.Stop(t.Context()))
		require.Equal(t, f.End.String(), confirmedFlush(t, db, s))
	})
}
