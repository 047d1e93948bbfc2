package snapshot

import (
	"context"
	"fmt"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/decoder"
)

// Frozen says which rows of a table were there where the stream begins. Of a table
// whose rows must be delivered once, as those of an outbox, only these are read: all
// others are in the stream.
//
// A row is one of them when the transaction in its xmin was visible in the snapshot that
// the slot was made with. That snapshot lists subtransactions, too, and what was rolled
// back (snapbuild.c, SnapBuildInitialSnapshot), so it is exact for rows that are inserted
// and not updated; of an update see Session.Change.
type Frozen struct {
	// Seen is the slot's snapshot, as pg_current_snapshot() spells it.
	Seen string `json:"seen,omitempty"`
	// Files are the files of the table and its partitions, oid:filenode. A table that is
	// rewritten gets others, and its rows other transactions.
	Files string `json:"files,omitempty"`
}

// AmbiguousError says that the rows of a table cannot be told from later ones by their
// transactions: it has rows older than half the range of transaction ids.
type AmbiguousError struct{ Table string }

// Error is one line.
func (e *AmbiguousError) Error() string {
	return "rows of " + e.Table + " are so old that their transaction ids have come round"
}

// filesSQL answers with the files of a table and its partitions, by what the transaction
// sees of the catalog.
const filesSQL = `WITH RECURSIVE tree(oid) AS (
  SELECT c.oid FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = %s AND c.relname = %s
  UNION ALL SELECT i.inhrelid FROM pg_catalog.pg_inherits i JOIN tree ON tree.oid = i.inhparent
    JOIN pg_catalog.pg_class p ON p.oid = i.inhparent AND p.relkind = 'p')
SELECT coalesce(pg_catalog.string_agg(pg_catalog.concat(c.oid, ':', %s), ' ' ORDER BY c.oid), '')
FROM tree JOIN pg_catalog.pg_class c ON c.oid = tree.oid WHERE c.relkind = 'r'`

func filesQuery(t *Table) string {
	return fmt.Sprintf(filesSQL, quote(t.Schema), quote(t.Name), "c.relfilenode")
}

// currentFilesQuery is filesQuery with the files that there are now, whatever the
// transaction sees.
func currentFilesQuery(t *Table) string {
	return fmt.Sprintf(filesSQL, quote(t.Schema), quote(t.Name), "pg_catalog.pg_relation_filenode(c.oid)")
}

// rewritten reports whether a table or partition that was there has another file now.
// One that is gone took its rows with it, and a new one has none of before.
func (f *Frozen) rewritten(files string) bool {
	now := map[string]string{}
	for _, part := range strings.Fields(files) {
		oid, file, _ := strings.Cut(part, ":")
		now[oid] = file
	}
	for _, part := range strings.Fields(f.Files) {
		oid, file, _ := strings.Cut(part, ":")
		if is, there := now[oid]; there && is != file {
			return true
		}
	}
	return false
}

// halfRound is how far two transaction ids may be apart to be told by 32 bits.
const halfRound = 1 << 31

// Freeze fills Frozen of the tables that have one, by a snapshot that the server has
// exported (manual, SET TRANSACTION). It returns when the snapshot is not needed any
// more.
//
// Errors: *AmbiguousError; the server's.
func Freeze(ctx context.Context, conn *pgconn.PgConn, exported string, tables []*Table) error {
	results, err := conn.Exec(ctx, "BEGIN ISOLATION LEVEL REPEATABLE READ, READ ONLY; SET TRANSACTION SNAPSHOT "+quote(exported)+"; "+settings+
		"SELECT pg_catalog.pg_current_snapshot()").ReadAll()
	if err != nil {
		return fmt.Errorf("use the snapshot of the slot: %w", err)
	}
	text, err := lastValue(results)
	if err != nil {
		return err
	}
	seen, err := ParseVisibility(text)
	if err != nil {
		return err
	}
	for _, t := range tables {
		if t.Frozen == nil {
			continue
		}
		if err := freeze(ctx, conn, t, seen); err != nil {
			return err
		}
		t.Frozen.Seen = text
	}
	_, err = conn.Exec(ctx, "COMMIT").ReadAll()
	return err
}

