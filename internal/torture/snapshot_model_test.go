package torture_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// snapshotTables have a key of one column and of several, of numbers and of text
// whose order is the collation's, values out of line, an index as identity, the whole
// old row, partitions.
const snapshotTables = `
CREATE SCHEMA snap;
CREATE TABLE snap.plain (id int PRIMARY KEY, v int, big text, note text);
ALTER TABLE snap.plain ALTER big SET STORAGE EXTERNAL;
CREATE TABLE snap.pair (a text NOT NULL, b int NOT NULL, v int, big text, PRIMARY KEY (a, b));
ALTER TABLE snap.pair ALTER big SET STORAGE EXTERNAL;
CREATE TABLE snap.whole (id numeric PRIMARY KEY, v int, big text);
ALTER TABLE snap.whole REPLICA IDENTITY FULL;
CREATE TABLE snap.indexed (id int NOT NULL, v int, big text);
CREATE UNIQUE INDEX indexed_id ON snap.indexed (id);
ALTER TABLE snap.indexed REPLICA IDENTITY USING INDEX indexed_id;
ALTER TABLE snap.indexed ALTER big SET STORAGE EXTERNAL;
CREATE TABLE snap.part (id int PRIMARY KEY, v int, big text) PARTITION BY RANGE (id);
CREATE TABLE snap.part_low PARTITION OF snap.part FOR VALUES FROM (MINVALUE) TO (500);
CREATE TABLE snap.part_high (v int, id int NOT NULL, big text);
ALTER TABLE snap.part ATTACH PARTITION snap.part_high FOR VALUES FROM (500) TO (MAXVALUE);
`

const snapshotRoutes = `
  - tables: ["snap.*"]
    changes: {}
    snapshot: initial
`

// snapshotTable is one of them, as the writers see it: keys are numbers to them.
type snapshotTable struct {
	name string
	set  string // assigns key $1
	at   string // finds key $1
	cols string // of an insert
	vals string // with key $1, v $2, big $3
}

func snapshotShapes() []snapshotTable {
	byID := func(name string) snapshotTable {
		return snapshotTable{name, "id = $1", "id = $1", "(id, v, big)", "$1, $2, $3"}
	}
	return []snapshotTable{
		byID("snap.plain"), byID("snap.whole"), byID("snap.indexed"), byID("snap.part"),
		{"snap.pair", "a = chr(65 + $1::int % 26 + 32 * ($1::int % 2)), b = $1", "b = $1", "(a, b, v, big)", "chr(65 + $1::int % 26 + 32 * ($1::int % 2)), $1, $2, $3"},
	}
}

// snapshotWriter writes to the tables at random.
type snapshotWriter struct {
	conn *pgx.Conn
	r    *rand.Rand
	keys int // from a range of so many
	big  int // length of large values
	ddl  bool
}

// fill makes the rows that are there before.
func (w *snapshotWriter) fill(ctx context.Context, rows int) error {
	for _, t := range snapshotShapes() {
		from := fmt.Sprintf(" FROM generate_series(0, %d) g", rows-1)
		values := strings.NewReplacer("$1", "g", "$2", "0", "$3", "repeat(md5(g::text), 80)").Replace(t.vals)
		if _, err := w.conn.Exec(ctx, "INSERT INTO "+t.name+" "+t.cols+" SELECT "+values+from); err != nil {
			return fmt.Errorf("fill %s: %w", t.name, err)
		}
	}
	return nil
}

// run writes transactions until ctx ends.
func (w *snapshotWriter) run(ctx context.Context) error {
	for ctx.Err() == nil {
		if err := w.transaction(ctx); err != nil && ctx.Err() == nil {
			return err
		}
	}
	return nil
}

func (w *snapshotWriter) transaction(ctx context.Context) error {
	tx, err := w.conn.Begin(ctx)
	if err != nil {
		return err
	}
	defer tx.Rollback(context.WithoutCancel(ctx))
	for range 1 + w.r.IntN(4) {
		if err := w.statement(ctx, tx); err != nil {
			return err
		}
	}
	if w.r.IntN(10) == 0 {
		return tx.Rollback(ctx)
	}
	return tx.Commit(ctx)
}

