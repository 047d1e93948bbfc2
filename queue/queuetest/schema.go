package queuetest

import (
	"context"
	"crypto/rand"
	"encoding/json"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/migrate"
	"github.com/walbridge/walbridge/internal/secret"
	"github.com/walbridge/walbridge/migrations"
)

// Schema is a throwaway work table in a database of the caller's. It is dropped at
// the test's end with all that is in it.
type Schema struct {
	// Name is for queue.Config.Schema.
	Name string
	t    testing.TB
	dsn  string
	n    int64
}

// NewSchema makes a work table with 8 lanes in the database, under a name of its own, so
// that tests can run side by side. The role must be allowed to make schemas.
func NewSchema(t testing.TB, dsn string) *Schema {
	t.Helper()
	s := &Schema{Name: "queuetest_" + strings.ToLower(rand.Text()[:12]), t: t, dsn: dsn}
	_, err := migrate.Up(t.Context(), migrate.Config{DSN: secret.DSN(dsn), Schema: s.Name, Lanes: 8, ToolVersion: "queuetest"})
	if err != nil {
		t.Fatalf("queuetest: %v", err)
	}
	t.Cleanup(func() { s.exec("DROP SCHEMA " + migrations.Ident(s.Name) + " CASCADE") })
	return s
}

// appendSQL adds one item as a bridge does: under the log's lock, with the batch row
// that makes it visible, and a notification.
const appendSQL = `
WITH made AS (INSERT INTO walbridge.stream (name) SELECT $1 WHERE NOT EXISTS (SELECT FROM walbridge.stream WHERE name = $1) RETURNING id),
item AS (
	INSERT INTO walbridge.log (seq, commit_lsn, tx_seq, committed_at, created_at, stream_id, sub, lane, tx_end, kind, stream, partition_key,
		idempotency_key, type, source, payload)
	SELECT walbridge.take_seq(1), ('0/0'::pg_lsn + $5), 0, clock_timestamp(), clock_timestamp(), coalesce((SELECT id FROM made), (SELECT id FROM walbridge.stream WHERE name = $1)),
		0, walbridge.lane($2), true, 'event', $1, $2, 'queuetest-' || $5::text, $3, 'queuetest', $4::json
	RETURNING seq)
INSERT INTO walbridge.batch (source, n, first_seq, last_seq, end_lsn, last_tx_end, timeline)
SELECT 'queuetest', $5, seq, seq, '0/1'::pg_lsn + $5, '0/1'::pg_lsn + $5, 1 FROM item RETURNING last_seq`

// Add appends an event to a stream, as a bridge does, and returns its seq. value is
// its payload, marshalled.
func (s *Schema) Add(stream, typ, key string, value any) int64 {
	s.t.Helper()
	payload, err := json.Marshal(value)
	if err != nil {
		s.t.Fatalf("queuetest: payload: %v", err)
	}
	s.n++
	var seq int64
	s.with(func(ctx context.Context, conn *pgx.Conn) error {
		return pgx.BeginFunc(ctx, conn, func(tx pgx.Tx) error {
			if _, err := tx.Exec(ctx, s.sql("INSERT INTO walbridge.source (name) VALUES ('queuetest') ON CONFLICT DO NOTHING;"+
				" SELECT walbridge.make_partitions((SELECT last_value FROM walbridge.log_seq), 1, 100000); SELECT walbridge.lock_log()")); err != nil {
				return err
			}
			if err := tx.QueryRow(ctx, s.sql(appendSQL), stream, key, typ, string(payload), s.n).Scan(&seq); err != nil {
				return err
			}
			_, err := tx.Exec(ctx, "SELECT pg_notify($1, $2)", migrations.Channel, s.Name)
			return err
		})
	})
	return seq
}

// sql puts the schema's name into a statement.
func (s *Schema) sql(text string) string {
	return strings.ReplaceAll(text, "walbridge.", migrations.Ident(s.Name)+".")
}

func (s *Schema) exec(sql string) {
	s.t.Helper()
	s.with(func(ctx context.Context, conn *pgx.Conn) error {
		_, err := conn.Exec(ctx, sql)
		return err
	})
}

// with runs f on a connection of its own; what fails, fails the test.
func (s *Schema) with(f func(ctx context.Context, conn *pgx.Conn) error) {
	s.t.Helper()
	ctx := context.Background() // also after the test's own context has ended
	conn, err := pgx.Connect(ctx, s.dsn)
	if err != nil {
		s.t.Fatalf("queuetest: %s", secret.Redact(err.Error()))
	}
	defer func() { _ = conn.Close(ctx) }()
	if err := f(ctx, conn); err != nil {
		s.t.Fatalf("queuetest: %v", err)
	}
}
