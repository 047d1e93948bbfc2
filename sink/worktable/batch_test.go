package worktable

import (
	"encoding/binary"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/migrations"
	"github.com/walbridge/walbridge/sink/sinktest"
)

func bare() *batch { return newBatch(testLanes, func() string { return "shop" }) }

// ends lists which rows bear the mark.
func ends(b *batch) []bool {
	var all []bool
	for _, r := range b.rows {
		all = append(all, r.end)
	}
	return all
}

func letterItem(commit lsn.LSN, seq int) mapper.Item {
	return mapper.Item{
		ID: lsn.ID{Commit: commit, Seq: uint32(seq)}, Kind: mapper.KindDeadLetter, Stream: "orders",
		DeadLetter: &mapper.DeadLetter{Reason: "payload_not_json", Error: "x", Raw: []byte(`{"a":1}`), Replayable: true},
	}
}

// A dead letter bears no mark: the last row of its transaction does, when the batch
// has one.
func TestEndTxPassesDeadLetters(t *testing.T) {
	b := bare()
	b.Append([]mapper.Item{letterItem(10, 0)})
	b.EndTx()
	b.Append([]mapper.Item{event(20, 0, "a")})
	b.Append([]mapper.Item{event(20, 1, "a")})
	b.Append([]mapper.Item{letterItem(20, 2)})
	b.EndTx()
	require.Equal(t, []bool{false, true}, ends(b))
	b.Append([]mapper.Item{letterItem(30, 0)})
	b.EndTx()
	require.Equal(t, []bool{false, true}, ends(b), "a transaction of dead letters alone marks nothing")
	require.Equal(t, 5, b.Items())
	id, some := b.CarryLast(bare())
	require.True(t, some)
	require.Equal(t, lsn.ID{Commit: 20, Seq: 2}, id, "a dead letter is the last item that stays")
}

// What CarryLast moves and what it leaves, together, are what a batch without it
// would hold, byte for byte.
func TestCarryLastSplitsExactly(t *testing.T) {
	gen := sinktest.NewGenerator(1)
	rapid.Check(t, func(t *rapid.T) {
		tx := gen.Tx(rapid.IntRange(1, 8).Draw(t, "changes"))
		whole, a, next := bare(), bare(), bare()
		for _, c := range tx.Changes {
			whole.Append(c)
			a.Append(c)
		}
		a.CarryLast(next)
		whole.EndTx()
		next.EndTx()
		ids := make([]int32, 10)
		whole.patch(1, ids)
		a.patch(1, ids)
		next.patch(1+int64(len(a.rows)), ids)
		require.Equal(t, string(whole.buf), string(a.buf)+string(next.buf))
		require.Equal(t, string(whole.dead), string(a.dead)+string(next.dead))
		for i, r := range next.rows {
			require.Equal(t, whole.streams[whole.rows[len(a.rows)+i].stream], next.streams[r.stream])
		}
	})
}

// Fields finds what was encoded, at the offsets that are patched.
func TestRowLayout(t *testing.T) {
	it := event(0x16B374D848, 7, "order:9182")
	it.ID.Sub, it.AvailableAt, it.Headers, it.Time = 3, 5, []byte(`{"a":"b"}`), 4
	row := appendRow(nil, &it, it.ID, 60, it.EventID, "shop")
	binary.BigEndian.PutUint64(row[atSeq:], 99)
	binary.BigEndian.PutUint32(row[atStream:], 12)
	row[atEnd] = 1
	f := fields(row)
	require.Equal(t, []byte{0, 0, 0, 0, 0, 0, 0, 99}, f[0])
	require.Equal(t, []byte{0, 60}, f[fieldLane])
	require.Equal(t, []byte{0, 0, 0, 12}, f[fieldStreamID])
	require.Equal(t, []byte{1}, f[fieldEnd])
	require.Equal(t, []byte{0, 0, 0, 0, 0, 0, 0, 4}, f[fieldCreated])
	require.Equal(t, "event", string(f[fieldKind]))
	require.Equal(t, "orders", string(f[fieldStream]))
	require.Equal(t, "order:9182", string(f[fieldKey]))
	require.Equal(t, "shop:00000016B374D848-00000007-0000", string(f[fieldEventID]))
	require.Equal(t, "OrderPaid", string(f[fieldType]))
	require.Equal(t, "shop", string(f[fieldSource]))
	require.Equal(t, `{"order":"order:9182","n":7}`, string(f[fieldPayload]))
	require.Equal(t, `{"a":"b"}`, string(f[fieldHeaders]))
	require.Equal(t, it.ID, rowID(row))
}

