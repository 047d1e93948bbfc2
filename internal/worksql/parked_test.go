package worksql

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/migrations"
)

// settled is one settling of the lane of key k, at generation 1.
func (w table) settle(n, seq int64, ranges, done, exceptions string) error {
	_, err := w.Conn(w.t).Exec(w.t.Context(), "SELECT walbridge.settle('sub', $1::text::smallint[], '{1}', $2::text::bigint[], $3::text::bigint[], ARRAY[$4::text::int8multirange], $5::text::bigint[], $6::text::json)",
		array([]int{lane("k")}), array([]int64{n}), array([]int64{seq}), ranges, done, exceptions)
	return err
}

func exception(seq int64, what, more string) string {
	return fmt.Sprintf(`{"lane":%d,"seq":%d,"stream":"s","what":"%s"%s}`, lane("k"), seq, what, more)
}

// A head and its followers are parked with the settling that passes them; when the
// head is done, the next one is due, one after the other.
func parkingHoldsTheKey(t *testing.T, w table) {
	w.subscribed()
	w.Exec(t, "SELECT * FROM walbridge.lease_lanes('sub', 'a')")
	first := w.keys("k", "k", "k")
	require.NoError(t, w.settle(2, first+2, "{}", "{}", "["+exception(first, "retry", `,"attempts":1,"after_ms":60000,"error":"boom"`)+","+exception(first+1, "blocked", "")+","+exception(first+2, "blocked", "")+"]"))
	require.Equal(t, "1 retry, 2 blocked held, 3 blocked held", w.parked())
	require.Equal(t, [][]string{{"3", "2", "∅", "∅"}, {"1", "∅", "retry", "1"}, {"2", "∅", "blocked", "0"}, {"3", "∅", "blocked", "0"}},
		w.Query(t, "SELECT seq, n, reason, attempts FROM walbridge.lane_state('sub', $1::text::smallint[])", array([]int{lane("k")})))
	require.Equal(t, [][]string{{"1", "t", "boom"}}, w.Query(t, "SELECT seq, wait_ms BETWEEN 1 AND 60000, last_error FROM walbridge.fetch_parked('sub', '{1}')"))
	require.NoError(t, w.settle(3, first+2, "{}", "{}", "["+exception(first, "retry", `,"attempts":2,"after_ms":0,"error":"again"`)+"]"))
	require.Equal(t, "2", w.One(t, "SELECT json_array_length(errors) FROM walbridge.parked WHERE seq = 1"))
	require.NoError(t, w.settle(4, first+2, "{}", "{1}", "[]"))
	require.Equal(t, "2 blocked, 3 blocked held", w.parked())
	require.NoError(t, w.settle(5, first+2, "{}", "{}", "["+exception(first+1, "dead", `,"attempts":20,"error":"no"`)+"]"))
	require.Equal(t, "3 blocked", w.parked(), "dead with continue frees the key")
	require.NoError(t, w.settle(6, first+2, "{}", "{3}", "[]"))
	require.Equal(t, [][]string{{"2", "sub", "20", "no", "k", `{"seq":2}`}}, w.Query(t, "SELECT seq, subscription, attempts, error, partition_key, payload FROM walbridge.dead_letter"))
	code(t, w.settle(7, first+2, "{}", "{3}", "[]"), migrations.CodeNoItem)
	code(t, w.settle(7, first+2, "{}", "{}", "["+exception(99, "retry", "")+"]"), migrations.CodeNoItem)
	code(t, w.settle(7, first+2, "{}", "{}", `[{"lane":5,"seq":1,"stream":"s","what":"retry"},{"lane":6,"seq":1,"stream":"s","what":"retry"}]`), migrations.CodeArgument)
	code(t, w.settle(7, first+2, "{}", "{}", "["+exception(1, "lost", "")+"]"), migrations.CodeArgument)
	require.Equal(t, "6", w.One(t, "SELECT max(n) FROM walbridge.checkpoint"), "what failed left nothing")
}

// Dead with block: the key waits until the letter is replayed or discarded.
func deadMayBlockItsKey(t *testing.T, w table) {
	w.subscribed()
	w.Exec(t, "SELECT * FROM walbridge.lease_lanes('sub', 'a')")
	w.keys("k", "k", "k", "k")
	require.NoError(t, w.settle(2, 4, "{}", "{}", "["+exception(1, "dead", `,"attempts":1,"error":"no","block":true`)+","+exception(2, "blocked", "")+","+exception(3, "blocked", "")+","+exception(4, "blocked", "")+"]"))
	require.Equal(t, "1 dead held, 2 blocked held, 3 blocked held, 4 blocked held", w.parked())
	require.Equal(t, "1", w.One(t, "SELECT walbridge.replay(1)"))
	require.Equal(t, "1 retry, 2 blocked held, 3 blocked held, 4 blocked held", w.parked())
	require.NoError(t, w.settle(3, 4, "{}", "{1}", "["+exception(2, "dead", `,"block":true`)+"]"))
	require.Equal(t, "2 dead held, 3 blocked held, 4 blocked held", w.parked())
	w.Exec(t, "SELECT walbridge.discard(2)")
	require.Equal(t, "3 blocked, 4 blocked held", w.parked())
	require.Equal(t, [][]string{{"replayed"}, {"discarded"}}, w.Query(t, "SELECT resolution FROM walbridge.dead_letter ORDER BY id"))
	require.Equal(t, "2", w.One(t, "SELECT changed FROM walbridge.subscription"))
	for _, f := range []string{"replay(1)", "discard(2)", "replay(99)"} {
		_, err := w.Conn(t).Exec(t.Context(), "SELECT walbridge."+f)
		code(t, err, migrations.CodeDeadLetter)
	}
	require.Equal(t, [][]string{{"replay"}, {"discard"}}, w.Query(t, "SELECT command FROM walbridge.operation WHERE command IN ('replay', 'discard') ORDER BY id"))
}

