package worksql

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// blocks are the fenced blocks of the manual that have a mark.
func blocks(t *testing.T, mark string) []string {
	t.Helper()
	text, err := os.ReadFile("../../docs/worktable.md")
	require.NoError(t, err)
	var all []string
	for _, m := range regexp.MustCompile("(?ms)^<!-- "+mark+" -->\n```sql\n(.*?)^```$").FindAllStringSubmatch(string(text), -1) {
		all = append(all, m[1])
	}
	require.NotEmpty(t, all, mark)
	return all
}

// missing skips a test, or fails it where everything has to be there.
func missing(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("%s is missing", what)
	}
	t.Skipf("%s is missing", what)
}

// psql alone handles an item, fails one for good, and puts it back.
func psqlIsAWorker(t *testing.T, w table) {
	psql, err := exec.LookPath("psql")
	if err != nil {
		missing(t, "psql")
	}
	w.Exec(t, blocks(t, "subscribe")[0])
	w.write(row{stream: "orders", key: "a"}, row{stream: "customers.eu", key: "b"})
	ctx, cancel := context.WithTimeout(t.Context(), within)
	defer cancel()
	cmd := exec.CommandContext(ctx, psql, "-X", "-v", "ON_ERROR_STOP=1", w.DSN())
	cmd.Stdin = strings.NewReader(blocks(t, "psql")[0])
	out, err := cmd.CombinedOutput()
	require.NoError(t, err, string(out))
	require.Equal(t, "2 replayed", w.parked())
	require.Equal(t, [][]string{{"2", "the address is missing", "replayed"}}, w.Query(t, "SELECT seq, error, resolution FROM walbridge.dead_letter"))
	h := handed{receipt: w.One(t, "SELECT receipt FROM walbridge.next('search', 'x')")}
	w.Exec(t, "SELECT walbridge.done('search', $1)", h.receipt)
	require.Empty(t, w.parked())
	require.Equal(t, [][]string{{"2", "2", "0", "0"}}, w.Query(t, "SELECT seq, head, items, parked FROM walbridge.subscription_progress('search')"))
}

// worker connects as a role that has the documented rights and no others.
func (w table) worker() *pgx.Conn {
	w.t.Helper()
	w.Exec(w.t, "DO $$ BEGIN CREATE ROLE worker LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$")
	w.Exec(w.t, blocks(w.t, "grants")[0])
	c, err := pgx.Connect(w.t.Context(), w.DSNAs("worker", ""))
	require.NoError(w.t, err)
	w.t.Cleanup(func() { _ = c.Close(context.Background()) })
	return c
}

// The documented rights are enough for a worker, and are no more than that.
func documentedRightsAreEnough(t *testing.T, w table) {
	c := w.worker()
	_, err := c.Exec(t.Context(), "SELECT walbridge.subscribe('sub', '{s}')")
	require.NoError(t, err)
	w.keys("k", "k", "l")
	h := take(t, c, "w", 10)
	require.Equal(t, []int64{1, 2, 3}, h.seqs)
	for _, sql := range []string{"SELECT * FROM walbridge.fail('sub', $1, 1, 'boom', '0 s')", "SELECT walbridge.done('sub', $1)"} {
		_, err = c.Exec(t.Context(), sql, h.receipt)
		require.NoError(t, err, sql)
	}
	for _, sql := range []string{
		"SELECT * FROM walbridge.lease_lanes('sub', 'go')", "SELECT * FROM walbridge.renew('sub', 'go', '1 min', '" + all + "', '" + ones + "')",
		"SELECT * FROM walbridge.lane_state('sub', '" + all + "')", "SELECT * FROM walbridge.fetch('sub', '" + all + "', '{0,0,0,0,0,0,0,0}')",
		"SELECT * FROM walbridge.fetch_parked('sub', '{1}')", "SELECT walbridge.trim('sub', '" + all + "', '" + ones + "')",
		"SELECT walbridge.settle('sub', '{}', '{}', '{}', '{}', '{}', '{}', '[]')", "SELECT walbridge.wait_for('sub', 'a', '0/1', '0')",
		"SELECT walbridge.fence_lanes('sub', '{}', '{}')", "SELECT walbridge.release('sub', 'go', '{}', '{}', true)", "SELECT * FROM walbridge.subscription_progress('sub')",
	} {
		_, err = c.Exec(t.Context(), sql)
		require.NoError(t, err, sql)
	}
	for _, sql := range []string{
		"SELECT * FROM walbridge.log", "SELECT * FROM walbridge.parked", "INSERT INTO walbridge.checkpoint VALUES ('sub', 1, 9, 9, 9)", "UPDATE walbridge.lane SET owner = NULL",
		"SELECT walbridge.reset('sub')", "SELECT walbridge.replay(1)", "SELECT walbridge.drop_subscription('sub')", "SELECT walbridge.pause('sub')",
		"SELECT walbridge._free('sub', '{k}')", "SELECT walbridge._exceptions('sub', '{1}', '{1}', '[]')", "SELECT walbridge._append('sub', '{}', '{}', '{}', '{}', '{}')",
	} {
		_, err = c.Exec(t.Context(), sql)
		require.Error(t, err, sql)
		code(t, err, "42501")
	}
}

