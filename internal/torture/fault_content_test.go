package torture_test

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/torture"
)

// A row that is larger than memory.max_row is named among the dead letters, and
// stops nothing.
func TestRowLargerThanTheLimit(t *testing.T) {
	t.Parallel()
	r := sharedRig(t)
	r.extra = "memory: {limit: 64MiB, max_row: 1MiB}"
	r.setup(t)
	b := r.start(t)
	r.source.Exec(t, "INSERT INTO load.blob (id, n, big) VALUES (1, 1, 'before')")
	r.source.Exec(t, "INSERT INTO load.blob (id, n, big) SELECT 2, 2, repeat(md5(random()::text), 1048576)")
	r.source.Exec(t, "INSERT INTO load.blob (id, n, big) VALUES (3, 3, 'after')")
	r.drain(t)
	require.Equal(t, [][]string{{`load.blob:[1]`}, {`load.blob:[3]`}},
		r.sink.Query(t, "SELECT partition_key FROM walbridge.log WHERE stream = 'load.blob' ORDER BY seq"))
	letter := r.sink.Query(t, "SELECT error, replayable FROM walbridge.dead_letter WHERE source = $1", r.name)
	require.Len(t, letter, 1)
	require.Contains(t, letter[0][0], "load.blob")
	require.Equal(t, "f", letter[0][1], "what was cut cannot be replayed")
	requireMemoryBelow(t, b, 128<<20)
}

// A transaction far larger than the memory limit passes through it.
func TestLargeTransactionWithinTheMemoryLimit(t *testing.T) {
	t.Parallel()
	rows := sized(60_000, 5_000_000)
	r := ownRig(t)
	r.extra = "memory: {limit: 64MiB}"
	r.setup(t)
	b := r.start(t)
	r.insertItems(t, rows)
	proven := r.prove(t)
	require.EqualValues(t, rows+1, proven.Items)
	requireMemoryBelow(t, b, 128<<20)
	r.record(t, "large-transaction", seed(t), proven, torture.Counts{}, "rows", rows)
}

// requireMemoryBelow checks the most memory that the process has ever used. The
// limit of the configuration bounds what the Go runtime manages; the program's own
// text and the kernel's pages for it come on top.
func requireMemoryBelow(t *testing.T, b *bridge, most int64) {
	t.Helper()
	peak, ok := procStatus(b.PID(), "VmHWM")
	if !ok {
		t.Log("no /proc: memory is not checked here")
		return
	}
	t.Logf("peak memory %d MiB", peak>>20)
	require.Less(t, peak, most)
}

// procStatus reads a size of /proc/pid/status in bytes; false where there is none.
func procStatus(pid int, name string) (int64, bool) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, false
	}
	for line := range strings.Lines(string(text)) {
		if rest, ok := strings.CutPrefix(line, name+":"); ok {
			n, err := strconv.ParseInt(strings.Fields(rest)[0], 10, 64)
			return n << 10, err == nil
		}
	}
	return 0, false
}

const poisonRoutes = `
  - tables: [public.poison]
    changes: {}
    snapshot: never
`

// poisoned makes a rig whose log refuses some rows.
func poisoned(t *testing.T, extra string) *rig {
	t.Helper()
	c := pgtest.Shared(t)
	r := bareRig(t, c.DB(t), c.DB(t))
	r.source.Exec(t, "CREATE TABLE poison (id int PRIMARY KEY, v text)")
	r.routes, r.extra = poisonRoutes, extra
	r.setup(t)
	r.sink.Exec(t, "ALTER TABLE walbridge.log ADD CONSTRAINT no_poison CHECK (payload::text NOT LIKE '%poisonous%')")
	return r
}

// Rows that the table refuses, one in a thousand, become dead letters; every other
// row arrives.
func TestPoisonRowsAreSetAside(t *testing.T) {
	t.Parallel()
	r := poisoned(t, "on_error: {max_per_minute: 1000}")
	b := r.start(t)
	r.source.Exec(t, "INSERT INTO poison SELECT g, CASE WHEN g % 1000 = 7 THEN 'poisonous' ELSE 'good' END FROM generate_series(1, 10000) g")
	r.source.Exec(t, "INSERT INTO poison VALUES (20000, 'last')")
	pgtest.Eventually(t, drainWithin(), func() bool {
		return r.sink.One(t, "SELECT count(*)::text FROM walbridge.log WHERE partition_key = 'public.poison:[20000]'") == "1"
	}, "the last row arrives")
	require.Equal(t, "9991", r.sink.One(t, "SELECT count(DISTINCT partition_key)::text FROM walbridge.log WHERE source = $1", r.name))
	require.Equal(t, "9991", r.sink.One(t, "SELECT count(*)::text FROM walbridge.log WHERE source = $1", r.name))
	require.Equal(t, "7,1007,2007,3007,4007,5007,6007,7007,8007,9007", r.sink.One(t,
		"SELECT string_agg(payload::json -> 'key' ->> 'id', ',' ORDER BY tx_seq) FROM walbridge.dead_letter WHERE source = $1", r.name))
	st, ok := b.status()
	require.True(t, ok)
	require.EqualValues(t, 10, st.Totals.DeadLetters)
}

// So many of them that it cannot be the rows: the bridge halts.
func TestPoisonStormHalts(t *testing.T) {
	t.Parallel()
	r := poisoned(t, "")
	b := r.start(t)
	r.source.Exec(t, "INSERT INTO poison SELECT g, 'poisonous' FROM generate_series(1, 1000) g")
	b.awaitHalt(t, startWithin(), "poison-storm")
}

// With policy halt the first one is enough.
func TestFirstPoisonRowHaltsWhenAsked(t *testing.T) {
	t.Parallel()
	r := poisoned(t, "on_error: {policy: halt}")
	b := r.start(t)
	r.source.Exec(t, "INSERT INTO poison VALUES (1, 'poisonous')")
	b.await(t, startWithin(), "halted")
	require.Equal(t, "0", r.sink.One(t, "SELECT count(*)::text FROM walbridge.dead_letter WHERE source = $1", r.name))
}
