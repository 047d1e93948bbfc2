package consumers

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/migrations"
)

// Board reads and changes consumers over a session. It is for one goroutine.
type Board struct {
	conn   *pgx.Conn
	schema string // quoted
	tool   string
}

// New makes a board over a session, which stays the caller's and is set up for it:
// without sequential scans, so that a look at a large log is a look into its indexes
// whatever the statistics say. tool is what operation rows say of the program.
func New(ctx context.Context, conn *pgx.Conn, schema, tool string) (*Board, error) {
	_, err := conn.Exec(ctx, "SET enable_seqscan = off; SET enable_bitmapscan = off; SET jit = off", pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		return nil, fmt.Errorf("prepare the session: %w", err)
	}
	return &Board{conn: conn, schema: migrations.Ident(schema), tool: tool}, nil
}

// most bounds the subscriptions and workflows of one look.
const most = 1000

// All returns the consumers as they are now. Once it has taken budget (0: as long as
// it takes) the lag of further subscriptions stays unknown.
func (b *Board) All(ctx context.Context, budget time.Duration) (status.Consumers, error) {
	var c status.Consumers
	if err := b.conn.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&c.At); err != nil {
		return c, fmt.Errorf("read the clock: %w", err)
	}
	var err error
	if c.Subscriptions, err = b.Subscriptions(ctx, budget); err != nil {
		return c, err
	}
	c.Workflows, err = b.Workflows(ctx)
	return c, err
}

const sqlSubscriptions = `
SELECT s.name, s.streams,
    CASE WHEN s.state = 'active' AND (p.items >= coalesce((s.settings ->> 'max_parked')::bigint, 100000)
            OR p.bytes >= coalesce((s.settings ->> 'max_parked_bytes')::bigint, 268435456)) THEN 'full' ELSE s.state END,
    l.lanes, l.owned, (SELECT count(*) FROM %[1]s.worker w WHERE w.subscription = s.name AND w.expires_at > clock_timestamp()),
    p.items, coalesce(d.letters, 0),
    (SELECT extract(epoch FROM max(clock_timestamp() - r.held_since))::double precision FROM %[1]s.retention r WHERE s.name = ANY (r.held_by))
FROM %[1]s.subscription s
CROSS JOIN LATERAL (
    SELECT count(*) AS lanes, count(*) FILTER (WHERE l.owner IS NOT NULL AND l.lease_expires_at > clock_timestamp()) AS owned
    FROM %[1]s.lane l WHERE l.subscription = s.name) l
CROSS JOIN LATERAL (SELECT count(*) AS items, coalesce(sum(p.bytes), 0) AS bytes FROM %[1]s.parked p WHERE p.subscription = s.name) p
LEFT JOIN (
    SELECT d.subscription, count(*) AS letters
    FROM (SELECT d.subscription FROM %[1]s.dead_letter d WHERE d.resolution IS NULL AND d.subscription IS NOT NULL LIMIT 100000) d
    GROUP BY 1) d ON d.subscription = s.name
WHERE $1 = '' OR s.name = $1 ORDER BY s.name LIMIT $2`

// Subscriptions returns all subscriptions in order of their names; budget as for All.
func (b *Board) Subscriptions(ctx context.Context, budget time.Duration) ([]status.Subscription, error) {
	begun := time.Now()
	all, err := b.heads(ctx, "")
	if err != nil {
		return nil, err
	}
	for i := range all {
		all[i].Lag.More = true // unknown
		if budget > 0 && time.Since(begun) > budget {
			continue
		}
		if err := b.progress(ctx, &all[i]); err != nil {
			return nil, err
		}
	}
	return all, nil
}

// counted is where the schema's subscription_progress ends counting.
const counted = 10_000

// progress adds how far a subscription is. What the server cannot tell within the
// session's statement_timeout stays unknown.
func (b *Board) progress(ctx context.Context, s *status.Subscription) error {
	var lag float64
	err := b.conn.QueryRow(ctx, "SELECT seq, items, lag_ms::double precision / 1000 FROM "+b.schema+".subscription_progress($1)", s.Name).
		Scan(&s.SettledSeq, &s.Lag.Items, &lag)
	var pg *pgconn.PgError
	switch {
	case errors.As(err, &pg) && (pg.Code == codeTimeout && ctx.Err() == nil || pg.Code == migrations.CodeUnknownSubscription):
		return nil // or it was dropped just now
	case err != nil:
		return fmt.Errorf("look how far %s is: %w", s.Name, err)
	}
	s.Lag.Seconds, s.Lag.More = &lag, s.Lag.Items >= counted
	return nil
}

