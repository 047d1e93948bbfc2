package replication

import (
	"errors"
	"fmt"
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/catalog"
	"github.com/walbridge/walbridge/internal/pgtest"
)

// tableOf is a table of the catalog by its name.
func tableOf(t *testing.T, s *Source, name string) *catalog.Table {
	t.Helper()
	all, err := s.Tables(t.Context())
	require.NoError(t, err)
	for i := range all {
		if all[i].QualifiedName() == name {
			return &all[i]
		}
	}
	t.Fatalf("there is no table %s", name)
	return nil
}

// A table is added with a message in the same transaction, or neither is there.
func TestPublish(t *testing.T) {
	pgtest.Matrix(t, func(t *testing.T, c *pgtest.Cluster) {
		db := c.DB(t)
		s := testSource(t, db, db.DSN())
		at := ready(t, s, db)
		db.Exec(t, `CREATE TABLE "New" (id int PRIMARY KEY); CREATE TABLE other (id int PRIMARY KEY)`)
		fresh := tableOf(t, s, "public.New")
		err := s.Publish(t.Context(), &Addition{Table: *fresh}, "p", func(uint64) ([]byte, error) { return nil, errors.New("no message") })
		require.ErrorContains(t, err, "no message")
		require.False(t, tableOf(t, s, "public.New").Published)
		var xid uint64
		require.NoError(t, s.Publish(t.Context(), &Addition{Table: *fresh}, "p", func(x uint64) ([]byte, error) {
			xid = x
			return []byte("it's " + strconv.FormatUint(x, 10)), nil
		}))
		require.True(t, tableOf(t, s, "public.New").Published)
		db.Exec(t, `INSERT INTO "New" VALUES (1)`)
		st := open(t, s, at, positionAt(at).get)
		message := until(t, st, func(f *Frame) bool { return kind(f) == 'M' })
		require.Contains(t, string(message.Data), fmt.Sprintf("it's %d", xid))
		until(t, st, func(f *Frame) bool { return kind(f) == 'I' })

		require.NoError(t, s.Publish(t.Context(), &Addition{Table: *fresh}, "", nil), "somebody else has added it")
		gone := *fresh
		gone.Name = "gone"
		require.NoError(t, s.Publish(t.Context(), &Addition{Table: gone}, "", nil), "it is gone")
		require.NoError(t, s.Publish(t.Context(), &Addition{Table: *tableOf(t, s, "public.other"), Empty: true}, "", nil))
		require.True(t, tableOf(t, s, "public.other").Published)
		db.Exec(t, "CREATE TABLE outbox (id int PRIMARY KEY); INSERT INTO outbox VALUES (1)")
		require.ErrorContains(t, s.Publish(t.Context(), &Addition{Table: *tableOf(t, s, "public.outbox"), Empty: true}, "", nil), "outbox with rows")
		require.False(t, tableOf(t, s, "public.outbox").Published)
	})
}

// A table with an open writer is not waited for for long, and the writer is named; through
// the root of a partitioned table, too.
func TestPublishNamesTheWriter(t *testing.T) {
	t.Parallel()
	db := pgtest.Shared(t).DB(t)
	s := testSource(t, db, db.DSN())
	ready(t, s, db)
	db.Exec(t, "CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE TABLE leaf PARTITION OF root FOR VALUES FROM (0) TO (9)")
	writer := db.Conn(t)
	_, err := writer.Exec(t.Context(), "SET application_name = 'slow batch'; BEGIN; INSERT INTO leaf VALUES (1)")
	require.NoError(t, err)
	root := tableOf(t, s, "public.root")
	err = s.Publish(t.Context(), &Addition{Table: *root}, "", nil)
	require.ErrorContains(t, err, "slow batch")
	require.ErrorContains(t, err, fmt.Sprint("pid ", writer.PgConn().PID()))
	require.False(t, tableOf(t, s, "public.root").Published)
	_, err = writer.Exec(t.Context(), "COMMIT")
	require.NoError(t, err)
	require.NoError(t, s.Publish(t.Context(), &Addition{Table: *root}, "", nil))
	require.True(t, tableOf(t, s, "public.leaf").Published)
}

// The lock and the publication need an owner; what is refused comes with the statement
// for one. A member of the owners' roles is enough.
func TestPublishNeedsRights(t *testing.T) {
	t.Parallel()
	db := pgtest.Shared(t).DB(t)
	role := "keeper_" + bridgeName(db)
	db.Exec(t, "CREATE ROLE "+role+" LOGIN REPLICATION; CREATE ROLE "+role+"_app")
	t.Cleanup(func() { db.Exec(t, "DROP OWNED BY "+role+", "+role+"_app; DROP ROLE "+role+", "+role+"_app") })
	admin := testSource(t, db, db.DSN())
	ready(t, admin, db)
	db.Exec(t, "CREATE TABLE theirs (id int PRIMARY KEY); GRANT CREATE ON DATABASE "+quoteIdent(db.Name())+" TO "+role+"_app; GRANT CREATE, USAGE ON SCHEMA public TO "+role+"_app")
	s := testSource(t, db, db.DSNAs(role, ""))
	theirs := tableOf(t, s, "public.theirs")
	err := s.Publish(t.Context(), &Addition{Table: *theirs}, "", nil)
	require.ErrorContains(t, err, s.AddStatement(theirs))
	covered, err := s.Covered(t.Context())
	require.NoError(t, err)
	require.False(t, covered.Owned)
	db.Exec(t, "ALTER TABLE theirs OWNER TO "+role+"_app; ALTER PUBLICATION "+quoteIdent(s.Publication())+" OWNER TO "+role+"_app; GRANT "+role+"_app TO "+role)
	covered, err = s.Covered(t.Context())
	require.NoError(t, err)
	require.True(t, covered.Owned)
	require.NoError(t, s.Publish(t.Context(), &Addition{Table: *theirs}, "", nil))
	require.True(t, tableOf(t, s, "public.theirs").Published)
}
