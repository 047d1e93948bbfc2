package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/examples/internal/proof"
)

// The worker processes apply records.
func TestMain(m *testing.M) {
	proof.Main(m, func(ctx context.Context, pool *pgxpool.Pool, _ string) error { return work(ctx, pool) })
}

// Two workers apply what a random workload does, while they, the bridge and the server
// are killed.
func TestReplicaBuiltBySeveralWorkersEqualsTheTables(t *testing.T) {
	t.Parallel()
	s := proof.New(t, setup())
	_, err := s.Pool.Exec(t.Context(), "ALTER TABLE legacy.customer ALTER note SET STORAGE EXTERNAL") // large values are not compressed
	require.NoError(t, err)
	stop, cancel := context.WithCancel(t.Context())
	defer cancel()
	done, rnd := make(chan int), rand.New(rand.NewPCG(s.Rand.Uint64(), 2))
	go func() { done <- change(stop, s, rnd, proof.Size(3000, 50_000)) }()
	a, b := s.Worker(""), s.Worker("")
	for i := range proof.Size(3, 30) {
		s.Pause(1500 * time.Millisecond)
		proof.Kill(t, a)
		a, b = b, s.Worker("")
		switch i % 3 {
		case 0:
			s.RestartBridge()
		case 1:
			s.RestartServer(s.Server)
		}
	}
	cancel()
	t.Logf("%d transactions", <-done)
	for _, table := range []string{"customer", "part", "audit"} { // what DDL changed shows when a row is written
		_, err := s.Pool.Exec(t.Context(), "UPDATE legacy."+table+" SET "+map[string]string{"customer": "name = name", "part": "amount = amount", "audit": "n = n"}[table])
		require.NoError(t, err)
	}
	s.Until("SELECT (" + differences + ") = 0")
	require.NotEqual(t, "0", s.One("SELECT count(*)::text FROM replica"))
	for _, what := range []string{"type = 'truncate'", "payload ->> 'old_key' IS NOT NULL", "type = 'update' AND length(payload -> 'after' ->> 'note') > 2500 AND payload -> 'after' ->> 'note' = payload -> 'before' ->> 'note'", "payload ->> 'key' IS NULL AND type = 'update'", "type = 'read'", "type = 'read' AND payload ->> 'key' IS NULL"} {
		require.NotEqual(t, "0", s.One("SELECT count(*)::text FROM walbridge.log WHERE "+what), what)
	}
	require.Equal(t, "0", s.One("SELECT count(*)::text FROM walbridge.dead_letter"))
}

// change does transactions, some rolled back, and returns how many.
func change(ctx context.Context, s *proof.Stage, rnd *rand.Rand, most int) int {
	for n := range most {
		if ctx.Err() != nil {
			return n
		}
		if n%100 == 50 {
			_, _ = s.Pool.Exec(s.T.Context(), fmt.Sprintf("ALTER TABLE legacy.customer ADD COLUMN extra_%d text DEFAULT 'x', DROP COLUMN IF EXISTS extra_%d", n, n-100))
			_, _ = s.Pool.Exec(s.T.Context(), "TRUNCATE legacy.part, legacy.audit")
		}
		_ = pgx.BeginFunc(s.T.Context(), s.Pool, func(tx pgx.Tx) error { // the server may be down
			for range 1 + rnd.IntN(4) {
				if err := pgx.BeginFunc(s.T.Context(), tx, func(tx pgx.Tx) error { return exec(s.T.Context(), tx, statement(rnd)) }); err != nil && s.T.Context().Err() != nil {
					return err
				}
			}
			if rnd.IntN(10) == 0 {
				return context.Canceled
			}
			return nil
		})
	}
	return most
}

// statement changes a few rows. Keys are few, so that they are used again; some values
// are large, so that they are stored apart and do not come with each record.
func statement(rnd *rand.Rand) string {
	id, other := rnd.IntN(30), rnd.IntN(30)
	large := strings.Repeat(fmt.Sprintf("%016x", rnd.Uint64()), rnd.IntN(2)*1000)
	return []string{
		fmt.Sprintf("INSERT INTO legacy.customer (id, name, note) VALUES (%d, 'n%d', repeat('%d', %d))", id, other, id, rnd.IntN(2)*5000),
		fmt.Sprintf("INSERT INTO legacy.customer (id, name, note) VALUES (%d, 'n%d', '%s') ON CONFLICT (id) DO UPDATE SET note = excluded.note", id, other, large),
		fmt.Sprintf("UPDATE legacy.customer SET name = 'm%d' WHERE id = %d", other, id),
		fmt.Sprintf("UPDATE legacy.customer SET id = %d WHERE id = %d", other, id),
		fmt.Sprintf("DELETE FROM legacy.customer WHERE id = %d", id),
		fmt.Sprintf("INSERT INTO legacy.part VALUES ('m%d', %d, 0) ON CONFLICT (machine, no) DO UPDATE SET amount = part.amount + 1", id%5, other%5),
		fmt.Sprintf("UPDATE legacy.part SET no = %d, machine = 'm%d' WHERE machine = 'm%d' AND no = %d", other%5, id%4, id%5, id%5),
		fmt.Sprintf("DELETE FROM legacy.part WHERE machine = 'm%d'", id%5),
		fmt.Sprintf("INSERT INTO legacy.audit VALUES ('line', %d), ('line', %d)", id%4, id%4),
		fmt.Sprintf("UPDATE legacy.audit SET n = %d WHERE ctid = (SELECT min(ctid) FROM legacy.audit WHERE n = %d)", other%4, id%4),
		fmt.Sprintf("DELETE FROM legacy.audit WHERE ctid = (SELECT min(ctid) FROM legacy.audit WHERE n = %d)", id%4),
	}[rnd.IntN(11)]
}

// A table whose records lack large values that were not written is refused by name,
// not copied wrongly.
func TestRecordsThatAreNotWholeAreDeadLetters(t *testing.T) {
	t.Parallel()
	s := proof.New(t, setup())
	s.Until("SELECT count(*) = 20 FROM walbridge.log WHERE type = 'read'")
	for _, sql := range []string{
		"ALTER TABLE legacy.customer REPLICA IDENTITY DEFAULT, ALTER note SET STORAGE EXTERNAL",
		"INSERT INTO legacy.customer VALUES (1, 'a', repeat('x', 5000))",
		"UPDATE legacy.customer SET name = 'b'",
	} {
		_, err := s.Pool.Exec(t.Context(), sql)
		require.NoError(t, err)
	}
	s.Worker("")
	s.Until("SELECT count(*) = 1 FROM walbridge.dead_letter WHERE error LIKE '%REPLICA IDENTITY FULL%'")
	require.Equal(t, "a", s.One("SELECT data ->> 'name' FROM replica WHERE data ->> 'id' = '1'"))
}

// The example shows what it says.
func TestExample(t *testing.T) {
	t.Parallel()
	require.Equal(t, "135 rows, no difference\n", proof.Output(t, "cdc-replica"))
}