// A replayed item runs beside its key and holds nothing; if_latest refuses where it
// would undo a newer one.
func replayHoldsNothing(t *testing.T, w table) {
	w.subscribed(`{"max_attempts":1}`)
	w.keys("k")
	h := w.next("w", 10)
	require.Equal(t, [][]string{{"1", "dead"}}, w.Query(t, "SELECT * FROM walbridge.fail('sub', $1, 1, 'no')", h.receipt))
	w.finish(h)
	w.keys("k", "other")
	_, err := w.Conn(t).Exec(t.Context(), "SELECT walbridge.replay(1, if_latest => true)")
	require.Equal(t, "2", code(t, err, migrations.CodeNotLatest).Detail)
	w.Exec(t, "SELECT walbridge.replay(1)")
	require.Equal(t, "1 replayed", w.parked())
	h = w.next("w", 10)
	require.Equal(t, []int64{1, 2, 3}, h.seqs)
	require.Equal(t, []int{1, 1, 1}, h.tries)
	require.Equal(t, [][]string{{"1", "dead"}}, w.Query(t, "SELECT * FROM walbridge.fail('sub', $1, 1, 'no')", h.receipt))
	w.finish(h)
	require.Equal(t, "2", w.One(t, "SELECT count(*) FROM walbridge.dead_letter"))
	require.Empty(t, w.parked())
}

// A scheduled item waits for its time; its key does not wait for it, nor it for its key.
func scheduledHoldsNothing(t *testing.T, w table) {
	w.subscribed()
	w.write(row{stream: "s", key: "k", due: "1 hour"}, row{stream: "s", key: "k"})
	h := w.next("w", 10)
	require.Equal(t, []int64{2}, h.seqs)
	require.Equal(t, "1 scheduled", w.parked())
	require.Equal(t, [][]string{{"2", "retry"}}, w.Query(t, "SELECT * FROM walbridge.fail('sub', $1, 2, 'no', '1 hour')", h.receipt))
	w.finish(h)
	w.Exec(t, "UPDATE walbridge.parked SET available_at = clock_timestamp() WHERE seq = 1")
	h = w.next("w", 10)
	require.Equal(t, []int64{1}, h.seqs, "though 2 of its key is waiting for its second attempt")
	w.Exec(t, "SELECT * FROM walbridge.fail('sub', $1, 1, 'no', '1 hour')", h.receipt)
	w.finish(h)
	require.Equal(t, "1 scheduled, 2 retry", w.parked())
}

// Parked items and dead letters are whole when their partition is gone.
func partitionsMayGo(t *testing.T, w table) {
	w.subscribed(`{"max_attempts":2}`)
	w.keys("k", "k")
	h := w.next("w", 10)
	w.Exec(t, "SELECT * FROM walbridge.fail('sub', $1, 1, 'no', '0 s')", h.receipt)
	w.finish(h)
	w.Exec(t, "DROP TABLE walbridge.log_event_0000000000000000000")
	h = w.next("w", 10)
	require.Equal(t, []int64{1}, h.seqs)
	require.Equal(t, `{"seq":1}`, w.One(t, "SELECT payload FROM walbridge.fetch_parked('sub', '{1}')"))
	require.Equal(t, [][]string{{"1", "dead"}}, w.Query(t, "SELECT * FROM walbridge.fail('sub', $1, 1, 'no')", h.receipt))
	w.finish(h)
	h = w.next("w", 10)
	require.Equal(t, []int64{2}, h.seqs)
	w.finish(h)
	require.Equal(t, "1", w.One(t, "SELECT walbridge.replay(1)"))
	h = w.next("w", 10)
	require.Equal(t, []int64{1}, h.seqs)
	w.finish(h)
}