// An item without a key is placed by its id and bears no key; so is one with an
// empty key.
func TestNoKeyMeansNoOrder(t *testing.T) {
	for _, key := range [][]byte{nil, {}} {
		b := bare()
		it := event(10, 0, "")
		it.Key = key
		b.Append([]mapper.Item{it})
		f := fields(b.buf)
		require.Nil(t, f[fieldKey])
		require.Equal(t, migrations.Lane(it.EventID, testLanes), int(f[fieldLane][1]))
	}
}

func TestResetFreesWhatWasNeededOnce(t *testing.T) {
	b := bare()
	it := event(10, 0, "a")
	it.Payload = stored(make([]byte, 4*maxKeptBytes))
	b.Append([]mapper.Item{it})
	b.Reset()
	require.Greater(t, cap(b.buf), maxKeptBytes, "kept once, for a load of large rows")
	b.Append([]mapper.Item{event(10, 0, "a")})
	b.Reset()
	require.Less(t, cap(b.buf), maxKeptBytes)
	for i := range maxKeptStreams + 1 {
		it := event(10, i, "a")
		it.Stream = it.ID.String()
		b.Append([]mapper.Item{it})
	}
	b.Reset()
	require.Empty(t, b.streams)
	require.Empty(t, b.byStream)
}

// Append encodes without allocating, whatever the kind of item.
func TestAppendDoesNotAllocate(t *testing.T) {
	b := bare()
	all := event(10, 2, "")
	all.AllLanes = true
	change := []mapper.Item{event(10, 0, "order:9182"), all, letterItem(10, 3)}
	b.Append(change)
	b.EndTx()
	require.Zero(t, testing.AllocsPerRun(500, func() {
		b.Reset()
		b.Append(change)
		b.EndTx()
	}))
}

func BenchmarkAppend(bench *testing.B) {
	items := make([]mapper.Item, 1000)
	for i := range items {
		items[i] = record(lsn.LSN(10), i)
	}
	b := newBatch(64, func() string { return "shop" })
	fillAll := func() {
		b.Reset()
		for i := range items {
			b.Append(items[i : i+1])
		}
		b.EndTx()
	}
	fillAll()
	bench.ReportAllocs()
	bench.SetBytes(int64(b.Bytes()) / int64(len(items)))
	for n := 0; bench.Loop(); n++ {
		if n%len(items) == 0 {
			b.Reset()
		}
		b.Append(items[n%len(items) : n%len(items)+1])
	}
}

// record is a change record with a payload of about 300 bytes.
func record(commit lsn.LSN, seq int) mapper.Item {
	it := event(commit, seq, "public.orders:[48271]")
	it.Kind, it.Stream, it.Type = mapper.KindRecord, "public.orders", []byte("insert")
	it.Payload = stored(`{"op":"insert","schema":"public","table":"orders","key":{"id":48271},"before":null,"after":{"id":48271,"customer":"8231","status":"paid","total":12.50,"note":"xxxxxxxxxxxxxxxxxxxxxxxxxxxxxx"},"source":{"bridge":"shop","lsn":"0/16B374D8","commit_lsn":"0/16B374D8","tx_seq":1,"xid":771,"snapshot":false}}`)
	return it
}
