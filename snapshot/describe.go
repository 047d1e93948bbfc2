package snapshot

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/decoder"
)

// description is a table as it is in one transaction. Immutable.
type description struct {
	text     string // the server's own, to know it again
	relation *decoder.Relation
	key      keyed
	names    []string // of the key's columns
	casts    []string // their types, for literals
	path     string   // search_path under which their operators are found
	from     string   // ONLY "schema"."table", or without ONLY for a partitioned one
	filter   string   // of the publication; empty: none
	large    []bool   // by column: its value may be large
}

// unfit says why a table cannot be read in chunks. Another try finds the same until
// somebody has changed something.
type unfit struct{ why string }

// Error is one line.
func (e *unfit) Error() string { return e.why }

// catalogTable is what describeSQL answers.
type catalogTable struct {
	OID       uint32
	Kind      string
	Identity  string
	Published bool
	Readable  bool
	Filter    string
	Columns   []catalogColumn
	Key       []catalogKey
}

type catalogColumn struct {
	Name          string
	TypeOID       uint32
	TypeMod       int32
	Key, Large    bool
	TypeNamespace string
	TypeName      string
}

type catalogKey struct{ Name, Type, Namespace string }

// describeSQL takes the names of publication, schema and table. Which columns are
// streamed: those that pg_publication_tables lists from 15 on, of generated ones (which
// it lists before 18, too) only from 18 on. Which are the identity's: those of the index that
// RelationGetReplicaIndex (relcache.c) would choose, with FULL all of them. A type
// that is no built-in one has the name that a Type message has, a domain that of its
// base type (pgoutput.c, send_relation_and_attrs; proto.c, logicalrep_write_typ).
const describeSQL = `
SELECT pg_catalog.jsonb_build_object(
  'OID', c.oid::bigint, 'Kind', c.relkind, 'Identity', c.relreplident,
  'Published', pt.pubname IS NOT NULL, 'Readable', pg_catalog.has_table_privilege(c.oid, 'SELECT'),
  'Filter', coalesce(pg_catalog.to_jsonb(pt)->>'rowfilter', ''),
  'Columns', (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object(
      'Name', a.attname, 'TypeOID', a.atttypid::bigint, 'TypeMod', a.atttypmod, 'Large', a.attstorage <> 'p',
      'Key', c.relreplident = 'f' OR EXISTS (SELECT FROM ident WHERE ident.attnum = a.attnum),
      'TypeNamespace', CASE WHEN a.atttypid >= 10000 THEN bn.nspname ELSE '' END,
      'TypeName', CASE WHEN a.atttypid >= 10000 THEN b.typname ELSE '' END) ORDER BY a.attnum)
    FROM pg_catalog.pg_attribute a
    CROSS JOIN LATERAL (WITH RECURSIVE base(oid, typtype, typbasetype) AS (
        SELECT t.oid, t.typtype, t.typbasetype FROM pg_catalog.pg_type t WHERE t.oid = a.atttypid
        UNION ALL SELECT t.oid, t.typtype, t.typbasetype FROM pg_catalog.pg_type t JOIN base ON base.typtype = 'd' AND t.oid = base.typbasetype)
      SELECT oid FROM base WHERE typtype <> 'd') last
    JOIN pg_catalog.pg_type b ON b.oid = last.oid JOIN pg_catalog.pg_namespace bn ON bn.oid = b.typnamespace
    WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped
      AND (a.attgenerated = '' OR pg_catalog.current_setting('server_version_num')::int >= 180000)
      AND coalesce(pg_catalog.to_jsonb(pt)->'attnames' ? a.attname::text, true)),
  'Key', (SELECT pg_catalog.jsonb_agg(pg_catalog.jsonb_build_object('Name', a.attname,
      'Type', pg_catalog.format_type(a.atttypid, a.atttypmod), 'Namespace', tn.nspname) ORDER BY ident.place)
    FROM ident JOIN pg_catalog.pg_attribute a ON a.attrelid = c.oid AND a.attnum = ident.attnum
    JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
    JOIN pg_catalog.pg_type bt ON bt.oid = CASE WHEN t.typtype = 'd' THEN t.typbasetype ELSE t.oid END
    JOIN pg_catalog.pg_namespace tn ON tn.oid = bt.typnamespace))
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_catalog.pg_publication_tables pt ON pt.pubname = %[1]s AND pt.schemaname = n.nspname AND pt.tablename = c.relname
LEFT JOIN LATERAL (SELECT pg_catalog.array_agg(k.attnum ORDER BY k.place) AS nums
    FROM pg_catalog.pg_index i, pg_catalog.unnest(i.indkey::int2[]) WITH ORDINALITY k(attnum, place)
    WHERE i.indrelid = c.oid AND i.indisvalid AND i.indimmediate AND k.place <= i.indnkeyatts
      AND (c.relreplident IN ('d', 'f') AND i.indisprimary OR c.relreplident = 'i' AND i.indisreplident)) idx ON true
WHERE n.nspname = %[2]s AND c.relname = %[3]s AND c.relkind IN ('r', 'p')`

