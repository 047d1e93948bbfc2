package migrate

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/internal/secret"
	"github.com/walbridge/walbridge/migrations"
)

func TestMain(m *testing.M) { pgtest.Main(m) }

func config(db *pgtest.DB) Config {
	return Config{DSN: secret.DSN(db.DSN()), Schema: "walbridge", ToolVersion: "test"}
}

// catalog describes everything in the schema, the list of migrations aside.
const catalog = `
SELECT 'relation ' || c.relname || ' ' || c.relkind::text || ' ' || coalesce(pg_get_expr(c.relpartbound, c.oid), '') || ' ' || coalesce(pg_get_partkeydef(c.oid), '') || ' ' ||
       coalesce(CASE WHEN c.relkind = 'v' THEN pg_get_viewdef(c.oid) END, '') || ' ' || coalesce(c.relacl::text, '') || ' ' || coalesce(obj_description(c.oid, 'pg_class'), '')
FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace WHERE n.nspname = 'walbridge' AND c.relname !~ '^migration'
UNION ALL
SELECT 'column ' || c.relname || '.' || a.attname || ' ' || a.attnum || ' ' || format_type(a.atttypid, a.atttypmod) || ' ' || a.attnotnull || ' ' || a.attidentity::text || ' ' ||
       coalesce(pg_get_expr(d.adbin, d.adrelid), '') || ' ' || coalesce(col_description(c.oid, a.attnum), '')
FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
LEFT JOIN pg_attrdef d ON d.adrelid = a.attrelid AND d.adnum = a.attnum
WHERE n.nspname = 'walbridge' AND c.relname !~ '^migration' AND a.attnum > 0 AND NOT a.attisdropped
UNION ALL
SELECT 'index ' || pg_get_indexdef(i.indexrelid) FROM pg_index i JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = 'walbridge' AND c.relname <> 'migration'
UNION ALL
SELECT 'constraint ' || conrelid::regclass::text || ' ' || conname || ' ' || pg_get_constraintdef(t.oid) FROM pg_constraint t JOIN pg_namespace n ON n.oid = t.connamespace
WHERE n.nspname = 'walbridge' AND conname !~ '^migration'
UNION ALL
SELECT 'function ' || pg_get_functiondef(p.oid) || ' ' || coalesce(p.proacl::text, '') || ' ' || coalesce(obj_description(p.oid, 'pg_proc'), '')
FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace WHERE n.nspname = 'walbridge'
UNION ALL
SELECT 'version ' || version || ' ' || compatible_from FROM walbridge.schema_version
ORDER BY 1`

func dump(t *testing.T, db *pgtest.DB) string {
	var b strings.Builder
	for _, row := range db.Query(t, catalog) {
		b.WriteString(row[0] + "\n")
	}
	return b.String()
}

// Down undoes what Up does, one migration at a time and all at once, on every
// version; printed SQL does the same as the run.
func TestUpDownUp(t *testing.T) {
	pgtest.Matrix(t, func(t *testing.T, c *pgtest.Cluster) {
		db, ctx := c.DB(t), t.Context()
		ran, err := Up(ctx, config(db))
		require.NoError(t, err)
		require.Len(t, ran, migrations.Version)
		up := dump(t, db)
		require.Contains(t, up, "function CREATE OR REPLACE FUNCTION walbridge.lane(")
		ran, err = Up(ctx, config(db))
		require.NoError(t, err)
		require.Empty(t, ran, "a second up has nothing to do")

		var steps []string
		for v := migrations.Version - 1; v > 0; v-- {
			_, err = Down(ctx, config(db), v)
			require.NoError(t, err)
			steps = append(steps, dump(t, db))
		}
		_, err = Down(ctx, config(db), 0)
		require.NoError(t, err)
		left := db.Query(t, `SELECT relname FROM pg_class c JOIN pg_namespace n ON n.oid = relnamespace WHERE nspname = 'walbridge' AND relkind = 'r'
			UNION ALL SELECT proname FROM pg_proc p JOIN pg_namespace n ON n.oid = pronamespace WHERE nspname = 'walbridge'`)
		require.Equal(t, [][]string{{"migration"}}, left, "left after down to 0")

		for v := 1; v < migrations.Version; v++ {
			apply(t, db, v-1, v)
			require.Equal(t, steps[len(steps)-v], dump(t, db), "up to %d against down to %d", v, v)
		}
		apply(t, db, migrations.Version-1, migrations.Version)
		require.Equal(t, up, dump(t, db))
	})
}

