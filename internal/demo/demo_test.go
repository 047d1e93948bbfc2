package demo

import (
	"regexp"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

// story collects what the demonstration says.
type story struct {
	mu   sync.Mutex
	text strings.Builder
}

func (s *story) Write(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(b)
}

func (s *story) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

var deliveredEvents = regexp.MustCompile(`delivered: events +(\d+)`)

// A short run ends verified, with the kill in its middle, and what it counts while it
// goes on does not begin anew with the new process.
func TestShortRunIsVerified(t *testing.T) {
	t.Parallel()
	var out story
	s, err := Run(t.Context(), Config{For: 2500 * time.Millisecond, Bridge: pgtest.Binary(t), Out: &out})
	require.NoError(t, err, out.String())
	require.True(t, s.OK(), "%+v\n%s", s, out.String())
	require.Positive(t, s.Orders)
	require.Positive(t, s.Read)
	require.Positive(t, s.Killed.back)
	require.Contains(t, out.String(), "kill -9 of the bridge")
	last := 0
	for _, m := range deliveredEvents.FindAllStringSubmatch(out.String(), -1) {
		n, err := strconv.Atoi(m[1])
		require.NoError(t, err)
		require.GreaterOrEqual(t, n, last, out.String())
		last = n
	}
	require.Positive(t, last, out.String())
}

// delivered is a demonstration whose application has written some orders, all of
// them delivered. The bridge runs. It has a cluster of its own: the name of its slot
// is the same in each demonstration, and one to a cluster.
func delivered(t *testing.T) *demo {
	t.Helper()
	db := pgtest.New(t).DB(t)
	app, err := newApplication(t.Context(), db.DSN(), 1)
	require.NoError(t, err)
	t.Cleanup(app.close)
	d := &demo{cfg: Config{Out: &story{}}, app: app, bridge: &bridge{program: pgtest.Binary(t), dir: t.TempDir()}, drain: 20 * time.Second}
	t.Cleanup(func() { require.NoError(t, d.bridge.kill()) })
	require.NoError(t, d.connect(t.Context(), db.DSN()))
	for app.orders.Load() < 20 {
		require.NoError(t, app.order(t.Context()))
	}
	require.NoError(t, within(d.drain, d.bridge.haveRead))
	require.NoError(t, within(d.drain, app.drained))
	return d
}

// Whatever is wrong with the work table is found, and named by its number.
func TestTamperedWorkTableIsFound(t *testing.T) {
	t.Parallel()
	d := delivered(t)
	whole, err := d.app.compare(t.Context())
	require.NoError(t, err)
	require.True(t, whole.OK(), "%+v", whole)
	const some = "(SELECT min(seq) + 7 FROM walbridge.log)"
	for name, c := range map[string]struct {
		tamper string
		number func(Summary) int64
		says   string
	}{
		"event deleted":    {"DELETE FROM walbridge.log WHERE seq = (SELECT min(seq) FROM walbridge.log WHERE kind = 'event')", func(s Summary) int64 { return s.MissingEvents }, "events missing"},
		"record deleted":   {"DELETE FROM walbridge.log WHERE seq = (SELECT min(seq) FROM walbridge.log WHERE kind = 'change' AND type <> 'read')", func(s Summary) int64 { return s.MissingRecords }, "row changes missing"},
		"read row deleted": {"DELETE FROM walbridge.log WHERE partition_key = (SELECT 'public.legacy_customers:[' || max(no) || ']' FROM legacy_customers WHERE credit = 0)", func(s Summary) int64 { return s.WrongRows }, "rows that differ from their records"},
		"row duplicated":   {"INSERT INTO walbridge.log SELECT * FROM walbridge.log WHERE seq = " + some, func(s Summary) int64 { return s.Duplicates }, "duplicates"},
		"row out of order": {"UPDATE walbridge.log SET seq = 9000000 WHERE seq = " + some, func(s Summary) int64 { return s.OutOfOrder }, "out of order"},
		"event of nobody":  {"UPDATE walbridge.log SET idempotency_key = 'x' WHERE seq = (SELECT min(seq) FROM walbridge.log WHERE kind = 'event')", func(s Summary) int64 { return s.ForeignEvents }, "events of refused orders"},
		"order differs":    {"UPDATE orders SET total = total + 1 WHERE id = (SELECT min(id) FROM orders)", func(s Summary) int64 { return s.WrongRows }, "rows that differ from their records"},
		"order is gone":    {"DELETE FROM orders WHERE id = (SELECT min(id) FROM orders)", func(s Summary) int64 { return s.WrongRows }, "rows that differ from their records"},
		"legacy differs":   {"UPDATE legacy_customers SET credit = credit + 1 WHERE no = 1", func(s Summary) int64 { return s.WrongRows }, "rows that differ from their records"},
	} {
		t.Run(name, func(t *testing.T) {
			tx, err := d.app.pool.Begin(t.Context())
			require.NoError(t, err)
			defer func() { require.NoError(t, tx.Rollback(t.Context())) }()
			_, err = tx.Exec(t.Context(), c.tamper)
			require.NoError(t, err)
			s, err := d.app.compareIn(t.Context(), tx)
			require.NoError(t, err)
			require.Positive(t, c.number(s), "%+v", s)
			require.False(t, s.OK())
			var b strings.Builder
			require.NoError(t, s.Write(&b))
			require.Contains(t, b.String(), "SOMETHING IS OFF")
			require.Regexp(t, c.says+` +[1-9]`, b.String())
		})
	}
	require.NoError(t, pgx.BeginFunc(t.Context(), d.app.pool, func(tx pgx.Tx) error {
		s, err := d.app.compareIn(t.Context(), tx)
		require.True(t, s.OK(), "nothing is left of the tampering")
		return err
	}))
}

// What never arrives does not keep the summary from coming, which says so.
func TestSummaryComesWithoutTheLastItems(t *testing.T) {
	t.Parallel()
	d := delivered(t)
	_, err := d.app.pool.Exec(t.Context(), "DELETE FROM walbridge.log WHERE seq = (SELECT max(seq) FROM walbridge.log WHERE kind = 'event')")
	require.NoError(t, err)
	d.drain = 300 * time.Millisecond
	d.killed = kill{at: time.Second, confirmed: "0/1", back: time.Second}
	s, err := d.finish(nil)
	require.NoError(t, err)
	require.False(t, s.OK())
	require.EqualValues(t, 1, s.MissingEvents)
	require.False(t, d.bridge.running(), "it was stopped all the same")
	var b strings.Builder
	require.NoError(t, s.Write(&b))
	require.Contains(t, b.String(), "the last event has not arrived: not done within 300ms")
	require.NotContains(t, b.String(), "lost nothing")
}

// A bridge that is gone at the end is named, with its last words, before the numbers.
func TestSummaryComesWithoutTheBridge(t *testing.T) {
	t.Parallel()
	d := delivered(t)
	require.NoError(t, d.bridge.kill())
	s, err := d.finish(nil)
	require.NoError(t, err)
	require.False(t, s.OK())
	require.Len(t, s.Trouble, 1)
	require.Contains(t, s.Trouble[0], "the bridge ended with exit code -1")
	require.Contains(t, s.Trouble[0], "streaming")
}
