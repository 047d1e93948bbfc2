package replication

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/catalog"
	"github.com/walbridge/walbridge/internal/pgtest"
)

// A table whose commit is in the WAL and not visible, since a standby does not answer, is
// waited for; one that is gone is not.
func TestTableOfACommitThatIsNotVisible(t *testing.T) {
	t.Parallel()
	c := pgtest.New(t)
	db := c.DB(t)
	s := testSource(t, db, db.DSN())
	db.Exec(t, "ALTER SYSTEM SET synchronous_standby_names = 'nobody'")
	db.Exec(t, "SELECT pg_reload_conf()")
	pgtest.Eventually(t, within, func() bool { return db.One(t, "SHOW synchronous_standby_names") == "nobody" }, "commits wait")
	maker := db.Conn(t)
	made := make(chan error, 1)
	go func() {
		_, err := maker.Exec(t.Context(), "CREATE TABLE late (id int PRIMARY KEY)")
		made <- err
	}()
	var oid string
	pgtest.Eventually(t, within, func() bool {
		rows := db.Query(t, `SELECT min(l.relation)::text FROM pg_locks l JOIN pg_stat_activity a USING (pid)
			WHERE a.wait_event = 'SyncRep' AND l.mode = 'AccessExclusiveLock' AND l.relation >= 16384 HAVING count(*) > 0`)
		if len(rows) > 0 {
			oid = rows[0][0]
		}
		return oid != ""
	}, "the commit waits")
	n, err := strconv.ParseUint(oid, 10, 32)
	require.NoError(t, err)
	found, pending, err := s.tableOnce(t.Context(), uint32(n))
	require.NoError(t, err)
	require.Nil(t, found)
	require.True(t, pending)
	got := make(chan error, 1)
	var late *catalog.Table
	go func() {
		var err error
		late, err = s.Table(t.Context(), uint32(n))
		got <- err
	}()
	db.Exec(t, "ALTER SYSTEM RESET synchronous_standby_names")
	db.Exec(t, "SELECT pg_reload_conf()")
	require.NoError(t, <-made)
	require.NoError(t, <-got)
	require.NotNil(t, late)
	require.Equal(t, "public.late", late.QualifiedName())
	require.Equal(t, []string{"id"}, late.IdentityColumns)
	db.Exec(t, "DROP TABLE late")
	late, err = s.Table(t.Context(), uint32(n))
	require.NoError(t, err)
	require.Nil(t, late)
}
