package main

import (
	"encoding/json"
	"fmt"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/status"
)

// The whole way on an existing database, command by command.
func TestFromInitToMigrateDown(t *testing.T) {
	t.Parallel()
	db := shopDB(t)
	s := newSite(t, db, "")
	initialised(t, s)
	prepared(t, s)
	explained(t, s)
	bridge := s.run(t)
	s.haveRead(t)
	s.db.Exec(t, `INSERT INTO public.outbox (aggregatetype, aggregateid, type, payload) VALUES ('order', '1', 'OrderPaid', '{"id": 1}'), ('order', '2', 'OrderPaid', 'no JSON'), ('order', '3', 'OrderPaid', 'nor this');
		INSERT INTO public.orders VALUES (1, 'paid')`)
	s.delivered(t, 3)
	watched(t, s)
	require.Equal(t, "read", s.db.One(t, "SELECT type FROM walbridge.log WHERE stream = 'public.legacy_customers'"))
	deadLetters(t, s)
	require.Equal(t, exitOK, bridge.stopped(t), bridge.errs.String())
	r := s.do(t, exitFailure, "status")
	require.Contains(t, r.stdout, "no bridge answers at "+s.env["WALBRIDGE_HTTP_LISTEN"])
	takenAway(t, s)
}

// initialised writes the configuration by init: short, whole, and with a word on
// what was left out.
func initialised(t *testing.T, s *site) {
	t.Helper()
	r := invoke(t, nil, "init", "--source", s.db.DSN())
	require.Equal(t, exitOK, r.code, r.stderr)
	require.LessOrEqual(t, strings.Count(r.stdout, "\n"), 15)
	require.Contains(t, r.stdout, `- tables: ["public.outbox"]`+"\n    outbox: {}\n")
	require.Contains(t, r.stdout, `- tables: ["public.legacy_customers", "public.orders"]`+"\n    changes: {}\n    snapshot: initial # the first start reads the rows")
	require.Contains(t, r.stdout, "# left out until they have a primary key or REPLICA IDENTITY FULL: public.audit\n")
	require.NoError(t, os.WriteFile(s.path, []byte(r.stdout), 0o600))
	s.do(t, exitOK, "config", "validate")
}

func prepared(t *testing.T, s *site) {
	t.Helper()
	r := s.do(t, exitFailure, "doctor")
	require.Contains(t, r.stdout, "the publication does not exist")
	require.Contains(t, r.stdout, "fix: walbridge setup\n")
	r = s.do(t, exitOK, "setup", "--print")
	require.Contains(t, r.stdout, "CREATE PUBLICATION")
	require.Contains(t, r.stdout, `GRANT SELECT ON "public"."legacy_customers", "public"."orders" TO "postgres"`)
	require.Equal(t, "0", s.db.One(t, "SELECT count(*) FROM pg_publication"), "--print makes nothing")
	r = s.do(t, exitOK, "setup")
	require.Contains(t, r.stdout, "publication walbridge_"+s.name()+": made, with public.legacy_customers, public.orders, public.outbox\n")
	require.Contains(t, r.stdout, "schema walbridge: brought to version ")
	require.Contains(t, r.stdout, "\nthe first start reads 2 tables, ")
	r = s.do(t, exitOK, "setup")
	require.Contains(t, r.stdout, ": as it should be, 3 tables\nschema walbridge: as it should be\n")
	s.db.Exec(t, "INSERT INTO public.legacy_customers VALUES (1, 'Ada')") // before the first start
	r = s.do(t, exitOK, "doctor")
	require.Contains(t, r.stdout, "\n0 errors, ")
}

func explained(t *testing.T, s *site) {
	t.Helper()
	r := s.do(t, exitOK, "explain")
	for _, want := range []string{"public.outbox", "public.audit", "routes[0]", "routes[1]", "none"} {
		require.Contains(t, r.stdout, want)
	}
	require.NotContains(t, r.stdout, "walbridge.log", "the bridge's own tables are nobody's business")
	r = s.do(t, exitOK, "explain", "public.outbox", "--row", `{"id":"7","aggregatetype":"order","aggregateid":"9182","type":"OrderPaid","payload":"{}"}`)
	for _, want := range []string{"order", "9182", "OrderPaid"} {
		require.Contains(t, r.stdout, want)
	}
	r = s.do(t, exitUsage, "explain", "public.nosuch")
	require.Contains(t, r.stderr, "the source has no such table")
}

