package worktable

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/pgtest"
	"github.com/walbridge/walbridge/mapper"
)

// letters makes a database with an open sink and dead letters of both makers: 1 to
// n of the mapper, then n of log.
func letters(t *testing.T, n int) (*pgtest.DB, *Sink, *Store) {
	t.Helper()
	db := shared(t)
	choosy(t, db)
	s := opened(t, testConfig(db), "shop")
	b := s.NewBatch()
	for i := range n {
		b.Append([]mapper.Item{letterItem(0x100, i)})
	}
	for i := range n {
		it := event(0x200, i, "bad")
		it.Headers, it.AvailableAt, it.Time = []byte(`{"a": "b"}`), it.CommittedAt+7, it.CommittedAt-9
		b.Append([]mapper.Item{it})
	}
	b.Append([]mapper.Item{event(0x200, n, "good")})
	b.EndTx()
	require.NoError(t, s.Write(ctxOf(t), b, at(0x230)))
	store, err := OpenStore(ctxOf(t), testConfig(db))
	require.NoError(t, err)
	t.Cleanup(store.Close)
	return db, s, store
}

func TestListAndShow(t *testing.T) {
	t.Parallel()
	_, _, store := letters(t, 3)
	all, err := store.List(ctxOf(t), Filter{})
	require.NoError(t, err)
	require.Len(t, all, 6)
	require.Equal(t, "payload_not_json", all[0].Reason)
	require.Equal(t, lsn.ID{Commit: 0x100}, all[0].Item)
	require.Nil(t, all[0].Raw)
	require.Equal(t, 7, all[0].RawBytes)
	first, err := store.List(ctxOf(t), Filter{Limit: 2})
	require.NoError(t, err)
	next, err := store.List(ctxOf(t), Filter{Limit: 2, After: first[1].ID})
	require.NoError(t, err)
	require.Equal(t, all[:4], append(first, next...))
	for name, f := range map[string]Filter{
		"reason": {Reason: "check_violation"}, "key": {Key: "bad"},
	} {
		some, err := store.List(ctxOf(t), f)
		require.NoError(t, err)
		require.Equal(t, all[3:], some, name)
	}
	for _, f := range []Filter{{Source: "x"}, {Stream: "x"}, {Key: "x"}, {Reason: "x"}, {After: all[5].ID}} {
		some, err := store.List(ctxOf(t), f)
		require.NoError(t, err)
		require.Empty(t, some, "%+v", f)
	}
	_, err = store.List(ctxOf(t), Filter{Limit: 1001})
	require.Error(t, err)

	l, err := store.Show(ctxOf(t), all[4].ID)
	require.NoError(t, err)
	require.Equal(t, `{"order":"bad","n":1}`, string(l.Payload))
	require.Equal(t, `{"a": "b"}`, string(l.Headers))
	require.Equal(t, "bad", string(l.Key))
	require.Equal(t, []string{"event", "OrderPaid", "shop:0000000000000200-00000001-0000", "orders", "shop"}, []string{l.Kind, l.Type, l.EventID, l.Stream, l.Source})
	require.Nil(t, l.Raw)
	require.True(t, l.Replayable)
	_, err = store.Show(ctxOf(t), 999)
	require.ErrorIs(t, err, ErrNoLetter)
}

func TestDiscard(t *testing.T) {
	t.Parallel()
	db, _, store := letters(t, 2)
	n, err := store.Discard(ctxOf(t), []int64{1, 3, 999}, Operator{Who: "ann", ToolVersion: "1.0", Note: "obsolete"})
	require.NoError(t, err)
	require.Equal(t, 2, n)
	n, err = store.Discard(ctxOf(t), []int64{1, 3}, Operator{Who: "ann"})
	require.NoError(t, err)
	require.Zero(t, n, "once")
	require.Equal(t, `ann|1.0|dlq discard|{"ids":[1,3],"note":"obsolete"}`, db.One(t, "SELECT concat_ws('|', who, tool_version, command, arguments) FROM walbridge.operation WHERE command LIKE 'dlq%'"))
	open, err := store.List(ctxOf(t), Filter{})
	require.NoError(t, err)
	require.Len(t, open, 2)
	all, err := store.List(ctxOf(t), Filter{Resolved: true})
	require.NoError(t, err)
	require.Len(t, all, 4)
	require.Equal(t, "discarded", all[0].Resolution)
	require.False(t, all[0].ResolvedAt.IsZero())
	_, err = store.Replay(ctxOf(t), 1, nil, Operator{}, false)
	require.ErrorContains(t, err, "discarded already")
}

