package worktable

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/migrations"
)

// ErrNoLetter: there is no dead letter of the bridges with that id.
var ErrNoLetter = errors.New("no such dead letter")

// Store reads and resolves the bridges' own dead letters, beside a running bridge.
// It is for one goroutine.
type Store struct {
	conn *pgx.Conn
	cfg  Config
	tune tuning
	q    statements
}

// OpenStore connects. Close it.
func OpenStore(ctx context.Context, cfg Config) (*Store, error) {
	conn, err := connect(ctx, cfg, appPrefix+" dlq")
	if err != nil {
		return nil, err
	}
	return &Store{conn: conn, cfg: cfg, tune: defaultTuning(), q: statements{migrations.Ident(cfg.Schema)}}, nil
}

// Close ends the session.
func (s *Store) Close() { closeConn(s.conn) }

// Letter is one dead letter. Texts that it does not have are empty; Key, Payload,
// Headers and Raw are nil then.
type Letter struct {
	ID         int64
	Source     string
	Item       lsn.ID
	Stream     string
	Key        []byte
	EventID    string
	Kind       string // event, change; empty: it was never mapped
	Type       string
	Payload    []byte // JSON text; in a list nil, see PayloadBytes
	Headers    []byte
	Raw        []byte // the change, to map it again; in a list nil, see RawBytes
	Replayable bool
	Reason     string
	Error      string
	// PayloadBytes and RawBytes are the lengths of Payload and Raw.
	PayloadBytes, RawBytes int
	CommittedAt            time.Time
	DiedAt                 time.Time
	Resolution             string    // replayed, discarded; empty while it is open
	ResolvedAt             time.Time // zero while it is open
}

// Filter chooses dead letters. What is empty chooses all.
type Filter struct {
	Source, Stream, Key, Reason string
	// Resolved chooses those that were replayed or discarded too.
	Resolved bool
	// After is the id of the last letter of the page before; 0 begins.
	After int64
	// Limit is the size of a page, 1 to 1000. Defaults to 100.
	Limit int
}

const maxPage = 1000

const letterList = `SELECT id, source, coalesce(commit_lsn::text, '0/0'), coalesce(tx_seq, 0), coalesce(sub, 0), coalesce(stream, ''),
	convert_to(partition_key, 'UTF8'), coalesce(idempotency_key, ''), coalesce(kind, ''), coalesce(type, ''),
	CASE WHEN $1 THEN convert_to(payload, 'UTF8') END, CASE WHEN $1 THEN convert_to(headers, 'UTF8') END, CASE WHEN $1 THEN convert_to(raw, 'UTF8') END,
	replayable, reason, error, coalesce(octet_length(payload), 0), coalesce(octet_length(raw), 0),
	committed_at, died_at, coalesce(resolution, ''), resolved_at FROM `

// List returns a page, the oldest first, without payloads.
func (s *Store) List(ctx context.Context, f Filter) ([]Letter, error) {
	limit := f.Limit
	if limit == 0 {
		limit = 100
	}
	if limit < 1 || limit > maxPage {
		return nil, fmt.Errorf("list dead letters: a page of %d: 1 to %d are possible", limit, maxPage)
	}
	sql := letterList + s.q.schema + `.dead_letter WHERE subscription IS NULL AND id > $2
		AND ($3 = '' OR source = $3) AND ($4 = '' OR stream = $4) AND ($5 = '' OR partition_key = $5) AND ($6 = '' OR reason = $6)
		AND ($7 OR resolution IS NULL) ORDER BY id LIMIT $8`
	rows, err := s.conn.Query(ctx, sql, false, f.After, f.Source, f.Stream, f.Key, f.Reason, f.Resolved, limit)
	if err != nil {
		return nil, operationError(ctx, "list dead letters", err)
	}
	all, err := pgx.CollectRows(rows, scanLetter)
	if err != nil {
		return nil, operationError(ctx, "list dead letters", err)
	}
	return all, nil
}

// Show returns one dead letter, whole. The error may be ErrNoLetter.
func (s *Store) Show(ctx context.Context, id int64) (Letter, error) {
	l, err := s.show(ctx, id)
	if err != nil && !errors.Is(err, ErrNoLetter) {
		err = operationError(ctx, fmt.Sprintf("show dead letter %d", id), err)
	}
	return l, err
}

func (s *Store) show(ctx context.Context, id int64) (Letter, error) {
	rows, err := s.conn.Query(ctx, letterList+s.q.schema+".dead_letter WHERE subscription IS NULL AND id = $2", true, id)
	if err != nil {
		return Letter{}, err
	}
	l, err := pgx.CollectExactlyOneRow(rows, scanLetter)
	if errors.Is(err, pgx.ErrNoRows) {
		return Letter{}, fmt.Errorf("%w: %d", ErrNoLetter, id)
	}
	return l, err
}

func scanLetter(r pgx.CollectableRow) (Letter, error) {
	var l Letter
	var commit string
	var seq int64
	var sub int32
	var committed, resolved *time.Time
	err := r.Scan(&l.ID, &l.Source, &commit, &seq, &sub, &l.Stream, &l.Key, &l.EventID, &l.Kind, &l.Type, &l.Payload, &l.Headers, &l.Raw,
		&l.Replayable, &l.Reason, &l.Error, &l.PayloadBytes, &l.RawBytes, &committed, &l.DiedAt, &l.Resolution, &resolved)
	if err != nil {
		return l, err
	}
	if committed != nil {
		l.CommittedAt = *committed
	}
	if resolved != nil {
		l.ResolvedAt = *resolved
	}
	at, err := lsn.Parse(commit)
	l.Item = lsn.ID{Commit: at, Seq: uint32(seq), Sub: uint16(sub)}
	return l, err
}

// Operator says who does something, for the operation row.
type Operator struct {
	Who         string // empty: the database role
	ToolVersion string
	Note        string // why, for people
}

// Discard closes open dead letters for good and returns how many were open. They
// stay to be read.
func (s *Store) Discard(ctx context.Context, ids []int64, by Operator) (int, error) {
	n := 0
	err := pgx.BeginFunc(ctx, s.conn, func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, "UPDATE "+s.q.schema+`.dead_letter SET resolution = 'discarded', resolved_at = clock_timestamp()
			WHERE id = ANY ($1) AND subscription IS NULL AND resolution IS NULL RETURNING id`, ids)
		if err != nil {
			return err
		}
		done, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		if err != nil {
			return err
		}
		if n = len(done); n == 0 {
			return nil
		}
		return s.operation(ctx, tx, by, "dlq discard", map[string]any{"ids": done, "note": by.Note}, nil)
	})
	if err != nil {
		return 0, operationError(ctx, "discard dead letters", err)
	}
	return n, nil
}

// operation notes a deed in its own transaction.
func (s *Store) operation(ctx context.Context, tx pgx.Tx, by Operator, command string, arguments, after map[string]any) error {
	_, err := tx.Exec(ctx, "INSERT INTO "+s.q.schema+`.operation (who, tool_version, command, target, arguments, after)
		VALUES (coalesce(nullif($1, ''), session_user), $2, $3, 'dead_letter', $4::json, $5::json)`,
		by.Who, by.ToolVersion, command, jsonText(arguments), jsonText(after))
	return err
}

// refused is an error that an operator has to read, not to try again.
func refused(id int64, what, fix string) error {
	return fault.Config(fault.Problem{Check: "dlq-replay", Where: fmt.Sprintf("dead letter %d", id), What: what, Fix: fix})
}
