package torture

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/lsn"
)

// LogReader reads the log of a work table in order of seq.
type LogReader struct {
	DSN    string
	Schema string // defaults to walbridge
	// After is the seq that has been read; each Read goes on behind it.
	After int64
}

func (l *LogReader) table(name string) string {
	schema := l.Schema
	if schema == "" {
		schema = "walbridge"
	}
	return pgx.Identifier{schema, name}.Sanitize()
}

// Read hands every item behind After to f. An error of f ends it.
func (l *LogReader) Read(ctx context.Context, f func(*Item) error) error {
	conn, err := pgx.Connect(ctx, l.DSN)
	if err != nil {
		return fmt.Errorf("connect to read the log: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	if _, err := conn.Exec(ctx, "SET work_mem = '128MB'"); err != nil {
		return fmt.Errorf("prepare to read the log: %w", err)
	}
	rows, err := conn.Query(ctx, `SELECT seq, source, commit_lsn, tx_seq, sub, lane, stream, partition_key, idempotency_key,
		kind, type, payload::text, headers::text, tx_end FROM `+l.table("log")+` WHERE seq > $1 ORDER BY seq`,
		pgx.QueryResultFormats{pgx.TextFormatCode}, l.After)
	if err != nil {
		return fmt.Errorf("read the log: %w", err)
	}
	defer rows.Close()
	for rows.Next() {
		it, err := itemOf(rows.RawValues())
		if err != nil {
			return fmt.Errorf("read the log: %w", err)
		}
		if err := f(it); err != nil {
			return err
		}
		l.After = it.At
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read the log behind seq %d: %w", l.After, err)
	}
	return nil
}

// itemOf reads one row of the log.
func itemOf(v [][]byte) (*Item, error) {
	n := numbers{}
	it := &Item{
		At: n.parse(v[0], 64), Source: string(v[1]), Lane: int(n.parse(v[5], 16)), Stream: string(v[6]), Key: string(v[7]),
		EventID: string(v[8]), Kind: string(v[9]), Type: string(v[10]), Payload: v[11], Headers: v[12], TxEnd: string(v[13]) == "t",
	}
	commit, err := lsn.Parse(string(v[2]))
	if err != nil {
		return nil, err
	}
	it.ID = lsn.ID{Commit: commit, Seq: uint32(n.parse(v[3], 33)), Sub: uint16(n.parse(v[4], 17))}
	if n.err != nil {
		return nil, fmt.Errorf("row of seq %s: %w", v[0], n.err)
	}
	return it, nil
}

// numbers parses several and keeps the first error.
type numbers struct{ err error }

func (n *numbers) parse(text []byte, bits int) int64 {
	v, err := strconv.ParseInt(string(text), 10, bits)
	if err != nil && n.err == nil {
		n.err = err
	}
	return v
}

// Lanes returns the number of lanes of the log's schema.
func (l *LogReader) Lanes(ctx context.Context) (int, error) {
	conn, err := pgx.Connect(ctx, l.DSN)
	if err != nil {
		return 0, fmt.Errorf("connect to read the lanes: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var lanes int
	if err := conn.QueryRow(ctx, "SELECT "+l.table("lanes")+"()").Scan(&lanes); err != nil {
		return 0, fmt.Errorf("read the number of lanes: %w", err)
	}
	return lanes, nil
}
