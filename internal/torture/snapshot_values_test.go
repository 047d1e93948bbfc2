package torture_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

const valueTables = `
CREATE TYPE mood AS ENUM ('sad', 'it''s "ok"');
CREATE DOMAIN score AS int CHECK (value >= 0);
CREATE DOMAIN top_score AS score;
CREATE TYPE pair AS (a int, b text);
CREATE SCHEMA snap;
CREATE TABLE snap.types (
	id mood, k text COLLATE "C", at timestamptz, PRIMARY KEY (id, k, at),
	s top_score, p pair, ms mood[], n numeric, f8 float8, f4 float4, b bytea, j json, jb jsonb, iv interval, d date, r int4range,
	ts timestamp, t time, u uuid, arr int[], txt text, nothing text, ch char(4), m money, x xml, secret text,
	twice int GENERATED ALWAYS AS (length(k) * 2) STORED);
CREATE TABLE snap.filtered (id int PRIMARY KEY, v text, hidden text);
CREATE TABLE snap.root (id int, v text, PRIMARY KEY (id)) PARTITION BY LIST (id);
CREATE TABLE snap.leaf (v text, id int NOT NULL);
ALTER TABLE snap.root ATTACH PARTITION snap.leaf DEFAULT;
`

const valueRows = `
INSERT INTO snap.types (id, k, at, s, p, ms, n, f8, f4, b, j, jb, iv, d, r, ts, t, u, arr, txt, ch, m, x, secret) VALUES
('it''s "ok"', E'a\\b''c"\n', '2024-02-03 04:05:06.789012+05:30', 7, '(1,"x ""y""")', '{sad,"it''s \"ok\""}', 'NaN', '-Infinity', 0.1, '\x00ff41', '{"a" : 1, "a": 2}', '{"b": 1.0}',
 '1 year -2 days 03:04:05.6', 'infinity', '[1,5)', '0044-03-15 12:00:00 BC', '24:00:00', '00000000-0000-0000-0000-000000000001', '[2:3]={4,NULL}', E'\u00e9\u2028', 'ab', '12.34', '<a/>', 'private'),
('sad', '', '-infinity', 0, NULL, '{}', 12345678901234567890.123456789, 0.1::float8 + 0.2::float8, 1e-20, '', '[]', 'null', '0', '2024-01-01', 'empty', '2024-01-01', '00:00', NULL, '{}', '', '', NULL, NULL, NULL);
INSERT INTO snap.filtered SELECT i, 'v' || i, 'private' FROM generate_series(1, 10) i;
INSERT INTO snap.root SELECT i, 'v' || i FROM generate_series(1, 3) i;
`

// What a snapshot reads has the bytes that the stream has of the same rows: every type,
// hostile defaults of the database, the publication's row filter and column list, a
// partitioned table under its own name, generated columns.
func TestSnapshotReadsWhatTheStreamHas(t *testing.T) {
	t.Parallel()
	pgtest.Matrix(t, func(t *testing.T, c *pgtest.Cluster) {
		db := c.DB(t)
		for _, setting := range []string{"datestyle = 'German'", "bytea_output = 'escape'", "intervalstyle = 'iso_8601'", "extra_float_digits = 0", "timezone = 'Asia/Kolkata'"} {
			db.Exec(t, "ALTER DATABASE "+db.Name()+" SET "+setting)
		}
		db.Exec(t, valueTables)
		db.Exec(t, valueRows)
		r := bareRig(t, db, pgtest.Shared(t).DB(t))
		r.routes = strings.Replace(snapshotRoutes, "changes: {}", "changes: {}\n    columns: {mask: {secret: hash}}", 1)
		r.routes = strings.Replace(r.routes, `"snap.*"`, "snap.*", 1)
		r.setup(t)
		if c.Major() >= 15 {
			db.Exec(t, "ALTER PUBLICATION "+r.publication()+" SET TABLE ONLY snap.types, ONLY snap.root, ONLY snap.filtered (id, v) WHERE (id > 3 AND v <> 'v5')")
			// a filter may only be over the identity where updates are published
			db.Exec(t, "ALTER TABLE snap.filtered REPLICA IDENTITY FULL; ALTER PUBLICATION "+r.publication()+" SET TABLE ONLY snap.types, ONLY snap.root, ONLY snap.filtered (id, v) WHERE (id > 3)")
			db.Exec(t, "ALTER TABLE snap.filtered REPLICA IDENTITY DEFAULT")
		}
		r.start(t)
		r.awaitSnapshot(t)
		db.Exec(t, "DELETE FROM snap.types; DELETE FROM snap.filtered; DELETE FROM snap.root")
		db.Exec(t, valueRows)
		read := payloads(t, r, "read")
		pgtest.Eventually(t, drainWithin(), func() bool { return len(payloads(t, r, "insert")) == len(read) }, "all rows are streamed")
		streamed := payloads(t, r, "insert")
		require.Equal(t, streamed, read)
		want := 2 + 3 + 10
		if c.Major() >= 15 {
			want -= 3
		}
		require.Len(t, read, want)
	})
}

