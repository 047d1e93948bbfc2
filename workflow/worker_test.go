package workflow

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// envWorker holds a job as JSON: the test binary is a worker then.
const envWorker = "WORKFLOW_WORKER"

// job is what a worker in a process of its own does.
type job struct {
	DSN      string
	Workflow string
	Die      string // "step/point" or "step/undo/point" at which it kills itself with SIGKILL
	Hang     string // where it says so and hangs for a moment, to be stopped
	Slow     bool   // each step takes a moment, so that random kills hit
}

func workerMain() int {
	var j job
	if err := json.Unmarshal([]byte(os.Getenv(envWorker)), &j); err != nil {
		fmt.Println("worker:", err)
		return 2
	}
	if err := j.run(); err != nil {
		fmt.Println("worker:", err)
		return 1
	}
	return 0
}

func (j job) run() error {
	cfg, err := pgxpool.ParseConfig(j.DSN)
	if err != nil {
		return err
	}
	cfg.MaxConns = 4
	pool, err := pgxpool.NewWithConfig(context.Background(), cfg)
	if err != nil {
		return err
	}
	defer pool.Close()
	s := shop{outside: pool}
	if j.Slow {
		s.flaky = func(string) error {
			pause(context.Background(), time.Duration(rand.IntN(20))*time.Millisecond)
			return nil
		}
	}
	e, err := New(pool, Config{Lease: time.Second, Poll: 20 * time.Millisecond, FirstBackoff: 5 * time.Millisecond}, s.checkout(j.Workflow))
	if err != nil {
		return err
	}
	e.points = func(point string, in *instance) {
		switch at := place(in, point); at {
		case j.Die:
			_ = syscall.Kill(os.Getpid(), syscall.SIGKILL)
			select {}
		case j.Hang:
			fmt.Println("hanging at " + at)
			pause(context.Background(), 300*time.Millisecond)
			fmt.Println("goes on")
		}
	}
	fmt.Println("running")
	return e.Run(context.Background())
}

// place names a point of an instance's way.
func place(in *instance, point string) string {
	at := []string{"end", point}
	if in.step < len(in.def.steps) {
		at[0] = in.def.steps[in.step].name
	}
	if in.undoing {
		at = []string{at[0], "undo", point}
	}
	return strings.Join(at, "/")
}

func (j job) start(t testing.TB) *pgtest.Process {
	t.Helper()
	b, err := json.Marshal(j)
	require.NoError(t, err)
	self, err := os.Executable()
	require.NoError(t, err)
	return pgtest.Command{Path: self, Env: []string{envWorker + "=" + string(b)}}.Start(t)
}