// No function of ours can be executed by everybody but those that compute a lane, and
// those that run with the rights of who calls them.
func nothingIsForEverybody(t *testing.T, w table) {
	require.Equal(t, "fence, lane, lanes, lock_log, take_seq", w.One(t, `SELECT string_agg(DISTINCT p.proname, ', ' ORDER BY p.proname) FROM pg_proc p
		WHERE p.pronamespace = 'walbridge'::regnamespace AND has_function_privilege('public', p.oid, 'EXECUTE') AND p.proname !~ '^workflow'`))
	require.Equal(t, "0", w.One(t, `SELECT count(*) FROM pg_proc p WHERE p.pronamespace = 'walbridge'::regnamespace AND p.prosecdef
		AND NOT EXISTS (SELECT FROM unnest(p.proconfig) c WHERE c LIKE 'search_path=pg_catalog, pg_temp%')`))
}

// plan is what EXPLAIN says of a node and those below it.
type plan struct {
	Node     string `json:"Node Type"`
	Relation string `json:"Relation Name"`
	Plans    []plan
}

// sequential lists the tables that a plan reads from end to end.
func (p plan) sequential() []string {
	var all []string
	if p.Node == "Seq Scan" {
		all = append(all, p.Relation)
	}
	for _, below := range p.Plans {
		all = append(all, below.sequential()...)
	}
	return all
}

// TestSupportQueries runs the questions of support on a log of a million items. None
// of them reads the log from end to end.
func TestSupportQueries(t *testing.T) {
	w := newTable(t, pgtest.Shared(t))
	w.Exec(t, "SELECT walbridge.subscribe('search', '{orders}', settings => '{\"max_attempts\":2}')")
	w.Exec(t, "SELECT walbridge.make_partitions(1100000, 1, 1000000)")
	w.bulk("orders", 500_000)
	w.bulk("other", 500_000)
	first := w.write(row{stream: "orders", key: "order:9182"}, row{stream: "orders", key: "order:9182"}, row{stream: "orders", key: "gone"}, row{stream: "orders", key: "gone"})
	w.Exec(t, "ANALYZE")
	w.Exec(t, "SELECT walbridge.reset('search', $1)", fmt.Sprint(first-1))
	h := handed{receipt: w.One(t, "SELECT DISTINCT receipt FROM walbridge.next('search', 'w1', 3)")}
	w.Exec(t, "SELECT walbridge.fail('search', $1, $2, 'boom', '1 hour')", h.receipt, first)
	w.Exec(t, "SELECT walbridge.fail('search', $1, $2, 'boom', dead => true)", h.receipt, first+2)
	w.Exec(t, "SELECT walbridge.done('search', $1)", h.receipt)
	w.Exec(t, "SELECT walbridge.release('search', 'w1', '{}', '{}', leave => true)")
	w.Exec(t, "SELECT * FROM walbridge.lease_lanes('search', 'w2', host => 'h1')")
	filled := w.Query(t, "SELECT relname FROM pg_class WHERE relname LIKE 'log\\_%' AND relkind = 'r' AND reltuples > 100000")
	require.NotEmpty(t, filled)
	var answers [][][]string
	for _, sql := range blocks(t, "support") {
		began := time.Now()
		answers = append(answers, w.Query(t, sql))
		t.Logf("%s: %s", time.Since(began), sql)
		var text []byte
		require.NoError(t, w.Conn(t).QueryRow(t.Context(), "EXPLAIN (FORMAT JSON) "+sql).Scan(&text))
		var plans []struct{ Plan plan }
		require.NoError(t, json.Unmarshal(text, &plans))
		for _, relation := range plans[0].Plan.sequential() {
			require.NotContains(t, filled, []string{relation}, "%s reads the log from end to end:\n%s", sql, text)
		}
	}
	require.Len(t, answers, 5)
	require.Equal(t, [][]string{{"parked", "retry"}, {"parked", "blocked"}}, columns(answers[0], 1, 2), "pending for the key")
	require.Equal(t, [][]string{{"retry", "1"}, {"blocked", "0"}}, columns(answers[1], 1, 2), "why")
	require.Equal(t, [][]string{{"w2", "h1"}}, columns(answers[2], 1, 4), "who")
	require.Equal(t, [][]string{{"gone", "1", "boom"}}, columns(answers[3], 2, 3, 4), "what died")
	require.Equal(t, [][]string{{"search", "1"}}, columns(answers[4], 0, 4), "one item is not settled yet")
}

// columns are some columns of rows.
func columns(rows [][]string, which ...int) [][]string {
	var all [][]string
	for _, r := range rows {
		var some []string
		for _, i := range which {
			some = append(some, r[i])
		}
		all = append(all, some)
	}
	return all
}

// python is the interpreter that `make deps` has made.
func python(t *testing.T) string {
	t.Helper()
	dir := "/var/cache"
	if os.Geteuid() != 0 {
		var err error
		dir, err = os.UserCacheDir()
		require.NoError(t, err)
	}
	path := filepath.Join(dir, "walbridge", "python", "bin", "python")
	if _, err := os.Stat(path); err != nil {
		missing(t, path+" (make deps)")
	}
	return path
}
