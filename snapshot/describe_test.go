package snapshot

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// The fingerprint is another one after whatever a description is made of has changed,
// and the same as long as nothing has.
func TestFingerprint(t *testing.T) {
	const (
		made = `CREATE SCHEMA "S"; CREATE TABLE "S"."t""1" (id int PRIMARY KEY, v varchar(5), w text) PARTITION BY RANGE (id);
			CREATE TABLE "S".part PARTITION OF "S"."t""1" FOR VALUES FROM (1) TO (100); CREATE TABLE "S".other (id int);
			CREATE PUBLICATION pub FOR TABLE "S"."t""1"`
		gone = `DROP PUBLICATION pub; DROP SCHEMA "S" CASCADE`
	)
	same := []string{`INSERT INTO "S"."t""1" VALUES (1)`, `ALTER TABLE "S".other ADD v int`, `DELETE FROM "S"."t""1"`}
	another := []string{
		`ALTER TABLE "S"."t""1" ADD n int`, `ALTER TABLE "S"."t""1" ALTER v TYPE text`, `ALTER TABLE "S"."t""1" RENAME v TO v2`,
		`ALTER TABLE "S"."t""1" DROP n`, `ALTER TABLE "S"."t""1" ALTER w SET NOT NULL`, `CREATE UNIQUE INDEX i ON "S"."t""1" (id)`,
		"ALTER PUBLICATION pub SET (publish_via_partition_root)", `ALTER PUBLICATION pub DROP TABLE "S"."t""1"`, `ALTER PUBLICATION pub ADD TABLE "S"."t""1"`,
	}
	pgtest.Matrix(t, func(t *testing.T, c *pgtest.Cluster) {
		db := c.DB(t)
		print := func(name string) string {
			return db.One(t, "SELECT coalesce(("+fingerprintQuery("pub", &Table{Schema: "S", Name: name})+"), '')")
		}
		for _, name := range []string{`t"1`, "part"} {
			db.Exec(t, made)
			last := print(name)
			require.NotEmpty(t, last)
			for _, sql := range same {
				db.Exec(t, sql)
				require.Equal(t, last, print(name), "%s: %s", name, sql)
			}
			for _, sql := range another {
				db.Exec(t, sql)
				require.NotEqual(t, last, print(name), "%s: %s", name, sql)
				last = print(name)
			}
			db.Exec(t, gone)
			require.Empty(t, print(name))
		}
	})
}