// An item that log had refused is replayed as it was mapped, to the last value, at
// a new seq, once; no position moves, and the bridge goes on.
func TestReplayOfARefusedItem(t *testing.T) {
	t.Parallel()
	db, s, store := letters(t, 2)
	_, err := store.Replay(ctxOf(t), 3, nil, Operator{}, false)
	var config *fault.ConfigError
	require.ErrorAs(t, err, &config)
	require.ErrorContains(t, err, "still refuses it", "nothing has changed yet")
	db.Exec(t, "ALTER TABLE walbridge.log DROP CONSTRAINT no_bad")
	later := s.NewBatch()
	later.Append([]mapper.Item{event(0x300, 0, "bad")})
	later.EndTx()
	require.NoError(t, s.Write(ctxOf(t), later, at(0x330)))
	before := db.One(t, "SELECT max(seq) FROM walbridge.log")
	for _, trial := range []bool{true, false} {
		done, err := store.Replay(ctxOf(t), 3, nil, Operator{Who: "ann", ToolVersion: "1.0"}, trial)
		require.NoError(t, err)
		require.Equal(t, 1, done.Items)
		require.Len(t, done.Later, 1, "an item of the key that was delivered already")
		require.Equal(t, lsn.ID{Commit: 0x300}, done.Later[0].Item)
		require.Equal(t, trial, done.FirstSeq == 0)
	}
	require.Equal(t, "t|event|orders|bad|shop:0000000000000200-00000000-0000|OrderPaid|{\"order\":\"bad\",\"n\":0}|{\"a\": \"b\"}|0/200|0|0|f|00:00:00.000007|00:00:00.000009|shop|t",
		db.One(t, `SELECT concat_ws('|', seq > $1, kind, stream, partition_key, idempotency_key, type, payload, headers, commit_lsn, tx_seq, sub, tx_end,
			available_at - committed_at, committed_at - created_at, source, lane = walbridge.lane('bad') AND stream_id = 1)
			FROM walbridge.log WHERE commit_lsn = '0/200' AND tx_seq = 0`, before))
	require.Equal(t, `replayed|t|{"id":3,"note":""}`, db.One(t, `SELECT concat_ws('|', resolution, replayed_at IS NOT NULL, (SELECT arguments FROM walbridge.operation WHERE command = 'dlq replay')) FROM walbridge.dead_letter WHERE id = 3`))
	_, err = store.Replay(ctxOf(t), 3, nil, Operator{}, false)
	require.ErrorContains(t, err, "replayed already")
	require.Equal(t, "2", db.One(t, "SELECT max(n) FROM walbridge.batch"), "no position moved")
	writeN(t, s, 0x400, 1)
}

// A change that could not be mapped is mapped again from what was kept.
func TestReplayOfAnUnmappedChange(t *testing.T) {
	t.Parallel()
	db, _, store := letters(t, 1)
	replay := func(remap Remap) error {
		_, err := store.Replay(ctxOf(t), 1, remap, Operator{}, false)
		return err
	}
	require.ErrorContains(t, replay(nil), "has to be mapped again")
	require.ErrorContains(t, replay(func([]byte) ([]mapper.Item, error) { return nil, nil }), "no item")
	require.ErrorContains(t, replay(func([]byte) ([]mapper.Item, error) { return nil, errors.New("gone") }), "gone")
	require.ErrorContains(t, replay(func([]byte) ([]mapper.Item, error) { return []mapper.Item{letterItem(0x100, 0)}, nil }), "still cannot be mapped (payload_not_json)")
	require.NoError(t, replay(func(raw []byte) ([]mapper.Item, error) {
		require.Equal(t, `{"a":1}`, string(raw))
		all := event(0x100, 0, "")
		all.AllLanes = true
		one := event(0x100, 0, "k")
		one.ID.Sub, one.Stream = 1, "a new stream"
		return []mapper.Item{all, one}, nil
	}))
	require.Equal(t, fmt.Sprint(testLanes+1), db.One(t, "SELECT count(*) FROM walbridge.log WHERE commit_lsn = '0/100' AND source = 'shop'"))
	db.Exec(t, "UPDATE walbridge.dead_letter SET resolution = NULL, replayable = false WHERE id = 1")
	require.ErrorContains(t, replay(nil), "not whole")
	require.ErrorIs(t, func() error { _, err := store.Replay(ctxOf(t), 99, nil, Operator{}, false); return err }(), ErrNoLetter)
}

// Two operators that replay one letter at once add it once.
func TestReplayOnce(t *testing.T) {
	t.Parallel()
	db, _, store := letters(t, 1)
	db.Exec(t, "ALTER TABLE walbridge.log DROP CONSTRAINT no_bad")
	other, err := OpenStore(ctxOf(t), testConfig(db))
	require.NoError(t, err)
	defer other.Close()
	_, release := holdLog(t, db)
	var wg sync.WaitGroup
	failed := make([]error, 2)
	for i, s := range []*Store{store, other} {
		wg.Go(func() { _, failed[i] = s.Replay(t.Context(), 2, nil, Operator{}, false) })
	}
	pgtest.Eventually(t, within, func() bool {
		return db.One(t, "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND application_name = 'walbridge dlq' AND wait_event_type = 'Lock'") == "2"
	}, "both to wait")
	release()
	wg.Wait()
	require.True(t, (failed[0] == nil) != (failed[1] == nil), "%v, %v", failed[0], failed[1])
	require.ErrorContains(t, errors.Join(failed...), "meanwhile")
	require.Equal(t, "1", db.One(t, "SELECT count(*) FROM walbridge.log WHERE partition_key = 'bad'"))
}

func TestReadLatest(t *testing.T) {
	t.Parallel()
	db, s, _ := letters(t, 2)
	l, err := ReadLatest(ctxOf(t), testConfig(db), "never")
	require.NoError(t, err)
	require.Equal(t, Latest{}, l)
	p := at(0x9000)
	p.ConfigHash, p.Xid = "abc", 700
	require.NoError(t, s.Write(ctxOf(t), s.NewBatch(), p))
	l, err = ReadLatest(ctxOf(t), testConfig(db), "shop")
	require.NoError(t, err)
	require.Equal(t, p, l.Progress)
	require.Equal(t, []int64{1, 2, 4}, []int64{l.Epoch, l.Batches, l.DeadLetters})
	require.Equal(t, db.One(t, "SELECT max(seq) FROM walbridge.log"), fmt.Sprint(l.LastSeq))
	require.False(t, l.WrittenAt.IsZero())
	require.False(t, l.OpenedAt.IsZero())
	fresh := opened(t, testConfig(db), "fresh")
	l, err = ReadLatest(ctxOf(t), testConfig(db), "fresh")
	require.NoError(t, err)
	require.Equal(t, lsn.Progress{}, l.Progress)
	require.True(t, l.WrittenAt.IsZero())
	require.NoError(t, fresh.Close(ctxOf(t)))
}
