package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/examples/internal/proof"
)

func TestMain(m *testing.M) { proof.Main(m, nil) }

// The tables change their form under way, and the bridge is killed around it.
func TestPhysicalChangeDoesNotAlterTheEventAndKindsDoNotMix(t *testing.T) {
	t.Parallel()
	s := proof.New(t, setup())
	n := proof.Size(60, 2000)
	insert, changed := insertFirst, s.Rand.IntN(n)
	for i := range n {
		if i == changed {
			_, err := s.Pool.Exec(t.Context(), refactor)
			require.NoError(t, err)
			insert = insertThen
		}
		if i == changed || s.Rand.IntN(30) == 0 {
			s.Pause(200 * time.Millisecond)
			s.RestartBridge()
		}
		require.NoError(t, pay(t.Context(), s.Pool, insert, i))
	}
	s.Until("SELECT count(*) >= $1 FROM walbridge.log", 2*n)
	require.Equal(t, "0", s.One(`SELECT count(*)::text FROM generate_series(0, $1 - 1) i LEFT JOIN walbridge.log l
		ON kind = 'event' AND idempotency_key = 'paid:' || i
		WHERE (stream, type, partition_key, payload::text) IS DISTINCT FROM
			('order', 'OrderPaid', i::text, json_build_object('order', i, 'paid', true)::text)`, n), "the events, each as ever")
	require.Equal(t, "2", s.One("SELECT count(DISTINCT (SELECT string_agg(c, ',') FROM json_object_keys(payload -> 'after') c))::text FROM walbridge.log WHERE kind = 'change'"), "the records follow the tables")
	require.Equal(t, "event order,change public.orders", s.One("SELECT string_agg(DISTINCT kind || ' ' || stream, ',' ORDER BY kind || ' ' || stream DESC) FROM walbridge.log"))
}

// A stream has both kinds only when a route says so.
func TestKindsShareAStreamOnlyWhenRouted(t *testing.T) {
	t.Parallel()
	cfg := setup()
	cfg.Routes = `
- tables: [public.outbox]
  outbox: {}
- tables: [public.orders]
  stream: order
  changes: {}
  snapshot: never`
	s := proof.New(t, cfg)
	require.NoError(t, pay(t.Context(), s.Pool, insertFirst, 1))
	s.Until("SELECT count(*) = 2 FROM walbridge.log WHERE stream = 'order'")
	require.Equal(t, "change,event", s.One("SELECT string_agg(kind, ',' ORDER BY kind) FROM walbridge.log"))
}

// The example shows what it says.
func TestExample(t *testing.T) {
	t.Parallel()
	require.Equal(t, `order: event OrderPaid {"order" : 1, "paid" : true}
order: event OrderPaid {"order" : 2, "paid" : true}
public.orders: change insert {"id":1,"name":"Anna Example","status":"paid"}
public.orders: change insert {"id":2,"state":2,"given":"Anna","family":"Example"}
`, proof.Output(t, "domain-event"))
}
