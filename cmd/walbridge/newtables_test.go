package main

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// growing is the site of a database whose tables come later, for routes in the place of
// the shop's, after setup.
func growing(t testing.TB, schema, routes, more string) *site {
	t.Helper()
	db := pgtest.Shared(t).DB(t)
	db.Exec(t, schema)
	text := config(bridgeName(db.Name()), db.DSN(), worktableAt(db.DSN())) + more
	s := newSite(t, db, strings.Replace(text, shopRoutes, routes, 1))
	s.do(t, exitOK, "setup")
	return s
}

// publication is the name of the site's publication, quoted.
func (s *site) publication() string { return `"walbridge_` + s.name() + `"` }

// keys are the keys of the items of a stream, in their order.
func (s *site) keys(t testing.TB, stream string) string {
	t.Helper()
	return s.db.One(t, "SELECT coalesce(string_agg(partition_key, ' ' ORDER BY seq), '') FROM walbridge.log WHERE stream = $1", stream)
}

// A table that is made and published while the bridge runs is mapped like any other:
// one whose updates carry the whole row by its primary key, a partition that comes under
// its own name by the route of its root, a table that becomes one too.
func TestTablesMadeWhileTheBridgeRuns(t *testing.T) {
	t.Parallel()
	s := growing(t, `CREATE TABLE first (id int PRIMARY KEY); CREATE TABLE part (id int PRIMARY KEY) PARTITION BY RANGE (id);
		CREATE TABLE later (id int PRIMARY KEY)`, `[{tables: [public.part, public.first, "new.*"], changes: {}}]`, "")
	s.db.Exec(t, "ALTER PUBLICATION "+s.publication()+" SET (publish_via_partition_root = false)")
	s.run(t)
	s.db.Exec(t, `CREATE SCHEMA new; CREATE TYPE new.pair AS (n int, v text); CREATE TABLE new.whole (id int PRIMARY KEY, v int, p new.pair); ALTER TABLE new.whole REPLICA IDENTITY FULL`)
	s.db.Exec(t, "ALTER PUBLICATION "+s.publication()+" ADD TABLE new.whole")
	s.db.Exec(t, "INSERT INTO new.whole VALUES (1, 10, '(1,a)')")
	s.db.Exec(t, "CREATE TABLE part_low PARTITION OF part FOR VALUES FROM (0) TO (10); INSERT INTO part VALUES (1)")
	s.db.Exec(t, "ALTER TABLE part ATTACH PARTITION later FOR VALUES FROM (10) TO (20)")
	s.db.Exec(t, "INSERT INTO part VALUES (11)")
	s.delivered(t, 3)
	require.Equal(t, "new.whole:[1]", s.keys(t, "new.whole"))
	require.Equal(t, `{"n": 1, "v": "a"}`, s.db.One(t, "SELECT (payload::jsonb->'after'->'p')::text FROM walbridge.log WHERE stream = 'new.whole'"))
	require.Equal(t, "public.part_low:[1]", s.keys(t, "public.part_low"))
	require.Equal(t, "public.later:[11]", s.keys(t, "public.later"))
	s.db.Exec(t, `DROP TABLE new.whole; CREATE TABLE new.whole (v int PRIMARY KEY, id int); ALTER TABLE new.whole REPLICA IDENTITY FULL`)
	s.db.Exec(t, "ALTER PUBLICATION "+s.publication()+" ADD TABLE new.whole")
	s.db.Exec(t, "INSERT INTO new.whole VALUES (20, 2)")
	s.delivered(t, 4)
	require.Equal(t, "new.whole:[1] new.whole:[20]", s.keys(t, "new.whole"), "a table of that name with another key")
}
