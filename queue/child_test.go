package queue

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// Variables that make this test binary a worker process.
const (
	childVar = "WALBRIDGE_QUEUE_CHILD" // run or runtx
	dsnVar   = "WALBRIDGE_QUEUE_DSN"
	holdVar  = "WALBRIDGE_QUEUE_HOLD" // the seq whose handler waits until the row hold is gone
)

// child is a worker process: it fills the tables of readModel, in RunTx in the
// transaction, in Run beside it.
func child(what string) int {
	pool, err := pgxpool.New(context.Background(), os.Getenv(dsnVar))
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	cfg := Config{Name: "work", Streams: []string{"orders"}, Lease: time.Second, Concurrency: 4, BatchItems: 20, RetryAfter: 10 * time.Millisecond, RetryAtMost: 20 * time.Millisecond, MaxAttempts: 2}
	sub, err := Subscribe(context.Background(), pool, cfg)
	if err == nil && what == "runtx" {
		err = sub.RunTx(context.Background(), func(ctx context.Context, tx pgx.Tx, items []Item) error {
			for _, it := range items {
				if err := slow(it); err != nil {
					return err
				}
			}
			return project(ctx, tx, items)
		})
	} else if err == nil {
		err = sub.Run(context.Background(), func(ctx context.Context, it Item) error {
			if err := slow(it); err != nil {
				return err
			}
			_, err := pool.Exec(ctx, "INSERT INTO model VALUES ($1, $2, $3)", it.Seq, it.Key, it.Lane)
			return err
		})
	}
	fmt.Fprintln(os.Stderr, err)
	return 1
}

// slow fails for poison, and says when it holds the item of holdVar, which it does
// for a second of this process's own running time.
func slow(it Item) error {
	if it.Seq%500 == 99 {
		return fmt.Errorf("poison %d", it.Seq)
	}
	if os.Getenv(holdVar) == fmt.Sprint(it.Seq) {
		fmt.Println("holding")
		timer := time.NewTimer(300 * time.Millisecond)
		<-timer.C
	}
	return nil
}

// spawn prepares a worker in a process of its own, killed at the test's end.
func spawn(t testing.TB, db *pgtest.DB, what string, env ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(append(os.Environ(), childVar+"="+what, dsnVar+"="+db.DSN()), env...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	t.Cleanup(func() {
		if cmd.Process != nil && cmd.ProcessState == nil {
			_ = cmd.Process.Signal(syscall.SIGCONT)
			_ = cmd.Process.Kill()
			_ = cmd.Wait()
		}
	})
	return cmd
}

// seeded returns a source of random numbers. Its seed is printed, so that a failure can be run again.
func seeded(t testing.TB) *rand.Rand {
	seed := uint64(time.Now().UnixNano())
	if s := os.Getenv("WALBRIDGE_TEST_SEED"); s != "" {
		_, err := fmt.Sscan(s, &seed)
		require.NoError(t, err)
	}
	t.Logf("WALBRIDGE_TEST_SEED=%d", seed)
	return rand.New(rand.NewPCG(seed, 1))
}

// TestWorkersKilled: two worker processes, one of which dies at random points again
// and again. With RunTx every item has taken effect exactly once, with Run at least
// once; the order of keys holds; dead are exactly the poison items.
func TestWorkersKilled(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"runtx", "run"} {
		t.Run(what, func(t *testing.T) {
			db := migrated(t, testLanes)
			readModel(t, db)
			random := seeded(t)
			pool := poolOf(t, db, 4)
			cfg := testConfig(t, "work")
			_, err := Subscribe(t.Context(), pool, cfg)
			require.NoError(t, err)
			steady := spawn(t, db, what)
			require.NoError(t, steady.Start())
			total := 0
			for range 8 {
				produce(t, db, 1000, 37)
				total += 1000
				victim := spawn(t, db, what)
				require.NoError(t, victim.Start())
				timer := time.NewTimer(time.Duration(50+random.IntN(700)) * time.Millisecond)
				<-timer.C
				require.NoError(t, victim.Process.Kill())
				_ = victim.Wait()
			}
			poison := total / 500
			pgtest.Eventually(t, patience, func() bool {
				return db.One(t, "SELECT count(DISTINCT seq) FROM model") == fmt.Sprint(total-poison) &&
					db.One(t, "SELECT count(DISTINCT seq) FROM walbridge.dead_letter WHERE subscription = 'work'") == fmt.Sprint(poison)
			}, "all items")
			if what == "runtx" {
				requireModel(t, db, total-poison)
			}
			require.Equal(t, fmt.Sprint(poison), db.One(t, "SELECT count(*) FROM walbridge.dead_letter"), "each dead once")
			require.Equal(t, "0", db.One(t, `SELECT count(*) FROM (SELECT key, seq, lag(seq) OVER (PARTITION BY key ORDER BY id) AS before
				FROM (SELECT key, seq, min(id) AS id FROM model GROUP BY 1, 2) f) m WHERE before > seq`), "order of each key")
		})
	}
}

