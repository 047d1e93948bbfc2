package worktable

import (
	"context"
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"
)

// maxStreams bounds the names whose numbers are kept; beyond it they are asked for
// again.
const maxStreams = 100_000

// streamIDs knows the numbers of streams. It is for one goroutine.
type streamIDs struct {
	schema string // quoted
	ids    map[string]int32
}

func newStreamIDs(schema string) *streamIDs { return &streamIDs{schema, map[string]int32{}} }

// forget is called whenever the server may have lost what it had not made durable.
func (s *streamIDs) forget() { clear(s.ids) }

// resolve returns the number of each name, and gives one to those that have none,
// in a transaction of its own: two writers that meet on a new name must not wait
// for each other's batch. That transaction need not be durable by itself: what uses
// the number is behind it in the WAL. A name that no text can hold gets 0: its rows
// are refused for it.
func (s *streamIDs) resolve(ctx context.Context, pg *pgconn.PgConn, names []string) ([]int32, error) {
	if len(s.ids)+len(names) > maxStreams {
		clear(s.ids)
	}
	var missing []string
	for _, name := range names {
		if _, known := s.ids[name]; !known && holdable([]byte(name)) {
			missing = append(missing, name)
		}
	}
	if len(missing) > 0 {
		if err := s.learn(ctx, pg, missing); err != nil {
			return nil, fmt.Errorf("number the streams: %w", err)
		}
	}
	ids := make([]int32, len(names))
	for i, name := range names {
		ids[i] = s.ids[name]
	}
	return ids, nil
}

// learn reads the numbers of names first: an INSERT that meets a row takes a number
// of the identity column all the same.
func (s *streamIDs) learn(ctx context.Context, pg *pgconn.PgConn, names []string) error {
	left, err := s.read(ctx, pg, names)
	if err != nil || len(left) == 0 {
		return err
	}
	_, err = pg.Exec(ctx, "BEGIN; SET LOCAL synchronous_commit = off; INSERT INTO "+s.schema+".stream (name) SELECT name FROM unnest("+
		quote(string(textArray(left)))+"::text[]) AS n (name) ON CONFLICT DO NOTHING; COMMIT").ReadAll()
	if err != nil {
		return err
	}
	if left, err = s.read(ctx, pg, left); err == nil && len(left) > 0 {
		return fmt.Errorf("%d names have none", len(left))
	}
	return err
}

// read keeps the numbers of the names that have one, and returns the others.
func (s *streamIDs) read(ctx context.Context, pg *pgconn.PgConn, names []string) (left []string, err error) {
	sql := "SELECT name, id FROM " + s.schema + ".stream WHERE name = ANY ($1::text[])"
	r := pg.ExecParams(ctx, sql, [][]byte{textArray(names)}, nil, nil, nil).Read()
	if r.Err != nil {
		return nil, r.Err
	}
	for _, row := range r.Rows {
		id, err := strconv.ParseInt(string(row[1]), 10, 32)
		if err != nil {
			return nil, fmt.Errorf("read the number of a stream: %w", err)
		}
		s.ids[string(row[0])] = int32(id)
	}
	for _, name := range names {
		if _, known := s.ids[name]; !known {
			left = append(left, name)
		}
	}
	return left, nil
}

// textArray is the text form of an array of strings (manual, "Array Input and
// Output Syntax").
func textArray(all []string) []byte {
	b := []byte{'{'}
	for i, s := range all {
		if i > 0 {
			b = append(b, ',')
		}
		b = append(b, '"')
		for _, c := range []byte(s) {
			if c == '"' || c == '\\' {
				b = append(b, '\\')
			}
			b = append(b, c)
		}
		b = append(b, '"')
	}
	return append(b, '}')
}
