package replication

import (
	"context"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/pgtest"
)

// blindSpot makes a slot by create while one transaction changes the catalog by ddl
// and another, which began before that committed, writes to the table afterwards by insert
// and ends after the slot's consistent point. It returns where the slot begins.
func blindSpot(t *testing.T, db *pgtest.DB, ddl, insert string, create func() (lsn.LSN, error)) lsn.LSN {
	t.Helper()
	blocker, changer, writer := db.Conn(t), db.Conn(t), db.Conn(t)
	run := func(conn *pgx.Conn, statements ...string) {
		t.Helper()
		for _, sql := range statements {
			_, err := conn.Exec(t.Context(), sql)
			require.NoError(t, err)
		}
	}
	xid := func(conn *pgx.Conn) (id string) {
		t.Helper()
		require.NoError(t, conn.QueryRow(t.Context(), "SELECT pg_current_xact_id()::xid::text").Scan(&id))
		return id
	}
	waitsFor := func(id string) {
		t.Helper()
		pgtest.Eventually(t, within, func() bool {
			return db.One(t, "SELECT count(*) FROM pg_locks WHERE NOT granted AND locktype = 'transactionid' AND transactionid::text = $1", id) != "0"
		}, "somebody waits for transaction %s", id)
	}
	run(blocker, "BEGIN", "INSERT INTO a VALUES (1)")
	type made struct {
		at  lsn.LSN
		err error
	}
	ended := make(chan made, 1)
	go func() {
		at, err := create()
		ended <- made{at, err}
	}()
	waitsFor(xid(blocker)) // the slot's snapshot is being built
	run(changer, "BEGIN", ddl)
	changed := xid(changer)
	run(blocker, "COMMIT")
	waitsFor(changed) // it is full, and waits to be consistent
	run(writer, "BEGIN", "INSERT INTO a VALUES (2)")
	run(changer, "COMMIT")
	waitsFor(xid(writer)) // consistent; who is open is waited for
	run(writer, insert, "COMMIT")
	m := <-ended
	require.NoError(t, m.err)
	run(writer, "INSERT INTO a VALUES (3)", insert)
	return m.at
}

// What changes the catalog while a slot is being made is known to it: rows come with
// the columns that they have, and after a TRUNCATE decoding goes on.
func TestSlotKnowsTheCatalogThatChangedMeanwhile(t *testing.T) {
	pgtest.Matrix(t, func(t *testing.T, c *pgtest.Cluster) {
		for name, ddl := range map[string]string{"truncate": "TRUNCATE b", "alter": "ALTER TABLE b ADD COLUMN v text DEFAULT 'new'"} {
			for _, temporary := range []bool{false, true} {
				db := c.DB(t)
				db.Exec(t, "CREATE TABLE a (id int PRIMARY KEY)")
				db.Exec(t, "CREATE TABLE b (id serial PRIMARY KEY)")
				s := testSource(t, db, db.DSN())
				db.Exec(t, "CREATE PUBLICATION "+quoteIdent(s.Publication())+" FOR TABLE a, b")
				var st *Stream
				create := func() (lsn.LSN, error) { return s.CreateSlot(context.Background()) }
				if temporary {
					create = func() (_ lsn.LSN, err error) {
						st, err = s.Stream(context.Background(), StreamConfig{Temporary: true})
						return 0, err
					}
				}
				at := blindSpot(t, db, ddl, "INSERT INTO b DEFAULT VALUES", create)
				if temporary {
					t.Cleanup(func() { _ = st.Close() })
				} else {
					st = open(t, s, at, positionAt(at).get)
				}
				first := until(t, st, func(f *Frame) bool { return kind(f) == 'I' })
				require.Contains(t, string(first.Data), "3", "what was open is not delivered: %s", name)
				until(t, st, func(f *Frame) bool { return kind(f) == 'C' })
				row := until(t, st, func(f *Frame) bool { return kind(f) == 'I' })
				if name == "alter" {
					require.Contains(t, string(row.Data), "new")
				}
				require.NoError(t, st.Close())
			}
		}
	})
}
