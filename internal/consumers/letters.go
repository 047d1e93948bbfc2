package consumers

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
)

// Letter is a dead letter of a subscription: an item that its workers gave up.
type Letter struct {
	ID           int64           `json:"id"`
	Subscription string          `json:"subscription"`
	Seq          int64           `json:"seq"`
	Bridge       string          `json:"bridge"`
	Stream       string          `json:"stream,omitempty"`
	Key          *string         `json:"key,omitempty"`
	EventID      string          `json:"event_id,omitempty"`
	Kind         string          `json:"kind,omitempty"`
	Type         string          `json:"type,omitempty"`
	Reason       string          `json:"reason"`
	Error        string          `json:"error"`
	Attempts     int             `json:"attempts"`
	State        string          `json:"state"` // open, replayed, discarded
	Replayable   bool            `json:"replayable"`
	CommittedAt  *time.Time      `json:"committed_at,omitempty"`
	DiedAt       time.Time       `json:"died_at"`
	Errors       json.RawMessage `json:"errors,omitempty"`  // of each attempt that is remembered; in a list nil
	Payload      json.RawMessage `json:"payload,omitempty"` // in a list nil
	Headers      json.RawMessage `json:"headers,omitempty"` // in a list nil
}

// LetterFilter chooses letters. What is empty chooses all.
type LetterFilter struct {
	Subscription, Stream, Key, Reason string
	Resolved                          bool  // also those that were replayed or discarded
	After                             int64 // the last id of the page before
	Limit                             int   // 1 to 1000
}

// ErrNoLetter: no subscription has a dead letter of that id.
var ErrNoLetter = errors.New("no such dead letter")

const sqlLetters = `
SELECT id, subscription, seq, source, coalesce(stream, ''), partition_key, coalesce(idempotency_key, ''), coalesce(kind, ''), coalesce(type, ''),
    reason, error, attempts, coalesce(resolution, 'open'), replayable, committed_at, died_at,
    CASE WHEN $1 THEN errors::text END, CASE WHEN $1 THEN payload END, CASE WHEN $1 THEN headers END
FROM %[1]s.dead_letter WHERE subscription IS NOT NULL AND `

func scanLetter(r pgx.CollectableRow) (l Letter, err error) {
	var failures, payload, headers *string
	err = r.Scan(&l.ID, &l.Subscription, &l.Seq, &l.Bridge, &l.Stream, &l.Key, &l.EventID, &l.Kind, &l.Type, &l.Reason, &l.Error, &l.Attempts,
		&l.State, &l.Replayable, &l.CommittedAt, &l.DiedAt, &failures, &payload, &headers)
	l.Errors, l.Payload, l.Headers = raw(failures), raw(payload), raw(headers)
	return l, err
}

// raw is a text of JSON; what log once held is valid.
func raw(text *string) json.RawMessage {
	if text == nil || !json.Valid([]byte(*text)) {
		return nil
	}
	return json.RawMessage(*text)
}

// Letters returns a page, the oldest first. The error may be *UnknownError.
func (b *Board) Letters(ctx context.Context, f LetterFilter) ([]Letter, error) {
	rows, err := b.conn.Query(ctx, fmt.Sprintf(sqlLetters, b.schema)+`id > $2 AND ($3 = '' OR subscription = $3) AND ($4 = '' OR stream = $4)
		AND ($5 = '' OR partition_key = $5) AND ($6 = '' OR reason = $6) AND ($7 OR resolution IS NULL) ORDER BY id LIMIT $8`,
		false, f.After, f.Subscription, f.Stream, f.Key, f.Reason, f.Resolved, min(max(f.Limit, 1), most))
	if err != nil {
		return nil, fmt.Errorf("list dead letters: %w", err)
	}
	all, err := pgx.CollectRows(rows, scanLetter)
	if err != nil {
		return nil, fmt.Errorf("list dead letters: %w", err)
	}
	if len(all) > 0 || f.Subscription == "" {
		return all, nil
	}
	heads, err := b.heads(ctx, f.Subscription)
	if err == nil && len(heads) == 0 {
		err = b.unknown(ctx, f.Subscription) // one that was dropped may have letters, and then it is found above
	}
	return all, err
}

// Letter returns one letter, whole. The error may be ErrNoLetter.
func (b *Board) Letter(ctx context.Context, id int64) (Letter, error) {
	rows, err := b.conn.Query(ctx, fmt.Sprintf(sqlLetters, b.schema)+"id = $2", true, id)
	if err != nil {
		return Letter{}, fmt.Errorf("show dead letter %d: %w", id, err)
	}
	l, err := pgx.CollectExactlyOneRow(rows, scanLetter)
	if none(err) {
		return l, fmt.Errorf("%w: %d", ErrNoLetter, id)
	}
	if err != nil {
		return l, fmt.Errorf("show dead letter %d: %w", id, err)
	}
	return l, nil
}

