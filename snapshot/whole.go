package snapshot

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/internal/lsn"
)

// Whole reads tables at once, as they were where the stream begins: those without a
// key, whose rows cannot be told from one another, so that neither a cursor nor a change
// of the stream can name one. It is one transaction over one connection, and begins
// anew when it fails. For one goroutine.
type Whole struct {
	conn        *pgconn.PgConn
	publication string
	maxRow      int64
	desc        *description // of the table at hand
	// At is when the transaction began, by the server's clock.
	At lsn.Micros
}

// OpenWhole begins the transaction with a snapshot that the server has exported. It
// takes over the connection.
func OpenWhole(ctx context.Context, conn *pgconn.PgConn, exported, publication string, maxRow int64) (*Whole, error) {
	w := &Whole{conn: conn, publication: publication, maxRow: maxRow}
	results, err := conn.Exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET TRANSACTION SNAPSHOT "+quote(exported)+"; "+settings+
		"SET LOCAL idle_in_transaction_session_timeout = 0; SELECT (extract(epoch FROM pg_catalog.now()) * 1000000)::bigint").ReadAll()
	if err != nil {
		w.Close(ctx)
		return nil, fmt.Errorf("use the snapshot of the slot: %w", err)
	}
	text, err := lastValue(results)
	if err == nil {
		var micros int64
		micros, err = strconv.ParseInt(text, 10, 64)
		w.At = lsn.MicrosOf(time.UnixMicro(micros))
	}
	if err != nil {
		w.Close(ctx)
		return nil, fmt.Errorf("use the snapshot of the slot: %w", err)
	}
	return w, nil
}

// Close ends the transaction and the connection.
func (w *Whole) Close(ctx context.Context) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), closeWithin)
	defer cancel()
	_ = w.conn.Close(ctx)
}

// errRewritten: what the snapshot sees of a table is not in its file any more.
var errRewritten = errors.New("it was rewritten or truncated since the slot was made")

// Table begins with a table, and describes it as the stream would.
func (w *Whole) Table(ctx context.Context, t *Table) (*decoder.Relation, error) {
	if err := w.lock(ctx, t); err != nil {
		return nil, fmt.Errorf("read %s: %w", t.QualifiedName(), err)
	}
	var err error
	if w.desc, err = describe(ctx, w.conn, w.publication, t, nil); err != nil {
		return nil, err
	}
	return w.desc.relation, nil
}

// Read gives every row of the table that was begun with to f, in no order, with the
// length of a row above the limit, which is not read whole, else 0. What f is given is
// valid until it returns; its error ends the reading and is returned.
func (w *Whole) Read(ctx context.Context, t *Table, f func(row []decoder.Value, cut int64) error) error {
	all := w.conn.Exec(ctx, w.desc.carefulSQL("", w.maxRow)+w.desc.where(t, ""))
	var row []decoder.Value
	var failed error
	for failed == nil && all.NextResult() {
		r := all.ResultReader()
		for failed == nil && r.NextRow() {
			var cut int64
			if row, cut, failed = wholeRow(row[:0], r.Values()); failed == nil {
				failed = f(row, cut)
			}
		}
	}
	if failed != nil {
		w.Close(ctx) // the rest is not wanted
		return failed
	}
	if err := all.Close(); err != nil {
		return fmt.Errorf("read %s: %w", t.QualifiedName(), err)
	}
	return nil
}

// lock keeps the table as it is, and makes sure that it is what the snapshot sees.
func (w *Whole) lock(ctx context.Context, t *Table) error {
	results, err := w.conn.Exec(ctx, "LOCK TABLE "+quoteTable(t.Schema, t.Name)+" IN ACCESS SHARE MODE; "+
		"SELECT ("+filesQuery(t)+") = ("+currentFilesQuery(t)+")").ReadAll()
	if err != nil {
		return err
	}
	same, err := lastValue(results)
	if err == nil && same != "t" {
		err = errRewritten
	}
	return err
}

// wholeRow takes a row whose last value is its length, where it is above the limit.
func wholeRow(dst []decoder.Value, values [][]byte) ([]decoder.Value, int64, error) {
	last := len(values) - 1
	for _, v := range values[:last] {
		if v == nil {
			dst = append(dst, decoder.Value{Kind: decoder.ValueNull})
			continue
		}
		dst = append(dst, decoder.Value{Kind: decoder.ValueText, Data: v})
	}
	cut, err := strconv.ParseInt(string(values[last]), 10, 64)
	return dst, cut, err
}