// Beyond max_parked a subscription takes no new items until parked ones are gone.
func parkedIsBounded(t *testing.T, w table) {
	w.subscribed(`{"max_parked":2}`)
	w.keys("k", "k", "k", "k")
	h := w.next("w", 2)
	require.Equal(t, [][]string{{"1", "retry"}, {"2", "blocked"}}, w.Query(t, "SELECT * FROM walbridge.fail('sub', $1, 1, 'no', '0 s')", h.receipt))
	w.finish(h)
	require.Equal(t, [][]string{{"2", "t", "k"}}, w.Query(t, "SELECT parked_items, is_full, full_key FROM walbridge.renew('sub', 'go', '1 s', '{}', '{}')"))
	w.Exec(t, "SELECT walbridge.release('sub', 'go', '{}', '{}', true)")
	h = w.next("w", 10)
	require.Equal(t, []int64{1}, h.seqs, "no new ones")
	w.finish(h)
	h = w.next("w", 10)
	require.Equal(t, []int64{2}, h.seqs)
	require.Equal(t, "2 blocked, 3 blocked held, 4 blocked held", w.parked())
	w.finish(h)
}

// A reset waits for those who are settling, and fences all who were at work.
func resetFencesAll(t *testing.T, w table) {
	w.subscribed()
	w.Exec(t, "SELECT * FROM walbridge.lease_lanes('sub', 'a')")
	w.keys("k", "k")
	require.NoError(t, w.settle(2, 1, "{}", "{}", "["+exception(1, "retry", "")+"]"))
	settling := w.Conn(t)
	_, err := settling.Exec(t.Context(), "BEGIN; "+fmt.Sprintf(settleOne, 1, 2+int64(b2i(lane("k") == 0)), 2))
	require.NoError(t, err)
	reset := w.start(w.Conn(t), "SELECT walbridge.reset('sub', '1')")
	reset.blocked()
	late := w.start(w.Conn(t), "SELECT walbridge.settle('sub', '"+all+"', '"+ones+"', '{9,9,9,9,9,9,9,9}', '{2,2,2,2,2,2,2,2}', '{\"{}\",\"{}\",\"{}\",\"{}\",\"{}\",\"{}\",\"{}\",\"{}\"}')")
	_, err = settling.Exec(t.Context(), "COMMIT")
	require.NoError(t, err)
	require.NoError(t, reset.result())
	if err := late.result(); err != nil { // it was before the reset, or is fenced
		code(t, err, migrations.CodeLostLease)
	}
	require.Empty(t, w.parked())
	require.Equal(t, [][]string{{"1", "2"}}, w.Query(t, "SELECT DISTINCT seq, lease_generation FROM walbridge.lane_state('sub', '"+all+"')"))
	code(t, w.settle(20, 2, "{}", "{}", "[]"), migrations.CodeLostLease)
	require.Equal(t, [][]string{{"sub", "1"}}, w.Query(t, "SELECT target, before ->> 'parked' FROM walbridge.operation WHERE command = 'reset'"))
	w.Exec(t, "SELECT walbridge.drop_subscription('sub')")
	require.Equal(t, "0", w.One(t, "SELECT (SELECT count(*) FROM walbridge.lane) + (SELECT count(*) FROM walbridge.checkpoint) + (SELECT count(*) FROM walbridge.parked)"))
	code(t, w.settle(20, 2, "{}", "{}", "[]"), migrations.CodeLostLease)
}

func b2i(b bool) int {
	if b {
		return 1
	}
	return 0
}

// Two that subscribe at once make one subscription; a reset waits for both.
func subscribingIsOneAtATime(t *testing.T, w table) {
	first := w.Conn(t)
	_, err := first.Exec(t.Context(), "BEGIN; SELECT walbridge.subscribe('sub', '{s}')")
	require.NoError(t, err)
	second := w.start(w.Conn(t), "SELECT walbridge.subscribe('sub', '{s}')")
	second.blocked()
	_, err = first.Exec(t.Context(), "COMMIT")
	require.NoError(t, err)
	require.NoError(t, second.result())
	require.Equal(t, "8", w.One(t, "SELECT count(*) FROM walbridge.checkpoint"))
	require.Equal(t, "1", w.One(t, "SELECT count(*) FROM walbridge.operation WHERE command = 'subscribe'"))
}

// park and bury are single exceptions, fenced.
func parkAndBuryAreFenced(t *testing.T, w table) {
	w.subscribed()
	w.Exec(t, "SELECT * FROM walbridge.lease_lanes('sub', 'a')")
	w.keys("k", "k")
	w.Exec(t, "SELECT walbridge.park('sub', $1, 1, 's', 1, 1, 'boom', '1 s')", lane("k"))
	w.Exec(t, "SELECT walbridge.bury('sub', $1, 1, 's', 2, 1, 'boom')", lane("k"))
	require.Equal(t, "1 retry", w.parked())
	for _, f := range []string{"park('sub', $1, 2, 's', 1, 1, 'x', '1 s')", "bury('sub', $1, 2, 's', 1, 1, 'x')"} {
		_, err := w.Conn(t).Exec(t.Context(), "SELECT walbridge."+f, lane("k"))
		code(t, err, migrations.CodeLostLease)
	}
	require.Equal(t, "1 retry", w.parked())
}
