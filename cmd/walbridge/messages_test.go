package main

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// emit writes a transactional message of an order.
const emit = `SELECT pg_logical_emit_message(true, $1, jsonb_build_object('id', $2::text, 'aggregatetype', 'order', 'aggregateid', '9182', 'type', 'OrderPaid', 'payload', jsonb_build_object('n', 1))::text)`

// An outbox without a table, alone in its configuration: the publication is empty. Ids
// are those of the place in the transaction, whatever else the routes take of it.
func TestMessagesAsAnOutbox(t *testing.T) {
	t.Parallel()
	db := shopDB(t)
	s := newSite(t, db, config(bridgeName(db.Name()), db.DSN(), worktableAt(db.DSN())))
	s.change(t, shopRoutes, `[{messages: [outbox], outbox: {}}]`)
	require.Contains(t, s.do(t, exitOK, "setup").stdout, ": made, with ")
	found := s.do(t, exitOK, "doctor").stdout
	require.Contains(t, found, "every role may write messages of any prefix")
	require.Contains(t, found, "\n0 errors, ")
	require.Regexp(t, `message:outbox *\| routes\[0\] *\| event *\| sample`, s.do(t, exitOK, "explain").stdout)
	r := s.do(t, exitOK, "explain", "message:outbox", "--row", `{"id": 7, "aggregatetype": "order", "payload": {}}`)
	require.Regexp(t, `stream +order\n +id +7\n`, r.stdout)
	require.NotContains(t, r.stdout, "public.")
	require.Contains(t, s.do(t, exitUsage, "explain", "message:nosuch").stderr, "no route takes messages of this prefix")

	bridge := s.run(t)
	c := db.Conn(t)
	tx, err := c.Begin(t.Context())
	require.NoError(t, err)
	for _, step := range [][]any{
		{`INSERT INTO public.orders VALUES (9182, 'paid')`}, // not published, so it has no number
		{emit, "nobody's", "0"}, {emit, "outbox", "1"}, {emit, "outbox", "2"},
		{`SELECT pg_logical_emit_message(false, 'outbox', '{"id": "too early"}')`},
	} {
		_, err := tx.Exec(t.Context(), step[0].(string), step[1:]...)
		require.NoError(t, err)
	}
	require.NoError(t, tx.Commit(t.Context()))
	gone, err := c.Begin(t.Context())
	require.NoError(t, err)
	_, err = gone.Exec(t.Context(), emit, "outbox", "rolled back")
	require.NoError(t, err)
	require.NoError(t, gone.Rollback(t.Context()))
	s.delivered(t, 2)
	require.Equal(t, exitOK, bridge.stopped(t), bridge.errs.String())
	bridge = s.run(t)
	db.Exec(t, emit, "outbox", "3")
	s.delivered(t, 3)
	require.Equal(t, exitOK, bridge.stopped(t), bridge.errs.String())

	require.Equal(t, [][]string{{"1", "order", "9182", "OrderPaid", `{"n": 1}`, "1"}, {"2", "order", "9182", "OrderPaid", `{"n": 1}`, "2"}, {"3", "order", "9182", "OrderPaid", `{"n": 1}`, "0"}},
		db.Query(t, `SELECT idempotency_key, s.name, partition_key, type, payload::text, tx_seq::text FROM walbridge.log JOIN walbridge.stream s ON s.id = stream_id ORDER BY seq`))
	letters := as[[]letterView](t, s.do(t, exitOK, "dlq", "list", "--json"))
	require.Len(t, letters, 1, "it came once")
	require.Equal(t, "message_not_transactional", letters[0].Reason)
	require.NotZero(t, letters[0].CommittedAt.Year()-2000)
	require.Contains(t, s.do(t, exitUsage, "dlq", "replay", "1").stderr, "it still cannot be mapped (message_not_transactional)")
}
