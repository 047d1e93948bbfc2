package pgtest_test

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

func TestSharedIsOneCluster(t *testing.T) {
	require.Same(t, pgtest.Shared(t), pgtest.Shared(t))
	require.Positive(t, pgtest.Shared(t).Major())
}

func TestDB(t *testing.T) {
	c := pgtest.Shared(t)
	db, other := c.DB(t), c.DB(t)
	require.NotEqual(t, db.Name(), other.Name())
	require.Same(t, c, db.Cluster())
	db.Exec(t, "CREATE TABLE a (id int, v text); INSERT INTO a VALUES (1, NULL), (2, 'x')")
	db.Exec(t, "INSERT INTO a VALUES ($1, $2)", 3, "y")
	require.Equal(t, [][]string{{"1", pgtest.Null}, {"2", "x"}, {"3", "y"}}, db.Query(t, "SELECT * FROM a ORDER BY id"))
	require.Equal(t, "x", db.One(t, "SELECT v FROM a WHERE id = $1", 2))
	require.Equal(t, "logical", db.One(t, "SHOW wal_level"))

	var n int
	require.NoError(t, db.Conn(t).QueryRow(t.Context(), "SELECT count(*) FROM a").Scan(&n))
	require.NoError(t, db.Pool(t).QueryRow(t.Context(), "SELECT count(*) FROM a").Scan(&n))
	require.Equal(t, 3, n)

	db.Exec(t, "CREATE ROLE pgtest_reader LOGIN PASSWORD 'p w/'")
	defer db.Exec(t, "DROP ROLE pgtest_reader")
	conn, err := pgx.Connect(t.Context(), db.DSNAs("pgtest_reader", "p w/"))
	require.NoError(t, err)
	require.NoError(t, conn.Close(t.Context()))
}

func TestDBHelpersFailTheTest(t *testing.T) {
	db := pgtest.Shared(t).DB(t)
	for want, f := range map[string]func(testing.TB){
		`run SELEC: ERROR: syntax error`:      func(tb testing.TB) { db.Exec(tb, "SELEC") },
		`query SELECT 1/0: ERROR: division`:   func(tb testing.TB) { db.Query(tb, "SELECT 1/0") },
		`want one value, got 2 rows: [[1] [2`: func(tb testing.TB) { db.One(tb, "VALUES (1), (2)") },
	} {
		require.Contains(t, failure(f), want)
	}
}

// A database goes with all that keeps others from being dropped: a slot, one that
// a client holds, an open transaction, a prepared one.
func TestDBIsDroppedWithEverything(t *testing.T) {
	c := pgtest.Shared(t)
	name := ""
	t.Run("uses", func(t *testing.T) {
		ctx := context.Background() // the connections below must outlive the test
		db := c.DB(t)
		name = db.Name()
		db.Exec(t, "CREATE TABLE a (id int)")
		db.Exec(t, "SELECT pg_create_logical_replication_slot('"+name+"_idle', 'pgoutput')")
		holder, err := pgconn.Connect(ctx, db.DSN()+"&replication=database")
		require.NoError(t, err)
		require.NoError(t, holder.Exec(ctx, "CREATE_REPLICATION_SLOT "+name+"_held LOGICAL pgoutput").Close())
		holder.Exec(ctx, "START_REPLICATION SLOT "+name+"_held LOGICAL 0/0 (proto_version '1', publication_names 'p')")
		pgtest.Eventually(t, soon, func() bool {
			return db.One(t, "SELECT active FROM pg_replication_slots WHERE slot_name = $1", name+"_held") == "t"
		}, "the slot is in use")

		open, err := pgx.Connect(ctx, db.DSN())
		require.NoError(t, err)
		_, err = open.Exec(ctx, "BEGIN; INSERT INTO a VALUES (1)")
		require.NoError(t, err)
		_, err = db.Conn(t).Exec(ctx, fmt.Sprintf("BEGIN; INSERT INTO a VALUES (2); PREPARE TRANSACTION '%s''s'", name))
		require.NoError(t, err)
	})
	left := c.DB(t).Query(t, `SELECT datname FROM pg_database WHERE datname = $1
		UNION ALL SELECT slot_name FROM pg_replication_slots WHERE database = $1
		UNION ALL SELECT gid FROM pg_prepared_xacts WHERE database = $1`, name)
	require.Empty(t, left)
}

func TestDBFrom(t *testing.T) {
	c := pgtest.Shared(t)
	built := 0
	build := func(dsn string) error {
		built++
		conn, err := pgx.Connect(t.Context(), dsn)
		if err != nil {
			return err
		}
		_, err = conn.Exec(t.Context(), "CREATE TABLE a AS SELECT 7 AS v")
		return errors.Join(err, conn.Close(t.Context()))
	}
	for range 2 {
		db := c.DBFrom(t, t.Name(), build)
		require.Equal(t, "7", db.One(t, "SELECT v FROM a"))
		db.Exec(t, "DROP TABLE a") // each has its own copy
	}
	require.Equal(t, 1, built)
	got := failure(func(tb testing.TB) {
		c.DBFrom(tb, "broken", func(string) error { return errors.New("no such migration") })
	})
	require.Equal(t, "build template broken: no such migration", got)
}

func TestNew(t *testing.T) {
	c := pgtest.New(t, pgtest.Setting("wal_level", "replica"), pgtest.Fsync(), pgtest.InitArgs("--wal-segsize=1"),
		pgtest.HBA("host all nobody_enters 127.0.0.1/32 reject"))
	db := c.DB(t)
	require.Equal(t, [][]string{{"replica", "on", "1MB"}},
		db.Query(t, "SELECT current_setting('wal_level'), current_setting('fsync'), current_setting('wal_segment_size')"))
	_, err := pgx.Connect(t.Context(), db.DSNAs("nobody_enters", ""))
	require.ErrorContains(t, err, "rejects connection")

	require.NoError(t, c.Server().Kill())
	require.NoError(t, c.Server().Restart(t.Context()))
	require.Equal(t, "replica", db.One(t, "SHOW wal_level"), "helpers connect again after a restart")
}

func TestMatrix(t *testing.T) {
	found := pgtest.Shared(t).Major()
	t.Setenv("WALBRIDGE_TEST_PG", strconv.Itoa(found))
	var majors []int
	pgtest.Matrix(t, func(t *testing.T, c *pgtest.Cluster) {
		require.Equal(t, "17", c.DB(t).One(t, "SHOW max_wal_senders"))
		majors = append(majors, c.Major())
	}, pgtest.Setting("max_wal_senders", "17"))
	require.Equal(t, []int{found}, majors)

	t.Setenv("WALBRIDGE_TEST_PG", "15,x")
	require.Contains(t, failure(func(tb testing.TB) { pgtest.New(tb) }), `"x" is no major version`)
}

// A machine without servers skips, but CI must not be green without having run.
func TestMissingServer(t *testing.T) {
	t.Setenv("CI", "")
	r := record(func(tb testing.TB) { pgtest.New(tb, pgtest.Major(3)) })
	require.True(t, r.skipped)
	require.Contains(t, r.text, "no PostgreSQL 3 server found")
	require.Contains(t, r.text, "make deps")
	t.Setenv("CI", "true")
	r = record(func(tb testing.TB) { pgtest.New(tb, pgtest.Major(3)) })
	require.False(t, r.skipped)
	require.Contains(t, r.text, "no PostgreSQL 3 server found")
}
