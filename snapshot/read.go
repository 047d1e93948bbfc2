package snapshot

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgproto3"
)

// settings are those under which values have the text that the stream gives them, and
// the bounds of one chunk's transaction. They are SET LOCAL, so that a pooler may give
// each transaction another session. row_security off makes a policy that would hide
// rows an error: the stream knows no policies (manual, ALTER SUBSCRIPTION notes).
const settings = `SET LOCAL client_encoding = 'UTF8'; SET LOCAL datestyle = 'ISO'; SET LOCAL intervalstyle = 'postgres';
SET LOCAL extra_float_digits = 3; SET LOCAL bytea_output = 'hex'; SET LOCAL timezone = 'UTC'; SET LOCAL row_security = off;
SET LOCAL lock_timeout = '2s'; SET LOCAL statement_timeout = 0; SET LOCAL idle_in_transaction_session_timeout = '60s';
SET LOCAL search_path = pg_catalog; SET LOCAL enable_sort = off; SET LOCAL jit = off; `

// chunkLimits say how much is read at once.
type chunkLimits struct {
	rows   int
	bytes  int   // of values; reading stops behind it
	maxRow int64 // a longer row is not read whole
}

// source reads chunks over one connection.
type source struct {
	conn        *pgconn.PgConn
	publication string
	desc        *description // the last one
	print       string       // of the catalog's rows that it was made of
	names       []string     // of the key's columns that the cursor is of
	// broken: the connection must not be used any more, though nothing was wrong.
	broken bool
}

// begin opens the transaction of a chunk: the lock first, then the snapshot. It
// returns what the transaction sees, and the table in it.
func (s *source) begin(ctx context.Context, t *Table) (Visibility, error) {
	// a partitioned table locks its partitions with it (manual, LOCK)
	lock := "LOCK TABLE " + quoteTable(t.Schema, t.Name) + " IN ACCESS SHARE MODE; "
	files := "NULL"
	if t.Frozen != nil {
		files = "(" + filesQuery(t) + ")"
	}
	results, err := s.conn.Exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; "+settings+lock+
		"SELECT pg_catalog.pg_current_snapshot(), ("+fingerprintQuery(s.publication, t)+"), "+files).ReadAll()
	if err != nil {
		return Visibility{}, s.beginFailed(t, err)
	}
	row, err := lastRow(results, 3)
	if err != nil {
		return Visibility{}, err
	}
	if t.Frozen != nil && t.Frozen.rewritten(string(row[2])) {
		return Visibility{}, &unfit{t.QualifiedName() + " was rewritten or truncated (VACUUM FULL, CLUSTER, ALTER TABLE) while its rows were to be read: " +
			"which of them are in the stream cannot be told any more; cancel its reading, and insert again what was not delivered"}
	}
	seen, err := ParseVisibility(string(row[0]))
	if err != nil {
		return Visibility{}, err
	}
	if print := string(row[1]); s.desc == nil || print == "" || print != s.print {
		s.print = print
		s.desc, err = describe(ctx, s.conn, s.publication, t, s.desc)
	}
	return seen, err
}

func (s *source) beginFailed(t *Table, err error) error {
	var pg *pgconn.PgError
	switch {
	case !errors.As(err, &pg):
	case pg.Code == "42P01" || pg.Code == "3F000":
		return &unfit{"the table " + t.QualifiedName() + " does not exist"}
	case pg.Code == "42501":
		return &unfit{"the role may not read " + t.QualifiedName() + ": GRANT SELECT ON " + quoteTable(t.Schema, t.Name)}
	}
	return fmt.Errorf("begin to read %s: %w", t.QualifiedName(), err)
}

// rollback ends the transaction, whatever its state.
func (s *source) rollback(ctx context.Context) error {
	_, err := s.conn.Exec(ctx, "ROLLBACK").ReadAll()
	return err
}

// read fills the chunk, which has its table, and the keys to read if any. The
// transaction is over when it returns nil.
func (s *source) read(ctx context.Context, c *Chunk, after []string, limits chunkLimits) error {
	seen, err := s.begin(ctx, c.table.state)
	if err != nil {
		if !s.conn.IsClosed() {
			_ = s.rollback(ctx) // the first error says more
		}
		return err
	}
	if !slices.Equal(s.desc.names, s.names) {
		_ = s.rollback(ctx) // the next session begins a transaction of its own
		return errAnew
	}
	c.seen, c.desc = seen, s.desc
	err = s.fetch(ctx, c, s.chunkSQL(c, after, limits, false), limits)
	var large *pgproto3.ExceededMaxBodyLenErr
	if errors.As(err, &large) {
		return errLargeRow
	}
	return err
}

// errLargeRow: a row is above the limit, and the connection is gone with it. The chunk
// has to be read again, carefully.
var errLargeRow = errors.New("a row is above memory.max_row")