// payloads are key and row of the items of an operation, in the order of their keys.
func payloads(t *testing.T, r *rig, op string) []string {
	t.Helper()
	var all []string
	for _, row := range r.sink.Query(t, `SELECT partition_key, (payload->'key')::text, (payload->'after')::text FROM walbridge.log WHERE type = $1 ORDER BY 1`, op) {
		all = append(all, strings.Join(row, " "))
	}
	return all
}

const keyTables = `
CREATE SCHEMA snap;
CREATE TABLE snap.texts (k text COLLATE %[1]s PRIMARY KEY);
CREATE TABLE snap.uuids (k uuid PRIMARY KEY);
CREATE TABLE snap.numerics (k numeric PRIMARY KEY);
CREATE TABLE snap.floats (k float8 PRIMARY KEY);
CREATE TABLE snap.times (k timestamptz PRIMARY KEY);
CREATE TABLE snap.bytes (k bytea PRIMARY KEY);
CREATE TABLE snap.chars (k char(8) PRIMARY KEY);
CREATE TABLE snap.several (a text COLLATE %[1]s, b date, c int, PRIMARY KEY (c, a, b));
INSERT INTO snap.texts SELECT CASE i %% 4 WHEN 0 THEN upper(md5(i::text)) WHEN 1 THEN md5(i::text) WHEN 2 THEN E'\u00e9-\\' || i ELSE '_''"' || i END FROM generate_series(1, 150) i;
INSERT INTO snap.uuids SELECT md5(i::text)::uuid FROM generate_series(1, 150) i;
INSERT INTO snap.numerics SELECT (i - 75) / 7.0 FROM generate_series(1, 150) i UNION SELECT 'NaN';
INSERT INTO snap.floats SELECT (i - 75) / 7.0::float8 FROM generate_series(1, 150) i UNION SELECT '-Infinity' UNION SELECT 'NaN';
INSERT INTO snap.times SELECT '2024-03-31 01:59:00 Europe/Berlin'::timestamptz + i * interval '13 min 0.000001 s' FROM generate_series(1, 150) i UNION SELECT 'infinity' UNION SELECT '0044-03-15 BC';
INSERT INTO snap.bytes SELECT decode(md5(i::text), 'hex') FROM generate_series(1, 150) i;
INSERT INTO snap.chars SELECT substr(md5(i::text), 1, 3 + i %% 5) FROM generate_series(1, 150) i ON CONFLICT DO NOTHING;
INSERT INTO snap.several SELECT chr(65 + i %% 3 + 32 * (i %% 2)), '2024-01-01'::date + i, i %% 4 FROM generate_series(1, 150) i;
`

// Keys of every kind, in chunks of a few rows: each row is read once, in the order that
// the server has, whatever its collation.
func TestSnapshotByKeysOfEveryKind(t *testing.T) {
	t.Parallel()
	pgtest.Matrix(t, func(t *testing.T, c *pgtest.Cluster) {
		db := c.DB(t)
		collation := `"C"`
		if db.One(t, "SELECT count(*) FROM pg_collation WHERE collname = 'en-x-icu'") != "0" {
			collation = `"en-x-icu"`
		}
		db.Exec(t, fmt.Sprintf(keyTables, collation))
		r := bareRig(t, db, pgtest.Shared(t).DB(t))
		r.routes = snapshotRoutes
		r.extra = "batch: {max_items: 7}\nsnapshot: {parallel: 4}"
		r.setup(t)
		r.start(t)
		r.awaitSnapshot(t)
		for _, row := range db.Query(t, "SELECT relname FROM pg_class WHERE relnamespace = 'snap'::regnamespace AND relkind = 'r'") {
			want := db.One(t, "SELECT count(*) FROM snap."+row[0])
			got := r.sink.Query(t, "SELECT count(*), count(DISTINCT partition_key) FROM walbridge.log WHERE stream = $1", "snap."+row[0])[0]
			require.Equal(t, []string{want, want}, got, "%s by %s", row[0], collation)
		}
	})
}
