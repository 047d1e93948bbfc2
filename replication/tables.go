package replication

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/internal/catalog"
)

// publication reads the bridge's publication; nil when it does not exist. What only
// later versions have is read through to_jsonb, where a missing column is null.
func (s *Source) publication(ctx context.Context, conn *pgconn.PgConn) (*Publication, error) {
	name := quoteLiteral(s.cfg.Publication)
	type row struct {
		Owner                                                   string
		Owned, AllTables, Insert, Update, Delete, Truncate, Via bool
	}
	heads, err := rowsOf[row](ctx, conn, `
SELECT pg_catalog.jsonb_build_object('Owner', pg_catalog.pg_get_userbyid(pubowner),
  'Owned', pg_catalog.pg_has_role(pubowner, 'USAGE'), 'AllTables', puballtables,
  'Insert', pubinsert, 'Update', pubupdate, 'Delete', pubdelete, 'Truncate', pubtruncate, 'Via', pubviaroot)
FROM pg_catalog.pg_publication WHERE pubname = `+name)
	if err != nil || len(heads) == 0 {
		return nil, err
	}
	h := heads[0]
	p := &Publication{
		Name: s.cfg.Publication, Owner: h.Owner, Owned: h.Owned, AllTables: h.AllTables,
		Insert: h.Insert, Update: h.Update, Delete: h.Delete, Truncate: h.Truncate, ViaRoot: h.Via,
	}
	if p.Explicit, p.Tables, err = publicationTables(ctx, conn, name); err != nil {
		return nil, err
	}
	if majorOf(conn.ParameterStatus("server_version")) >= 15 {
		p.Schemas, err = rowsOf[string](ctx, conn, `
SELECT pg_catalog.to_jsonb(n.nspname) FROM pg_catalog.pg_publication p
JOIN pg_catalog.pg_publication_namespace pn ON pn.pnpubid = p.oid JOIN pg_catalog.pg_namespace n ON n.oid = pn.pnnspid
WHERE p.pubname = `+name+` ORDER BY 1`)
	}
	return p, err
}

// publicationTables reads what FOR TABLE names, and what is streamed in the end:
// partitions stand for their root or the other way round. prqual is a node tree,
// whose Var nodes name the columns of the row filter.
func publicationTables(ctx context.Context, conn *pgconn.PgConn, name string) (explicit []string, streamed []PublishedTable, err error) {
	type row struct {
		PublishedTable
		Named bool
	}
	rows, err := rowsOf[row](ctx, conn, `
WITH named AS (
  SELECT n.nspname, c.relname, c.oid, pg_catalog.to_jsonb(pr)->'prattrs' AS attrs, pg_catalog.to_jsonb(pr)->>'prqual' AS qual
  FROM pg_catalog.pg_publication p JOIN pg_catalog.pg_publication_rel pr ON pr.prpubid = p.oid
  JOIN pg_catalog.pg_class c ON c.oid = pr.prrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
  WHERE p.pubname = `+name+`
), streamed AS (
  SELECT schemaname, tablename, pg_catalog.to_jsonb(pt)->>'rowfilter' AS filter FROM pg_catalog.pg_publication_tables pt WHERE pubname = `+name+`
)
SELECT pg_catalog.jsonb_build_object('Schema', coalesce(s.schemaname, m.nspname), 'Name', coalesce(s.tablename, m.relname),
  'Named', m.oid IS NOT NULL,
  'Columns', (SELECT pg_catalog.jsonb_agg(a.attname ORDER BY a.attnum) FROM pg_catalog.pg_attribute a
     WHERE a.attrelid = m.oid AND m.attrs @> pg_catalog.to_jsonb(a.attnum)),
  'Filter', coalesce(s.filter, ''),
  'FilterColumns', (SELECT pg_catalog.jsonb_agg(DISTINCT a.attname) FROM pg_catalog.regexp_matches(m.qual, ':varattno ([0-9]+)', 'g') v
     JOIN pg_catalog.pg_attribute a ON a.attrelid = m.oid AND a.attnum::text = v[1]))
FROM streamed s FULL JOIN named m ON m.nspname = s.schemaname AND m.relname = s.tablename
ORDER BY 1`)
	for _, r := range rows {
		if r.Named {
			explicit = append(explicit, r.QualifiedName())
		}
		streamed = append(streamed, r.PublishedTable)
	}
	return explicit, streamed, err
}

// Tables lists the tables that can be published: all ordinary and partitioned ones
// outside the system's schemas and temporary ones, in the order of their names.
// Bytes is an estimate from pg_class, since asking for the size would wait for
// whoever has locked a table.
func (s *Source) Tables(ctx context.Context) ([]catalog.Table, error) {
	var all []catalog.Table
	err := s.onSQL(ctx, "read the source's tables", func(ctx context.Context, conn *pgconn.PgConn) (err error) {
		all, err = s.tables(ctx, conn, "")
		return err
	})
	return all, err
}

