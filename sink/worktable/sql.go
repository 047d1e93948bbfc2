package worktable

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/migrations"
)

// The writer's statements go as simple queries, several in one message, so values
// are literals: numbers, and strings quoted by migrations.Literal.

func quote(s string) string { return migrations.Literal(s) }

func (q statements) version() string {
	return fmt.Sprintf("SELECT version, compatible_from, %s.lanes() FROM %[1]s.schema_version", q.schema)
}

func (q statements) addSource(name string) string {
	return fmt.Sprintf("INSERT INTO %s.source (name) VALUES (%s) ON CONFLICT DO NOTHING", q.schema, quote(name))
}

func (q statements) lockSource(name string) string {
	return fmt.Sprintf("SELECT 1 FROM %s.source WHERE name = %s FOR UPDATE", q.schema, quote(name))
}

// sourceColumns are what parseSource reads.
const sourceColumns = `o.epoch, coalesce(o.opened_by, ''), o.slot, o.system_id, o.timeline, o.config_hash, o.phase, encode(o.cursors, 'hex')`

func (q statements) source(name string) string {
	return fmt.Sprintf("SELECT %s FROM %s.source o WHERE o.name = %s", sourceColumns, q.schema, quote(name))
}

// raiseEpoch returns the row as it was before.
func (q statements) raiseEpoch(name, instance string) string {
	return fmt.Sprintf(`UPDATE %s.source s SET epoch = s.epoch + 1, opened_by = %s, opened_at = clock_timestamp()
FROM %[1]s.source o WHERE s.name = %[3]s AND o.name = s.name
RETURNING %[4]s`, q.schema, quote(instance), quote(name), sourceColumns)
}

// batchColumns are what readLatest reads. A time is read as microseconds since
// 2000, which extract(epoch) of a numeric keeps exact.
const batchColumns = `n, end_lsn, last_tx_end, commit_lsn, tx_seq, sub, timeline, xid,
(extract(epoch FROM commit_ts)::numeric * 1000000 - 946684800000000)::bigint`

func (q statements) latest(name string) string {
	return fmt.Sprintf("SELECT %s FROM %s.batch WHERE source = %s ORDER BY n DESC LIMIT 1", batchColumns, q.schema, quote(name))
}

// takeSeqs waits for the log and takes a block. The snapshot of each statement is
// its own, so the block is read after the lock is there.
func (q statements) takeSeqs(n int) string {
	return fmt.Sprintf("SELECT %s.lock_log(); SELECT %[1]s.take_seq(%d)", q.schema, n)
}

func (q statements) copyLog() string {
	return "COPY " + q.schema + ".log (" + logColumns + ") FROM STDIN (FORMAT binary)"
}

func (q statements) copyLetters() string {
	return "COPY " + q.schema + ".dead_letter (" + letterColumns + ") FROM STDIN (FORMAT binary)"
}

// finish is the end of a write: the batch row, the source row when it says
// something new, the fence, COMMIT. The server stops at the first error, so a fence
// that raises leaves nothing but a failed transaction behind.
func (q statements) finish(w batchRow, changed *lsn.Progress) string {
	var b strings.Builder
	p := w.to.Position
	fmt.Fprintf(&b, "INSERT INTO %s.batch (source, n, first_seq, last_seq, end_lsn, last_tx_end, commit_lsn, tx_seq, sub, timeline, xid, commit_ts) VALUES (%s, %d, %s, %s, '%s', '%s', ",
		q.schema, quote(w.source), w.n, number(w.firstSeq), number(w.lastSeq), p.End, p.LastTxEnd)
	if p.Inside() {
		fmt.Fprintf(&b, "'%s', %d, %d, ", p.Commit, p.Seq, p.Sub)
	} else {
		b.WriteString("NULL, NULL, NULL, ")
	}
	fmt.Fprintf(&b, "%d, %s, %s); ", w.to.Timeline, xid(w.to.Xid), commitTime(w.to))
	if changed != nil {
		b.WriteString(q.updateSource(w.source, w.epoch, *changed))
	}
	fmt.Fprintf(&b, "SELECT %s.fence(%s, %d); COMMIT", q.schema, quote(w.source), w.epoch)
	return b.String()
}

func (q statements) updateSource(name string, epoch int64, p lsn.Progress) string {
	cursors := "NULL"
	if p.Cursors != nil {
		cursors = `'\x` + hex.EncodeToString(p.Cursors) + "'"
	}
	return fmt.Sprintf("UPDATE %s.source SET slot = %s, system_id = %d, timeline = %d, config_hash = %s, phase = %s, cursors = %s WHERE name = %s AND epoch = %d; ",
		q.schema, quote(p.Slot), int64(p.SystemID), p.Timeline, quote(p.ConfigHash), quote(string(p.Phase)), cursors, quote(name), epoch)
}

// batchRow is what a write adds to batch.
type batchRow struct {
	source            string
	epoch, n          int64
	firstSeq, lastSeq int64 // 0: no row of log
	to                lsn.Progress
}

func number(n int64) string {
	if n == 0 {
		return "NULL"
	}
	return strconv.FormatInt(n, 10)
}

func xid(x uint64) string {
	if x == 0 {
		return "NULL"
	}
	return "'" + strconv.FormatUint(x, 10) + "'"
}

func commitTime(p lsn.Progress) string {
	if p.CommitTime.IsZero() {
		return "NULL"
	}
	return p.CommitTime.UTC().Format("'2006-01-02 15:04:05.999999+00'")
}
