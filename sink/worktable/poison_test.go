package worktable

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/sink"
)

// choosy makes log refuse the orders called bad.
func choosy(t *testing.T, db *pgtest.DB) {
	db.Exec(t, "ALTER TABLE walbridge.log ADD CONSTRAINT no_bad CHECK (payload->>'order' <> 'bad')")
}

// fillWith makes one transaction of n events, those at bad refused.
func fillWith(s sink.Sink, commit lsn.LSN, n int, bad ...int) sink.Batch {
	b := s.NewBatch()
	for i := range n {
		key := "good"
		if slices.Contains(bad, i) {
			key = "bad"
		}
		b.Append([]mapper.Item{event(commit, i, key)})
	}
	b.EndTx()
	return b
}

// A refused row becomes a dead letter with all its values, wherever it stands, and
// the others are stored in order, the last of them with the transaction's mark.
func TestPoison(t *testing.T) {
	t.Parallel()
	db := shared(t)
	choosy(t, db)
	s := newTest(t, testConfig(db))
	var told []uint32
	_, err := s.Open(ctxOf(t), sink.Source{Name: "shop", OnPoison: func(p sink.Poison) error {
		require.Equal(t, "check_violation", p.Reason)
		require.Equal(t, "orders", p.Stream)
		require.ErrorContains(t, p.Err, "no_bad")
		require.NotContains(t, p.Err.Error(), "Failing row", "the row's values stay out of the log")
		told = append(told, p.ID.Seq)
		return nil
	}})
	require.NoError(t, err)
	all := make([]int, 16)
	for i := range all {
		all[i] = i
	}
	for i, bad := range [][]int{{0}, {7}, {15}, {14, 15}, {0, 1, 8, 15}, all, all[1:], {}} {
		commit := lsn.LSN(0x1000 * (i + 1))
		told = nil
		require.NoError(t, s.Write(ctxOf(t), fillWith(s, commit, 16, bad...), at(commit+0x30)))
		of := func(what, table string) string {
			return db.One(t, fmt.Sprintf("SELECT coalesce(string_agg(%s::text, ' ' ORDER BY %s), '') FROM walbridge.%s WHERE commit_lsn = $1",
				what, map[string]string{"log": "seq", "dead_letter": "id"}[table], table), commit.String())
		}
		var good, dead, marks []string
		for n := range 16 {
			if slices.Contains(bad, n) {
				dead = append(dead, fmt.Sprint(n))
				continue
			}
			good = append(good, fmt.Sprint(n))
			marks = append(marks, "false")
		}
		if len(marks) > 0 {
			marks[len(marks)-1] = "true"
		}
		require.Equal(t, strings.Join(good, " "), of("tx_seq", "log"), "bad %v", bad)
		require.Equal(t, strings.Join(marks, " "), of("tx_end", "log"), "bad %v", bad)
		require.Equal(t, strings.Join(dead, " "), of("tx_seq", "dead_letter"), "bad %v", bad)
		require.Equal(t, strings.Join(dead, " "), strings.Trim(fmt.Sprint(told), "[]"), "told in order, once")
	}
	require.Equal(t, `shop|event|orders|bad|shop:0000000000001000-00000000-0000|OrderPaid|{"order":"bad","n":0}|t`,
		db.One(t, "SELECT concat_ws('|', source, kind, stream, partition_key, idempotency_key, type, payload, replayable) FROM walbridge.dead_letter WHERE raw IS NULL AND subscription IS NULL AND seq IS NULL ORDER BY id LIMIT 1"))
}

// A mark moves to a row of its own transaction or to none.
func TestMarkOfAPoisonRowStaysInItsTransaction(t *testing.T) {
	t.Parallel()
	db := shared(t)
	choosy(t, db)
	s := opened(t, testConfig(db), "shop")
	b := s.NewBatch()
	for _, it := range []mapper.Item{event(0x10, 0, "good"), event(0x20, 0, "bad"), event(0x30, 0, "good"), event(0x30, 1, "bad")} {
		b.Append([]mapper.Item{it})
		if it.ID.Commit != 0x30 || it.ID.Seq == 1 {
			b.EndTx()
		}
	}
	require.NoError(t, s.Write(ctxOf(t), b, at(0x60)))
	require.Equal(t, "0/10 true 0/30 true", db.One(t, "SELECT string_agg(commit_lsn || ' ' || tx_end, ' ' ORDER BY seq) FROM walbridge.log"))
}

// One row in a thousand: every other row arrives, at a cost that halving bounds.
func TestPoisonOneInAThousand(t *testing.T) {
	t.Parallel()
	db := shared(t)
	choosy(t, db)
	s := opened(t, testConfig(db), "shop")
	const n = 5000
	var bad []int
	for i := 500; i < n; i += 1000 {
		bad = append(bad, i)
	}
	require.NoError(t, s.Write(ctxOf(t), fillWith(s, 0x1000, n, bad...), at(0x1030)))
	require.Equal(t, fmt.Sprint(n-len(bad)), count(t, db, "log"))
	require.Equal(t, fmt.Sprint(len(bad)), count(t, db, "dead_letter"))
	require.Equal(t, "0", db.One(t, "SELECT count(*) FROM (SELECT tx_seq < lag(tx_seq) OVER (ORDER BY seq) AS bad FROM walbridge.log) x WHERE bad"))
}

