package doctest_test

import (
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// within bounds each wait.
const within = time.Minute

// shop is what an application has before walbridge comes: a database with an
// outbox and other tables.
const shop = `
CREATE TABLE public.outbox (id uuid PRIMARY KEY DEFAULT gen_random_uuid(), aggregatetype text NOT NULL, aggregateid text NOT NULL, type text NOT NULL, payload jsonb NOT NULL);
CREATE TABLE public.orders (id bigint PRIMARY KEY, status text NOT NULL);
CREATE TABLE public.audit (line text);`

var exportSource = regexp.MustCompile(`(?m)^export SOURCE=.*$`)

// script runs a block of the README as it stands, but for the address of the
// database, and with the built program in the PATH.
func script(t *testing.T, name, dsn string, env ...string) *pgtest.Process {
	t.Helper()
	text := read(t, "README.md").marked(t, "run: "+name)
	text = exportSource.ReplaceAllLiteralString(text, "export SOURCE='"+dsn+"'")
	text = strings.ReplaceAll(text, "go run ./cmd/walbridge", "walbridge")
	lines := strings.Split(strings.TrimSpace(text), "\n")
	lines[len(lines)-1] = "exec " + lines[len(lines)-1] // so that a signal reaches it
	bin := filepath.Dir(pgtest.Binary(t))
	return pgtest.Command{
		Path: "/bin/bash", Args: []string{"-euo", "pipefail", "-c", strings.Join(lines, "\n")},
		Env: append([]string{"PATH=" + bin + string(os.PathListSeparator) + os.Getenv("PATH")}, env...),
	}.Start(t)
}

// The demonstration of the README ends well.
func TestDemo(t *testing.T) {
	t.Parallel()
	p := script(t, "demo", "")
	require.Zero(t, p.WaitExit(t, 3*within), p.Output())
	require.Contains(t, p.Output(), "kill -9 of the bridge")
}

// The look at one's own database shows what commits, and leaves nothing behind.
func TestPeek(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t).DB(t)
	db.Exec(t, shop)
	p := script(t, "peek", db.DSN())
	p.WaitLine(t, within, "showing what commits")
	db.Exec(t, "INSERT INTO public.orders VALUES (9182, 'paid')")
	require.Zero(t, p.WaitExit(t, within), p.Output())
	require.Contains(t, p.Stdout(), "9182")
	require.Equal(t, "0", db.One(t, "SELECT count(*) FROM pg_replication_slots"))
	require.Equal(t, "0", db.One(t, "SELECT count(*) FROM pg_publication"))
}

// The steps to production end with a bridge that delivers, whose metrics are those
// of the manual, and that stops in good order.
func TestProduction(t *testing.T) {
	t.Parallel()
	db := pgtest.New(t).DB(t)
	db.Exec(t, shop)
	db.Exec(t, "INSERT INTO public.orders VALUES (9181, 'paid')")
	p := script(t, "production", db.DSN(), "WALBRIDGE_HTTP_LISTEN=127.0.0.1:0")
	url := statusPage(t, p)
	pgtest.Eventually(t, within, func() bool { return strings.HasPrefix(get(t, url+"readyz"), "ready") }, "the bridge is ready")
	delivered(t, db, "1") // the row that was there
	db.Exec(t, `BEGIN; INSERT INTO public.orders VALUES (9182, 'paid');
		INSERT INTO public.outbox (aggregatetype, aggregateid, type, payload) VALUES ('order', '9182', 'OrderPaid', '{"id": 9182}'); COMMIT`)
	delivered(t, db, "3")
	require.Equal(t, [][]string{{"public.orders", "read"}, {"public.orders", "insert"}, {"order", "OrderPaid"}}, db.Query(t, "SELECT stream, type FROM walbridge.log ORDER BY seq"))
	metricsAreDocumented(t, url)
	require.Zero(t, p.Terminate(t, within), p.Output())
}

var pageURL = regexp.MustCompile(`http://[0-9.]+:\d+/?`)

// statusPage returns the address of a bridge's page, with a slash at its end.
func statusPage(t *testing.T, p *pgtest.Process) string {
	t.Helper()
	url := pageURL.FindString(p.WaitLine(t, within, "status page"))
	require.NotEmpty(t, url)
	return strings.TrimSuffix(url, "/") + "/"
}

// get returns the body of a page, empty while it cannot be had.
func get(t *testing.T, url string) string {
	t.Helper()
	resp, err := http.Get(url)
	if err != nil {
		return ""
	}
	defer resp.Body.Close()
	defer http.DefaultClient.CloseIdleConnections()
	body, err := io.ReadAll(resp.Body)
	require.NoError(t, err)
	return string(body)
}

// metricsAreDocumented compares a scrape with the manual.
func metricsAreDocumented(t *testing.T, url string) {
	t.Helper()
	var body string
	pgtest.Eventually(t, within, func() bool {
		body = get(t, url+"metrics")
		return strings.Contains(body, "walbridge_lag_seconds{")
	}, "a sample of the lag was taken")
	known := documented(t)
	seen := map[string]bool{}
	for _, m := range regexp.MustCompile(`(?m)^# TYPE (\w+)`).FindAllStringSubmatch(body, -1) {
		if strings.HasPrefix(m[1], "go_") || strings.HasPrefix(m[1], "process_") {
			continue // the runtime's own, described as a whole
		}
		require.Contains(t, known, m[1])
		seen[m[1]] = true
	}
	for _, name := range positions() {
		require.True(t, seen["walbridge_"+name+"_lsn_bytes"], "%s in %v", name, seen)
	}
}

// figure is a measured value: a rate, a latency, a ratio or a share of it.
var figure = regexp.MustCompile(`(?i)\d[\d.,]*\s*[kMG]?\s*(?:(?:rows?|items?|events?|records?|changes|messages|tx|transactions|bytes|[kMG]i?B)\s*(?:/\s*s\b|(?:a|per) second)|ms\b|µs\b|us\b|ns\b|%|×|x (?:as|faster|slower|less|more))|\bp(?:50|95|99)\b`)

var resultFile = regexp.MustCompile(`bench/results/[\w.-]+`)

// unproven returns the figures of a text whose paragraph names no result file that
// is there.
func unproven(text string, there func(path string) bool) []string {
	var all []string
	for _, paragraph := range strings.Split(text, "\n\n") {
		file := resultFile.FindString(paragraph)
		if found := figure.FindAllString(paragraph, -1); len(found) > 0 && (file == "" || !there(file)) {
			all = append(all, found...)
		}
	}
	return all
}

// No figure stands in the README without its result file.
func TestFiguresHaveResults(t *testing.T) {
	require.Empty(t, unproven(read(t, "README.md").prose(), exists))
}

// The check itself finds figures.
func TestFiguresAreFound(t *testing.T) {
	none := func(string) bool { return false }
	some := func(string) bool { return true }
	for _, text := range []string{"400k rows/s", "12,000 items a second", "3 ms", "p99", "3.5 MB/s", "4x faster", "2× as much", "12 %", "at 61k changes/s (bench/results/gone.jsonl)"} {
		require.NotEmpty(t, unproven(text, none), text)
	}
	for _, text := range []string{"PostgreSQL 14 to 18", "--for 20s", "http://127.0.0.1:8480", "Apache 2.0", "a second bridge"} {
		require.Empty(t, unproven(text, none), text)
	}
	require.Empty(t, unproven("400k rows/s ([results](bench/results/bench.jsonl))", some))
	require.NotEmpty(t, unproven("see bench/results/bench.jsonl\n\n400k rows/s", some), "the file is in another paragraph")
}
