package main

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/consumers"
	"github.com/walbridge/walbridge/internal/logtail"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/sink/worktable"
)

// paid commits that many events, one order each.
func (s *site) paid(t testing.TB, orders ...int) {
	t.Helper()
	for _, n := range orders {
		s.db.Exec(t, `INSERT INTO public.outbox (aggregatetype, aggregateid, type, payload) VALUES ('order', $1, 'OrderPaid', '{"n": 1}')`, fmt.Sprint(n))
	}
}

// as decodes what a command printed for scripts.
func as[T any](t testing.TB, r result) T {
	t.Helper()
	var v T
	require.NoError(t, json.Unmarshal([]byte(r.stdout), &v), r.stdout)
	return v
}

// The life of a subscription as an operator sees it, with a bridge that runs.
func TestSubscriptions(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	require.JSONEq(t, "[]", s.do(t, exitOK, "queue", "list", "--json").stdout)
	require.Contains(t, s.do(t, exitFailure, "queue", "show", "search").stderr, `there is no subscription "search", nor any other`)
	bridge := s.run(t)
	s.paid(t, 1, 2, 3, 4, 5)
	s.delivered(t, 5)
	s.db.Exec(t, "SELECT walbridge.subscribe('search', '{order}'), walbridge.subscribe('mail', '{order,other.*}')")
	subscribed(t, s)
	worked(t, s)
	shown(t, s)
	onThePage(t, s)
	moved(t, s)
	forgotten(t, s)
	require.Equal(t, exitOK, bridge.stopped(t), bridge.errs.String())
	r := s.do(t, exitFailure, "status")
	require.Contains(t, r.stdout, "subscription search: active", "the databases know it when no bridge runs")
	require.NotContains(t, r.stdout, "holds the log")
	s.db.Exec(t, "UPDATE walbridge.retention SET held_by = '{search}', held_since = clock_timestamp() - interval '1 hour' WHERE kind = 'event'")
	require.Regexp(t, `subscription search: .*, holds the log beyond its retention since 1h0m`, s.do(t, exitFailure, "status").stdout)
}

func subscribed(t *testing.T, s *site) {
	t.Helper()
	all := as[[]status.Subscription](t, s.do(t, exitOK, "queue", "list", "--json"))
	require.Len(t, all, 2)
	require.Equal(t, "mail", all[0].Name)
	require.Equal(t, []string{"order", "other.*"}, all[0].Streams)
	require.Equal(t, "active", all[0].State)
	require.Equal(t, 4, all[0].Lanes)
	require.Zero(t, all[0].LanesOwned)
	require.EqualValues(t, 5, all[0].Lag.Items)
	require.False(t, all[0].Lag.More)
	require.NotNil(t, all[0].Lag.Seconds)
	out := s.do(t, exitOK, "queue", "list").stdout
	require.Regexp(t, `search +\| active \| 0/4 +\| +0 \| 5, `, out)
	r := s.do(t, exitFailure, "queue", "pause", "serch")
	require.Contains(t, r.stderr, `there is no subscription "serch"; there are: mail, search`)
}

// worked settles three items by the short form, fails one, and keeps one in hand.
func worked(t *testing.T, s *site) {
	t.Helper()
	got := s.db.Query(t, "SELECT receipt, seq FROM walbridge.next('search', 'w1', 100, '10 min')")
	require.Len(t, got, 5)
	s.db.Exec(t, "SELECT walbridge.fail('search', $1, $2::bigint, 'no index', dead => true)", got[0][0], got[0][1])
	s.db.Exec(t, "SELECT walbridge.fail('search', $1, $2::bigint, 'try later', retry_after => '1 h')", got[1][0], got[1][1])
	s.db.Exec(t, "SELECT walbridge.done('search', $1)", got[0][0])
}

func shown(t *testing.T, s *site) {
	t.Helper()
	v := as[subscriptionView](t, s.do(t, exitOK, "queue", "show", "search", "--json"))
	require.Equal(t, "search", v.Name)
	require.EqualValues(t, 0, v.Lag.Items)
	require.EqualValues(t, 1, v.Parked)
	require.EqualValues(t, 1, v.Dead)
	require.Len(t, v.All, 4)
	parked := int64(0)
	for i, l := range v.All {
		require.Equal(t, i, l.Lane)
		require.NotNil(t, l.Lag.Seconds)
		require.Zero(t, l.Lag.Items)
		parked += l.Parked
	}
	require.EqualValues(t, 1, parked)
	out := s.do(t, exitOK, "queue", "show", "mail").stdout
	require.Regexp(t, `(?m)^lag +5, `, out)
	require.Contains(t, out, "GENERATION")
	total := int64(0)
	for _, l := range as[subscriptionView](t, s.do(t, exitOK, "queue", "show", "mail", "--json")).All {
		total += l.Lag.Items
		require.Equal(t, l.Lag.Items > 0, *l.Lag.Seconds > 0)
	}
	require.EqualValues(t, 5, total, "the lanes have it all")
}