// apply runs printed SQL.
func apply(t *testing.T, db *pgtest.DB, from, to int) {
	t.Helper()
	sql, err := Print(config(db), from, to)
	require.NoError(t, err)
	if from == 0 {
		db.Exec(t, "DROP TABLE walbridge.migration")
	}
	conn := db.Conn(t)
	_, err = conn.PgConn().Exec(t.Context(), sql).ReadAll()
	require.NoError(t, err, sql)
}

func TestPrintIsWhatUpDoes(t *testing.T) {
	a, b := pgtest.Shared(t).DB(t), pgtest.Shared(t).DB(t)
	_, err := Up(t.Context(), config(a))
	require.NoError(t, err)
	sql, err := Print(config(b), 0, migrations.Version)
	require.NoError(t, err)
	_, err = b.Conn(t).PgConn().Exec(t.Context(), sql).ReadAll()
	require.NoError(t, err)
	require.Equal(t, dump(t, a), dump(t, b))
	ran, err := Up(t.Context(), config(b))
	require.NoError(t, err)
	require.Empty(t, ran, "up after the printed SQL has nothing to do")
	sql, err = Print(config(b), migrations.Version, 0)
	require.NoError(t, err)
	_, err = b.Conn(t).PgConn().Exec(t.Context(), sql).ReadAll()
	require.NoError(t, err)
	same, err := Print(config(b), 3, 3)
	require.NoError(t, err)
	require.Empty(t, same)
	_, err = Print(config(b), 0, migrations.Version+1)
	require.Error(t, err)
}

// Processes that migrate at once do it one after the other.
func TestConcurrentUp(t *testing.T) {
	db := pgtest.Shared(t).DB(t)
	var g errgroup.Group
	total := make(chan int, 4)
	for range cap(total) {
		g.Go(func() error {
			ran, err := Up(context.Background(), config(db))
			total <- len(ran)
			return err
		})
	}
	require.NoError(t, g.Wait())
	close(total)
	sum := 0
	for n := range total {
		sum += n
	}
	require.Equal(t, migrations.Version, sum, "each migration ran once")
	require.Equal(t, fmt.Sprint(migrations.Version), db.One(t, "SELECT count(*) FROM walbridge.operation WHERE command = 'migrate up' AND who = 'postgres' AND tool_version = 'test'"))
}

func TestStatusAndCompatCheck(t *testing.T) {
	db, ctx := pgtest.Shared(t).DB(t), t.Context()
	_, version, _, err := Status(ctx, config(db))
	require.NoError(t, err)
	require.Zero(t, version)
	var inc *migrations.Incompatible
	require.ErrorAs(t, CompatCheck(ctx, config(db)), &inc)
	require.Zero(t, inc.Schema)
	_, err = Up(ctx, config(db))
	require.NoError(t, err)
	require.NoError(t, CompatCheck(ctx, config(db)))
	_, err = Down(ctx, config(db), 3)
	require.NoError(t, err)
	steps, version, from, err := Status(ctx, config(db))
	require.NoError(t, err)
	require.Equal(t, []int{3, 3}, []int{version, from})
	require.Len(t, steps, migrations.Version)
	require.Equal(t, Step{3, "00003_log.sql", true}, steps[2])
	require.Equal(t, Step{4, "00004_dead_letter.sql", false}, steps[3])
	require.ErrorAs(t, CompatCheck(ctx, config(db)), &inc)
	db.Exec(t, "UPDATE walbridge.schema_version SET version = 900, compatible_from = 899")
	require.ErrorAs(t, CompatCheck(ctx, config(db)), &inc)
	require.ErrorContains(t, inc, "900")
	require.ErrorContains(t, inc, "899")
	require.ErrorContains(t, inc, fmt.Sprint(migrations.Version))
}

