package worktable

import (
	"context"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/migrate"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/migrations"
	"github.com/walbridge/walbridge/sink"
)

const benchRows = 10_000

// benchDB makes a durable server of usual size with the schema of 64 lanes.
func benchDB(b *testing.B) (*pgtest.DB, Config) {
	c := pgtest.New(b, pgtest.Fsync(), pgtest.Setting("shared_buffers", "512MB"), pgtest.Setting("max_wal_size", "16GB"))
	db := c.DB(b)
	cfg := testConfig(db)
	cfg.Lanes = migrations.DefaultLanes
	_, err := migrate.Up(b.Context(), migrate.Config{DSN: cfg.DSN})
	require.NoError(b, err)
	return db, cfg
}

// benchBatch makes a batch of records, of keys enough for all lanes.
func benchBatch(s sink.Sink, commit lsn.LSN, n int) *batch {
	b := s.NewBatch().(*batch)
	for i := range n {
		it := record(commit, i)
		it.Key = append([]byte("public.orders:"), it.ID.String()...)
		b.Append([]mapper.Item{it})
	}
	b.EndTx()
	return b
}

// BenchmarkWrite writes batches of 10,000 records of about 560 bytes; encoding is
// not part of it. BenchmarkPlainCopy sends the same rows to the same table with
// COPY alone, a transaction each.
func BenchmarkWrite(b *testing.B) {
	_, cfg := benchDB(b)
	s := New(cfg, hclog.NewNullLogger())
	defer func() { _ = s.Close(context.Background()) }()
	_, err := s.Open(b.Context(), sink.Source{Name: "shop"})
	require.NoError(b, err)
	batch := benchBatch(s, 10, benchRows)
	p := at(0x40)
	for b.Loop() {
		p.Position.End++
		require.NoError(b, s.Write(b.Context(), batch, p))
	}
	b.ReportMetric(float64(benchRows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

func BenchmarkPlainCopy(b *testing.B) {
	_, cfg := benchDB(b)
	s := New(cfg, hclog.NewNullLogger())
	_, err := s.Open(b.Context(), sink.Source{Name: "shop"})
	require.NoError(b, err)
	batch := benchBatch(s, 10, benchRows)
	require.NoError(b, s.Close(b.Context()))
	conn, err := pgconn.Connect(b.Context(), cfg.DSN.Reveal())
	require.NoError(b, err)
	defer func() { _ = conn.Close(context.Background()) }()
	seq := int64(1)
	for b.Loop() {
		batch.patch(seq, []int32{1})
		seq += benchRows
		_, err := conn.CopyFrom(b.Context(), newParts([][]byte{[]byte(copyHeader), batch.buf, []byte(copyTrailer)}), statements{`"walbridge"`}.copyLog())
		require.NoError(b, err)
	}
	b.ReportMetric(float64(benchRows)*float64(b.N)/b.Elapsed().Seconds(), "rows/s")
}

// BenchmarkSmallWrite is what a transaction costs when it comes alone.
func BenchmarkSmallWrite(b *testing.B) {
	_, cfg := benchDB(b)
	s := New(cfg, hclog.NewNullLogger())
	defer func() { _ = s.Close(context.Background()) }()
	_, err := s.Open(b.Context(), sink.Source{Name: "shop"})
	require.NoError(b, err)
	batch := benchBatch(s, 10, 3)
	p := at(0x40)
	for b.Loop() {
		p.Position.End++
		require.NoError(b, s.Write(b.Context(), batch, p))
	}
}