// describeQuery puts in what ident stands for, the columns of the identity's index: a
// WITH query could not refer to the table of the row at hand.
func describeQuery(publication, schema, name string) string {
	sql := strings.ReplaceAll(describeSQL, "FROM ident", "FROM pg_catalog.unnest(idx.nums) WITH ORDINALITY ident(attnum, place)")
	return fmt.Sprintf(sql, quote(publication), quote(schema), quote(name))
}

// fingerprintQuery tells cheaply whether the rows of the catalog that describe a table
// are those of before: each change of one is another version of it, at another place.
// Empty when the table is not there.
func fingerprintQuery(publication string, t *Table) string {
	return fmt.Sprintf(`SELECT pg_catalog.concat_ws(' ', c.oid, c.xmin, c.ctid,
  (SELECT pg_catalog.string_agg(pg_catalog.concat(a.xmin, a.ctid), ' ' ORDER BY a.attnum) FROM pg_catalog.pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0),
  (SELECT pg_catalog.string_agg(pg_catalog.concat(i.xmin, i.ctid), ' ' ORDER BY i.indexrelid) FROM pg_catalog.pg_index i WHERE i.indrelid = c.oid),
  (SELECT pg_catalog.string_agg(pg_catalog.concat_ws(' ', p.xmin, p.ctid, r.xmin, r.ctid), ' ' ORDER BY r.oid) FROM pg_catalog.pg_publication p
     LEFT JOIN pg_catalog.pg_publication_rel r ON r.prpubid = p.oid AND (r.prrelid = c.oid OR r.prrelid IN (SELECT relid FROM pg_catalog.pg_partition_ancestors(c.oid)))
     WHERE p.pubname = %[1]s),
  pg_catalog.has_table_privilege(c.oid, 'SELECT'))
FROM pg_catalog.pg_class c WHERE c.oid = pg_catalog.to_regclass(%[2]s)`,
		quote(publication), quote(quoteTable(t.Schema, t.Name)))
}

// describe reads a table in the transaction that is open. known is what was read
// before, nil for nothing: the same answer gives the same description.
func describe(ctx context.Context, conn *pgconn.PgConn, publication string, t *Table, known *description) (*description, error) {
	results, err := conn.Exec(ctx, describeQuery(publication, t.Schema, t.Name)).ReadAll()
	if err != nil {
		return nil, fmt.Errorf("describe %s: %w", t.QualifiedName(), err)
	}
	if len(results) != 1 || len(results[0].Rows) != 1 {
		return nil, &unfit{"the table " + t.QualifiedName() + " does not exist"}
	}
	text := string(results[0].Rows[0][0])
	if known != nil && known.text == text {
		return known, nil
	}
	var c catalogTable
	if err := json.Unmarshal([]byte(text), &c); err != nil {
		return nil, fmt.Errorf("describe %s: %w", t.QualifiedName(), err)
	}
	return c.describe(t, text)
}

func (c *catalogTable) describe(t *Table, text string) (*description, error) {
	name := t.QualifiedName()
	switch {
	case !c.Published:
		return nil, &unfit{name + " is not in the publication"}
	case !c.Readable:
		return nil, &unfit{"the role may not read " + name + ": GRANT SELECT ON " + quoteTable(t.Schema, t.Name)}
	case len(c.Key) == 0 && !t.Whole:
		return nil, &unfit{name + " has no key by which it could be read in chunks: no primary key, and no index as replica identity"}
	case len(c.Identity) != 1 || len(c.Columns) == 0:
		return nil, &unfit{name + " has no column that is published"}
	}
	d := &description{text: text, filter: c.Filter, path: "pg_catalog", from: "ONLY " + quoteTable(t.Schema, t.Name)}
	if c.Kind == "p" {
		d.from = quoteTable(t.Schema, t.Name)
	}
	d.relation = &decoder.Relation{OID: c.OID, Namespace: t.Schema, Name: t.Name, Identity: decoder.ReplicaIdentity(c.Identity[0])}
	for _, col := range c.Columns {
		d.relation.Columns = append(d.relation.Columns, decoder.Column{
			Name: col.Name, TypeOID: col.TypeOID, TypeMod: col.TypeMod, Key: col.Key, TypeNamespace: col.TypeNamespace, TypeName: col.TypeName,
		})
		d.large = append(d.large, col.Large)
	}
	schemas := []string{"pg_catalog"}
	for _, k := range c.Key {
		d.names, d.casts = append(d.names, k.Name), append(d.casts, k.Type)
		if !slices.Contains(schemas, k.Namespace) {
			schemas = append(schemas, k.Namespace)
			d.path += ", " + quoteIdent(k.Namespace)
		}
	}
	var ok bool
	if d.key, ok = keyedBy(d.relation, d.names); !ok {
		return nil, &unfit{"the publication leaves out a column of the key of " + name}
	}
	return d, nil
}

func quoteIdent(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

func quoteTable(schema, name string) string { return quoteIdent(schema) + "." + quoteIdent(name) }

// quote makes a literal whatever standard_conforming_strings says.
func quote(s string) string {
	q := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.Contains(q, `\`) {
		return " E" + strings.ReplaceAll(q, `\`, `\\`)
	}
	return q
}