func TestLanesAreFixed(t *testing.T) {
	db, ctx := pgtest.Shared(t).DB(t), t.Context()
	cfg := config(db)
	cfg.Lanes = 16
	_, err := Up(ctx, cfg)
	require.NoError(t, err)
	require.Equal(t, "16", db.One(t, "SELECT walbridge.lanes()"))
	cfg.Lanes = 64
	_, err = Up(ctx, cfg)
	var bad *fault.ConfigError
	require.ErrorAs(t, err, &bad)
	require.ErrorContains(t, err, "64")
	require.ErrorContains(t, err, "16")
}

// The SQL function and the Go function agree, on the golden vectors and others.
func TestLaneInSQL(t *testing.T) {
	db, ctx := pgtest.Shared(t).DB(t), t.Context()
	for _, lanes := range []int{1, 64, 1000} {
		cfg := config(db)
		cfg.Schema, cfg.Lanes = fmt.Sprintf("lanes%d", lanes), lanes
		_, err := Up(ctx, cfg)
		require.NoError(t, err)
		for i := range 200 {
			key := fmt.Sprintf("key-%d-é", i)
			require.Equal(t, fmt.Sprint(migrations.Lane([]byte(key), lanes)), db.One(t, "SELECT "+cfg.Schema+".lane($1)", key), key)
		}
	}
	for key, lane := range map[string]int{"": 2, "order:9182": 60, "a": 18, "public.orders:[1]": 54, "Zoë": 24, "\U0001F600": 52} {
		require.Equal(t, fmt.Sprint(lane), db.One(t, "SELECT lanes64.lane($1)", key), "%q", key)
	}
	require.Equal(t, pgtest.Null, db.One(t, "SELECT lanes64.lane(NULL)"))
}

// Two schemas of one database, one with a name that needs quotes, are apart.
func TestQuotedSchema(t *testing.T) {
	db, ctx := pgtest.Shared(t).DB(t), t.Context()
	cfg := config(db)
	cfg.Schema = "Shop-Work"
	_, err := Up(ctx, cfg)
	require.NoError(t, err)
	_, err = Up(ctx, config(db))
	require.NoError(t, err)
	require.NotEmpty(t, db.One(t, `SELECT "Shop-Work".make_partitions(0, 2, 100)`))
	require.Equal(t, "1", db.One(t, `SELECT "Shop-Work".take_seq(5)`))
	require.Equal(t, "6", db.One(t, `SELECT "Shop-Work".take_seq(1)`))
	require.Equal(t, "1", db.One(t, `SELECT walbridge.take_seq(1)`))
	_, err = Down(ctx, cfg, 0)
	require.NoError(t, err)
	require.NoError(t, CompatCheck(ctx, config(db)))
	cfg.Schema = `x"; DROP SCHEMA walbridge CASCADE; --`
	_, err = Up(ctx, cfg)
	require.Error(t, err)
	require.NoError(t, CompatCheck(ctx, config(db)))
}

