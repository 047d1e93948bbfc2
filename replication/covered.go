package replication

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/internal/catalog"
)

// Covered is what decides which tables are streamed, at one moment. It is less than
// Inspect and Tables read, since it is read again and again.
type Covered struct {
	Exists    bool // the publication does; else what follows of it is zero
	AllTables bool // FOR ALL TABLES
	Updates   bool // it publishes UPDATE or DELETE
	ViaRoot   bool // publish_via_partition_root
	Owned     bool // our role owns it, or is a member of the role that does
	Tables    []CoveredTable
}

// CoveredTable is a table that can be published.
type CoveredTable struct {
	catalog.Table      // without columns; Bytes is that of the heap alone
	Named         bool // in FOR TABLE of the publication
	Owned         bool // by our role, or by one that it is a member of
}

// Covered reads the publication and the tables that can be published, in the order of
// their names.
func (s *Source) Covered(ctx context.Context) (*Covered, error) {
	var c Covered
	err := s.onSQL(ctx, "compare the routes with the publication", func(ctx context.Context, conn *pgconn.PgConn) error {
		name := quoteLiteral(s.cfg.Publication)
		heads, err := rowsOf[Covered](ctx, conn, `
SELECT pg_catalog.jsonb_build_object('Exists', true, 'AllTables', puballtables, 'Updates', pubupdate OR pubdelete, 'ViaRoot', pubviaroot,
  'Owned', pg_catalog.pg_has_role(pubowner, 'USAGE')) FROM pg_catalog.pg_publication WHERE pubname = `+name)
		if err != nil {
			return err
		}
		if len(heads) > 0 {
			c = heads[0]
		}
		schemas := "SELECT NULL::oid WHERE false"
		if majorOf(conn.ParameterStatus("server_version")) >= 15 {
			schemas = "SELECT pnnspid FROM pg_catalog.pg_publication_namespace WHERE pnpubid = (SELECT oid FROM pub)"
		}
		rows, err := rowsOf[jsonCovered](ctx, conn, fmt.Sprintf(coveredQuery, name, schemas))
		for _, r := range rows {
			c.Tables = append(c.Tables, CoveredTable{Table: r.table(), Named: r.Named, Owned: r.Owned})
		}
		return err
	})
	return &c, err
}

type jsonCovered struct {
	jsonTable
	Named, Owned bool
}

// coveredQuery takes the publication's name and the query of its schemas. What it says of
// a table, tablesQuery says in the same way.
const coveredQuery = `
WITH pub AS (SELECT oid, puballtables FROM pg_catalog.pg_publication WHERE pubname = %[1]s),
named AS MATERIALIZED (SELECT prrelid FROM pg_catalog.pg_publication_rel WHERE prpubid = (SELECT oid FROM pub)),
schemas AS MATERIALIZED (%[2]s)
SELECT pg_catalog.jsonb_build_object(
  'OID', c.oid::bigint, 'Schema', n.nspname, 'Name', c.relname, 'Kind', c.relkind, 'Identity', c.relreplident,
  'Unlogged', c.relpersistence = 'u', 'EstRows', c.reltuples::bigint,
  'Bytes', c.relpages::bigint * pg_catalog.current_setting('block_size')::bigint,
  'Readable', pg_catalog.has_table_privilege(c.oid, 'SELECT'), 'Owned', pg_catalog.pg_has_role(c.relowner, 'USAGE'),
  'Root', CASE WHEN c.relispartition THEN (SELECT rn.nspname || '.' || r.relname FROM pg_catalog.pg_class r
     JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace WHERE r.oid = pg_catalog.pg_partition_root(c.oid)) ELSE '' END,
  'IdentityColumns', (SELECT pg_catalog.jsonb_agg(a.attname ORDER BY k.place)
     FROM pg_catalog.pg_index i, pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, place), pg_catalog.pg_attribute a
     WHERE i.indrelid = c.oid AND i.indisvalid AND i.indimmediate AND k.place <= i.indnkeyatts
       AND a.attrelid = c.oid AND a.attnum = k.attnum
       AND (c.relreplident IN ('d', 'f') AND i.indisprimary OR c.relreplident = 'i' AND i.indisreplident)),
  'Named', c.oid IN (SELECT prrelid FROM named),
  'Published', c.relpersistence <> 'u' AND (coalesce((SELECT puballtables FROM pub), false)
     OR c.oid IN (SELECT prrelid FROM named) OR c.relnamespace IN (TABLE schemas)
     OR c.relispartition AND EXISTS (SELECT FROM pg_catalog.pg_partition_ancestors(c.oid) f JOIN pg_catalog.pg_class up ON up.oid = f.relid
       WHERE f.relid IN (SELECT prrelid FROM named) OR up.relnamespace IN (TABLE schemas))))
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'
ORDER BY n.nspname, c.relname`
