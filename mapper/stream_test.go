package mapper

import (
	"context"
	"fmt"
	"regexp"
	"strings"
	"testing"

	"github.com/cockroachdb/datadriven"
	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/internal/catalog"
	"github.com/walbridge/walbridge/internal/pgtest"
)

// TestStream maps what a real server sends. The scripts in testdata/stream have
// the commands setup (tables and the publication p, before the slot is made), sql
// (prints the items of the statements), and sql types=late (the set of types comes
// only when a relation asks for it).
func TestStream(t *testing.T) {
	pgtest.Matrix(t, func(t *testing.T, c *pgtest.Cluster) {
		datadriven.Walk(t, "testdata/stream", func(t *testing.T, path string) {
			if strings.HasSuffix(path, "-from-15") && c.Major() < 15 {
				t.Skip("row filters and column lists begin with PostgreSQL 15")
			}
			s := stream{db: c.DB(t)}
			datadriven.RunTest(t, path, func(t *testing.T, d *datadriven.TestData) string { return s.run(t, d) })
		})
	})
}

type stream struct {
	db   *pgtest.DB
	conn *pgx.Conn
}

func (s *stream) run(t *testing.T, d *datadriven.TestData) string {
	s.db.Exec(t, d.Input)
	if d.Cmd == "setup" {
		s.conn = s.db.Conn(t)
		_, err := s.conn.Exec(context.Background(), "SET datestyle = ISO; SET intervalstyle = postgres; SET extra_float_digits = 3; SET bytea_output = hex; SET timezone = UTC")
		require.NoError(t, err)
		s.db.Query(t, "SELECT pg_create_logical_replication_slot(current_database(), 'pgoutput')")
		return ""
	}
	types := readTypes(t, s.conn)
	env := Env{Bridge: "shop", Database: "shopdb", Types: types, PrimaryKeys: s.primaryKeys(t), Tables: s.partitions(t)}
	if d.HasArg("types") {
		env.Types = nil
	}
	m, err := New(Config{Routes: []Route{
		{Tables: []string{"public.outbox"}, Outbox: &Outbox{}},
		{Tables: []string{"public.*"}, Changes: &Changes{}},
	}}, env)
	require.NoError(t, err)
	return s.items(t, m, types)
}

// items maps everything that the slot has.
func (s *stream) items(t *testing.T, m *Mapper, types catalog.Types) string {
	rows, err := s.conn.Query(context.Background(), "SELECT data FROM pg_logical_slot_get_binary_changes(current_database(), NULL, NULL, 'proto_version', '1', 'publication_names', 'p')")
	require.NoError(t, err)
	messages, err := pgx.CollectRows(rows, pgx.RowTo[[]byte])
	require.NoError(t, err)
	dec := decoder.New(decoder.Config{})
	var b strings.Builder
	for _, msg := range messages {
		step, err := dec.Decode(msg, 0)
		require.NoError(t, err)
		for more := step == decoder.StepChange; more; more = dec.More() {
			rel := dec.Change().Relation
			if m.Unknown(rel) == UnknownTable {
				m.SetTable(rel.OID, nil)
			}
			if m.Unknown(rel) == UnknownTypes {
				m.SetTypes(types)
			}
			items, err := m.Map(dec.Change())
			require.NoError(t, err)
			for i := range items {
				b.WriteString(brief(&items[i]))
			}
		}
	}
	return b.String()
}

// brief shows what of an item does not depend on positions, with long runs of x
// counted.
func brief(it *Item) string {
	lanes := ""
	if it.AllLanes {
		lanes = " all-lanes"
	}
	text := fmt.Sprintf("%s %s.%d %s%s\n  %s\n", it.Kind, it.Type, it.ID.Sub, orNone(it.Key), lanes, showBody(it))
	text = regexp.MustCompile(`,"source":\{[^}]*\}`).ReplaceAllString(text, "")
	return regexp.MustCompile(`x{20,}`).ReplaceAllStringFunc(text, func(s string) string { return fmt.Sprintf("x*%d", len(s)) })
}

func (s *stream) primaryKeys(t *testing.T) map[string][]string {
	keys := map[string][]string{}
	for _, row := range s.db.Query(t, `SELECT n.nspname || '.' || c.relname, a.attname FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid
		JOIN pg_namespace n ON n.oid = c.relnamespace JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = ANY (i.indkey) WHERE i.indisprimary`) {
		keys[row[0]] = append(keys[row[0]], row[1])
	}
	return keys
}

func (s *stream) partitions(t *testing.T) (list []catalog.Table) {
	for _, row := range s.db.Query(t, `SELECT n.nspname, c.relname, rn.nspname || '.' || r.relname FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
		JOIN pg_class r ON r.oid = pg_partition_root(c.oid) JOIN pg_namespace rn ON rn.oid = r.relnamespace WHERE c.relispartition`) {
		list = append(list, catalog.Table{Schema: row[0], Name: row[1], Root: row[2]})
	}
	return list
}
