package worktable

import (
	"context"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/migrate"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/secret"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/sinktest"
)

func TestMain(m *testing.M) {
	if arg := os.Getenv(standStill); arg != "" {
		os.Exit(standingStill(arg))
	}
	pgtest.Main(m)
}

const within = 20 * time.Second

// migrated returns a database with the schema.
func migrated(t testing.TB, c *pgtest.Cluster) *pgtest.DB {
	t.Helper()
	db := c.DB(t)
	_, err := migrate.Up(t.Context(), migrate.Config{DSN: secret.DSN(db.DSN()), Lanes: testLanes, ToolVersion: "test"})
	require.NoError(t, err)
	return db
}

// testLanes is small, so that items of all lanes stay few.
const testLanes = 8

func shared(t testing.TB) *pgtest.DB { return migrated(t, pgtest.Shared(t)) }

func testConfig(db *pgtest.DB) Config {
	return Config{DSN: secret.DSN(db.DSN()), Lanes: testLanes}.WithDefaults()
}

// newTest returns a sink with quick waits, closed at the end.
func newTest(t testing.TB, cfg Config) *Sink {
	t.Helper()
	require.Empty(t, cfg.Validate())
	s := New(cfg, hclog.New(&hclog.LoggerOptions{Output: logWriter{t}, Level: hclog.Debug, DisableTime: true}))
	s.tune.lockTimeout = 200 * time.Millisecond
	t.Cleanup(func() { require.NoError(t, s.Close(context.Background())) })
	return s
}

type logWriter struct{ t testing.TB }

func (w logWriter) Write(p []byte) (int, error) {
	w.t.Log(strings.TrimRight(string(p), "\n"))
	return len(p), nil
}

// opened returns an open sink of the name.
func opened(t testing.TB, cfg Config, name string) *Sink {
	t.Helper()
	s := newTest(t, cfg)
	mustOpen(t, s, name)
	return s
}

func mustOpen(t testing.TB, s *Sink, name string) lsn.Progress {
	t.Helper()
	p, err := s.Open(ctxOf(t), sink.Source{Name: name})
	require.NoError(t, err)
	return p
}

func ctxOf(t testing.TB) context.Context {
	ctx, cancel := context.WithTimeout(context.Background(), within)
	t.Cleanup(cancel)
	return ctx
}

// at is the progress at the end of a transaction.
func at(end lsn.LSN) lsn.Progress {
	return lsn.Progress{
		SystemID: 7, Timeline: 1, Slot: "walbridge_shop", Phase: lsn.PhaseStreaming,
		Position: lsn.Position{End: end, LastTxEnd: end},
	}
}

// event makes an item of a transaction.
func event(commit lsn.LSN, seq int, key string) mapper.Item {
	id := lsn.ID{Commit: commit, Seq: uint32(seq)}
	return mapper.Item{
		ID: id, Kind: mapper.KindEvent, Stream: "orders", Key: []byte(key), EventID: []byte("shop:" + id.String()),
		Type: []byte("OrderPaid"), Payload: sinktest.JSON(fmt.Sprintf(`{"order":%q,"n":%d}`, key, seq)), CommittedAt: 817_000_000_123456,
	}
}

// fill makes a batch of one transaction of n events.
func fill(s sink.Sink, commit lsn.LSN, n int) sink.Batch {
	b := s.NewBatch()
	for i := range n {
		b.Append([]mapper.Item{event(commit, i, fmt.Sprintf("k%d", i%50))})
	}
	b.EndTx()
	return b
}

// writeN writes a transaction of n events that ends 0x30 behind its commit.
func writeN(t testing.TB, s *Sink, commit lsn.LSN, n int) {
	t.Helper()
	require.NoError(t, s.Write(ctxOf(t), fill(s, commit, n), at(commit+0x30)))
}

func requireFenced(t testing.TB, err error) {
	t.Helper()
	require.ErrorIs(t, err, fault.ErrFenced)
}

func count(t testing.TB, db *pgtest.DB, table string) string {
	return db.One(t, "SELECT count(*) FROM walbridge."+table)
}
