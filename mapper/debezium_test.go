package mapper

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/internal/catalog"
	"github.com/walbridge/walbridge/internal/debeziumtest"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/pgtest"
)

// The same workload as Debezium's own engine had gives the same records, field by field,
// but for what docs/debezium.md lists.
func TestRecordsAreThoseOfDebezium(t *testing.T) {
	pgtest.Matrix(t, func(t *testing.T, c *pgtest.Cluster) {
		db := c.DB(t)
		changes := runWorkload(t, db)
		for _, recording := range []struct{ name, numeric string }{{"stream", numericExact}, {"options", numericNumber}} {
			t.Run(recording.name, func(t *testing.T) {
				want, err := debeziumtest.Load(recording.name)
				require.NoError(t, err)
				require.Equal(t, debeziumtest.WorkloadSum(), want.Head.Workload, "recorded with another workload")
				compareRecords(t, changes.mapped(t, recording.numeric), want.Records, recording.name)
			})
		}
	})
}

// Amounts of money as locales write them.
func TestMoney(t *testing.T) {
	for text, want := range map[string]string{
		"$1.50": "1.50", "-$1,234,567.89": "-1234567.89", "($0.01)": "-0.01", "1.234,50 €": "1234.50", "¥1,234": "1234", "-92.233.720.368.547.758,08 kr": "-92233720368547758.08",
		"Fr. 12": "12",
	} {
		out, ok := appendMoney(nil, []byte(text), false)
		require.True(t, ok, text)
		require.Equal(t, want, string(out), text)
	}
}

// What no server sends becomes text, and nothing panics.
func FuzzDebeziumValues(f *testing.F) {
	for _, s := range []string{"2024-02-29", "infinity", "0044-03-15 BC", "2024-02-29 12:34:56.123456+00", "12:34:56+05:30", "1 year 2 mons -3 days +04:05:06.789", "(1,2)", "{1,2}", "[2:3]={1,2}", "0101", `"a"=>"b"`, "$1.00"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		var e encoder
		for form := formText; form <= formHstoreText; form++ {
			c := &codec{form: form, elem: &codec{form: formDays}, delim: ',', digits: 6, plain: true}
			if form == formJSON {
				continue // looked at before
			}
			require.True(t, json.Valid(e.value(nil, c, []byte(strings.ToValidUTF8(s, "?")))), "form %d", form)
		}
	})
}

// workloadChanges are what the server sends of the workload.
type workloadChanges struct {
	data   [][]byte
	at     []lsn.LSN
	types  catalog.Types
	tables []catalog.Table
}

func runWorkload(t *testing.T, db *pgtest.DB) workloadChanges {
	t.Helper()
	conn := db.Conn(t)
	run := func(sql string) {
		_, err := conn.Exec(t.Context(), sql, pgx.QueryExecModeSimpleProtocol)
		require.NoError(t, err, sql)
	}
	slot := "debezium_" + db.Name()
	for i, s := range debeziumtest.Steps() {
		run(s.SQL)
		if i == 0 {
			run("CREATE PUBLICATION everything FOR ALL TABLES")
			run("SELECT pg_create_logical_replication_slot('" + slot + "', 'pgoutput')")
		}
	}
	t.Cleanup(func() { db.Exec(t, "SELECT pg_drop_replication_slot($1)", slot) })
	// The settings of replication's sessions.
	run("SET datestyle = 'ISO, YMD'; SET intervalstyle = postgres; SET timezone = UTC; SET bytea_output = hex; SET extra_float_digits = 3")
	w := workloadChanges{types: readTypes(t, conn), tables: workloadTables(t, conn)}
	rows, err := conn.Query(t.Context(), "SELECT lsn::text, data FROM pg_logical_slot_peek_binary_changes($1, NULL, NULL, 'proto_version', '1', 'publication_names', 'everything')", slot)
	require.NoError(t, err)
	for rows.Next() {
		var at string
		var data []byte
		require.NoError(t, rows.Scan(&at, &data))
		position, err := lsn.Parse(at)
		require.NoError(t, err)
		w.data, w.at = append(w.data, data), append(w.at, position)
	}
	require.NoError(t, rows.Err())
	return w
}