// A deferred constraint refuses at COMMIT, where no row is named; it is found all
// the same.
func TestDeferredConstraint(t *testing.T) {
	t.Parallel()
	db := shared(t)
	db.Exec(t, `CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN IF NEW.payload->>'order' = 'bad' THEN RAISE 'no'; END IF; RETURN NULL; END $$`)
	s := opened(t, testConfig(db), "shop")
	for _, r := range db.Query(t, "SELECT oid::regclass::text FROM pg_class WHERE relkind = 'r' AND relname ~ '^log_event_'") {
		db.Exec(t, "CREATE CONSTRAINT TRIGGER refuse AFTER INSERT ON "+r[0]+" DEFERRABLE INITIALLY DEFERRED FOR EACH ROW EXECUTE FUNCTION refuse()")
	}
	require.NoError(t, s.Write(ctxOf(t), fillWith(s, 0x1000, 10, 4), at(0x1030)))
	require.Equal(t, "9", count(t, db, "log"))
	require.Equal(t, "raise_exception|4|no (SQLSTATE P0001)", db.One(t, "SELECT concat_ws('|', reason, tx_seq, error) FROM walbridge.dead_letter"))
}

// What no text column can hold is kept whole, and is not replayable: no log could
// hold it.
func TestPoisonThatNoTextCanHold(t *testing.T) {
	t.Parallel()
	db := shared(t)
	s := opened(t, testConfig(db), "shop")
	b := s.NewBatch()
	it := event(0x1000, 0, "a\x00b")
	it.Stream = "bad\xffstream"
	b.Append([]mapper.Item{it, event(0x1000, 0, "fine")})
	b.EndTx()
	require.NoError(t, s.Write(ctxOf(t), b, at(0x1030)))
	require.Equal(t, "1", count(t, db, "log"))
	require.Equal(t, "a\uFFFDb|bad\uFFFDstream|f|data_exception", db.One(t, "SELECT concat_ws('|', partition_key, stream, replayable, reason) FROM walbridge.dead_letter"))
	require.Equal(t, "6100626262616420", db.One(t, `SELECT encode(decode(raw::json->'base64'->>'partition_key', 'base64'), 'hex') || encode('bbad ', 'hex') FROM walbridge.dead_letter`))
	require.Equal(t, "1", count(t, db, "stream"), "no number for a name that cannot be")
}

// Only the closed list condemns a row.
func TestPoisonIsDecidedByAList(t *testing.T) {
	t.Parallel()
	for code, want := range map[string]string{
		"22P02": "data_exception", "22021": "data_exception", "22003": "data_exception", "23502": "not_null_violation",
		"P0001": "raise_exception", "54000": "program_limit_exceeded",
		"42P01": "", "42501": "", "53100": "", "53200": "", "55P03": "", "57014": "", "57P01": "", "40001": "", "40P01": "",
		"23503": "", "54001": "", "P0002": "", "08006": "", "XX000": "", "25P02": "", "0A000": "",
	} {
		reason, poison := poisonReason(fmt.Errorf("copy: %w", &pgconn.PgError{Code: code}))
		require.Equal(t, want != "", poison, code)
		if poison {
			require.Equal(t, want, reason)
		}
	}
	for code, want := range map[string]string{"23505": "unique_violation", "23514": "check_violation", "23P01": "exclusion_violation"} {
		_, poison := poisonReason(&pgconn.PgError{Code: code})
		require.False(t, poison, "%s without a constraint: a partition's", code)
		_, poison = poisonReason(&pgconn.PgError{Code: code, ConstraintName: "batch_pkey"})
		require.False(t, poison, "%s of a constraint of ours", code)
		reason, poison := poisonReason(&pgconn.PgError{Code: code, ConstraintName: "theirs"})
		require.True(t, poison, code)
		require.Equal(t, want, reason)
	}
	require.False(t, isPoison(nil))
	require.False(t, isPoison(context.Canceled))
}

// What OnPoison returns ends the write, and nothing of it is stored: no row, no
// dead letter, no position.
func TestOnPoisonAborts(t *testing.T) {
	t.Parallel()
	db := shared(t)
	choosy(t, db)
	s := newTest(t, testConfig(db))
	enough := errors.New("enough")
	_, err := s.Open(ctxOf(t), sink.Source{Name: "shop", OnPoison: func(sink.Poison) error { return enough }})
	require.NoError(t, err)
	err = s.Write(ctxOf(t), fillWith(s, 0x1000, 10, 4), at(0x1030))
	require.Equal(t, enough, err)
	for _, table := range []string{"log", "dead_letter", "batch"} {
		require.Equal(t, "0", count(t, db, table))
	}
	pgtest.Eventually(t, within, func() bool { // the upkeep takes it for a moment
		return db.One(t, "SELECT count(*) FROM pg_locks WHERE locktype = 'advisory' AND database = (SELECT oid FROM pg_database WHERE datname = current_database())") == "0"
	}, "the log is free")
}
