package torture

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Compare compares the rebuilt tables of a source with those that its publication
// names, row by row and value by value, and its events with those that committed.
// Nobody may write to either side meanwhile. The first difference is a *Finding.
func (c *Checker) Compare(ctx context.Context, dsn, sourceName, publication string) error {
	s := c.sources[sourceName]
	if s == nil {
		s = &source{name: sourceName, tables: make(map[string]*table), events: newEvents()}
	}
	conn, err := compareConn(ctx, dsn)
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	names, err := published(ctx, conn, publication)
	if err != nil {
		return err
	}
	for name := range s.tables {
		if !slices.Contains(names, name) {
			return &Finding{Rule: RuleTableUnknown, What: name + " is not in the publication " + publication}
		}
	}
	for _, name := range names {
		if name == OutboxTable {
			continue
		}
		t := s.tables[name]
		if t == nil {
			t = newTable(name, c.rules.Lanes)
		}
		if err := c.compareTable(ctx, conn, t); err != nil {
			return err
		}
	}
	if err := s.compareCounts(ctx, conn); err != nil {
		return err
	}
	return s.compareEvents(ctx, conn)
}

// partitioned is the table of the workload whose changes may come under the names
// of its partitions.
const partitioned = SchemaName + ".part"

// changesMade are the changes of one table.
type changesMade struct{ inserts, updates, deletes, truncates int64 }

// changes are those that have come, of a partitioned table together.
func (s *source) changes(name string) changesMade {
	var got changesMade
	for _, t := range s.tables {
		if t.name != name && (name != partitioned || !strings.HasPrefix(t.name, partitioned+"_")) {
			continue
		}
		got.inserts += t.counts["insert"]
		got.updates += t.counts["update"]
		got.deletes += t.counts["delete"]
		got.truncates += t.counts["truncate"]
	}
	return got
}

// compareCounts compares the numbers of changes with those that the statements
// made: what was lost and then overwritten, deleted or truncated leaves no other
// trace. A move between partitions is an update to the statement, and a delete and
// an insert to replication; a truncate of their root may come once for each.
func (s *source) compareCounts(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, `SELECT name, sum(n) FILTER (WHERE op = 'insert')::bigint, sum(n) FILTER (WHERE op = 'update')::bigint,
		sum(n) FILTER (WHERE op = 'delete')::bigint, sum(n) FILTER (WHERE op = 'truncate')::bigint FROM load_truth.audit GROUP BY name ORDER BY name`)
	if err != nil {
		return fmt.Errorf("read the truth about the changes: %w", err)
	}
	var name string
	var made [4]*int64 // nil: none
	_, err = pgx.ForEachRow(rows, []any{&name, &made[0], &made[1], &made[2], &made[3]}, func() error {
		got := s.changes(name)
		want := changesMade{orZero(made[0]), orZero(made[1]), orZero(made[2]), orZero(made[3])}
		if name == partitioned {
			moved := max(0, got.inserts-want.inserts)
			got.inserts, got.updates, got.deletes = got.inserts-moved, got.updates+moved, got.deletes-moved
			if got.truncates > want.truncates {
				got.truncates = want.truncates
			}
		}
		if got != want {
			return &Finding{Rule: RuleChanges, What: fmt.Sprintf("of %s came %+v, the source made %+v", name, got, want)}
		}
		return nil
	})
	return err
}

func orZero(n *int64) int64 {
	if n == nil {
		return 0
	}
	return *n
}

func compareConn(ctx context.Context, dsn string) (*pgx.Conn, error) {
	cfg, err := pgx.ParseConfig(dsn)
	if err != nil {
		return nil, fmt.Errorf("read the DSN: %w", err)
	}
	for name, v := range rowSettings() {
		cfg.RuntimeParams[name] = v
	}
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("connect to compare: %w", err)
	}
	return conn, nil
}

func published(ctx context.Context, conn *pgx.Conn, publication string) ([]string, error) {
	rows, err := conn.Query(ctx, "SELECT schemaname || '.' || tablename FROM pg_publication_tables WHERE pubname = $1 ORDER BY 1", publication)
	if err != nil {
		return nil, fmt.Errorf("read the publication: %w", err)
	}
	names, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return nil, fmt.Errorf("read the publication: %w", err)
	}
	if len(names) == 0 {
		return nil, fmt.Errorf("read the publication %s: it names no table", publication)
	}
	return names, nil
}

// identitySQL returns the columns of a table's key in the table's order: those of
// the replica identity index, else of the primary key.
const identitySQL = `SELECT a.attname::text FROM pg_index i JOIN pg_class t ON t.oid = i.indrelid
	JOIN pg_attribute a ON a.attrelid = t.oid AND a.attnum = ANY (i.indkey)
	WHERE t.oid = $1::regclass AND CASE t.relreplident WHEN 'i' THEN i.indisreplident ELSE i.indisprimary END ORDER BY a.attnum`

// comparison is the comparison of one table.
type comparison struct {
	t       *table
	names   []string // columns of the source
	oids    []uint32
	key     []int // columns of the key
	seen    int
	bag     map[string]int
	scratch []byte
}

