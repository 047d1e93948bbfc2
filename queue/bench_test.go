package queue

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// Benchmarks report items/s; an iteration is an item of a backlog. Run them with a
// fixed number, such as -benchtime 500000x.

// filled is a log with n items of 300-byte payloads over many keys.
func filled(b *testing.B, n int) *pgtest.DB {
	db := migrated(b, 64)
	for left := n; left > 0; left -= 100_000 {
		produce(b, db, min(left, 100_000), 10_000)
	}
	db.Exec(b, "UPDATE walbridge.log SET payload = json_build_object('n', seq, 'text', repeat('x', 270))")
	db.Exec(b, "VACUUM ANALYZE walbridge.log")
	return db
}

func perSecond(b *testing.B) {
	b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "items/s")
	b.ReportMetric(0, "ns/op")
}

// BenchmarkRun fetches, handles (nothing) and settles.
func BenchmarkRun(b *testing.B) {
	db := filled(b, b.N)
	sub, err := Subscribe(b.Context(), poolOf(b, db, 8), Config{Name: "bench", Streams: []string{"orders"}})
	require.NoError(b, err)
	ctx, cancel := context.WithCancel(b.Context())
	var n atomic.Int64
	b.ResetTimer()
	err = sub.Run(ctx, func(context.Context, Item) error {
		if n.Add(1) == int64(b.N) {
			cancel()
		}
		return nil
	})
	b.StopTimer()
	require.NoError(b, err)
	perSecond(b)
}

// BenchmarkRead only reads: what Run cannot be faster than.
func BenchmarkRead(b *testing.B) {
	db := filled(b, b.N)
	sub, err := Subscribe(b.Context(), poolOf(b, db, 8), Config{Name: "bench", Streams: []string{"orders"}})
	require.NoError(b, err)
	conn := db.Conn(b).PgConn()
	var lanes, after []int64
	for i := range int64(64) {
		lanes, after = append(lanes, i), append(after, 0)
	}
	r := newItemReader()
	b.ResetTimer()
	for n := 0; n < b.N; n += len(r.got) {
		r.start()
		require.NoError(b, call(b.Context(), conn, r.row, "SELECT "+itemColumns+"wait_ms, 0 FROM walbridge.fetch($1, $2::smallint[], $3::bigint[], $4::integer, $5)",
			sub.Name(), lanes, after, maxRead, 64<<20))
		for i, m := range r.marks {
			after[i] = m.seq
		}
	}
	perSecond(b)
}

// BenchmarkRunTx is one upsert for each item; BenchmarkPlainBatches are the same
// upserts in batches of the same size, without any queue.
func BenchmarkRunTx(b *testing.B) {
	db := filled(b, b.N)
	readModel(b, db)
	sub, err := Subscribe(b.Context(), poolOf(b, db, 4), Config{Name: "bench", Streams: []string{"orders"}})
	require.NoError(b, err)
	ctx, cancel := context.WithCancel(b.Context())
	var n, calls atomic.Int64
	b.ResetTimer()
	err = sub.RunTx(ctx, func(ctx context.Context, tx pgx.Tx, items []Item) error {
		calls.Add(1)
		batch := &pgx.Batch{}
		for _, it := range items {
			batch.Queue(one, it.Key)
		}
		if err := tx.SendBatch(ctx, batch).Close(); err != nil {
			return err
		}
		if n.Add(int64(len(items))) >= int64(b.N) {
			cancel()
		}
		return nil
	})
	b.StopTimer()
	require.NoError(b, err)
	perSecond(b)
	b.ReportMetric(float64(b.N)/float64(calls.Load()), "items/batch")
}

const one = "INSERT INTO total VALUES ($1, 1) ON CONFLICT (key) DO UPDATE SET n = total.n + 1"

// BenchmarkPlainBatches is what BenchmarkRunTx is compared with: the same keys in the
// order of the log, half of them over each of two connections.
func BenchmarkPlainBatches(b *testing.B) {
	db := migrated(b, 64)
	readModel(b, db)
	const workers = 2
	conns := [workers]*pgx.Conn{}
	for i := range conns {
		conns[i] = db.Conn(b)
	}
	b.ResetTimer()
	done := make(chan error, workers)
	for i := range conns {
		go func() { done <- plain(b, conns[i], i, b.N/workers) }()
	}
	for range conns {
		require.NoError(b, <-done)
	}
	perSecond(b)
}

func plain(b *testing.B, conn *pgx.Conn, worker, n int) error {
	for at := 0; at < n; at += 1000 {
		batch := &pgx.Batch{}
		batch.Queue("BEGIN")
		for i := at; i < min(at+1000, n); i++ {
			batch.Queue(one, fmt.Sprint("k", (2*i+worker)%10_000))
		}
		batch.Queue("COMMIT")
		if err := conn.SendBatch(b.Context(), batch).Close(); err != nil {
			return err
		}
	}
	return nil
}