// workloadTables are the tables with their keys in the order of the primary key.
func workloadTables(t *testing.T, conn *pgx.Conn) (tables []catalog.Table) {
	t.Helper()
	rows, err := conn.Query(context.Background(), `
		SELECT n.nspname::text, c.relname::text, coalesce((
			SELECT array_agg(a.attname::text ORDER BY k.n) FROM pg_index i, unnest(i.indkey) WITH ORDINALITY k (attnum, n)
			JOIN pg_attribute a ON a.attrelid = c.oid AND a.attnum = k.attnum WHERE i.indrelid = c.oid AND i.indisprimary AND a.attnum = k.attnum AND c.relreplident <> 'i'), '{}'),
		(SELECT array_agg(a.attname::text) FROM pg_attribute a WHERE a.attrelid = c.oid AND a.attnum > 0 AND a.attnotnull)
		FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE c.relkind = 'r' AND n.nspname IN ('public', 'shop')`)
	require.NoError(t, err)
	for rows.Next() {
		var table catalog.Table
		var notNull []string
		require.NoError(t, rows.Scan(&table.Schema, &table.Name, &table.IdentityColumns, &notNull))
		for _, name := range notNull {
			table.Columns = append(table.Columns, catalog.Column{Name: name, NotNull: true})
		}
		tables = append(tables, table)
	}
	require.NoError(t, rows.Err())
	return tables
}

// mapped are the records of the changes.
func (w workloadChanges) mapped(t *testing.T, numeric string) (all []debeziumtest.Record) {
	t.Helper()
	m, err := New(Config{Routes: []Route{
		{Tables: []string{"*.*"}, Exclude: []string{"public.outbox", "public.finish"}, Changes: &Changes{Envelope: envelopeDebezium, Numeric: numeric}},
	}}, Env{Bridge: debeziumtest.Prefix, Database: "postgres", Types: w.types, Tables: w.tables, Version: "test"})
	require.NoError(t, err)
	d := decoder.New(decoder.Config{})
	for i := range w.data {
		step, err := d.Decode(w.data[i], w.at[i])
		require.NoError(t, err)
		for more := step == decoder.StepChange; more; more = d.More() {
			items, err := m.Map(d.Change())
			require.NoError(t, err)
			for k := range items {
				all = append(all, recordOf(t, &items[k]))
			}
		}
	}
	return all
}

func recordOf(t *testing.T, it *Item) debeziumtest.Record {
	t.Helper()
	require.Equal(t, KindRecord, it.Kind, "%+v", it.DeadLetter)
	r := debeziumtest.Record{Topic: it.Stream, Key: bytes.Clone(it.Key), Headers: map[string]string{}}
	if it.Payload != nil {
		r.Value = it.Payload.AppendJSON(nil)
		require.True(t, json.Valid(r.Value), "%s", r.Value)
	}
	if it.Headers != nil {
		require.NoError(t, json.Unmarshal(it.Headers, &r.Headers))
	}
	return r
}

// compareRecords compares what is comparable, in order.
func compareRecords(t *testing.T, got, recorded []debeziumtest.Record, name string) {
	t.Helper()
	var want []debeziumtest.Record
	for _, r := range recorded {
		if !strings.HasSuffix(r.Topic, ".message") { // logical messages are for routes of their own
			want = append(want, r)
		}
	}
	for i := range min(len(got), len(want)) {
		g, w := &got[i], &want[i]
		where := fmt.Sprintf("record %d of %s: %.300s", i, w.Topic, w.Value)
		require.Equal(t, w.Topic, g.Topic, where)
		if name == "options" && w.Topic != "shop.public.numbers" {
			continue // of the options, numbers as doubles are the one that is here too
		}
		if w.Topic == "shop.public.by_index" {
			continue // keyed by the index that identifies the rows, not by the primary key that deletes lack
		}
		require.Equal(t, orNull(w.Key), orNull(g.Key), where)
		require.Equal(t, w.Headers, g.Headers, where)
		compareValues(t, fields(t, g.Value), fields(t, w.Value), where)
	}
	require.Len(t, got, len(want))
}