// The inbox can be made alone, before and after the whole schema; the application
// uses it as documented.
func TestInbox(t *testing.T) {
	db, ctx := pgtest.Shared(t).DB(t), t.Context()
	sql, err := migrations.InboxSQL("walbridge")
	require.NoError(t, err)
	for range 2 {
		_, err = db.Conn(t).PgConn().Exec(ctx, sql).ReadAll()
		require.NoError(t, err)
	}
	const work = `INSERT INTO walbridge.inbox (partition_key, payload, idempotency_key)
		VALUES ('order:9182', '{"type":"send_receipt","order_id":9182}', 'send_receipt:9182')`
	db.Exec(t, work)
	_, err = Up(ctx, config(db))
	require.NoError(t, err)
	require.Equal(t, "1", db.One(t, "SELECT count(*) FROM walbridge.inbox"))
	_, err = db.Conn(t).Exec(ctx, work)
	require.ErrorContains(t, err, "inbox_idempotency_key_key")
}

// make_partitions makes what is missing and some ahead, skips what no row can need
// any more, and does not wait for readers (CREATE TABLE … PARTITION OF does).
func TestMakePartitions(t *testing.T) {
	db, ctx := pgtest.Shared(t).DB(t), t.Context()
	_, err := Up(ctx, config(db))
	require.NoError(t, err)
	bounds := func() string {
		return db.One(t, `SELECT string_agg(c.relname || ' ' || pg_get_expr(c.relpartbound, c.oid), E'\n' ORDER BY c.relname)
			FROM pg_inherits i JOIN pg_class c ON c.oid = inhrelid WHERE inhparent = 'walbridge.log_change'::regclass`)
	}
	require.Equal(t, "300", db.One(t, "SELECT walbridge.make_partitions(0, 2, 100)"))
	want := `log_change_0000000000000000000 FOR VALUES FROM ('0') TO ('100')
log_change_0000000000000000100 FOR VALUES FROM ('100') TO ('200')
log_change_0000000000000000200 FOR VALUES FROM ('200') TO ('300')`
	require.Equal(t, want, bounds())
	require.Equal(t, "300", db.One(t, "SELECT walbridge.make_partitions(99, 2, 100)"))
	require.Equal(t, want, bounds())

	reader, err := db.Conn(t).Begin(ctx)
	require.NoError(t, err)
	_, err = reader.Exec(ctx, "SELECT * FROM walbridge.log")
	require.NoError(t, err)
	require.Equal(t, "400", db.One(t, "SELECT walbridge.make_partitions(100, 2, 100)"), "with a reader in a transaction")
	_, err = db.Conn(t).Exec(ctx, "SET lock_timeout = '50ms'; CREATE TABLE walbridge.x PARTITION OF walbridge.log_change FOR VALUES FROM (1000) TO (1100)")
	require.ErrorContains(t, err, "55P03", "the hole that ATTACH avoids")
	require.NoError(t, reader.Rollback(ctx))

	db.One(t, "SELECT walbridge.take_seq(1550)")
	require.Equal(t, "1800", db.One(t, "SELECT walbridge.make_partitions(1550, 2, 100)"))
	require.Contains(t, bounds(), "log_change_0000000000000001500 FOR VALUES FROM ('1500') TO ('1600')")
	require.NotContains(t, bounds(), "FROM ('400')")
	for _, bad := range []string{"NULL, 2, 100", "-1, 2, 100", "0, 101, 100", "0, 2, 0"} {
		_, err = db.Conn(t).Exec(ctx, "SELECT walbridge.make_partitions("+bad+")")
		require.ErrorContains(t, err, migrations.CodeArgument, bad)
	}
	_, err = db.Conn(t).Exec(ctx, "SELECT walbridge.take_seq(0)")
	require.ErrorContains(t, err, migrations.CodeArgument)
}

func TestSecretsStayOut(t *testing.T) {
	for _, dsn := range []secret.DSN{"postgres://u:hunter2@127.0.0.1:1/x", "postgres://u:hunter2@127.0.0.1:notaport/x", "host=127.0.0.1 port=1 password=hunter2"} {
		_, err := Up(t.Context(), Config{DSN: dsn})
		require.Error(t, err)
		for e := err; e != nil; e = errors.Unwrap(e) {
			require.NotContains(t, e.Error(), "hunter2")
		}
	}
}