// watched looks at a running bridge, in each form.
func watched(t *testing.T, s *site) {
	t.Helper()
	r := s.do(t, exitOK, "status")
	require.Contains(t, r.stdout, "streaming")
	require.Contains(t, r.stdout, "2 dead letters")
	r = s.do(t, exitOK, "status", "--json")
	var now status.Status
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &now))
	require.Equal(t, s.name(), now.Bridge)
	require.True(t, now.Ready)
	require.EqualValues(t, 1, now.Totals.Events)
	w := s.start(t, "status", "--watch", "--every", "100ms")
	pgtest.Eventually(t, within, func() bool { return strings.Count(w.out.String(), "streaming") >= 3 }, "the status comes again and again")
	require.Equal(t, exitOK, w.stopped(t))
	s.do(t, exitOK, "doctor") // it finds nothing wrong with a bridge that runs
}

// deadLetters closes the two that the bridge has set aside: one is replayed by a
// route that takes it, one is discarded.
func deadLetters(t *testing.T, s *site) {
	t.Helper()
	r := s.do(t, exitOK, "dlq", "list", "--json")
	var letters []letterView
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &letters))
	require.Len(t, letters, 2)
	first, second := fmt.Sprint(letters[0].ID), fmt.Sprint(letters[1].ID)
	require.Contains(t, s.do(t, exitOK, "dlq", "list").stdout, "payload_not_json")
	require.Contains(t, s.do(t, exitOK, "dlq", "show", first).stdout, "no JSON")
	r = s.do(t, exitUsage, "dlq", "replay", first)
	require.Contains(t, r.stderr, "it still cannot be mapped (payload_not_json)")
	s.change(t, "outbox: {}", "outbox: {payload_format: text}")
	require.Contains(t, s.do(t, exitOK, "dlq", "replay", first, "--trial").stdout, first+": 1 items, taken back: a trial\n")
	s.delivered(t, 3)
	require.Contains(t, s.do(t, exitOK, "dlq", "replay", first).stdout, first+": 1 items from seq ")
	s.delivered(t, 4)
	require.Equal(t, "discarded 1 of 1; the others were not open\n", s.do(t, exitOK, "dlq", "discard", second, "--note", "test data").stdout)
	require.JSONEq(t, "[]", s.do(t, exitOK, "dlq", "list", "--json").stdout)
	all := s.do(t, exitOK, "dlq", "list", "--all").stdout
	require.Contains(t, all, "replayed")
	require.Contains(t, all, "discarded")
	require.Contains(t, s.do(t, exitFailure, "dlq", "show", "4711").stderr, "4711")
}

// takenAway undoes everything, and the old name halts afterwards, as was said.
func takenAway(t *testing.T, s *site) {
	t.Helper()
	r := s.do(t, exitOK, "teardown") // nobody answers the question
	require.Contains(t, r.stdout, "nothing dropped")
	r = s.do(t, exitOK, "teardown", "--yes")
	require.Contains(t, r.stdout, "dropped slot walbridge_"+s.name())
	require.Contains(t, r.stdout, "To start over, give the bridge another name.")
	nothingLeft(t, s.db, "walbridge_")
	r = s.do(t, exitHalted, "run", "--exit-on-halt")
	require.Contains(t, r.stderr, "halted (slot-missing)")
	require.Contains(t, r.stderr, "the old name stays halted")
	r = s.do(t, exitOK, "migrate", "status")
	require.Contains(t, r.stdout, "yes")
	s.do(t, exitOK, "migrate", "down", "--to", "0")
	require.Equal(t, "migration", s.db.One(t, "SELECT string_agg(relname, ', ') FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'walbridge' AND relkind IN ('r', 'p', 'v', 'S')"))
}
