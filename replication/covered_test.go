package replication

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// What is read again and again says of each table what is read at a start.
func TestCoveredSaysWhatTablesSays(t *testing.T) {
	pgtest.Matrix(t, func(t *testing.T, c *pgtest.Cluster) {
		db := c.DB(t)
		s := testSource(t, db, db.DSN())
		name := quoteIdent(s.Publication())
		db.Exec(t, `CREATE TABLE a (id int PRIMARY KEY, v text); CREATE TABLE keyless (v int); CREATE UNLOGGED TABLE gone (id int PRIMARY KEY);
			CREATE TABLE whole (b int, a int, PRIMARY KEY (b, a)); ALTER TABLE whole REPLICA IDENTITY FULL;
			CREATE TABLE late (id int PRIMARY KEY DEFERRABLE); CREATE TABLE nothing (id int PRIMARY KEY); ALTER TABLE nothing REPLICA IDENTITY NOTHING;
			CREATE TABLE root (id int PRIMARY KEY) PARTITION BY RANGE (id); CREATE SCHEMA one; CREATE TABLE one.leaf PARTITION OF root FOR VALUES FROM (0) TO (9);
			CREATE TABLE one.mid PARTITION OF root FOR VALUES FROM (9) TO (20) PARTITION BY RANGE (id); CREATE TABLE low PARTITION OF one.mid FOR VALUES FROM (9) TO (12);
			CREATE TEMP TABLE mine (id int)`)
		compare := func(exists bool) *Covered {
			t.Helper()
			got, err := s.Covered(t.Context())
			require.NoError(t, err)
			require.Equal(t, exists, got.Exists)
			want, err := s.Tables(t.Context())
			require.NoError(t, err)
			require.Len(t, got.Tables, len(want))
			for i := range want {
				w := want[i]
				w.Columns, w.Owner, w.Prunable, w.Bytes = nil, "", false, got.Tables[i].Bytes
				require.Equal(t, w, got.Tables[i].Table)
				require.True(t, got.Tables[i].Owned)
			}
			return got
		}
		compare(false)
		db.Exec(t, "CREATE PUBLICATION "+name+" FOR TABLE a, root WITH (publish_via_partition_root = true)")
		got := compare(true)
		require.True(t, got.Updates && got.ViaRoot && got.Owned && !got.AllTables)
		var named []string
		for _, table := range got.Tables {
			if table.Named {
				named = append(named, table.QualifiedName())
			}
		}
		require.Equal(t, []string{"public.a", "public.root"}, named)
		db.Exec(t, "DROP PUBLICATION "+name)
		db.Exec(t, "CREATE PUBLICATION "+name+" FOR ALL TABLES WITH (publish = 'insert')")
		got = compare(true)
		require.True(t, got.AllTables && !got.Updates)
		db.Exec(t, "DROP PUBLICATION "+name)
		if c.Major() >= 15 {
			db.Exec(t, "CREATE PUBLICATION "+name+" FOR TABLES IN SCHEMA one")
			compare(true)
		}
	})
}
