package queue

import (
	"archive/zip"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// previousMain is a worker with the library of the release before: what child does in
// RunTx, under a name of its own.
const previousMain = `package main

import (
	"context"
	"fmt"
	"os"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/walbridge/walbridge/queue"
)

func main() {
	ctx := context.Background()
	pool, err := pgxpool.New(ctx, os.Args[1])
	if err != nil {
		panic(err)
	}
	sub, err := queue.Subscribe(ctx, pool, queue.Config{Name: "work", Streams: []string{"orders"}, Lease: time.Second, Concurrency: 4, BatchItems: 20,
		RetryAfter: 10 * time.Millisecond, RetryAtMost: 20 * time.Millisecond, MaxAttempts: 2})
	if err != nil {
		panic(err)
	}
	panic(sub.RunTx(ctx, func(ctx context.Context, tx pgx.Tx, items []queue.Item) error {
		b := &pgx.Batch{}
		for _, it := range items {
			if it.Seq%500 == 99 {
				return fmt.Errorf("poison %d", it.Seq)
			}
			b.Queue("INSERT INTO model VALUES ($1, $2, $3)", it.Seq, it.Key, it.Lane)
			b.Queue("INSERT INTO total VALUES ($1, 1) ON CONFLICT (key) DO UPDATE SET n = total.n + 1", it.Key)
			b.Queue("INSERT INTO previous VALUES ($1)", it.Seq)
		}
		return tx.SendBatch(ctx, b).Close()
	}))
}
`

// buildPrevious builds it from the sources that are kept of that release. They are
// taken with each release, at its tag:
//
//	git archive --format=zip -o queue/testdata/previous.zip TAG go.mod go.sum migrations queue ':(exclude)*_test.go' ':(exclude)queue/queuetest' ':(exclude)queue/testdata'
func buildPrevious(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	kept, err := zip.OpenReader("testdata/previous.zip")
	require.NoError(t, err)
	defer kept.Close()
	for _, f := range kept.File {
		if f.FileInfo().IsDir() {
			continue
		}
		require.True(t, filepath.IsLocal(f.Name), f.Name)
		r, err := f.Open()
		require.NoError(t, err)
		text, err := io.ReadAll(r)
		require.NoError(t, err)
		put(t, filepath.Join(dir, f.Name), text)
	}
	put(t, filepath.Join(dir, "worker", "main.go"), []byte(previousMain))
	build := exec.Command("go", "build", "-o", "previous", "./worker")
	build.Dir = dir
	out, err := build.CombinedOutput()
	require.NoError(t, err, "%s", out)
	return filepath.Join(dir, "previous")
}

func put(t *testing.T, path string, text []byte) {
	t.Helper()
	require.NoError(t, os.MkdirAll(filepath.Dir(path), 0o755))
	require.NoError(t, os.WriteFile(path, text, 0o644))
}

// TestTwoReleases: workers with the library of this release and of the one before
// share a subscription on the schema of this one, and are killed in turns. Each item
// takes effect once, in the order of its key.
func TestTwoReleases(t *testing.T) {
	t.Parallel()
	previous := buildPrevious(t)
	db := migrated(t, testLanes)
	readModel(t, db)
	db.Exec(t, "CREATE TABLE previous (seq bigint)")
	subscribed(t, db, testConfig(t, "work"))
	random := seeded(t)
	start := func(old bool) *exec.Cmd {
		cmd := spawn(t, db, "runtx")
		if old {
			cmd.Path, cmd.Args = previous, []string{previous, db.DSN()}
		}
		require.NoError(t, cmd.Start())
		return cmd
	}
	running := map[bool]*exec.Cmd{false: start(false), true: start(true)}
	pgtest.Eventually(t, patience, func() bool { return owners(t, db) == 2 }, "both have lanes")
	total := 0
	for range 6 {
		produce(t, db, 500, 37)
		total += 500
		before := rows(t, db)
		pgtest.Eventually(t, patience, func() bool { return rows(t, db) != before }, "there is work in hand")
		old := random.IntN(2) == 0
		require.NoError(t, running[old].Process.Signal(syscall.SIGKILL))
		_ = running[old].Wait()
		running[old] = start(old)
	}
	pgtest.Eventually(t, patience, func() bool { return owners(t, db) == 2 }, "both have lanes again")
	produce(t, db, 500, 37)
	total += 500
	poison := total / 500
	pgtest.Eventually(t, patience, func() bool {
		return rows(t, db) >= total-poison && db.One(t, "SELECT count(*) FROM walbridge.dead_letter") == fmt.Sprint(poison)
	}, "all items")
	requireModel(t, db, total-poison)
	require.Equal(t, "0", db.One(t, `SELECT count(*) FROM (SELECT key, seq, lag(seq) OVER (PARTITION BY key ORDER BY id) AS before FROM model) m WHERE before > seq`), "order of each key")
	require.Equal(t, "t", db.One(t, "SELECT count(*) BETWEEN 1 AND $1::int - 1 FROM previous", total-poison), "both took part")
}