// Later is an item of a letter's key that is behind it in the log.
type Later struct {
	Seq  int64
	Type string
	Done bool // the subscription has settled, parked or buried it
}

const (
	maxLater     = 10
	laterTimeout = 3 * time.Second
)

const sqlLater = `
WITH ids AS MATERIALIZED (
    SELECT t.id FROM %[1]s.subscription s CROSS JOIN unnest(s.streams) AS p (pattern)
    JOIN %[1]s.stream t ON CASE WHEN p.pattern LIKE '%%*' THEN starts_with(t.name, left(p.pattern, -1)) ELSE t.name = p.pattern END
    WHERE s.name = $1 GROUP BY t.id)
SELECT g.seq, coalesce(g.type, ''), g.seq <= k.seq OR k.settled @> g.seq
FROM (
    SELECT g.* FROM ids CROSS JOIN LATERAL (
        (SELECT * FROM %[1]s.log e WHERE e.kind = 'event' AND e.stream_id = ids.id AND e.seq > $2 AND e.lane = %[1]s.lane($3) AND e.partition_key = $3 ORDER BY e.seq LIMIT $4)
        UNION ALL
        (SELECT * FROM %[1]s.log h WHERE h.kind = 'change' AND h.stream_id = ids.id AND h.seq > $2 AND h.lane = %[1]s.lane($3) AND h.partition_key = $3 ORDER BY h.seq LIMIT $4)) g
    ORDER BY g.seq LIMIT $4) g
CROSS JOIN LATERAL (SELECT k.seq, k.settled FROM %[1]s.checkpoint k WHERE k.subscription = $1 AND k.lane = g.lane ORDER BY k.n DESC LIMIT 1) k
ORDER BY g.seq`

// Later finds the first items of the letter's key that follow it in the log, at most
// ten. unknown: the search took too long.
func (b *Board) Later(ctx context.Context, l Letter) (later []Later, unknown bool, err error) {
	if l.Key == nil {
		return nil, false, nil // it has no order
	}
	err = pgx.BeginTxFunc(ctx, b.conn, pgx.TxOptions{AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, fmt.Sprintf("SET LOCAL statement_timeout = %d", laterTimeout.Milliseconds())); err != nil {
			return err
		}
		rows, err := tx.Query(ctx, fmt.Sprintf(sqlLater, b.schema), l.Subscription, l.Seq, *l.Key, maxLater)
		if err != nil {
			return err
		}
		later, err = pgx.CollectRows(rows, pgx.RowToStructByPos[Later])
		return err
	})
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == codeTimeout && ctx.Err() == nil {
		return nil, true, nil
	}
	if err != nil {
		return nil, false, fmt.Errorf("look for later items of the key: %w", err)
	}
	return later, false, nil
}

// Resolve says how letters are closed.
type Resolve struct {
	IfLatest bool   // of a replay: not where log has a newer item of the key
	Trial    bool   // do it, and take it back
	Note     string // why, for the operation table
}

// Replay puts a letter's item back under its seq, for its subscription's workers.
func (b *Board) Replay(ctx context.Context, l Letter, how Resolve) error {
	return b.resolve(ctx, l, how, "SELECT "+b.schema+".replay($1, $2, $3)", l.ID, how.IfLatest, b.tool)
}

// Discard closes a letter for good; a key that it blocked goes on.
func (b *Board) Discard(ctx context.Context, l Letter, how Resolve) error {
	return b.resolve(ctx, l, how, "SELECT "+b.schema+".discard($1, $2)", l.ID, b.tool)
}

// resolve calls a function of the schema, and notes why beside the operation that
// the function notes.
func (b *Board) resolve(ctx context.Context, l Letter, how Resolve, sql string, args ...any) error {
	err := b.inTx(ctx, how.Trial, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, sql, args...); err != nil || how.Note == "" {
			return err
		}
		_, err := tx.Exec(ctx, "INSERT INTO "+b.schema+`.operation (who, tool_version, command, target, arguments)
			VALUES (session_user, $1, 'note', $2, json_build_object('id', $3::bigint, 'note', $4::text))`, b.tool, l.Subscription, l.ID, how.Note)
		return err
	})
	return b.explain(ctx, l.Subscription, err)
}