// statement does one thing, in a savepoint: keys may be taken already.
func (w *snapshotWriter) statement(ctx context.Context, tx pgx.Tx) error {
	shapes := snapshotShapes()
	t := shapes[w.r.IntN(len(shapes))]
	key, other := w.r.IntN(w.keys), w.r.IntN(w.keys)
	big := strings.Repeat(strconv.Itoa(w.r.IntN(1000)), 1+w.r.IntN(w.big))
	var sql string
	args := []any{key}
	switch n := w.r.IntN(100); {
	case n < 35:
		sql, args = "UPDATE "+t.name+" SET v = v + $2 WHERE "+t.at, append(args, w.r.IntN(9))
	case n < 45:
		sql, args = "UPDATE "+t.name+" SET big = $2 WHERE "+t.at, append(args, big)
	case n < 60:
		sql = "DELETE FROM " + t.name + " WHERE " + t.at
	case n < 78:
		sql, args = "INSERT INTO "+t.name+" "+t.cols+" VALUES ("+t.vals+")", append(args, w.r.IntN(9), big)
	case n < 97:
		set := strings.ReplaceAll(t.set, "$1", "$2")
		sql, args = "UPDATE "+t.name+" SET "+set+" WHERE "+t.at, append(args, other)
	case n < 98 && w.ddl:
		sql, args = fmt.Sprintf("ALTER TABLE %s ADD COLUMN IF NOT EXISTS extra%d int", t.name, w.r.IntN(3)), nil
	case n < 99 && w.r.IntN(8+w.keys/125) == 0: // it writes so many rows that it has to be seldom
		values := strings.NewReplacer("$1", "g", "$2", "1", "$3", "repeat(md5(g::text), 70)").Replace(t.vals)
		sql, args = fmt.Sprintf("TRUNCATE %s; INSERT INTO %[1]s %s SELECT %s FROM generate_series(0, %d) g", t.name, t.cols, values, w.keys*2/3), nil
	default:
		return nil
	}
	sp, err := tx.Begin(ctx)
	if err != nil {
		return err
	}
	if _, err := sp.Exec(ctx, "SET LOCAL lock_timeout = '200ms'"); err != nil {
		return err
	}
	if args == nil {
		args = []any{pgx.QueryExecModeSimpleProtocol}
	}
	if _, err := sp.Exec(ctx, sql, args...); err != nil {
		if ctx.Err() != nil {
			return err
		}
		return sp.Rollback(ctx)
	}
	return sp.Commit(ctx)
}

// replica is rebuilt from the items of a log in which rows are read while they change.
type replica struct {
	tables map[string]map[string]replicaRow
	moved  replicaRow
	reads  int
	again  int // of them, rows that were read once more
	seen   map[string]bool
}

type replicaRow map[string]string

const absent = "\x00absent"

type snapshotRecord struct {
	Op, Schema, Table string
	Key               map[string]json.RawMessage
	NewKey            map[string]json.RawMessage `json:"new_key"`
	OldKey            map[string]json.RawMessage `json:"old_key"`
	After             map[string]json.RawMessage
	Unchanged         []string
}

func keyText(key map[string]json.RawMessage) string {
	if b, ok := key["a"]; ok {
		return string(b) + string(key["b"])
	}
	return strings.Trim(string(key["id"]), `"`)
}