// readCarefully is read for a chunk in which a row is above the limit.
func (s *source) readCarefully(ctx context.Context, c *Chunk, after []string, limits chunkLimits) error {
	seen, err := s.begin(ctx, c.table.state)
	if err != nil {
		return err
	}
	if !slices.Equal(s.desc.names, s.names) {
		s.broken = true
		return errAnew
	}
	c.seen, c.desc = seen, s.desc
	return s.fetch(ctx, c, s.chunkSQL(c, after, limits, true), limits)
}

// chunkSQL is the SELECT. careful: large values of a row above the limit are NULL, and
// a last column has the row's length, or 0.
func (s *source) chunkSQL(c *Chunk, after []string, limits chunkLimits, careful bool) string {
	d, further := s.desc, ""
	if c.frozen != nil {
		further = ", t.xmin"
	}
	if careful {
		return d.carefulSQL(further, limits.maxRow) + d.where(c.table.state, d.keys(c.again, after)) + d.order(limits.rows)
	}
	var b strings.Builder
	b.WriteString("SET LOCAL search_path = " + d.path + "; SELECT ")
	for i, col := range d.relation.Columns {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString("t." + quoteIdent(col.Name))
	}
	b.WriteString(further + " FROM " + d.from + " t")
	return b.String() + d.where(c.table.state, d.keys(c.again, after)) + d.order(limits.rows)
}

func (d *description) order(rows int) string {
	return " ORDER BY " + d.keyList() + " LIMIT " + strconv.Itoa(rows) + "; COMMIT"
}

// carefulSQL is a SELECT without its conditions, in which large values of a row above
// the limit are NULL; further columns follow, and as the last one the length of such a
// row, or 0.
func (d *description) carefulSQL(further string, maxRow int64) string {
	var b strings.Builder
	b.WriteString("SET LOCAL search_path = " + d.path + "; SELECT ")
	for i, col := range d.relation.Columns {
		if i > 0 {
			b.WriteString(", ")
		}
		value := "t." + quoteIdent(col.Name)
		if d.large[i] && !isKey(d, i) {
			value = fmt.Sprintf("CASE WHEN z.n > %d THEN NULL ELSE %s END", maxRow, value)
		}
		b.WriteString(value)
	}
	fmt.Fprintf(&b, "%s, CASE WHEN z.n > %d THEN z.n ELSE 0 END", further, maxRow)
	b.WriteString(" FROM " + d.from + " t CROSS JOIN LATERAL (SELECT 0::bigint" + d.lengths() + " AS n) z")
	return b.String()
}

func isKey(d *description, column int) bool {
	for _, at := range d.key.columns {
		if at == column {
			return true
		}
	}
	return false
}

// lengths adds up the lengths of the values that may be large.
func (d *description) lengths() string {
	var b strings.Builder
	for i, large := range d.large {
		if large {
			b.WriteString(" + coalesce(pg_catalog.octet_length(t." + quoteIdent(d.relation.Columns[i].Name) + "::text), 0)")
		}
	}
	return b.String()
}

func (d *description) keyList() string {
	var b strings.Builder
	for i, name := range d.names {
		if i > 0 {
			b.WriteString(", ")
		}
		b.WriteString("t." + quoteIdent(name))
	}
	return b.String()
}

// keys is the condition for these keys, or for those behind one; empty: for all.
func (d *description) keys(again [][]string, after []string) string {
	switch {
	case again != nil:
		var keys []string
		for _, k := range again {
			keys = append(keys, d.literal(k))
		}
		return d.row() + " IN (" + strings.Join(keys, ", ") + ")"
	case after != nil:
		return d.row() + " > " + d.literal(after)
	}
	return ""
}

// where has the publication's filter, the operator's, and the keys.
func (d *description) where(t *Table, keys string) string {
	var all []string
	if d.filter != "" {
		all = append(all, "("+d.filter+")")
	}
	if t.Where != "" {
		all = append(all, "("+t.Where+"\n)") // a comment at its end stays one
	}
	if keys != "" {
		all = append(all, keys)
	}
	if len(all) == 0 {
		return ""
	}
	return " WHERE " + strings.Join(all, " AND ")
}

// row is the key as it is compared: a plain value, or a row, which PostgreSQL compares
// from the left and finds by the index (manual, "Row Constructor Comparison").
func (d *description) row() string {
	if len(d.names) == 1 {
		return d.keyList()
	}
	return "ROW(" + d.keyList() + ")"
}

func (d *description) literal(key []string) string {
	var parts []string
	for i, v := range key {
		parts = append(parts, quote(v)+"::"+d.casts[i])
	}
	if len(parts) == 1 {
		return parts[0]
	}
	return "ROW(" + strings.Join(parts, ", ") + ")"
}