// onThePage waits until the running bridge says the same.
func onThePage(t *testing.T, s *site) {
	t.Helper()
	var now status.Status
	pgtest.Eventually(t, within, func() bool {
		now = as[status.Status](t, s.do(t, exitOK, "status", "--json"))
		return now.Consumers != nil && len(now.Consumers.Subscriptions) == 2 && now.Consumers.Subscriptions[1].Dead == 1
	}, "the bridge sees the subscriptions")
	require.EqualValues(t, 5, now.Consumers.Subscriptions[0].Lag.Items)
	require.Contains(t, s.do(t, exitOK, "status").stdout, "subscription search: active, lag 0, 1 parked, 1 dead")
	get := func(path string) string {
		resp, err := http.Get("http://" + s.env["WALBRIDGE_HTTP_LISTEN"] + path)
		require.NoError(t, err)
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		return string(body)
	}
	require.Contains(t, get("/"), "Readers of the work table")
	metrics := get("/metrics")
	for name, value := range map[string]string{"lag_items": "0", "lag_seconds": "0", "parked": "1", "dead": "1"} {
		require.Contains(t, metrics, fmt.Sprintf("walbridge_queue_%s{bridge=%q,subscription=\"search\"} %s\n", name, s.name(), value))
	}
	http.DefaultClient.CloseIdleConnections()
}

// moved pauses, resumes and resets, and looks at what it says before.
func moved(t *testing.T, s *site) {
	t.Helper()
	require.Equal(t, "paused search\n", s.do(t, exitOK, "queue", "pause", "search").stdout)
	require.Equal(t, "paused", s.db.One(t, "SELECT state FROM walbridge.subscription WHERE name = 'search'"))
	require.Equal(t, "resumed search\n", s.do(t, exitOK, "queue", "resume", "search").stdout)

	r := s.do(t, exitOK, "queue", "reset", "search", "--to", "beginning") // nobody answers
	require.Contains(t, r.stdout, "search from beginning: 5 settled items come again, 0 open ones are skipped, 1 parked ones are forgotten\n")
	require.Contains(t, r.stdout, "nothing changed")
	r = s.do(t, exitOK, "queue", "reset", "mail", "--to", "end", "--yes", "--json")
	v := as[struct {
		StartSeq int64            `json:"start_seq"`
		Effect   consumers.Effect `json:"effect"`
	}](t, r)
	require.Equal(t, consumers.Effect{Skipped: 5}, v.Effect)
	require.Equal(t, s.db.One(t, "SELECT max(seq) FROM walbridge.log"), fmt.Sprint(v.StartSeq))
	second := s.db.One(t, "SELECT seq FROM walbridge.log ORDER BY seq OFFSET 1 LIMIT 1")
	r = s.do(t, exitOK, "queue", "reset", "search", "--to", second, "--yes")
	require.Contains(t, r.stdout, "3 settled items come again, 0 open ones are skipped, 1 parked ones are forgotten\n")
	require.Contains(t, r.stdout, "reset search: it starts behind seq "+second+"\n")
	require.EqualValues(t, 3, as[subscriptionView](t, s.do(t, exitOK, "queue", "show", "search", "--json")).Lag.Items)

	s.db.Exec(t, "SELECT walbridge.expire('search')")
	require.Contains(t, s.do(t, exitFailure, "queue", "resume", "search").stderr, "has expired")
	s.do(t, exitOK, "queue", "reset", "search", "--to", "beginning", "--yes")
	for _, args := range [][]string{{"search"}, {"search", "--to", "soon"}, {"search", "--to", "-1"}, {"search", "--to", "end", "--json"}} {
		s.do(t, exitUsage, append([]string{"queue", "reset"}, args...)...)
	}
	require.Equal(t, "pause, resume, reset, reset, expire, reset", s.db.One(t, `SELECT string_agg(command, ', ' ORDER BY id) FROM walbridge.operation
		WHERE tool_version = '0.0.0-test' AND command IN ('pause', 'resume', 'reset') OR command = 'expire'`))
}