// tables reads the tables that meet a further condition.
func (s *Source) tables(ctx context.Context, conn *pgconn.PgConn, and string) ([]catalog.Table, error) {
	bySchema := "false"
	if majorOf(conn.ParameterStatus("server_version")) >= 15 {
		bySchema = `EXISTS (SELECT FROM pg_catalog.pg_publication_namespace pn
        JOIN pg_catalog.pg_class up ON up.relnamespace = pn.pnnspid WHERE pn.pnpubid = p.oid AND up.oid = ANY (f.relids))`
	}
	rows, err := rowsOf[jsonTable](ctx, conn, fmt.Sprintf(tablesQuery, quoteLiteral(s.cfg.Publication), bySchema, and))
	var all []catalog.Table
	for _, r := range rows {
		all = append(all, r.table())
	}
	return all, err
}

// jsonTable is a row of tablesQuery; single characters come as strings.
type jsonTable struct {
	catalog.Table
	Kind, Identity string
}

func (j *jsonTable) table() catalog.Table {
	t := j.Table
	if len(j.Kind) == 1 && len(j.Identity) == 1 {
		t.Kind, t.Identity = j.Kind[0], j.Identity[0]
	}
	return t
}

// tablesQuery takes the publication's name, the condition for publication by schema,
// and a further condition on the table c. The identity is what RelationGetReplicaIndex (relcache.c) would use: a
// deferrable primary key is none. A table is published by itself, by an ancestor,
// by its schema, or with all tables; an unlogged one never is.
const tablesQuery = `
SELECT pg_catalog.jsonb_build_object(
  'OID', c.oid::bigint, 'Schema', n.nspname, 'Name', c.relname, 'Kind', c.relkind, 'Identity', c.relreplident,
  'Owner', pg_catalog.pg_get_userbyid(c.relowner), 'Unlogged', c.relpersistence = 'u',
  'EstRows', c.reltuples::bigint, 'Readable', pg_catalog.has_table_privilege(c.oid, 'SELECT') AND pg_catalog.has_schema_privilege(n.oid, 'USAGE'),
  'RowSecurity', pg_catalog.row_security_active(c.oid),
  'Bytes', (c.relpages::bigint + coalesce((SELECT x.relpages::bigint FROM pg_catalog.pg_class x WHERE x.oid = c.reltoastrelid), 0)
     + coalesce((SELECT sum(x.relpages::bigint) FROM pg_catalog.pg_index i JOIN pg_catalog.pg_class x ON x.oid = i.indexrelid WHERE i.indrelid = c.oid), 0))
     * pg_catalog.current_setting('block_size')::bigint,
  'Root', CASE WHEN c.relispartition THEN (SELECT rn.nspname || '.' || r.relname FROM pg_catalog.pg_class r
     JOIN pg_catalog.pg_namespace rn ON rn.oid = r.relnamespace WHERE r.oid = pg_catalog.pg_partition_root(c.oid)) ELSE '' END,
  'IdentityColumns', (SELECT pg_catalog.jsonb_agg(a.attname ORDER BY k.place)
     FROM pg_catalog.pg_index i, pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, place), pg_catalog.pg_attribute a
     WHERE i.indrelid = c.oid AND i.indisvalid AND i.indimmediate AND k.place <= i.indnkeyatts
       AND a.attrelid = c.oid AND a.attnum = k.attnum
       AND (c.relreplident IN ('d', 'f') AND i.indisprimary OR c.relreplident = 'i' AND i.indisreplident)),
  'Published', c.relpersistence <> 'u' AND EXISTS (SELECT FROM pg_catalog.pg_publication p,
     LATERAL (SELECT pg_catalog.array_append(ARRAY(SELECT relid::oid FROM pg_catalog.pg_partition_ancestors(c.oid)), c.oid) AS relids) f
     WHERE p.pubname = %[1]s AND (p.puballtables
       OR EXISTS (SELECT FROM pg_catalog.pg_publication_rel pr WHERE pr.prpubid = p.oid AND pr.prrelid = ANY (f.relids))
       OR %[2]s)),
  'Prunable', pg_catalog.has_table_privilege(c.oid, 'SELECT') AND pg_catalog.has_table_privilege(c.oid, 'DELETE')
     AND pg_catalog.has_any_column_privilege(c.oid, 'UPDATE'),
  'Columns', (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
       'Name', a.attname, 'TypeOID', a.atttypid::bigint, 'TypeName', pg_catalog.format_type(a.atttypid, a.atttypmod),
       'NotNull', a.attnotnull, 'Toastable', a.attstorage <> 'p', 'Generated', a.attgenerated <> '') ORDER BY a.attnum)
     FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped))
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE c.relkind IN ('r', 'p') AND c.relpersistence <> 't' AND n.nspname <> 'information_schema' AND n.nspname !~ '^pg_'%[3]s
ORDER BY n.nspname, c.relname`