func (c *Checker) compareTable(ctx context.Context, conn *pgx.Conn, t *table) error {
	cmp := comparison{t: t, bag: make(map[string]int)}
	rows, err := conn.Query(ctx, identitySQL, t.name)
	if err != nil {
		return fmt.Errorf("read the identity of %s: %w", t.name, err)
	}
	identity, err := pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		return fmt.Errorf("read the identity of %s: %w", t.name, err)
	}
	rows, err = conn.Query(ctx, "SELECT * FROM "+pgx.Identifier(strings.SplitN(t.name, ".", 2)).Sanitize(), pgx.QueryResultFormats{pgx.TextFormatCode})
	if err != nil {
		return fmt.Errorf("read %s: %w", t.name, err)
	}
	defer rows.Close()
	for i, f := range rows.FieldDescriptions() {
		cmp.names = append(cmp.names, f.Name)
		cmp.oids = append(cmp.oids, f.DataTypeOID)
		if slices.Contains(identity, f.Name) {
			cmp.key = append(cmp.key, i)
		}
	}
	for rows.Next() {
		if err := cmp.row(rows.RawValues()); err != nil {
			return err
		}
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read %s: %w", t.name, err)
	}
	return cmp.leftovers()
}

// row compares one row of the source.
func (cmp *comparison) row(raw [][]byte) error {
	values := make([]string, len(raw))
	key := []byte("[")
	for i, text := range raw {
		n, err := rowValue(cmp.scratch[:0], cmp.oids[i], text)
		if err != nil {
			return fmt.Errorf("read %s.%s: %w", cmp.t.name, cmp.names[i], err)
		}
		cmp.scratch = n
		values[i] = pack(n)
		if slices.Contains(cmp.key, i) {
			key = append(comma(key), n...)
		}
	}
	want := &row{names: cmp.names, values: values}
	if len(cmp.key) == 0 {
		cmp.bag[want.whole()]++
		return nil
	}
	return cmp.keyed(string(append(key, ']')), want)
}

func (cmp *comparison) keyed(key string, want *row) error {
	got := cmp.t.find(key)
	if got == nil {
		return &Finding{Rule: RuleRowLost, What: fmt.Sprintf("%s %s is in the source alone: %s", cmp.t.name, key, want.whole())}
	}
	cmp.seen++
	if len(got.names) != len(want.names) {
		return &Finding{Rule: RuleColumns, What: fmt.Sprintf("%s %s has columns %v, in the source %v", cmp.t.name, key, got.names, want.names)}
	}
	for i, name := range want.names {
		v, ok := got.value(name)
		if !ok {
			return &Finding{Rule: RuleColumns, What: fmt.Sprintf("%s %s has no column %s, which it has in the source", cmp.t.name, key, name)}
		}
		if v != want.values[i] {
			return &Finding{Rule: RuleRowDiffers, What: fmt.Sprintf("%s %s: column %s is %s, in the source %s", cmp.t.name, key, name, v, want.values[i])}
		}
	}
	return nil
}

// leftovers finds what the source did not have.
func (cmp *comparison) leftovers() error {
	for whole, n := range cmp.bag {
		if got := cmp.t.bag[whole]; got < n {
			return &Finding{Rule: RuleRowLost, What: fmt.Sprintf("%s: %d of %d rows %s are in the source alone", cmp.t.name, n-got, n, whole)}
		}
	}
	for whole, n := range cmp.t.bag {
		if want := cmp.bag[whole]; want < n {
			return &Finding{Rule: RuleRowExtra, What: fmt.Sprintf("%s: %d of %d rows %s are not in the source", cmp.t.name, n-want, n, whole)}
		}
	}
	if len(cmp.key) == 0 || cmp.t.size() == cmp.seen {
		return nil
	}
	return &Finding{Rule: RuleRowExtra, What: fmt.Sprintf("%s has %d rows, the source %d", cmp.t.name, cmp.t.size(), cmp.seen)}
}

// find looks for a row in every lane: the source does not say in which it is.
func (t *table) find(key string) *row {
	for lane := range t.lanes {
		if r := t.lanes[lane][key]; r != nil {
			return r
		}
	}
	return nil
}

// compareEvents compares the events with the truth about them.
func (s *source) compareEvents(ctx context.Context, conn *pgx.Conn) error {
	rows, err := conn.Query(ctx, "SELECT id, stream, aggregateid, type, payload, headers FROM load_truth.event",
		pgx.QueryResultFormats{pgx.TextFormatCode})
	if err != nil {
		return fmt.Errorf("read the truth about the events: %w", err)
	}
	defer rows.Close()
	n := 0
	for rows.Next() {
		v := rows.RawValues()
		got, ok := s.events.seen[digestOf(v[0])]
		if !ok {
			return &Finding{Rule: RuleEventLost, What: fmt.Sprintf("event %s of %s has committed and is not there", v[0], v[2])}
		}
		want, _, err := eventContent(string(v[1]), string(v[2]), string(v[3]), v[4], v[5])
		if err != nil {
			return fmt.Errorf("read the truth about event %s: %w", v[0], err)
		}
		if got != want {
			return &Finding{Rule: RuleEventDiffers, What: fmt.Sprintf("event %s of %s has another content", v[0], v[2])}
		}
		n++
	}
	if err := rows.Err(); err != nil {
		return fmt.Errorf("read the truth about the events: %w", err)
	}
	if n != len(s.events.seen) {
		return &Finding{Rule: RuleEventExtra, What: fmt.Sprintf("%d events, %d have committed", len(s.events.seen), n)}
	}
	return nil
}
