package worksql

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
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

// pair is a worker in Python and one in Go, each a process.
type pair struct {
	w       table
	dsn     string
	python  string
	output  bytes.Buffer // of the one in Python
	running map[string]*child.Process
}

func (p *pair) run(name string) {
	p.w.t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env, cmd.Stderr = append(os.Environ(), goVar+"="+p.dsn), os.Stderr
	if name == "python" {
		cmd = exec.Command(p.python, "../../examples/python-worker/worker.py", p.dsn, "sub", "python")
		cmd.Stdout, cmd.Stderr = &p.output, &p.output
	}
	process, err := child.Start(cmd, syscall.SIGKILL)
	require.NoError(p.w.t, err)
	p.running[name] = process
}

func (p *pair) kill(name string) {
	_ = p.running[name].Signal(syscall.SIGKILL)
	<-p.running[name].Done()
	p.w.expireOf(name)
}

// write writes items of a few keys, some of them poison, and counts them.
func (p *pair) write(r *rand.Rand, n int) (good, dead int) {
	p.w.t.Helper()
	var rows []row
	for range n {
		x := row{stream: "s", key: fmt.Sprint("k", r.IntN(40))}
		if x.poison = r.IntN(n) == 0; x.poison {
			x.key = fmt.Sprint("poison", r.IntN(5))
			dead++
		}
		rows = append(rows, x)
	}
	p.w.write(rows...)
	return n - dead, dead
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
	p := &pair{w: w, dsn: w.DSNAs("worker", ""), python: interpreter, running: map[string]*child.Process{}}
	p.run("python")
	p.run("go")
	defer func() { p.kill("python"); p.kill("go") }()
	effects := func() string { return w.One(t, "SELECT count(*) FROM effect") }
	good, dead := 0, 0
	for range 4 {
		at := effects()
		g, d := p.write(r, 100)
		good, dead = good+g, dead+d
		pgtest.Eventually(t, within, func() bool { return effects() != at }, "there is work in hand: %s", &p.output)
		victim := []string{"python", "go"}[r.IntN(2)]
		p.kill(victim)
		p.run(victim)
	}
	pgtest.Eventually(t, 3*within, func() bool {
		return w.One(t, "SELECT count(*) || ' ' || (SELECT count(*) FROM walbridge.dead_letter) FROM effect") == fmt.Sprint(good, " ", dead)
	}, "all items have taken effect, or are dead")
	for i := 0; w.One(t, "SELECT count(DISTINCT worker) FROM effect") != "2"; i++ { // whoever has done nothing so far
		require.Less(t, i, 50, "both take part: %s", &p.output)
		at := effects()
		w.keys("a", "b", "c", "d", "e", "f", "g", "h")
		pgtest.Eventually(t, within, func() bool { return w.One(t, "SELECT count(*) - 8 FROM effect") == at }, "a few more")
	}
	last := map[string]int64{}
	for _, e := range w.Query(t, "SELECT seq, key FROM effect ORDER BY n") {
		require.Greater(t, number(t, e[0]), last[e[1]], "key %s", e[1])
		last[e[1]] = number(t, e[0])
	}
	require.Equal(t, "0", w.One(t, "SELECT count(*) FROM effect WHERE key LIKE 'poison%'"))
}

// expireOf ends the leases of the worker in Python, or of those in Go, that is known to
// be dead.
func (w table) expireOf(worker string) {
	w.t.Helper()
	w.Exec(w.t, "UPDATE walbridge.lane SET lease_expires_at = clock_timestamp() WHERE (owner = 'python') = ($1 = 'python')", worker)
}