func freeze(ctx context.Context, conn *pgconn.PgConn, t *Table, seen Visibility) error {
	results, err := conn.Exec(ctx, filesQuery(t)).ReadAll()
	if err != nil {
		return fmt.Errorf("look for the files of %s: %w", t.QualifiedName(), err)
	}
	if t.Frozen.Files, err = lastValue(results); err != nil || seen.Xmax <= halfRound {
		return err
	}
	results, err = conn.Exec(ctx, "SELECT EXISTS (SELECT FROM "+quoteTable(t.Schema, t.Name)+" t WHERE "+seen.unseenSQL("t.xmin")+")").ReadAll()
	if err != nil {
		return fmt.Errorf("look at the transaction ids of %s: %w", t.QualifiedName(), err)
	}
	old, err := lastValue(results)
	if err != nil {
		return err
	}
	if old == "t" {
		return &AmbiguousError{t.QualifiedName()}
	}
	return nil
}

// unseenSQL is Sees in SQL, the other way round, for a column of type xid.
func (v Visibility) unseenSQL(xid string) string {
	x := xid + "::text::bigint"
	sql := fmt.Sprintf("((%s - %d + %d) %% %d) >= %d", x, uint32(v.Xmax), int64(3*halfRound), int64(2*halfRound), int64(halfRound))
	var running []string
	for _, id := range v.Xip {
		running = append(running, fmt.Sprint(uint32(id)))
	}
	if len(running) > 0 {
		sql += " OR " + x + " IN (" + strings.Join(running, ", ") + ")"
	}
	return sql
}

// frozen takes note of a change of a table of which only the rows of before are read.
// It reports whether it is an update of a row of which nobody knows whether it was
// delivered: what is read of it from now on looks like a row of the stream.
func (s *Session) frozen(t *table, ch *decoder.Change) (doubt bool) {
	switch ch.Op {
	case decoder.OpTruncate:
		t.state.Scanned = true // no row of before is left
		s.done(t)
		s.dirty.Store(true)
	case decoder.OpInsert:
		t.inserted(s, ch.Relation, ch.New)
	case decoder.OpUpdate:
		before := ch.Old
		if before == nil {
			before = ch.New
		}
		if !t.streamed(s, ch.Relation, before) {
			t.doubts++
			return true
		}
		t.inserted(s, ch.Relation, ch.New)
	}
	return false
}

// inserted remembers a row as one that the stream has, as long as there is room.
func (t *table) inserted(s *Session, rel *decoder.Relation, row []decoder.Value) {
	if key, ok := s.identity(rel, row); ok && len(t.fresh) < maxTouched {
		if t.fresh == nil {
			t.fresh = map[keyHash]struct{}{}
		}
		t.fresh[key] = struct{}{}
	}
}

// streamed reports whether a row is known to have come by the stream.
func (t *table) streamed(s *Session, rel *decoder.Relation, row []decoder.Value) bool {
	key, ok := s.identity(rel, row)
	if !ok {
		return false
	}
	_, known := t.fresh[key]
	return known
}

// identity hashes the columns of the replica identity; false: a value did not come.
func (s *Session) identity(rel *decoder.Relation, row []decoder.Value) (keyHash, bool) {
	s.scratch = s.scratch[:0]
	flagged := false
	for i := range rel.Columns {
		if !rel.Columns[i].Key {
			continue
		}
		v, ok := valueAt(row, i)
		if !ok || v.Kind != decoder.ValueText && v.Kind != decoder.ValueNull {
			return keyHash{}, false
		}
		flagged = true
		s.scratch = append(appendPart(s.scratch, v.Data), byte(v.Kind))
	}
	return s.hasher.hash(s.scratch), flagged
}
