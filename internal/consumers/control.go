package consumers

import (
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/migrations"
)

// Pause makes the workers of a subscription finish what they have in hand and wait.
// The error may be *UnknownError.
func (b *Board) Pause(ctx context.Context, name string) error { return b.apply(ctx, "pause", name) }

// Resume ends a pause. The error may be *UnknownError.
func (b *Board) Resume(ctx context.Context, name string) error { return b.apply(ctx, "resume", name) }

// Drop forgets a subscription and what it has parked; its dead letters stay. The
// error may be *UnknownError.
func (b *Board) Drop(ctx context.Context, name string) error {
	return b.apply(ctx, "drop_subscription", name)
}

// apply calls a function of the schema with a subscription's name.
func (b *Board) apply(ctx context.Context, function, name string) error {
	_, err := b.conn.Exec(ctx, "SELECT "+b.schema+"."+function+"($1, $2)", name, b.tool)
	return b.explain(ctx, name, err)
}

// explain gives an error of the schema's functions a better text where there is one.
func (b *Board) explain(ctx context.Context, name string, err error) error {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return err
	}
	switch pg.Code {
	case migrations.CodeUnknownSubscription:
		return b.unknown(ctx, name)
	case migrations.CodeExpired, migrations.CodeBelowFloor, migrations.CodeArgument, migrations.CodeDeadLetter, migrations.CodeNotLatest:
		return said{pg.Message, err}
	case "42501": // insufficient_privilege
		return said{pg.Message + ": walbridge doctor names the rights that the role lacks", err}
	}
	return err
}

// said is an error of the schema in its own words, without the server's decoration.
type said struct {
	text string
	err  error
}

func (s said) Error() string { return s.text }
func (s said) Unwrap() error { return s.err }

// Start is where a reset subscription begins: beginning, end, or a seq, after which
// it does.
type Start string

// The starts that are no seq.
const (
	Beginning Start = "beginning"
	End       Start = "end"
)

// ParseStart reads a start.
func ParseStart(text string) (Start, error) {
	if s := Start(text); s == Beginning || s == End {
		return s, nil
	}
	if n, err := strconv.ParseInt(text, 10, 64); err != nil || n < 0 {
		return "", fmt.Errorf("%q is no place to start from: beginning, end, or a seq", text)
	}
	return Start(text), nil
}

// Effect is what a reset would do, as far as a look with a bound can tell.
type Effect struct {
	Repeated  int64 `json:"repeated"` // items that are settled and would be delivered again
	Skipped   int64 `json:"skipped"`  // items that are not settled and would not be delivered
	Forgotten int64 `json:"forgotten"`
	// RepeatedMore and SkippedMore: there may be more; counting ended at the bound.
	RepeatedMore bool `json:"repeated_more"`
	SkippedMore  bool `json:"skipped_more"`
}

const countScanned = `
SELECT count(*) FILTER (WHERE g.seq <= c.seq OR c.settled @> g.seq), count(*) FILTER (WHERE g.seq > c.seq AND NOT c.settled @> g.seq), (SELECT more FROM cut)
FROM scanned g JOIN c ON c.lane = g.lane`

// What lies above the start and is settled is repeated, what lies up to the start
// and is not settled is skipped.
var (
	sqlRepeated = scanOf("$3::bigint", "(SELECT coalesce(max(greatest(seq, upper(settled))), 0) FROM c)") + countScanned
	sqlSkipped  = scanOf("(SELECT coalesce(min(seq), 0) FROM c)", "$3::bigint") + countScanned
)

// Effect looks at what a reset would do; bound is how many items it looks at. The
// error may be *UnknownError.
func (b *Board) Effect(ctx context.Context, name string, to Start, bound int) (Effect, error) {
	var e Effect
	var open, settled int64
	var there bool
	err := b.conn.QueryRow(ctx, "SELECT EXISTS (SELECT FROM "+b.schema+".subscription WHERE name = $1)", name).Scan(&there)
	if err == nil && !there {
		return e, b.unknown(ctx, name)
	}
	after := int64(0)
	if err == nil {
		after, err = b.startSeq(ctx, to)
	}
	if err == nil {
		err = b.conn.QueryRow(ctx, fmt.Sprintf(sqlRepeated, b.schema), name, bound, after).Scan(&e.Repeated, &open, &e.RepeatedMore)
	}
	if err == nil {
		err = b.conn.QueryRow(ctx, fmt.Sprintf(sqlSkipped, b.schema), name, bound, after).Scan(&settled, &e.Skipped, &e.SkippedMore)
	}
	if err == nil {
		err = b.conn.QueryRow(ctx, "SELECT count(*) FROM "+b.schema+".parked WHERE subscription = $1", name).Scan(&e.Forgotten)
	}
	if err != nil {
		return e, fmt.Errorf("look at what a reset of %s would do: %w", name, err)
	}
	return e, nil
}

// startSeq is the seq after which a start begins, to look at.
func (b *Board) startSeq(ctx context.Context, to Start) (after int64, err error) {
	switch to {
	case Beginning:
		return 0, nil
	case End:
		err = b.conn.QueryRow(ctx, "SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM "+b.schema+".log_seq").Scan(&after)
		return after, err
	}
	return strconv.ParseInt(string(to), 10, 64)
}

// Reset makes a subscription start anew, and returns the seq after which it does. The
// error may be *UnknownError.
func (b *Board) Reset(ctx context.Context, name string, to Start) (int64, error) {
	var seq int64
	err := b.conn.QueryRow(ctx, "SELECT "+b.schema+".reset($1, $2, $3)", name, string(to), b.tool).Scan(&seq)
	return seq, b.explain(ctx, name, err)
}

// inTx runs f in a transaction, which a trial takes back.
func (b *Board) inTx(ctx context.Context, trial bool, f func(pgx.Tx) error) error {
	errTrial := errors.New("a trial")
	err := pgx.BeginTxFunc(ctx, b.conn, pgx.TxOptions{IsoLevel: pgx.ReadCommitted}, func(tx pgx.Tx) error {
		if err := f(tx); err != nil {
			return err
		}
		if trial {
			return errTrial
		}
		return nil
	})
	if errors.Is(err, errTrial) {
		return nil
	}
	return err
}