func forgotten(t *testing.T, s *site) {
	t.Helper()
	require.Contains(t, s.do(t, exitOK, "queue", "drop", "mail").stdout, "nothing dropped")
	r := s.do(t, exitOK, "queue", "drop", "mail", "--yes")
	require.Contains(t, r.stdout, "dropped mail\n")
	require.Contains(t, s.do(t, exitFailure, "queue", "drop", "mail", "--yes").stderr, `there is no subscription "mail"; there are: search`)
}

// Dead letters of subscriptions beside the bridge's own.
func TestDeadLettersOfSubscriptions(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	bridge := s.run(t)
	s.paid(t, 1, 2, 1)
	s.delivered(t, 3)
	require.Equal(t, exitOK, bridge.stopped(t))
	own := s.db.One(t, `INSERT INTO walbridge.dead_letter (source, raw, replayable, reason, error) VALUES ($1, '{}', true, 'payload_not_json', 'x') RETURNING id::text`, s.name())
	s.db.Exec(t, "SELECT walbridge.subscribe('search', '{order}')")
	got := s.db.Query(t, "SELECT receipt, seq FROM walbridge.next('search', 'w1', 100, '10 min') ORDER BY seq")
	for _, item := range got[:2] {
		s.db.Exec(t, "SELECT walbridge.fail('search', $1, $2::bigint, 'no index', dead => true)", item[0], item[1])
	}
	s.db.Exec(t, "SELECT walbridge.done('search', $1)", got[0][0])

	letters := as[[]consumers.Letter](t, s.do(t, exitOK, "dlq", "list", "--subscription", "search", "--json"))
	require.Len(t, letters, 2)
	first, second := fmt.Sprint(letters[0].ID), fmt.Sprint(letters[1].ID)
	require.Equal(t, "no index", letters[0].Error)
	require.Nil(t, letters[0].Payload)
	require.Contains(t, s.do(t, exitOK, "dlq", "list", "--subscription", "search").stdout, "no index")
	require.Len(t, as[[]letterView](t, s.do(t, exitOK, "dlq", "list", "--json")), 1, "the bridge's own are listed apart")
	require.JSONEq(t, `{"n": 1}`, string(as[consumers.Letter](t, s.do(t, exitOK, "dlq", "show", first)).Payload))
	require.Contains(t, s.do(t, exitFailure, "dlq", "list", "--subscription", "serch").stderr, "there are: search")

	latest := s.do(t, exitFailure, "dlq", "replay", first, "--if-latest")
	require.Contains(t, latest.stderr, "is newer than dead letter "+first)
	require.Contains(t, s.do(t, exitUsage, "dlq", "replay", own, "--if-latest").stderr, "is none")
	later := fmt.Sprintf("    delivered before it, though it comes after it: seq %s, OrderPaid\n", got[2][1])
	r := s.do(t, exitOK, "dlq", "replay", first, "--trial")
	require.Equal(t, fmt.Sprintf("%s: back under seq %s for search, taken back: a trial\n%s", first, got[0][1], later), r.stdout)
	require.Equal(t, "0", s.db.One(t, "SELECT count(*) FROM walbridge.parked"))
	r = s.do(t, exitOK, "dlq", "replay", first, "--note", "the index is back")
	require.Equal(t, fmt.Sprintf("%s: back under seq %s for search\n%s", first, got[0][1], later), r.stdout)
	require.Equal(t, "replayed", s.db.One(t, "SELECT reason FROM walbridge.parked"))
	require.Equal(t, "the index is back", s.db.One(t, "SELECT arguments ->> 'note' FROM walbridge.operation WHERE command = 'note'"))
	require.Contains(t, s.do(t, exitFailure, "dlq", "replay", first).stderr, "dead letter "+first+" is not an open one")

	require.Equal(t, "discarded 2 of 3; the others were not open\n", s.do(t, exitOK, "dlq", "discard", first, second, own).stdout)
	all := s.do(t, exitOK, "dlq", "list", "--subscription", "search", "--all").stdout
	require.Contains(t, all, "replayed")
	require.Contains(t, all, "discarded")
}