// apply takes the next item of the log.
func (rep *replica) apply(id string, payload []byte) error {
	if rep.seen[id] {
		return fmt.Errorf("%s is there twice", id)
	}
	rep.seen[id] = true
	var r snapshotRecord
	if err := json.Unmarshal(payload, &r); err != nil {
		return err
	}
	name := r.Schema + "." + r.Table
	t := rep.tables[name]
	if t == nil || r.Op == "truncate" {
		t = map[string]replicaRow{}
		rep.tables[name] = t
	}
	key := keyText(r.Key)
	switch r.Op {
	case "delete":
		rep.moved = nil
		if r.NewKey != nil {
			rep.moved = t[key]
		}
		delete(t, key)
	case "insert":
		t[key] = rep.row(r, rep.moved)
		rep.moved = nil
	case "update":
		t[key] = rep.row(r, t[key])
	case "read":
		rep.reads++
		if run, _, _ := strings.Cut(id[strings.Index(id, ":r")+2:], ":"); strings.Contains(run, ".") {
			rep.again++
		}
		return rep.read(t, key, name, r)
	}
	return nil
}

// row is after, with what it leaves out from before.
func (rep *replica) row(r snapshotRecord, before replicaRow) replicaRow {
	row := replicaRow{}
	for name, v := range r.After {
		row[name] = jsonScalar(v)
	}
	for _, name := range r.Unchanged {
		row[name] = absent
		if v, ok := before[name]; ok {
			row[name] = v
		}
	}
	return row
}

// read compares a row that was read with what the stream has said before: it can be
// no older.
func (rep *replica) read(t map[string]replicaRow, key, name string, r snapshotRecord) error {
	row := rep.row(r, nil)
	for column, v := range row {
		if v == absent {
			return fmt.Errorf("read of %s %s has no value of %s", name, key, column)
		}
		if old, ok := t[key][column]; ok && old != absent && old != v {
			return fmt.Errorf("read of %s %s is stale: %s is %.40s, the stream had %.40s", name, key, column, v, old)
		}
	}
	t[key] = row
	return nil
}

func jsonScalar(v json.RawMessage) string {
	var s string
	if json.Unmarshal(v, &s) == nil && len(v) > 0 && v[0] == '"' {
		return s
	}
	if string(v) == "null" {
		return pgtest.Null
	}
	return string(v)
}

func newReplica() *replica {
	return &replica{tables: map[string]map[string]replicaRow{}, seen: map[string]bool{}}
}

// rebuild reads a whole log.
func rebuild(t *testing.T, sink *pgtest.DB) *replica {
	t.Helper()
	rep := newReplica()
	rows, err := sink.Conn(t).Query(t.Context(), "SELECT seq, idempotency_key, payload::text FROM walbridge.log ORDER BY seq")
	require.NoError(t, err)
	defer rows.Close()
	for rows.Next() {
		v := rows.RawValues()
		require.NoError(t, rep.apply(string(v[1]), v[2]), "item at seq %v", v[0])
	}
	require.NoError(t, rows.Err())
	return rep
}

// requireSame compares a replica with the source.
func requireSame(t *testing.T, rep *replica, source *pgtest.DB) {
	t.Helper()
	for _, shape := range snapshotShapes() {
		conn := source.Conn(t)
		rows, err := conn.Query(t.Context(), "SELECT * FROM "+shape.name, pgx.QueryResultFormats{pgx.TextFormatCode})
		require.NoError(t, err)
		names := rows.FieldDescriptions()
		n := 0
		for rows.Next() {
			row := map[string]string{}
			for i, v := range rows.RawValues() {
				row[names[i].Name] = pgtest.Null
				if v != nil {
					row[names[i].Name] = string(v)
				}
			}
			key := row["id"]
			if a, ok := row["a"]; ok {
				key = strconv.Quote(a) + row["b"]
			}
			got := rep.tables[shape.name][key]
			require.NotNil(t, got, "%s %s is in the source alone", shape.name, key)
			for column, want := range row {
				v, ok := got[column]
				if !ok {
					v = pgtest.Null // added later, NULL in every row
				}
				require.Equal(t, want, v, "%s %s: column %s", shape.name, key, column)
			}
			n++
		}
		require.NoError(t, rows.Err())
		require.Len(t, rep.tables[shape.name], n, "%s has rows that the source has not", shape.name)
	}
}
