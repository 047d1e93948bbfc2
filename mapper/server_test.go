package mapper

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/internal/catalog"
	"github.com/walbridge/walbridge/internal/pgtest"
)

// randomText is SQL for a text of characters that hurt: quotes, backslashes,
// braces, control characters, other scripts. It is of another length and content
// for each row, as it depends on i.
const randomText = `(SELECT coalesce(string_agg(CASE WHEN random() < 0.4 THEN substr('"\{}(),=> NULL''%&', 1 + (random() * 15)::int, 1)
	WHEN random() < 0.5 THEN chr(32 + (random() * 94)::int) WHEN random() < 0.6 THEN chr(1 + (random() * 30)::int) ELSE chr(160 + (random() * 50000)::int) END, ''), '')
	FROM generate_series(1, (random() * 9)::int + i * 0))`

// serverTypes are SQL for a random value of each type, and values at its edges.
var serverTypes = []struct {
	name, random string
	edges        []string
}{
	{"bool", `random() < 0.5`, nil},
	{"int2", `(random() * 65535 - 32768)::int`, []string{"-32768", "32767"}},
	{"int4", `((random() - 0.5) * 4294967295)::int8`, []string{"-2147483648", "2147483647", "0"}},
	{"int8", `((random() - 0.5) * 1.8e19)::int8`, []string{"-9223372036854775808", "9223372036854775807", "9007199254740993"}},
	{"float4", `(random() - 0.5) * power(10, random() * 70 - 35)`, []string{"NaN", "Infinity", "-Infinity", "-0", "3.4028235e38", "1e-45", "0.1"}},
	{"float8", `(random() - 0.5) * power(10, random() * 600 - 300)`, []string{"NaN", "Infinity", "-Infinity", "-0", "1.7976931348623157e308", "5e-324", "0.1", "1e21", "123456789012345680"}},
	{"numeric", `round(((random() - 0.5)::numeric * (10::numeric ^ ((random() * 40)::int - 20))), (random() * 30)::int)`,
		[]string{"NaN", "Infinity", "-Infinity", "0.00", "1e400", "-1e-400", "12345678901234567", "12345678901234568", "9007199254740993", "0.1000000000000000055511151231257827", "1e22", "17976931348623157e292", "5e-324"}},
	{"money", `((random() - 0.5) * 1e12)::numeric::money`, []string{"-92233720368547758.08"}},
	{"text", randomText, []string{"", "null", `"`, `\`, "\u007f\u0080\u2028", "😀"}},
	{"varchar(20)", randomText, nil},
	{"char(7)", `substr(` + randomText + `, 1, 7)`, []string{"a"}},
	{`"char"`, `chr(33 + (random() * 90)::int)::"char"`, nil},
	{"name", `md5(random()::text)::name`, nil},
	{"bytea", `decode(repeat(md5(random()::text || i), (random() * 60)::int), 'hex')`, []string{"", `\x00`, `\xff00ff`}},
	{"uuid", `gen_random_uuid()`, nil},
	{"date", `date '2000-01-01' + (random() * 8000000 - 2400000)::int`, []string{"infinity", "-infinity", "4713-01-01 BC", "5874897-12-31", "0001-01-01", "9999-12-31", "10000-01-01"}},
	{"time", `time '00:00' + random() * interval '24 hours'`, []string{"24:00:00", "00:00:00", "23:59:59.999999"}},
	{"timetz", `(time '00:00' + random() * interval '24 hours')::timetz`, []string{"12:00:00+05:30", "24:00:00-15:59"}},
	{"timestamp", `timestamp '2000-01-01' + (random() * 3e8 - 5e7) * interval '1 hour' + random() * interval '1 second'`, []string{"infinity", "-infinity", "4713-01-01 00:00:00 BC", "294276-12-31 23:59:59.999999", "0001-01-01", "9999-12-31 23:59:59.999999", "2024-02-29 12:00:00.1"}},
	{"timestamptz", `timestamptz '2000-01-01' + (random() * 3e8 - 5e7) * interval '1 hour' + random() * interval '1 second'`, []string{"infinity", "-infinity", "4713-01-01 00:00:00+00 BC", "294276-12-31 23:59:59.999999+00", "2024-02-29 12:00:00.1+05:30"}},
	{"interval", `make_interval((random() * 20 - 10)::int, (random() * 20 - 10)::int, 0, (random() * 60 - 30)::int, (random() * 60 - 30)::int, 0, random() * 120 - 60)`, []string{"-178000000 years", "1 day -1 second", "0"}},
	{"json", `json_build_object(` + randomText + `, ` + randomText + `, 'n', random(), 'a', ARRAY[i, NULL])`, []string{`{"b": 1, "b": 2}`, `"\u0000\ud83d\ude00"`, "\t[ 1e400,\n-0.0 ] ", "null", `"x"`}},
	{"jsonb", `jsonb_build_object(` + randomText + `, ` + randomText + `, 'n', random())`, []string{"null", "[]", `{"a": {"b": [1.50, true]}}`}},
	{"xml", `('<a>' || md5(random()::text) || '</a>')::xml`, nil},
	{"inet", `(inet '10.0.0.0' + (random() * 16000000)::int)`, []string{"::1", "192.168.0.1/24"}},
	{"cidr", `network(set_masklen(inet '10.0.0.0' + (random() * 16000000)::int, 24))::cidr`, []string{"2001:db8::/32"}},
	{"macaddr", `'08:00:2b:01:02:03'::macaddr`, nil},
	{"bit(5)", `((random() * 31)::int)::bit(5)`, nil},
	{"varbit", `((random() * 255)::int)::bit(8)::varbit`, []string{""}},
	{"tsvector", `to_tsvector('simple', ` + randomText + `)`, []string{`'it''s':1A 'b':2`}},
	{"point", `point(random(), -random())`, nil},
	{"box", `box(point(random(), random()), point(-1, -1))`, nil},
	{"int4range", `int4range((random() * 10)::int, 10 + (random() * 10)::int)`, []string{"empty", "(,)"}},
	{"tstzrange", `tstzrange(timestamptz '2000-01-01' + random() * interval '1 year', NULL)`, nil},
	{"int4multirange", `int4multirange(int4range(1, 2), int4range(5, 6 + (random() * 9)::int))`, []string{"{}"}},
	{"pg_lsn", `'16/B374D848'::pg_lsn`, nil}, {"oid", `(random() * 4e9)::int8::oid`, nil}, {"int2vector", `'1 2 3'::int2vector`, nil},
	{"regclass", `'pg_class'::regclass`, nil}, {"jsonpath", `'$.a[*]'::jsonpath`, nil},
	{"int4[]", `ARRAY[i, NULL, (random() * 100)::int]`, []string{"{}", "{{1,2},{3,NULL}}", "[2:3]={1,2}", "{{{1}}}"}},
	{"text[]", `ARRAY[` + randomText + `, NULL, ` + randomText + `]`, []string{`{"",NULL,"NULL",null,"a b"}`, `{{a,b},{"}",","}}`}},
	{"numeric[]", `ARRAY[random()::numeric, 'NaN', 12345678901234567890]`, nil},
	{"float8[]", `ARRAY[random(), 'NaN', '-Infinity', -0.0]`, nil}, {"bool[]", `ARRAY[random() < 0.5, NULL]`, nil},
	{"timestamptz[]", `ARRAY[timestamptz '2000-01-01' + random() * interval '9999 days', 'infinity']`, nil},
	{"bytea[]", `ARRAY[decode(md5(random()::text), 'hex'), '\x']`, nil},
	{"json[]", `ARRAY[json_build_object(` + randomText + `, ` + randomText + `), NULL]`, nil}, // JSON's null and NULL are one in JSON
	{"jsonb[]", `ARRAY[jsonb_build_array(` + randomText + `)]`, nil}, {"box[]", `ARRAY[box(point(1,2), point(random(),4)), NULL]`, nil},
	{"varchar(9)[]", `ARRAY[` + randomText + `]`, nil}, {"int4range[]", `ARRAY[int4range(1, 2 + i), 'empty']`, nil},
	{"mood", `CASE WHEN random() < 0.5 THEN 'sad' ELSE 'so "so", {ok}' END::mood`, nil}, {"mood[]", `ARRAY['sad', 'so "so", {ok}']::mood[]`, nil},
	{"posint", `(1 + random() * 100)::int`, nil}, {"words", `ARRAY[` + randomText + `, NULL]`, []string{"{}"}}, {"posint[]", `ARRAY[1, i + 1]::posint[]`, nil},
	{"pair", `ROW(i, ` + randomText + `)::pair`, []string{"(,)", `(,"")`, `(1," ")`}},
	{"pair[]", `ARRAY[ROW(i, ` + randomText + `)::pair, NULL, ROW(NULL, '')::pair]`, nil},
	{"deep", `ROW(ROW(i, ` + randomText + `)::pair, ARRAY[ROW(1, ` + randomText + `)::pair], json_build_object('a', ` + randomText + `), '\x00ff', 1.50, now(), ROW(true)::single)::deep`, []string{"(,,,,,,)"}},
	{"deep[]", `ARRAY[ROW(NULL, NULL, '"x"', NULL, 1, NULL, NULL)::deep]`, nil},
	{"textrange", `textrange('a"' || i, 'b\')`, []string{`[" ",")")`, "empty"}},
	{"ext.hstore", `ext.hstore(ARRAY['a', ` + randomText + `], ARRAY[NULL, ` + randomText + `])`, []string{"", `"a\"b"=>"c\\d", "e"=>NULL, "f"=>"NULL"`}},
	{"ext.hstore[]", `ARRAY[ext.hstore('k', ` + randomText + `)]`, nil}, {"ext.citext", randomText, nil},
}

const serverSetup = `
CREATE SCHEMA ext; CREATE EXTENSION hstore SCHEMA ext; CREATE EXTENSION citext SCHEMA ext;
CREATE TYPE mood AS ENUM ('sad', 'so "so", {ok}'); CREATE DOMAIN posint AS int CHECK (VALUE > 0); CREATE DOMAIN words AS text[];
CREATE TYPE pair AS (n int, "say ""s""" text); CREATE TYPE single AS (ok bool);
CREATE TYPE deep AS (p pair, gone int, list pair[], doc json, raw bytea, n numeric, at timestamptz, one single); ALTER TYPE deep DROP ATTRIBUTE gone;
CREATE TYPE textrange AS RANGE (subtype = text, collation = "C");
SET datestyle = ISO; SET intervalstyle = postgres; SET extra_float_digits = 3; SET bytea_output = hex; SET timezone = UTC`

// TestValuesSurviveTheWayThroughJSON: a value of any type becomes text as the
// stream has it, JSON, and text again, and the server takes it for the same value.
func TestValuesSurviveTheWayThroughJSON(t *testing.T) {
	pgtest.Matrix(t, func(t *testing.T, c *pgtest.Cluster) {
		conn := c.DB(t).Conn(t)
		_, err := conn.Exec(context.Background(), serverSetup)
		require.NoError(t, err)
		seedServer(t, conn)
		var cs codecs
		cs.set(readTypes(t, conn))
		for _, typ := range serverTypes {
			values := append(textsOf(t, conn, typ.name, typ.edges), randomTexts(t, conn, typ.name, typ.random)...)
			col := &decoder.Column{TypeOID: oidOf(t, conn, typ.name)}
			for _, nf := range []numberFormat{defaultNumbers(), {numeric: formNumericText, int8: formText}} {
				checkRoundTrip(t, conn, typ.name, cs.column(col, nf), values)
			}
			require.False(t, cs.stale, "type %s is not known", typ.name)
		}
	})
}

// seedServer makes the server's random() repeatable.
func seedServer(t *testing.T, conn *pgx.Conn) {
	const variable = "WALBRIDGE_TEST_SEED"
	seed := rand.Uint64()
	if s := os.Getenv(variable); s != "" {
		var err error
		seed, err = strconv.ParseUint(s, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("seed: %s=%d", variable, seed)
	_, err := conn.Exec(context.Background(), fmt.Sprintf("SELECT setseed(%v)", float64(seed>>11)/(1<<53)))
	require.NoError(t, err)
}

func list(t *testing.T, conn *pgx.Conn, sql string, args ...any) []string {
	rows, err := conn.Query(context.Background(), sql, args...)
	require.NoError(t, err, sql)
	out, err := pgx.CollectRows(rows, pgx.RowTo[string])
	require.NoError(t, err, sql)
	return out
}

// textsOf returns values as the server writes them.
func textsOf(t *testing.T, conn *pgx.Conn, typ string, values []string) (out []string) {
	for _, v := range values {
		out = append(out, list(t, conn, "SELECT $1::text::"+typ+"::text", v)...)
	}
	return out
}

func randomTexts(t *testing.T, conn *pgx.Conn, typ, expression string) []string {
	return list(t, conn, fmt.Sprintf("SELECT v::%s::text FROM (SELECT (%s)::%s AS v FROM generate_series(1, 60) i) s", typ, expression, typ))
}

func oidOf(t *testing.T, conn *pgx.Conn, typ string) uint32 {
	oid, err := strconv.ParseUint(list(t, conn, "SELECT $1::text::regtype::oid::text", typ)[0], 10, 32)
	require.NoError(t, err)
	return uint32(oid)
}

// checkRoundTrip sends values through JSON. Texts are compared, which is stricter
// than IS NOT DISTINCT FROM (-0, 1.50) and works for types without equality.
func checkRoundTrip(t *testing.T, conn *pgx.Conn, typ string, c *codec, values []string) {
	var e encoder
	backs := make([]string, len(values))
	for i, v := range values {
		js := e.value(nil, c, []byte(v))
		require.True(t, json.Valid(js), "%s %q gave %s", typ, v, js)
		back, isNull := fromJSON(t, c, js)
		require.False(t, isNull && c.form != formJSON)
		backs[i] = back
		if c.form == formNumeric && js[0] != '"' {
			requireSameDouble(t, conn, v)
		}
	}
	require.Empty(t, e.scratch)
	differ := list(t, conn, fmt.Sprintf(
		`SELECT format('%%s became %%s', a, b) FROM unnest($1::text[], $2::text[]) u(a, b) WHERE (a::%[1]s)::text IS DISTINCT FROM (b::%[1]s)::text LIMIT 3`, typ), values, backs)
	require.Empty(t, differ, "type %s", typ)
}

// requireSameDouble checks a numeric that became a JSON number: whoever reads it as
// a double has its value.
func requireSameDouble(t *testing.T, conn *pgx.Conn, v string) {
	f, err := strconv.ParseFloat(v, 64)
	require.NoError(t, err)
	same := list(t, conn, "SELECT ($1::text::numeric = $2::text::numeric)::text", v, strconv.FormatFloat(f, 'g', -1, 64))
	require.Equal(t, "true", same[0], v)
}

// fromJSON writes JSON as a literal of the type again.
func fromJSON(t *testing.T, c *codec, js []byte) (literal string, isNull bool) {
	if c.form == formJSON {
		return string(js), string(js) == "null"
	}
	var s string
	isString := json.Unmarshal(js, &s) == nil && js[0] == '"'
	switch {
	case string(js) == "null":
		return "", true
	case isString && c.form == formBytea:
		raw, err := base64.StdEncoding.DecodeString(s)
		require.NoError(t, err)
		return fmt.Sprintf(`\x%x`, raw), false
	case isString:
		return s, false
	}
	switch c.form {
	case formArray:
		return arrayFromJSON(t, c, js), false
	case formComposite:
		return compositeFromJSON(t, c, js), false
	case formHstore:
		return hstoreFromJSON(t, js), false
	}
	return string(js), false
}

func arrayFromJSON(t *testing.T, c *codec, js []byte) string {
	var elements []json.RawMessage
	require.NoError(t, json.Unmarshal(js, &elements))
	parts := make([]string, len(elements))
	for i, el := range elements {
		if c.elem.form != formJSON && el[0] == '[' {
			parts[i] = arrayFromJSON(t, c, el)
			continue
		}
		text, isNull := fromJSON(t, c.elem, el)
		parts[i] = quoteElement(text)
		if isNull {
			parts[i] = "NULL"
		}
	}
	return "{" + strings.Join(parts, string(c.delim)) + "}"
}

func compositeFromJSON(t *testing.T, c *codec, js []byte) string {
	var fields map[string]json.RawMessage
	require.NoError(t, json.Unmarshal(js, &fields))
	require.Len(t, fields, len(c.fields))
	parts := make([]string, len(c.fields))
	for i, f := range c.fields {
		var name string
		require.NoError(t, json.Unmarshal(f.label[1:len(f.label)-1], &name))
		if text, isNull := fromJSON(t, f.codec, fields[name]); !isNull {
			parts[i] = quoteField(text)
		}
	}
	return "(" + strings.Join(parts, ",") + ")"
}

func hstoreFromJSON(t *testing.T, js []byte) string {
	var pairs map[string]*string
	require.NoError(t, json.Unmarshal(js, &pairs))
	var parts []string
	for k, v := range pairs {
		value := "NULL"
		if v != nil {
			value = quoteElement(*v)
		}
		parts = append(parts, quoteElement(k)+"=>"+value)
	}
	return strings.Join(parts, ", ")
}

// readTypes reads the types of the database as far as codecs need them.
func readTypes(t *testing.T, conn *pgx.Conn) catalog.Types {
	rows, err := conn.Query(context.Background(), `
		SELECT t.oid::int8, n.nspname::text, t.typname::text, CASE WHEN t.typcategory = 'A' THEN 'a' ELSE t.typtype::text END, t.typelem::int8,
		       t.typdelim::text, t.typbasetype::int8, coalesce(e.extname::text, ''), t.typrelid::int8
		FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace
		LEFT JOIN pg_depend d ON d.classid = 'pg_type'::regclass AND d.objid = t.oid AND d.deptype = 'e'
		LEFT JOIN pg_extension e ON e.oid = d.refobjid WHERE t.oid >= 16384`)
	require.NoError(t, err)
	types, relations := catalog.Types{}, map[*catalog.Type]int64{}
	for rows.Next() {
		var oid, elem, base, rel int64
		var kind, delim string
		typ := &catalog.Type{}
		require.NoError(t, rows.Scan(&oid, &typ.Namespace, &typ.Name, &kind, &elem, &delim, &base, &typ.Extension, &rel))
		typ.OID, typ.Kind, typ.Elem, typ.Delim, typ.Base = uint32(oid), catalog.TypeKind(kind[0]), uint32(elem), delim[0], uint32(base)
		types[typ.OID] = typ
		relations[typ] = rel
	}
	require.NoError(t, rows.Err())
	for typ, rel := range relations {
		fields, err := conn.Query(context.Background(), `SELECT attname::text, atttypid::int8 FROM pg_attribute WHERE attrelid = $1 AND attnum > 0 AND NOT attisdropped ORDER BY attnum`, rel)
		require.NoError(t, err)
		for fields.Next() {
			var f catalog.Field
			var oid int64
			require.NoError(t, fields.Scan(&f.Name, &oid))
			f.TypeOID = uint32(oid)
			typ.Fields = append(typ.Fields, f)
		}
		require.NoError(t, fields.Err())
	}
	return types
}