// tail shows the log in each form, and follows it until it is stopped.
func TestTail(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	require.Contains(t, s.do(t, exitFailure, "tail", "order").stderr, "the log has no such stream; it has none yet")
	bridge := s.run(t)
	for n := range 12 {
		s.paid(t, n)
	}
	s.delivered(t, 12)
	lines := func(args ...string) []string {
		out := s.do(t, exitOK, append([]string{"tail"}, args...)...).stdout
		return strings.Split(strings.TrimSuffix(out, "\n"), "\n")
	}
	require.Len(t, lines("order"), 10)
	require.Len(t, lines("order", "--limit", "3"), 3)
	require.Len(t, lines("ord*", "--from", "beginning"), 12)
	require.Len(t, lines("*", "--from", "-10m", "--limit", "5"), 5)
	require.Regexp(t, `^\d+  \d{4}-\d\d-\d\d \d\d:\d\d:\d\d\.\d{3}  order  7  OrderPaid  \{"n":1\}$`, lines("order", "--key", "7", "--from", "beginning")[0])
	var item logtail.Item
	require.NoError(t, json.Unmarshal([]byte(lines("order", "--key", "7", "--json")[0]), &item))
	require.Equal(t, "OrderPaid", item.Type)
	require.Equal(t, s.name(), item.Source)
	require.Contains(t, s.do(t, exitFailure, "tail", "nosuch").stderr, "it has order")
	for _, args := range [][]string{{}, {"order", "--from", "soon"}, {"order", "--limit", "-1"}} {
		s.do(t, exitUsage, append([]string{"tail"}, args...)...)
	}
	follows := s.start(t, "tail", "order", "--follow", "--from", "end", "--json")
	pgtest.Eventually(t, within, func() bool {
		s.paid(t, 4711) // some of them before it has begun
		return strings.Contains(follows.out.String(), `"key":"4711"`)
	}, "what comes is shown")
	require.Equal(t, exitOK, follows.stopped(t), follows.errs.String())
	require.Equal(t, exitOK, bridge.stopped(t))
}

// The GRANTs that setup prints are all that operators need, and without them a
// command says where they are named.
func TestPrintedRightsAreEnoughForOperators(t *testing.T) {
	t.Parallel()
	s := newShop(t)
	role := "r_" + s.db.Name()
	s.db.Exec(t, "CREATE ROLE "+role+" LOGIN; GRANT USAGE ON SCHEMA walbridge TO "+role+"; GRANT SELECT ON walbridge.schema_version TO "+role)
	t.Cleanup(func() { s.db.Exec(t, "DROP OWNED BY "+role+"; DROP ROLE "+role) })
	s.db.Exec(t, "SELECT walbridge.subscribe('search', '{order}')")
	s.db.Exec(t, `INSERT INTO walbridge.dead_letter (source, subscription, seq, lane, stream, partition_key, idempotency_key, kind, payload, commit_lsn, tx_seq, sub, committed_at, created_at, replayable, reason, error)
		SELECT 'x', 'search', n, walbridge.lane('k'), 'order', 'k', n::text, 'event', '{}', '0/1', 1, 0, now(), now(), true, 'attempts', 'x' FROM generate_series(1, 2) n`)
	s.db.Exec(t, "INSERT INTO walbridge.workflow_instance (name, version, key, steps, state, status, available_at) VALUES ('w', 1, 'k', 'go=wait', '{}', 'halted', NULL)")
	s.env["WALBRIDGE_SINK_WORKTABLE_DSN"] = s.db.DSNAs(role, "")
	require.Contains(t, s.do(t, exitFailure, "queue", "pause", "search").stderr, "permission denied for function pause: walbridge doctor names the rights")
	s.db.Exec(t, worktable.GrantsSQL("walbridge", role))
	ids := strings.Split(s.db.One(t, "SELECT string_agg(id::text, ',' ORDER BY id) FROM walbridge.dead_letter"), ",")
	for _, line := range []string{
		"queue list", "queue show search", "queue pause search", "queue resume search", "queue reset search --to end --yes",
		"dlq list --subscription search", "dlq show " + ids[0], "dlq replay " + ids[0] + " --note n", "dlq discard " + ids[1],
		"workflow list", "workflow show w k", "workflow resume w k", "workflow signal w k go", "workflow cancel w k --yes",
		"queue drop search --yes",
	} {
		s.do(t, exitOK, strings.Fields(line)...)
	}
	require.Contains(t, s.do(t, exitFailure, "tail", "*").stderr, "it has none yet")
}
