package main

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/status"
)

// growing is the site of a database whose tables come later, for routes in the place of
// the shop's, after setup.
func growing(t testing.TB, schema, routes string) *site {
	t.Helper()
	db := pgtest.Shared(t).DB(t)
	db.Exec(t, schema)
	text := config(bridgeName(db.Name()), db.DSN(), worktableAt(db.DSN()))
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
		CREATE TABLE later (id int PRIMARY KEY)`, `[{tables: [public.part, public.first, "new.*"], changes: {}}]`)
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

// covering is the site of a bridge that looks at its tables each second.
func covering(t testing.TB, schema, routes, onNew string) *site {
	t.Helper()
	s := growing(t, schema, routes)
	s.change(t, "source: {", "source: {coverage_interval: 1s, on_new_table: "+onNew+", ")
	return s
}

// current is what the site's bridge says of itself.
func (s *site) current(t testing.TB) (now status.Status) {
	t.Helper()
	require.NoError(t, json.Unmarshal([]byte(s.invoke(t, "status", "--json").stdout), &now))
	return now
}

// counts are the bridge's tables, in words.
func counts(now status.Status) string {
	n := now.Tables
	if n == nil {
		return "unknown"
	}
	return fmt.Sprintf("%d published, %d unpublished, %d unrouted, %d without identity, %d vanished", n.Published, n.Unpublished, n.Unrouted, n.NoIdentity, n.Vanished)
}

// comesTo waits until the bridge has found the tables to be so.
func (s *site) comesTo(t testing.TB, want string) (now status.Status) {
	t.Helper()
	pgtest.Eventually(t, within, func() bool { now = s.current(t); return counts(now) == want }, "the tables are %s; they are %s", want, noted{&now})
	return now
}

// noted shows the counts when it is printed.
type noted struct{ now *status.Status }

func (n noted) String() string { return counts(*n.now) }

// warned are the warnings of a check, by table.
func warned(now status.Status, check string) map[string]fault.Problem {
	found := map[string]fault.Problem{}
	for _, p := range now.Warnings {
		if p.Check == check {
			found[p.Where] = p
		}
	}
	return found
}

// What routes, publication and tables lack of each other is a warning with the statement
// that mends it, for as long as it is so; a table that a route spells out makes the bridge
// not ready.
func TestTablesThatAreNotCovered(t *testing.T) {
	t.Parallel()
	s := covering(t, `CREATE TABLE orders (id int PRIMARY KEY); CREATE SCHEMA app; CREATE TABLE app.a (id int PRIMARY KEY)`,
		`[{tables: [public.orders], changes: {}, snapshot: never}, {tables: ["app.*"], changes: {}, snapshot: never}]`, "alert")
	bridge := s.run(t)
	s.comesTo(t, "2 published, 0 unpublished, 0 unrouted, 0 without identity, 0 vanished")

	s.db.Exec(t, "CREATE TABLE app.late (id int PRIMARY KEY); CREATE TABLE app.keyless (id int); CREATE TABLE stray (id int PRIMARY KEY)")
	s.db.Exec(t, "ALTER PUBLICATION "+s.publication()+" ADD TABLE stray")
	now := s.comesTo(t, "2 published, 1 unpublished, 1 unrouted, 1 without identity, 0 vanished")
	require.True(t, now.Ready, "a wildcard's tables are not waited for")
	require.Contains(t, warned(now, "no-identity")["app.keyless"].Fix, "ADD PRIMARY KEY")
	require.Contains(t, s.page(t, "/metrics"), `walbridge_tables{bridge="`+s.name()+`",state="no_identity"} 1`)
	require.Contains(t, s.page(t, "/"), "app.late")
	s.db.Exec(t, warned(now, "not-published")["app.late"].Fix)
	drop, _, _ := strings.Cut(warned(now, "not-routed")["public.stray"].Fix, ",")
	s.db.Exec(t, drop)
	s.db.Exec(t, "DROP TABLE app.keyless; INSERT INTO app.late VALUES (1)")
	s.delivered(t, 1)
	now = s.comesTo(t, "3 published, 0 unpublished, 0 unrouted, 0 without identity, 0 vanished")
	require.Empty(t, warned(now, "not-published"))

	s.db.Exec(t, "DROP TABLE orders")
	now = s.comesTo(t, "2 published, 0 unpublished, 0 unrouted, 0 without identity, 1 vanished")
	require.False(t, now.Ready)
	require.Contains(t, now.Detail, "public.orders")
	require.Contains(t, s.do(t, exitFailure, "status").stdout, "public.orders, which a route names, is not there")
	s.db.Exec(t, "CREATE TABLE orders (id int PRIMARY KEY)")
	now = s.comesTo(t, "2 published, 1 unpublished, 0 unrouted, 0 without identity, 0 vanished")
	require.False(t, now.Ready, "it is another table, which the publication lacks")
	s.db.Exec(t, warned(now, "not-published")["public.orders"].Fix)
	require.True(t, s.comesTo(t, "3 published, 0 unpublished, 0 unrouted, 0 without identity, 0 vanished").Ready)
	require.Equal(t, exitOK, bridge.stopped(t))
	require.Equal(t, 1, strings.Count(bridge.errs.String(), "check=not-published where=app.late"), "a warning is logged once")
}

// With on_new_table: publish a table is published as soon as nobody has uncommitted rows
// in it, and its rows are read; each row comes once. An event trigger of the application
// writes in the same transaction.
func TestNewTableIsPublished(t *testing.T) {
	t.Parallel()
	s := covering(t, `CREATE SCHEMA app; CREATE TABLE app.a (id int PRIMARY KEY); CREATE TYPE app.pair AS (n int)`,
		`[{tables: ["app.*"], changes: {}, snapshot: initial, where: "id <> 13"}]`, "publish")
	s.db.Exec(t, `CREATE FUNCTION app.note() RETURNS event_trigger LANGUAGE plpgsql AS 'BEGIN INSERT INTO app.a SELECT g FROM generate_series(1, 3) g; END'`)
	s.db.Exec(t, "CREATE EVENT TRIGGER note ON ddl_command_end WHEN TAG IN ('ALTER PUBLICATION') EXECUTE FUNCTION app.note()")
	s.run(t)
	writer := s.db.Conn(t)
	_, err := writer.Exec(t.Context(), `CREATE TABLE app.late (id int PRIMARY KEY, p app.pair); ALTER TABLE app.late REPLICA IDENTITY FULL;
		INSERT INTO app.late SELECT g FROM generate_series(1, 20) g`)
	require.NoError(t, err)
	_, err = writer.Exec(t.Context(), "BEGIN; INSERT INTO app.late VALUES (21)")
	require.NoError(t, err)
	pgtest.Eventually(t, within, func() bool {
		return strings.Contains(warned(s.current(t), "not-published")["app.late"].Why, "somebody writes to it")
	}, "the writer is named")
	_, err = writer.Exec(t.Context(), "COMMIT")
	require.NoError(t, err)
	s.comesTo(t, "2 published, 0 unpublished, 0 unrouted, 0 without identity, 0 vanished")
	s.delivered(t, 23)
	s.db.Exec(t, "UPDATE app.late SET p = '(1)' WHERE id = 5; INSERT INTO app.late VALUES (22)")
	s.delivered(t, 25)
	var want []string
	for id := 1; id <= 22; id++ {
		if id != 13 {
			want = append(want, fmt.Sprintf("app.late:[%d]", id))
		}
	}
	keys := strings.Fields(s.keys(t, "app.late"))
	require.ElementsMatch(t, append(want, "app.late:[5]"), keys)
	require.Equal(t, "app.a:[1] app.a:[2] app.a:[3]", s.keys(t, "app.a"), "what the trigger has written, and nothing was read")
}

// A bridge whose role may not publish goes on, and says who may.
func TestNewTableOfSomebodyElse(t *testing.T) {
	t.Parallel()
	s := covering(t, `CREATE SCHEMA app; CREATE TABLE app.a (id int PRIMARY KEY)`, `[{tables: ["app.*"], changes: {}, snapshot: never}]`, "publish")
	role := "keeper_" + s.name()
	s.db.Exec(t, "CREATE ROLE "+role+" LOGIN REPLICATION")
	t.Cleanup(func() { s.db.Exec(t, "DROP ROLE "+role) })
	s.change(t, "dsn: \""+s.db.DSN()+"\"}\nroutes", "dsn: \""+s.db.DSNAs(role, "")+"\"}\nroutes")
	require.Contains(t, s.do(t, exitOK, "doctor").stdout, "the publication belongs to postgres, of which the role "+role+" is no member")
	s.run(t)
	s.db.Exec(t, "CREATE TABLE app.theirs (id int PRIMARY KEY)")
	now := s.comesTo(t, "1 published, 1 unpublished, 0 unrouted, 0 without identity, 0 vanished")
	require.True(t, now.Ready)
	p := warned(now, "not-published")["app.theirs"]
	require.Contains(t, p.What, "its role must own the publication and the table")
	s.db.Exec(t, p.Fix)
	s.comesTo(t, "2 published, 0 unpublished, 0 unrouted, 0 without identity, 0 vanished")
}

// A table that a wildcard takes and nobody has published does not keep a bridge that has a
// position from starting; one that a route spells out does, unless it is published then.
func TestLaterStartWithNewTables(t *testing.T) {
	t.Parallel()
	s := covering(t, `CREATE TABLE orders (id int PRIMARY KEY); CREATE SCHEMA app; CREATE TABLE app.a (id int PRIMARY KEY)`,
		`[{tables: [public.orders], changes: {}}, {tables: ["app.*"], changes: {}}]`, "alert")
	require.Equal(t, exitOK, s.run(t).stopped(t))
	s.db.Exec(t, "CREATE TABLE app.late (id int PRIMARY KEY); CREATE TABLE app.keyless (id int)")
	require.Contains(t, s.do(t, exitOK, "doctor").stdout, "app.late: a route takes the table")
	bridge := s.run(t)
	s.comesTo(t, "2 published, 1 unpublished, 0 unrouted, 1 without identity, 0 vanished")
	require.Equal(t, exitOK, bridge.stopped(t))
	s.db.Exec(t, "DROP TABLE orders; CREATE TABLE orders (id int PRIMARY KEY)")
	require.Contains(t, s.do(t, exitUsage, "run", "--exit-on-halt").stderr, "public.orders: a route takes the table")
	s.change(t, "on_new_table: alert", "on_new_table: publish")
	s.run(t)
	s.comesTo(t, "3 published, 0 unpublished, 0 unrouted, 1 without identity, 0 vanished")
}

// Tables that setup adds to the publication of a bridge with a slot are streamed from then
// on; it says how the rows that were in them come.
func TestSetupSaysWhatIsNotRead(t *testing.T) {
	t.Parallel()
	s := covering(t, `CREATE SCHEMA app; CREATE TABLE app.a (id int PRIMARY KEY)`, `[{tables: ["app.*"], changes: {}, snapshot: initial}]`, "alert")
	require.NotContains(t, s.do(t, exitOK, "setup").stdout, "walbridge snapshot")
	s.run(t)
	s.db.Exec(t, "CREATE TABLE app.late (id int PRIMARY KEY); INSERT INTO app.late VALUES (1)")
	r := s.do(t, exitOK, "setup")
	require.Contains(t, r.stdout, "walbridge snapshot --tables app.late\n")
	s.do(t, exitOK, "snapshot", "--tables", "app.late")
	s.delivered(t, 1)
	require.Equal(t, "app.late:[1]", s.keys(t, "app.late"))
}