// MaxRows is how far Rows counts.
const MaxRows = 100_000

// Rows counts the rows of a table, up to MaxRows, and returns the value of a column in
// its first row by that column, as text. It needs SELECT on the table.
func (s *Source) Rows(ctx context.Context, t *catalog.Table, column string) (rows int64, first string, err error) {
	type counted struct {
		Rows  int64
		First string
	}
	name := quoteQualified(t.Schema, t.Name)
	oldest := "''"
	if column != "" {
		oldest = "(SELECT " + quoteIdent(column) + "::text FROM " + name + " ORDER BY " + quoteIdent(column) + " LIMIT 1)"
	}
	err = s.onSQL(ctx, "count the rows of "+t.QualifiedName(), func(ctx context.Context, conn *pgconn.PgConn) error {
		c, err := rowOf[counted](ctx, conn, fmt.Sprintf(`SELECT pg_catalog.jsonb_build_object(
  'Rows', (SELECT count(*) FROM (SELECT FROM %s LIMIT %d) AS counted), 'First', coalesce(%s, ''))`, name, MaxRows, oldest))
		rows, first = c.Rows, c.First
		return err
	})
	return rows, first, err
}

// Types reads the types that are not plain built-ins, and the built-in arrays and
// ranges: what the text of a value needs to be taken apart. The row types of tables
// are among them only when some column has one.
func (s *Source) Types(ctx context.Context) (catalog.Types, error) {
	types := catalog.Types{}
	err := s.onSQL(ctx, "read the source's types", func(ctx context.Context, conn *pgconn.PgConn) error {
		rows, err := rowsOf[jsonType](ctx, conn, typesQuery)
		for _, r := range rows {
			types[r.OID] = r.typ()
		}
		return err
	})
	return types, err
}

type jsonType struct {
	catalog.Type
	Kind, Delim string
}

func (j *jsonType) typ() *catalog.Type {
	t := j.Type
	if len(j.Kind) == 1 && len(j.Delim) == 1 {
		t.Kind, t.Delim = catalog.TypeKind(j.Kind[0]), j.Delim[0]
	}
	return &t
}

// typesQuery: a true array is subscripted by array_subscript_handler and has any
// length but its own (pg_type.dat); int2vector and oidvector, 22 and 30, look like
// arrays and are written without braces. OIDs from 10000 on are not built in by
// hand (transam.h).
const typesQuery = `
WITH used AS (SELECT DISTINCT atttypid FROM pg_catalog.pg_attribute WHERE attrelid >= 16384 AND attnum > 0)
SELECT pg_catalog.jsonb_build_object(
  'OID', t.oid::bigint, 'Namespace', n.nspname, 'Name', t.typname, 'Delim', t.typdelim,
  'Kind', CASE WHEN arr.is THEN 'a' ELSE t.typtype END,
  'Elem', CASE WHEN arr.is THEN t.typelem::bigint ELSE 0 END,
  'Base', t.typbasetype::bigint,
  'Fields', (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('Name', a.attname, 'TypeOID', a.atttypid::bigint) ORDER BY a.attnum)
     FROM pg_catalog.pg_attribute a WHERE t.typtype = 'c' AND a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped),
  'Extension', coalesce((SELECT e.extname FROM pg_catalog.pg_depend d JOIN pg_catalog.pg_extension e ON e.oid = d.refobjid
     WHERE d.classid = 'pg_catalog.pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e'
       AND d.refclassid = 'pg_catalog.pg_extension'::regclass LIMIT 1), ''))
FROM pg_catalog.pg_type t JOIN pg_catalog.pg_namespace n ON n.oid = t.typnamespace
LEFT JOIN pg_catalog.pg_class c ON c.oid = t.typrelid
CROSS JOIN LATERAL (SELECT t.typelem <> 0 AND t.typsubscript = 'pg_catalog.array_subscript_handler'::regproc
  AND t.oid NOT IN (22, 30) AS is) arr
LEFT JOIN pg_catalog.pg_type el ON arr.is AND el.oid = t.typelem
LEFT JOIN pg_catalog.pg_class elc ON elc.oid = el.typrelid
WHERE t.typtype <> 'p' AND coalesce(el.typtype, '') <> 'p'
  AND (t.oid >= 10000 OR arr.is OR t.typtype IN ('r', 'm'))
  AND (coalesce(c.relkind, elc.relkind, 'c') = 'c' OR t.oid IN (SELECT atttypid FROM used) OR t.typarray IN (SELECT atttypid FROM used))`
