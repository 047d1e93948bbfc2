package doctest_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/migrate"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/secret"
	"github.com/walbridge/walbridge/migrations"
)

const manual = "docs/worktable.md"

// workTable makes a database with the schema.
func workTable(t *testing.T) *pgtest.DB {
	t.Helper()
	db := pgtest.Shared(t).DB(t)
	_, err := migrate.Up(t.Context(), migrate.Config{DSN: secret.DSN(db.DSN())})
	require.NoError(t, err)
	return db
}

// partOf returns what the manual says of a table.
func partOf(t *testing.T, table string) string {
	t.Helper()
	if table == "log" {
		return read(t, manual).section(t, "## log", "## ")
	}
	_, after, found := strings.Cut(read(t, manual).text, "\n**"+table+"**")
	require.True(t, found, "%s has no paragraph of %s", manual, table)
	for _, end := range []string{"\n**", "\n## "} {
		after, _, _ = strings.Cut(after, end)
	}
	return after
}

// Every table and column of the schema is in the manual, and no other is.
func TestColumnsAreDocumented(t *testing.T) {
	db := workTable(t)
	tables := db.Query(t, `SELECT relname FROM pg_class WHERE relnamespace = 'walbridge'::regnamespace
		AND relkind IN ('r', 'p', 'v') AND NOT relispartition AND relname NOT LIKE '%goose%' ORDER BY 1`)
	require.Greater(t, len(tables), 7)
	for _, table := range tables {
		name, part := table[0], partOf(t, table[0])
		columns := map[string]bool{}
		for _, c := range db.Query(t, `SELECT attname FROM pg_attribute WHERE attrelid = ('walbridge.' || $1)::regclass AND attnum > 0 AND NOT attisdropped`, name) {
			columns[c[0]] = true
		}
		for _, documented := range firstColumn(part) {
			require.True(t, columns[documented], "%s has no column %s", name, documented)
		}
		if name == "progress" || name == "operation" || name == "stream" {
			continue // described in a sentence
		}
		for column := range columns {
			require.Contains(t, codeIn(part), column, "%s.%s", name, column)
		}
	}
}

// The golden lanes are those of Go and of SQL.
func TestGoldenLanes(t *testing.T) {
	db := workTable(t)
	part := read(t, manual).section(t, "## Lanes", "## ")
	checked := 0
	for line := range strings.Lines(part) {
		cells := strings.Split(line, "|")
		if len(cells) < 4 {
			continue
		}
		lane, err := strconv.Atoi(strings.TrimSpace(cells[2]))
		if err != nil {
			continue // the head
		}
		key := strings.Trim(strings.TrimSpace(cells[1]), "`")
		if key == "(empty)" {
			key = ""
		}
		require.Equal(t, lane, migrations.Lane([]byte(key), migrations.DefaultLanes), key)
		require.Equal(t, strconv.Itoa(lane), db.One(t, "SELECT walbridge.lane($1)", key), key)
		checked++
	}
	require.Equal(t, 6, checked)
}

// The queries of the manual run.
func TestQueriesRun(t *testing.T) {
	db := workTable(t)
	require.Contains(t, read(t, manual).code(), "LISTEN "+migrations.Channel)
	seen := 0
	for _, b := range read(t, manual).blocks() {
		if b.mark == "sql" {
			db.Query(t, b.text)
			seen++
		}
	}
	require.Greater(t, seen, 5)
}
