package main

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/examples/internal/proof"
)

func TestMain(m *testing.M) { proof.Main(m, nil) }

// Deciders decide at the same time, while the bridge and the server are killed. What
// committed is what the accounts say: a version is a decision, its item bears it.
func TestRefusedDecisionLeavesNoWorkCommittedOneExactlyOneItemInOrder(t *testing.T) {
	t.Parallel()
	s := proof.New(t, setup())
	s.Pool.Reset()
	var deciders sync.WaitGroup
	decisions := proof.Size(40, 400)
	for i := range 4 {
		seed := s.Rand.Uint64()
		deciders.Go(func() { decide(s, rand.New(rand.NewPCG(seed, uint64(i))), decisions) })
	}
	for range proof.Size(2, 20) {
		s.Pause(time.Second)
		s.RestartBridge()
		s.Pause(time.Second)
		s.RestartServer(s.Server)
	}
	deciders.Wait()
	s.Until("SELECT (SELECT count(*) FROM walbridge.log) >= (SELECT sum(version) FROM account)")
	require.Equal(t, "0", s.One(`SELECT count(*)::text FROM account a WHERE version <> used / 10`), "every decision took 10")
	require.Equal(t, "0", s.One(`SELECT count(*)::text FROM account a FULL JOIN (
			SELECT partition_key, array_agg((payload ->> 'version')::int ORDER BY seq) AS versions FROM walbridge.log GROUP BY 1) l
		ON partition_key = 'account:' || id
		WHERE coalesce(versions, '{}') IS DISTINCT FROM ARRAY(SELECT generate_series(1, version))`), "an item each, in the order of the versions")
	require.NotEqual(t, "0", s.One("SELECT sum(version)::text FROM account"))
}

// decide makes decisions until that many got an answer, some of them refused by the
// invariant, some given up by the application.
func decide(s *proof.Stage, rnd *rand.Rand, decisions int) {
	for range decisions {
		account := fmt.Sprintf("a%d", 1+rnd.IntN(5))
		amount := 10
		if rnd.IntN(4) == 0 {
			amount = 1000
		}
		err := charge(s.T.Context(), s.Pool, account, amount)
		if err == nil && amount == 1000 {
			s.T.Errorf("%s was charged beyond its credit", account)
		}
		if rnd.IntN(4) > 0 {
			continue
		}
		_ = pgx.BeginFunc(s.T.Context(), s.Pool, func(tx pgx.Tx) error {
			return errors.Join(sendReceipt(s.T.Context(), tx, account, -1), errors.New("the application gives up"))
		})
	}
}

// A second row with the same idempotency key is refused in the application's own
// transaction, also after the first one was delivered.
func TestSameIdempotencyKeyIsRefusedInTheApplicationsTransaction(t *testing.T) {
	t.Parallel()
	s := proof.New(t, setup())
	s.Pool.Reset()
	const insert = `INSERT INTO inbox (partition_key, payload, idempotency_key) VALUES ('order:9182', '{"type":"send_receipt","order_id":9182}', 'send_receipt:9182')`
	_, err := s.Pool.Exec(t.Context(), insert)
	require.NoError(t, err)
	s.Until("SELECT count(*) = 1 FROM walbridge.log WHERE idempotency_key = 'send_receipt:9182' AND type = 'send_receipt'")
	_, err = s.Pool.Exec(t.Context(), insert)
	require.ErrorIs(t, meaning(err), errAgain)
}

// The example shows what it says.
func TestExample(t *testing.T) {
	t.Parallel()
	require.Equal(t, `charge a1 with 60: committed
charge a1 with 30: committed
charge a1 with 70: refused: beyond the credit
charge a1 with 10: committed
the receipt of version 1 again: refused: this work is there already
in the log: send_receipt of version 1
in the log: send_receipt of version 2
in the log: send_receipt of version 3
`, proof.Output(t, "aggregate"))
}
