package torture_test

import (
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// A publication with a row filter and a column list gives the rows that pass, as
// they pass: one that comes in is inserted, one that leaves is deleted, and columns
// off the list do not show.
func TestRowFilterAndColumnList(t *testing.T) {
	t.Parallel()
	c := pgtest.Shared(t)
	if c.Major() < 15 {
		t.Skip("row filters and column lists came with 15")
	}
	db := install(t, c)
	ref := newReference(t, db, true)
	db.Exec(t, "ALTER PUBLICATION reference SET TABLE load.item (id, v) WHERE (id % 2 = 0)")
	for _, sql := range []string{
		"INSERT INTO load.item (id, n, v) VALUES (1, 1, 'a'), (2, 2, 'b'), (4, 4, 'd')",
		"UPDATE load.item SET id = 6 WHERE id = 1",              // comes in
		"UPDATE load.item SET id = 3 WHERE id = 2",              // leaves
		"UPDATE load.item SET id = 8 WHERE id = 4",              // moves within
		"UPDATE load.item SET n = 9 WHERE id = 8",               // a column that is not on the list
		"UPDATE load.item SET v = 'x' WHERE id = 3",             // outside all the time
		"DELETE FROM load.item WHERE id = 3 OR id = 6",          // one of each
		"INSERT INTO load.item (id, v) VALUES (10, 'the last')", // passes
	} {
		db.Exec(t, sql)
	}
	ref.read(t)
	var got []string
	for _, it := range ref.items {
		got = append(got, it.Type+" "+strings.TrimPrefix(it.Key, "load.item:"))
		require.NotContains(t, string(it.Payload), `"n":`)
	}
	require.Equal(t, []string{
		"insert [2]", "insert [4]", "insert [6]", "delete [2]", "delete [4]", "insert [8]", "update [8]", "delete [6]", "insert [10]",
	}, got)
	checker, err := check(ref.items)
	require.NoError(t, err)
	require.Equal(t, db.One(t, "SELECT count(*)::text FROM load.item WHERE id % 2 = 0"), strconv.Itoa(checker.Rows(referenceName)))
}
