package torture

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// batchSQL finds rows of batch that do not follow the one before them: a gap in n,
// seqs that overlap, a position that did not rise.
const batchSQL = `SELECT n, why FROM (
	SELECT n, CASE
		WHEN n <> lag(n) OVER w + 1 THEN 'n does not follow ' || lag(n) OVER w
		WHEN last_seq < first_seq OR first_seq <= max(last_seq) OVER (w ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING) THEN 'its seqs begin before the end of an earlier batch'
		WHEN (end_lsn, coalesce(commit_lsn, '0/0'), coalesce(tx_seq, 0), coalesce(sub, 0)) < lag((end_lsn, coalesce(commit_lsn, '0/0'), coalesce(tx_seq, 0), coalesce(sub, 0))) OVER w THEN 'its position lies before that of the batch before it'
		WHEN last_tx_end > end_lsn AND commit_lsn IS NULL THEN 'the end of its last transaction lies behind its position'
	END AS why
	FROM %[1]s WHERE source = $1 WINDOW w AS (ORDER BY n)) b
WHERE why IS NOT NULL ORDER BY n LIMIT 1`

// uncoveredSQL finds rows of log that no batch of their source accounts for. Rows
// of batch may have been trimmed from the oldest on.
const uncoveredSQL = `SELECT seq FROM %[2]s l WHERE source = $1
	AND seq >= (SELECT min(first_seq) FROM %[1]s WHERE source = $1) AND NOT EXISTS (
	SELECT FROM %[1]s b WHERE b.source = l.source AND l.seq BETWEEN b.first_seq AND b.last_seq) ORDER BY seq LIMIT 1`

// CheckBatches checks the position of a source: its rows of batch follow one
// another without a gap, and every row of the log lies in one of them.
func (l *LogReader) CheckBatches(ctx context.Context, sourceName string) error {
	conn, err := pgx.Connect(ctx, l.DSN)
	if err != nil {
		return fmt.Errorf("connect to check the batches: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, q := range []string{batchSQL, uncoveredSQL} {
		rows, err := conn.Query(ctx, fmt.Sprintf(q, l.table("batch"), l.table("log")), sourceName)
		if err != nil {
			return fmt.Errorf("check the batches: %w", err)
		}
		found, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (*Finding, error) {
			v, err := r.Values()
			if err != nil {
				return nil, err
			}
			if len(v) == 2 {
				return &Finding{Rule: RuleBatches, What: fmt.Sprintf("batch %v of %s: %v", v[0], sourceName, v[1])}, nil
			}
			return &Finding{Rule: RuleBatches, What: fmt.Sprintf("seq %v of %s lies in no batch", v[0], sourceName)}, nil
		})
		if err != nil {
			return fmt.Errorf("check the batches: %w", err)
		}
		if len(found) > 0 {
			return found[0]
		}
	}
	return nil
}

// CheckDeadLetters checks that the bridge has put nothing aside.
func (l *LogReader) CheckDeadLetters(ctx context.Context, sourceName string) error {
	conn, err := pgx.Connect(ctx, l.DSN)
	if err != nil {
		return fmt.Errorf("connect to check the dead letters: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var n int
	var first string
	err = conn.QueryRow(ctx, "SELECT count(*), coalesce(min(reason || ': ' || error), '') FROM "+l.table("dead_letter")+
		" WHERE source = $1 AND subscription IS NULL", sourceName).Scan(&n, &first)
	if err != nil {
		return fmt.Errorf("check the dead letters: %w", err)
	}
	if n > 0 {
		return &Finding{Rule: RuleDeadLetters, What: fmt.Sprintf("%d dead letters of %s, such as %s", n, sourceName, first)}
	}
	return nil
}