func orNull(key json.RawMessage) string {
	if key == nil {
		return "null"
	}
	return string(key)
}

func fields(t *testing.T, text json.RawMessage) map[string]any {
	t.Helper()
	if text == nil || string(text) == "null" {
		return nil
	}
	d := json.NewDecoder(bytes.NewReader(text))
	d.UseNumber()
	var v map[string]any
	require.NoError(t, d.Decode(&v), "%s", text)
	return v
}

func compareValues(t *testing.T, got, want map[string]any, where string) {
	t.Helper()
	require.Equal(t, want == nil, got == nil, where)
	if want == nil {
		return
	}
	for _, key := range []string{"ts_ms", "ts_us", "ts_ns"} { // when it was processed
		require.Contains(t, got, key)
		delete(got, key)
		delete(want, key)
	}
	compareSource(t, got["source"].(map[string]any), want["source"].(map[string]any), where)
	table := want["source"].(map[string]any)["table"].(string)
	for _, side := range []string{"before", "after"} {
		compareRow(t, got[side], want[side], table, where)
		delete(got, side)
		delete(want, side)
	}
	delete(got, "source")
	delete(want, "source")
	require.Equal(t, want, got, where)
}

// compareSource compares all but version, positions and times of commits, which differ
// between two servers.
func compareSource(t *testing.T, got, want map[string]any, where string) {
	t.Helper()
	var sequence [2]string
	require.NoError(t, json.Unmarshal([]byte(got["sequence"].(string)), &sequence), where)
	require.Equal(t, got["lsn"].(json.Number).String(), sequence[1], where)
	for _, key := range []string{"version", "sequence", "lsn", "txId", "ts_ms", "ts_us", "ts_ns"} {
		require.Contains(t, got, key, where)
		require.Equal(t, fmt.Sprintf("%T", want[key]), fmt.Sprintf("%T", got[key]), "%s: %s", where, key)
		delete(got, key)
		delete(want, key)
	}
	require.Equal(t, want, got, where)
}

func compareRow(t *testing.T, got, want any, table, where string) {
	t.Helper()
	require.Equal(t, want == nil, got == nil, where)
	if want == nil {
		return
	}
	g, w := got.(map[string]any), want.(map[string]any)
	id := fmt.Sprint(w["id"])
	for column, v := range w {
		if own, differs := deviates(table, id, column); differs {
			require.Equal(t, own, asJSON(t, g[column]), "%s: column %s", where, column)
			continue
		}
		require.True(t, same(v, g[column]), "%s: column %s: %v, want %v", where, column, g[column], v)
	}
	for column := range g {
		if _, has := w[column]; !has {
			require.True(t, left(table, column), "%s: column %s is not in Debezium's", where, column)
		}
	}
}

func asJSON(t *testing.T, v any) string {
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return string(b)
}

// same compares values; numbers by what they are.
func same(want, got any) bool {
	w, isNumber := want.(json.Number)
	g, too := got.(json.Number)
	if isNumber && too {
		a, errA := strconv.ParseFloat(w.String(), 64)
		b, errB := strconv.ParseFloat(g.String(), 64)
		_, integer := strconv.ParseInt(w.String(), 10, 64)
		return errA == nil && errB == nil && (w == g || integer != nil && (a == b || float32(a) == float32(b)))
	}
	wl, isList := want.([]any)
	gl, isListToo := got.([]any)
	if isList && isListToo && len(wl) == len(gl) {
		for i := range wl {
			if !same(wl[i], gl[i]) {
				return false
			}
		}
		return true
	}
	wo, isObject := want.(map[string]any)
	if gOb, ok := got.(map[string]any); ok && isObject && len(wo) == len(gOb) {
		for k := range wo {
			if !same(wo[k], gOb[k]) {
				return false
			}
		}
		return true
	}
	return reflect.DeepEqual(want, got)
}