// TestStoppedWorkerSettlesNothing: a worker stopped by SIGSTOP in its handler until
// its lease is over and another has done the work writes nothing when it wakes.
func TestStoppedWorkerSettlesNothing(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"runtx", "run"} {
		t.Run(what, func(t *testing.T) {
			db := migrated(t, testLanes)
			readModel(t, db)
			_, err := Subscribe(t.Context(), poolOf(t, db, 2), testConfig(t, "work"))
			require.NoError(t, err)
			produce(t, db, 40, 40)
			late := spawn(t, db, what, holdVar+"=5")
			out, err := late.StdoutPipe()
			require.NoError(t, err)
			require.NoError(t, late.Start())
			_, err = fmt.Fscanln(out, new(string))
			require.NoError(t, err, "the worker holds the item")
			require.NoError(t, late.Process.Signal(syscall.SIGSTOP))
			other := spawn(t, db, what)
			require.NoError(t, other.Start())
			pgtest.Eventually(t, patience, func() bool { return db.One(t, "SELECT count(DISTINCT seq) FROM model") == "40" }, "the other does it all")
			pgtest.Eventually(t, patience, func() bool { return settledThrough(db, t) }, "and settles it")
			generations := db.Query(t, "SELECT lane, n, seq, lease_generation FROM walbridge.checkpoint ORDER BY 1, 2")
			dead := db.One(t, "SELECT count(*) FROM walbridge.dead_letter")
			require.NoError(t, late.Process.Signal(syscall.SIGCONT))
			pgtest.Eventually(t, patience, func() bool {
				return db.One(t, "SELECT count(*) FROM walbridge.worker WHERE heartbeat_at > clock_timestamp() - interval '1 s'") == "2"
			}, "the late worker is back")
			if what == "runtx" {
				requireModel(t, db, 40)
			}
			require.Equal(t, dead, db.One(t, "SELECT count(*) FROM walbridge.dead_letter"))
			for _, row := range db.Query(t, `SELECT c.lane, c.n, c.seq, c.lease_generation, b.lease_generation FROM walbridge.checkpoint c
				JOIN walbridge.checkpoint b USING (subscription, lane) WHERE b.n = c.n - 1 AND b.lease_generation > c.lease_generation`) {
				require.Fail(t, "a checkpoint of an older fence is above a newer one", "%v of %v", row, generations)
			}
		})
	}
}

// settledThrough reports whether all lanes have settled what log holds for them.
func settledThrough(db *pgtest.DB, t testing.TB) bool {
	return db.One(t, `SELECT count(*) FROM walbridge.lane l CROSS JOIN LATERAL
		(SELECT seq FROM walbridge.checkpoint c WHERE c.subscription = l.subscription AND c.lane = l.lane ORDER BY n DESC LIMIT 1) c
		WHERE c.seq < (SELECT max(g.seq) FROM walbridge.log g WHERE g.lane = l.lane)`) == "0"
}
