package worktable

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/sink"
)

// TestRetention: the bridge stores its policy, takes old partitions away while it
// writes, says which subscription expires, and with the rights it asks for only.
func TestRetention(t *testing.T) {
	t.Parallel()
	db := shared(t)
	cfg := testConfig(db)
	cfg.Retention = Retention{Policy: Policy{Min: time.Second, Max: time.Second}, Changes: &Policy{Max: 2 * time.Hour, OnExceeded: "keep"}}.withDefaults()
	s := newTest(t, cfg)
	s.tune.partitionSize, s.tune.retainAfter, s.tune.retainEvery = 50, 10*time.Millisecond, 50*time.Millisecond
	mustOpen(t, s, "shop")
	db.Exec(t, "SELECT walbridge.subscribe('slow', '{orders}')")
	writeN(t, s, 0x1000, 120)
	pgtest.Eventually(t, within, func() bool {
		return db.One(t, "SELECT floor FROM walbridge.retention WHERE kind = 'event'") == "100"
	}, "the first two partitions are decided to go")
	require.Equal(t, "expired", db.One(t, "SELECT state FROM walbridge.subscription"))
	pgtest.Eventually(t, within, func() bool {
		return db.One(t, "SELECT min(lower) FROM walbridge._partitions('event')") == "100" && db.One(t, "SELECT count(*) FROM pg_class WHERE relname = 'log_event_0000000000000000050'") == "0"
	}, "and are gone")
	writeN(t, s, 0x2000, 10)
	require.Equal(t, "01:00:00 f keep", db.One(t, "SELECT (max_age - interval '1 hour') || ' ' || (floor > 0)::text::char || ' ' || on_exceeded FROM walbridge.retention WHERE kind = 'change'"))
}

// TestKeptLogIsNamed: whom the log is kept for is in the bridge's log.
func TestKeptLogIsNamed(t *testing.T) {
	db := shared(t)
	cfg := testConfig(db)
	cfg.Retention = Retention{Policy: Policy{Min: time.Second, Max: time.Second, OnExceeded: "keep"}}.withDefaults()
	said := &safeText{}
	s := New(cfg, hclog.New(&hclog.LoggerOptions{Output: said}))
	t.Cleanup(func() { require.NoError(t, s.Close(context.Background())) })
	s.tune.partitionSize, s.tune.retainAfter, s.tune.retainEvery = 50, 10*time.Millisecond, 50*time.Millisecond
	mustOpen(t, s, "shop")
	db.Exec(t, "SELECT walbridge.subscribe('abandoned', '{orders}')")
	writeN(t, s, 0x1000, 120)
	pgtest.Eventually(t, within, func() bool {
		return strings.Contains(said.String(), `the log is kept beyond its retention: held_by="abandoned (events from seq`)
	}, "the log names it")
	require.Equal(t, "{abandoned} 0", db.One(t, "SELECT held_by::text || ' ' || floor FROM walbridge.retention WHERE kind = 'event'"))
	require.Equal(t, "active", db.One(t, "SELECT state FROM walbridge.subscription"))
}

// safeText is an output that is read while it is written.
type safeText struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *safeText) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *safeText) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

// TestInboxIsNoBridge: the name under which workers move rows is not a bridge's.
func TestInboxIsNoBridge(t *testing.T) {
	t.Parallel()
	s := newTest(t, testConfig(shared(t)))
	_, err := s.Open(ctxOf(t), sink.Source{Name: "inbox"})
	var config *fault.ConfigError
	require.ErrorAs(t, err, &config)
}

// TestTrimKeepsWhatTellsTheHead: behind many idle marks the newest row that added to
// log stays.
func TestTrimKeepsWhatTellsTheHead(t *testing.T) {
	t.Parallel()
	db := shared(t)
	s := newTest(t, testConfig(db))
	s.tune.trimEvery, s.tune.trimKeep = 10, 5
	mustOpen(t, s, "shop")
	writeN(t, s, 0x1000, 3)
	head := db.One(t, "SELECT walbridge._visible()")
	require.NotEqual(t, "0", head)
	for i := range 40 {
		writeN(t, s, 0x2000+0x100*lsn.LSN(i), 0)
	}
	pgtest.Eventually(t, within, func() bool { return db.One(t, "SELECT count(*) < 20 FROM walbridge.batch") == "t" }, "marks are trimmed")
	require.Equal(t, head, db.One(t, "SELECT walbridge._visible()"))
}
