package consumers

import (
	"context"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/status"
)

// Lane is one lane of a subscription.
type Lane struct {
	Lane         int            `json:"lane"`
	Owner        string         `json:"owner,omitempty"` // the last one; see Held
	Held         bool           `json:"held"`            // the owner's lease has not run out
	Generation   int64          `json:"lease_generation"`
	LeaseEnds    time.Time      `json:"lease_expires_at"`
	Seq          int64          `json:"seq"` // everything up to it is settled, parked or dead
	CheckpointAt time.Time      `json:"checkpoint_at"`
	Parked       int64          `json:"parked"`
	Lag          status.Backlog `json:"lag"`
}

// sqlScan reads what follows a seq in the streams of a subscription, a range of the
// index for each: at most $2 rows, divided among the streams.
const sqlScan = `
c AS MATERIALIZED (
    SELECT l.*, k.seq, k.settled, k.at FROM %[1]s.lane l
    CROSS JOIN LATERAL (SELECT k.seq, k.settled, k.at FROM %[1]s.checkpoint k WHERE k.subscription = l.subscription AND k.lane = l.lane ORDER BY k.n DESC LIMIT 1) k
    WHERE l.subscription = $1),
ids AS MATERIALIZED (
    SELECT t.id FROM %[1]s.subscription s CROSS JOIN unnest(s.streams) AS p (pattern)
    JOIN %[1]s.stream t ON CASE WHEN p.pattern LIKE '%%*' THEN starts_with(t.name, left(p.pattern, -1)) ELSE t.name = p.pattern END
    WHERE s.name = $1 GROUP BY t.id),
share AS MATERIALIZED (SELECT greatest($2::bigint / greatest(count(*), 1), 10) AS most FROM ids),
span AS MATERIALIZED (SELECT {{low}} AS low, {{high}} AS high),
scanned AS MATERIALIZED (
    SELECT g.* FROM ids CROSS JOIN LATERAL (
        (SELECT e.stream_id, 1 AS kind, e.seq, e.lane FROM %[1]s.log e WHERE e.kind = 'event' AND e.stream_id = ids.id
            AND e.seq > (SELECT low FROM span) AND e.seq <= (SELECT high FROM span) ORDER BY e.seq LIMIT (SELECT most FROM share))
        UNION ALL
        (SELECT h.stream_id, 2, h.seq, h.lane FROM %[1]s.log h WHERE h.kind = 'change' AND h.stream_id = ids.id
            AND h.seq > (SELECT low FROM span) AND h.seq <= (SELECT high FROM span) ORDER BY h.seq LIMIT (SELECT most FROM share))) g),
cut AS (SELECT coalesce(bool_or(n >= (SELECT most FROM share)), false) AS more FROM (SELECT count(*) AS n FROM scanned GROUP BY stream_id, kind) n)`

// scanOf fills in the bounds of sqlScan, seqs: above low, up to high.
func scanOf(low, high string) string {
	return "WITH" + strings.NewReplacer("{{low}}", low, "{{high}}", high).Replace(sqlScan)
}

// sqlLanes finds the oldest item of each lane that is not settled, and then its
// commit time.
var sqlLanes = scanOf("(SELECT coalesce(min(seq), 0) FROM c)", "9223372036854775807") + `,
o AS (
    SELECT g.lane, count(*) AS items, min(ARRAY[g.seq, g.stream_id, g.kind]) AS oldest
    FROM scanned g JOIN c ON c.lane = g.lane WHERE g.seq > c.seq AND NOT c.settled @> g.seq GROUP BY 1)
SELECT c.lane, coalesce(c.owner, ''), c.owner IS NOT NULL AND c.lease_expires_at > clock_timestamp(), c.lease_generation, c.lease_expires_at, c.seq, c.at,
    (SELECT count(*) FROM %[1]s.parked p WHERE p.subscription = c.subscription AND p.lane = c.lane),
    coalesce(o.items, 0), cut.more,
    CASE WHEN o.lane IS NOT NULL THEN greatest(extract(epoch FROM clock_timestamp() - (
        SELECT g.committed_at FROM %[1]s.log g WHERE g.kind = CASE o.oldest[3] WHEN 1 THEN 'event' ELSE 'change' END
            AND g.stream_id = o.oldest[2] AND g.seq = o.oldest[1] LIMIT 1)), 0)::double precision
        WHEN NOT cut.more THEN 0 END
FROM c LEFT JOIN o ON o.lane = c.lane CROSS JOIN cut ORDER BY c.lane`

// Lanes reads the lanes of a subscription, in their order; none when there is no such
// one. bound is how many items of the log are looked at for their lag.
func (b *Board) Lanes(ctx context.Context, name string, bound int) ([]Lane, error) {
	rows, err := b.conn.Query(ctx, fmt.Sprintf(sqlLanes, b.schema), name, bound)
	if err != nil {
		return nil, fmt.Errorf("read the lanes of %s: %w", name, err)
	}
	all, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (l Lane, err error) {
		err = r.Scan(&l.Lane, &l.Owner, &l.Held, &l.Generation, &l.LeaseEnds, &l.Seq, &l.CheckpointAt, &l.Parked, &l.Lag.Items, &l.Lag.More, &l.Lag.Seconds)
		return l, err
	})
	if err != nil {
		return nil, fmt.Errorf("read the lanes of %s: %w", name, err)
	}
	return all, nil
}
