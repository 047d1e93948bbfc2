package worksql

import (
	"bytes"
	"errors"
	"fmt"
	"math/rand/v2"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/child"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/migrations"
)

// TestPythonBesideGo: the example in Python and a worker in Go share a subscription,
// with the documented rights; the one in Python is killed at random. Each item takes
// effect once, those of a key in order, and the poisoned ones end as dead letters.
func TestPythonBesideGo(t *testing.T) {
	interpreter := python(t)
	w := newTable(t, pgtest.Shared(t))
	c := w.worker()
	w.Exec(t, "SELECT walbridge.subscribe('sub', '{s}', settings => '{\"max_attempts\":2,\"backoff_min_ms\":10}')")
	w.Exec(t, "CREATE TABLE effect (n bigint GENERATED ALWAYS AS IDENTITY, seq bigint PRIMARY KEY, key text, worker text NOT NULL DEFAULT 'go'); GRANT INSERT, SELECT ON effect TO worker")
	r := seed(t)
	const items, poison = 400, 5
	var rows []row
	for i := range items + poison {
		key := fmt.Sprint("k", r.IntN(40))
		if i%(items/poison) == items/poison-1 {
			key = fmt.Sprint("poison", i)
		}
		rows = append(rows, row{stream: "s", key: key, poison: strings.HasPrefix(key, "poison")})
	}
	good := 0
	for _, x := range rows {
		if !x.poison {
			good++
		}
	}

	var output bytes.Buffer
	start := func() *child.Process {
		cmd := exec.Command(interpreter, "../../examples/python-worker/worker.py", w.DSNAs("worker", ""), "sub", "python")
		cmd.Stdout, cmd.Stderr = &output, &output
		p, err := child.Start(cmd, syscall.SIGKILL)
		require.NoError(t, err)
		return p
	}
	p := start()
	kill := func() {
		require.NoError(t, p.Signal(syscall.SIGKILL))
		<-p.Done()
	}
	defer func() { kill() }()
	w.write(rows[:items/2]...)
	pgtest.Eventually(t, within, func() bool { return w.One(t, "SELECT count(*) > 0 FROM effect WHERE worker = 'python'") == "t" }, "the worker in Python works: %s", &output)
	w.write(rows[items/2:]...)
	kill()
	w.expireOf("python")
	p = start()
	beside := crew{w, rand.New(rand.NewPCG(r.Uint64(), 0)), 0}
	pgtest.Eventually(t, 3*within, func() bool {
		var pg *pgconn.PgError
		if err := beside.work(t.Context(), c, "go"); err != nil && !(errors.As(err, &pg) && pg.Code == migrations.CodeLostLease) {
			require.NoError(t, err)
		}
		return w.One(t, "SELECT count(*) || ' ' || (SELECT count(*) FROM walbridge.dead_letter) FROM effect") == fmt.Sprint(good, " ", len(rows)-good)
	}, "all items have taken effect, or are dead")
	last := map[string]int64{}
	for _, e := range w.Query(t, "SELECT seq, key FROM effect ORDER BY n") {
		require.Greater(t, number(t, e[0]), last[e[1]], "key %s", e[1])
		last[e[1]] = number(t, e[0])
	}
	require.Equal(t, "0", w.One(t, "SELECT count(*) FROM effect WHERE key LIKE 'poison%'"))
}

// expireOf ends the leases of a worker that is known to be dead.
func (w table) expireOf(worker string) {
	w.t.Helper()
	w.Exec(w.t, "UPDATE walbridge.lane SET lease_expires_at = clock_timestamp() WHERE owner = $1", worker)
}
