package worksql

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/child"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/queue"
)

// goVar holds the DSN of a worker in Go that this test binary becomes.
const goVar = "WALBRIDGE_WORKSQL_GO"

// goWorker is a worker with the library: the same effects as those of the example in
// Python, exactly once in this database. It ends when it is killed.
func goWorker(dsn string) int {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, dsn)
	if err == nil {
		var sub *queue.Subscription
		sub, err = queue.Subscribe(ctx, pool, queue.Config{Name: "sub", Streams: []string{"s"}, Lease: time.Second, BatchItems: 10, MaxAttempts: 2, RetryAfter: 10 * time.Millisecond})
		if err == nil {
			err = sub.RunTx(ctx, func(ctx context.Context, tx pgx.Tx, items []queue.Item) error {
				for _, it := range items {
					if _, err := tx.Exec(ctx, "INSERT INTO effect (seq, key) VALUES ($1, $2)", it.Seq, it.Key); err != nil {
						return err
					}
					if strings.HasPrefix(it.Key, "poison") {
						return errors.New("this item is poison")
					}
				}
				return nil
			})
		}
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// TestPythonBesideGo: the example in Python and a worker with the library queue, each
// a process, share a subscription, with the documented rights; both are killed at
// random. Each item takes effect once, those of a key in order, and the poisoned ones
// end as dead letters.
func TestPythonBesideGo(t *testing.T) {
	interpreter := python(t)
	w := newTable(t, pgtest.Shared(t))
	w.worker()
	w.Exec(t, "SELECT walbridge.subscribe('sub', '{s}', settings => '{\"max_attempts\":2,\"backoff_min_ms\":10}')")
	w.Exec(t, "CREATE TABLE effect (n bigint GENERATED ALWAYS AS IDENTITY, seq bigint PRIMARY KEY, key text, worker text NOT NULL DEFAULT 'go'); GRANT INSERT, SELECT ON effect TO worker")
	r := seed(t)
	const rounds, each = 4, 100
	dsn := w.DSNAs("worker", "")
	var output bytes.Buffer
	start := map[string]func() *exec.Cmd{
		"python": func() *exec.Cmd {
			return exec.Command(interpreter, "../../examples/python-worker/worker.py", dsn, "sub", "python")
		},
		"go": func() *exec.Cmd {
			cmd := exec.Command(os.Args[0])
			cmd.Env = append(os.Environ(), goVar+"="+dsn)
			return cmd
		},
	}
	running := map[string]*child.Process{}
	run := func(name string) {
		cmd := start[name]()
		cmd.Stderr = os.Stderr
		if name == "python" {
			cmd.Stdout, cmd.Stderr = &output, &output
		}
		p, err := child.Start(cmd, syscall.SIGKILL)
		require.NoError(t, err)
		running[name] = p
	}
	kill := func(name string) {
		_ = running[name].Signal(syscall.SIGKILL)
		<-running[name].Done()
		w.expireOf(name)
	}
	run("python")
	run("go")
	defer func() { kill("python"); kill("go") }()
	good, dead := 0, 0
	for range rounds {
		var rows []row
		for i := range each {
			key := fmt.Sprint("k", r.IntN(40))
			if i == r.IntN(each) {
				key = fmt.Sprint("poison", r.IntN(5))
			}
			rows = append(rows, row{stream: "s", key: key, poison: strings.HasPrefix(key, "poison")})
			if rows[i].poison {
				dead++
			} else {
				good++
			}
		}
		w.write(rows...)
		victim := []string{"python", "go"}[r.IntN(2)]
		at := w.One(t, "SELECT count(*) FROM effect")
		pgtest.Eventually(t, within, func() bool { return w.One(t, "SELECT count(*) FROM effect") != at }, "there is work in hand: %s", &output)
		kill(victim)
		run(victim)
	}
	pgtest.Eventually(t, 3*within, func() bool {
		return w.One(t, "SELECT count(*) || ' ' || (SELECT count(*) FROM walbridge.dead_letter) FROM effect") == fmt.Sprint(good, " ", dead)
	}, "all items have taken effect, or are dead")
	last := map[string]int64{}
	for _, e := range w.Query(t, "SELECT seq, key FROM effect ORDER BY n") {
		require.Greater(t, number(t, e[0]), last[e[1]], "key %s", e[1])
		last[e[1]] = number(t, e[0])
	}
	require.Equal(t, "0", w.One(t, "SELECT count(*) FROM effect WHERE key LIKE 'poison%'"))
	for i := 0; w.One(t, "SELECT count(DISTINCT worker) FROM effect") != "2"; i++ { // whoever has done nothing so far
		require.Less(t, i, 50, "both take part: %v %v %s", w.Query(t, "SELECT worker, count(*) FROM effect GROUP BY 1"), w.Query(t, "SELECT id, lanes, expires_at > clock_timestamp() FROM walbridge.worker"), &output)
		n := w.One(t, "SELECT count(*) FROM effect")
		w.keys("a", "b", "c", "d", "e", "f", "g", "h")
		pgtest.Eventually(t, within, func() bool { return w.One(t, "SELECT count(*) - 8 FROM effect") == n }, "a few more")
	}
}

// expireOf ends the leases of the worker in Python, or of those in Go, that is known to
// be dead.
func (w table) expireOf(worker string) {
	w.t.Helper()
	w.Exec(w.t, "UPDATE walbridge.lane SET lease_expires_at = clock_timestamp() WHERE (owner = 'python') = ($1 = 'python')", worker)
}