// fetch runs the SELECT and takes its rows, until there are enough bytes.
func (s *source) fetch(ctx context.Context, c *Chunk, sql string, limits chunkLimits) error {
	c.rows.reset()
	c.next = nil
	columns := len(c.desc.relation.Columns)
	all := s.conn.Exec(ctx, sql)
	n, enough := 0, false
	var skipped [][]byte // the last row, where it is not one of those to deliver
	for !enough && all.NextResult() {
		r := all.ResultReader()
		for r.NextRow() {
			n++
			values := r.Values()
			if skipped = nil; c.frozen != nil {
				if !c.before(values[columns]) {
					skipped = values[:columns]
					c.next = c.desc.key.texts(skipped)
					continue
				}
				values = append(values[:columns:columns], values[columns+1:]...)
			}
			c.take(values, columns, limits.maxRow)
			if enough = len(c.rows.data) >= limits.bytes; enough {
				break
			}
		}
	}
	if enough && n < limits.rows {
		// The rest is not wanted: closing the connection ends the transaction, too.
		s.broken = true
		_ = s.conn.Conn().Close()
		_ = all.Close() // says that the connection is closed
	} else if err := all.Close(); err != nil {
		return fmt.Errorf("read %s: %w", c.Table(), err)
	}
	c.last, c.cutShort = n < limits.rows && !enough, enough
	if n > 0 && skipped == nil {
		values, _ := c.rows.row(c.rows.len(columns)-1, columns, nil)
		var ok bool
		if c.next, ok = c.desc.key.values(values, nil); !ok {
			return fmt.Errorf("read %s: the key of a row is NULL", c.Table())
		}
	}
	return nil
}

// before reports whether the row of a transaction was there where the stream begins.
func (c *Chunk) before(xmin []byte) bool {
	xid, err := strconv.ParseUint(string(xmin), 10, 32)
	return err == nil && c.frozen.Sees(uint32(xid))
}

// take adds a row. A further value is the length of one that was not read whole.
func (c *Chunk) take(values [][]byte, columns int, maxRow int64) {
	n, size := c.rows.len(columns), int64(0)
	for _, v := range values[:columns] {
		c.rows.add(v)
		size += int64(len(v))
	}
	if len(values) > columns {
		if n, err := strconv.ParseInt(string(values[columns]), 10, 64); err == nil {
			size = max(size, n)
		}
	}
	if size <= maxRow {
		return
	}
	if c.rows.cut == nil {
		c.rows.cut = map[int]int64{}
	}
	c.rows.cut[n] = size
}

// lastRow is the one row of the last result that has any.
func lastRow(results []*pgconn.Result, columns int) ([][]byte, error) {
	for i := len(results) - 1; i >= 0; i-- {
		if r := results[i].Rows; len(r) == 1 && len(r[0]) == columns {
			return r[0], nil
		}
	}
	return nil, errors.New("the server answered without a row")
}

func lastValue(results []*pgconn.Result) (string, error) {
	row, err := lastRow(results, 1)
	if err != nil {
		return "", err
	}
	return string(row[0]), nil
}

// mark writes the message that shows in the stream that a chunk was read. Its commit
// waits for no standby: it has to be in the log, not visible. flush: it waits for the
// disk, as it must where nobody else's commit brings it there soon. After a crash of the
// server that loses it nobody has delivered the chunk, since only what is flushed is
// streamed.
func mark(ctx context.Context, conn *pgconn.PgConn, nonce string, flush bool) error {
	commit := "off"
	if flush {
		commit = "local"
	}
	_, err := conn.Exec(ctx, "BEGIN READ WRITE; SET LOCAL synchronous_commit = "+commit+"; SELECT pg_catalog.pg_logical_emit_message(true, "+
		quote(MarkPrefix)+", "+quote(nonce)+"); COMMIT").ReadAll()
	if err != nil {
		return fmt.Errorf("write the mark of a chunk into the log: %w", err)
	}
	return nil
}

// newest returns a transaction id above all that were given out before.
func newest(ctx context.Context, conn *pgconn.PgConn) (uint64, error) {
	results, err := conn.Exec(ctx, "BEGIN READ WRITE; SELECT pg_catalog.pg_current_xact_id(); ROLLBACK").ReadAll()
	if err != nil {
		return 0, fmt.Errorf("take a transaction id: %w", err)
	}
	text, err := lastValue(results)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(text, 10, 64)
}

// oldest returns the oldest transaction that is under way.
func oldest(ctx context.Context, conn *pgconn.PgConn) (uint64, error) {
	results, err := conn.Exec(ctx, "SELECT pg_catalog.pg_snapshot_xmin(pg_catalog.pg_current_snapshot())").ReadAll()
	if err != nil {
		return 0, fmt.Errorf("look for older transactions: %w", err)
	}
	text, err := lastValue(results)
	if err != nil {
		return 0, err
	}
	return strconv.ParseUint(text, 10, 64)
}