// codeTimeout is query_canceled: a statement_timeout, when nobody has cancelled.
const codeTimeout = "57014"

// heads returns what is known of subscriptions, or of one, without their lanes.
func (b *Board) heads(ctx context.Context, name string) ([]status.Subscription, error) {
	rows, err := b.conn.Query(ctx, fmt.Sprintf(sqlSubscriptions, b.schema), name, most)
	if err != nil {
		return nil, fmt.Errorf("list subscriptions: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (s status.Subscription, err error) {
		err = r.Scan(&s.Name, &s.Streams, &s.State, &s.Lanes, &s.LanesOwned, &s.Workers, &s.Parked, &s.Dead, &s.HoldsSeconds)
		return s, err
	})
	if err != nil {
		return nil, fmt.Errorf("list subscriptions: %w", err)
	}
	return all, nil
}

// UnknownError says that there is no subscription of a name, and which there are.
type UnknownError struct {
	Name  string
	Known []string // in order; at most a thousand
}

// Error names those that there are.
func (e *UnknownError) Error() string {
	if len(e.Known) == 0 {
		return fmt.Sprintf("there is no subscription %q, nor any other: a program makes one with the library queue, or with the SQL function subscribe", e.Name)
	}
	const shown = 20
	text := fmt.Sprintf("there is no subscription %q; there are: ", e.Name)
	for i, name := range e.Known[:min(len(e.Known), shown)] {
		if i > 0 {
			text += ", "
		}
		text += name
	}
	if more := len(e.Known) - shown; more > 0 {
		text += fmt.Sprintf(" and %d more", more)
	}
	return text
}

// unknown makes an UnknownError of a name.
func (b *Board) unknown(ctx context.Context, name string) error {
	rows, err := b.conn.Query(ctx, "SELECT name FROM "+b.schema+".subscription ORDER BY 1 LIMIT $1", most)
	if err != nil {
		return fmt.Errorf("list subscriptions: %w", err)
	}
	known, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("list subscriptions: %w", err)
	}
	return &UnknownError{name, known}
}

// Subscription returns one subscription. The error may be *UnknownError.
func (b *Board) Subscription(ctx context.Context, name string) (status.Subscription, error) {
	all, err := b.heads(ctx, name)
	if err == nil && len(all) == 0 {
		err = b.unknown(ctx, name)
	}
	if err != nil {
		return status.Subscription{}, err
	}
	return all[0], b.progress(ctx, &all[0])
}

const sqlWorkflows = `
SELECT i.name, count(*) FILTER (WHERE i.status = 'running'), count(*) FILTER (WHERE i.status = 'waiting'),
    count(*) FILTER (WHERE i.status = 'compensating'), count(*) FILTER (WHERE i.status = 'failed'), count(*) FILTER (WHERE i.status = 'halted')
FROM (
    (SELECT name, status FROM %[1]s.workflow_instance WHERE available_at IS NOT NULL AND status NOT IN ('failed', 'halted') LIMIT 100000)
    UNION ALL
    (SELECT name, status FROM %[1]s.workflow_instance WHERE status IN ('failed', 'halted') LIMIT 100000)) i
GROUP BY 1 ORDER BY 1 LIMIT $1`

// Workflows counts the instances that have not finished, by workflow, up to 100,000
// that are at work and as many that are stuck. Both are in indexes that hold no
// others.
func (b *Board) Workflows(ctx context.Context) ([]status.Workflow, error) {
	rows, err := b.conn.Query(ctx, fmt.Sprintf(sqlWorkflows, b.schema), most)
	if err != nil {
		return nil, fmt.Errorf("count workflows: %w", err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[status.Workflow])
	if err != nil {
		return nil, fmt.Errorf("count workflows: %w", err)
	}
	return all, nil
}

// none reports whether a row was not there.
func none(err error) bool { return errors.Is(err, pgx.ErrNoRows) }
