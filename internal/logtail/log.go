package logtail

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/migrations"
)

// Item is one row of the log.
type Item struct {
	Seq         int64           `json:"seq"`
	Stream      string          `json:"stream"`
	Key         *string         `json:"key"` // nil: it has no order
	Kind        string          `json:"kind"`
	Type        string          `json:"type,omitempty"`
	ID          string          `json:"id"` // the idempotency key
	Lane        int             `json:"lane"`
	Source      string          `json:"source"`
	CommitLSN   string          `json:"commit_lsn"`
	CommittedAt time.Time       `json:"committed_at"`
	AvailableAt *time.Time      `json:"available_at,omitempty"`
	Payload     json.RawMessage `json:"payload"` // nil: there is none
	Headers     json.RawMessage `json:"headers,omitempty"`
}

// Choice says which items are read.
type Choice struct {
	// Streams are exact names, prefixes that end with *, or *. At least one.
	Streams []string
	// Key: only items of this key; nil: all.
	Key *string
}

// Log reads over a session. It is for one goroutine.
type Log struct {
	conn   *pgx.Conn
	schema string   // quoted
	exact  []string // names
	prefix []string // of names
	key    *string
}

// ErrNoStream: no stream has such a name, so far.
var ErrNoStream = errors.New("the log has no such stream")

// Open makes a Log over a session, which stays the caller's and is set up for it:
// without sequential scans, whatever the statistics say.
func Open(ctx context.Context, conn *pgx.Conn, schema string, c Choice) (*Log, error) {
	l := &Log{conn: conn, schema: migrations.Ident(schema), exact: []string{}, prefix: []string{}, key: c.Key}
	for _, s := range c.Streams {
		p, wild := strings.CutSuffix(s, "*")
		switch {
		case s == "" || strings.Contains(p, "*"):
			return nil, fmt.Errorf("%q is no stream: a name, a prefix and *, or *", s)
		case wild:
			l.prefix = append(l.prefix, p)
		default:
			l.exact = append(l.exact, s)
		}
	}
	if len(c.Streams) == 0 {
		return nil, errors.New("name a stream, or *")
	}
	_, err := conn.Exec(ctx, "SET enable_seqscan = off; SET enable_bitmapscan = off; SET jit = off", pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return nil, fmt.Errorf("prepare the session: %w", err)
	}
	return l, nil
}

// Check returns ErrNoStream, with the names that there are, when none is chosen.
func (l *Log) Check(ctx context.Context) error {
	var chosen int
	var known []string
	err := l.conn.QueryRow(ctx, l.sql(withStreams+"SELECT (SELECT count(*) FROM s), ARRAY(SELECT name FROM %[1]s.stream ORDER BY name LIMIT 20)"),
		l.exact, l.prefix).Scan(&chosen, &known)
	switch {
	case err != nil:
		return fmt.Errorf("look for the streams: %w", err)
	case chosen > 0:
		return nil
	case len(known) == 0:
		return fmt.Errorf("%w; it has none yet", ErrNoStream)
	}
	for i, name := range known {
		if quoted := strconv.Quote(name); len(quoted) != len(name)+2 {
			known[i] = quoted // what a terminal would take for a command
		}
	}
	return fmt.Errorf("%w; it has %s", ErrNoStream, strings.Join(known, ", "))
}

func (l *Log) sql(text string) string { return fmt.Sprintf(text, l.schema) }

// withStreams resolves the names in the statement that reads, so that a stream that
// is new is read from its first item on.
const withStreams = `
WITH s AS MATERIALIZED (
    SELECT id FROM %[1]s.stream WHERE name = ANY ($1::text[])
    UNION SELECT t.id FROM unnest($2::text[]) AS p (prefix) JOIN %[1]s.stream t ON starts_with(t.name, p.prefix))
`

// both reads a range of the index for each stream, of each kind of item. {{columns}}
// and {{rest}} are filled in.
const both = `
FROM s CROSS JOIN LATERAL (
    (SELECT {{columns}} FROM %[1]s.log g WHERE g.kind = 'event' AND g.stream_id = s.id {{rest}})
    UNION ALL
    (SELECT {{columns}} FROM %[1]s.log g WHERE g.kind = 'change' AND g.stream_id = s.id {{rest}})) g
`

func from(columns, rest string) string {
	return strings.NewReplacer("{{columns}}", columns, "{{rest}}", rest).Replace(both)
}

// ofKey narrows a statement to a key, which is parameter n; the index holds the lane.
func (l *Log) ofKey(n int) string {
	if l.key == nil {
		return ""
	}
	return fmt.Sprintf(" AND g.lane = %%[1]s.lane($%d) AND g.partition_key = $%[1]d", n)
}

func (l *Log) args(more ...any) []any {
	args := append([]any{l.exact, l.prefix}, more...)
	if l.key != nil {
		args = append(args, *l.key)
	}
	return args
}

// Head returns the highest seq of the chosen streams, 0 when they have no item.
// Nothing of them appears at or below it any more.
func (l *Log) Head(ctx context.Context) (int64, error) {
	var seq int64
	err := l.conn.QueryRow(ctx, l.sql(withStreams+"SELECT coalesce(max(g.seq), 0)"+from("g.seq", "ORDER BY g.seq DESC LIMIT 1")), l.exact, l.prefix).Scan(&seq)
	if err != nil {
		return 0, fmt.Errorf("look for the end of the log: %w", err)
	}
	return seq, nil
}

const columns = `g.seq, g.stream, g.partition_key, g.kind, g.type, g.idempotency_key, g.lane, g.source, g.commit_lsn, g.committed_at, g.available_at, g.payload, g.headers`

// pageSQL is the statement of a page: above $3, up to $4, at most $5 items.
func (l *Log) pageSQL() string {
	return l.sql(withStreams + `SELECT g.seq, g.stream, g.partition_key, g.kind, coalesce(g.type, ''), g.idempotency_key, g.lane, g.source, g.commit_lsn::text,
	g.committed_at, g.available_at, g.payload::text, g.headers::text` +
		from(columns, "AND g.seq > $3 AND g.seq <= $4"+l.ofKey(6)+" ORDER BY g.seq LIMIT $5") + "ORDER BY g.seq, g.lane LIMIT $5")
}

// page gives the first items of a range to each, as they come from the server, until
// each returns false. It returns how many there were and the seq of the last.
func (l *Log) page(ctx context.Context, after, upto int64, limit int, each func(Item) (bool, error)) (n int, last int64, on bool, err error) {
	rows, err := l.conn.Query(ctx, l.pageSQL(), l.args(after, upto, limit)...)
	if err != nil {
		return 0, 0, false, fmt.Errorf("read the log: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		i, err := scan(rows)
		if err != nil {
			return n, last, false, fmt.Errorf("read the log: %w", err)
		}
		n, last = n+1, i.Seq
		if on, err := each(i); err != nil || !on {
			return n, last, false, err
		}
	}
	if err := rows.Err(); err != nil {
		return n, last, false, fmt.Errorf("read the log: %w", err)
	}
	return n, last, true, nil
}

func scan(r pgx.Row) (i Item, err error) {
	var payload, headers *string
	err = r.Scan(&i.Seq, &i.Stream, &i.Key, &i.Kind, &i.Type, &i.ID, &i.Lane, &i.Source, &i.CommitLSN, &i.CommittedAt, &i.AvailableAt, &payload, &headers)
	i.Payload, i.Headers = raw(payload), raw(headers)
	return i, err
}

func raw(text *string) json.RawMessage {
	if text == nil {
		return nil
	}
	return json.RawMessage(*text)
}
