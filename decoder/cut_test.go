package decoder_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/decoder/decodertest"
	"github.com/walbridge/walbridge/internal/lsn"
)

// At every length of the head, the columns are those that came whole.
func TestCutRows(t *testing.T) {
	values := []decoder.Value{decodertest.Text("ab"), decodertest.Null(), decodertest.Unchanged(), decodertest.Binary([]byte{1, 2, 3})}
	for name, c := range map[string]struct {
		message  []byte
		op       decoder.Op
		old, new bool
	}{
		"insert":      {enc.Insert(1, values), decoder.OpInsert, false, true},
		"update":      {enc.Update(1, 0, nil, values), decoder.OpUpdate, false, true},
		"update key":  {enc.Update(1, 'K', values, values), decoder.OpUpdate, true, true},
		"update full": {enc.Update(1, 'O', values, values), decoder.OpUpdate, true, true},
		"delete":      {enc.Delete(1, 'O', values), decoder.OpDelete, true, false},
	} {
		t.Run(name, func(t *testing.T) {
			for kept := 5; kept < len(c.message); kept++ {
				d := inTx(t, table(1, 4))
				step, err := d.DecodeCut(c.message[:kept:kept], int64(len(c.message)), 0x900)
				require.NoError(t, err)
				require.Equal(t, decoder.StepChange, step)
				got := d.Change()
				require.Equal(t, int64(len(c.message)), got.CutSize)
				require.Equal(t, c.op, got.Op)
				require.Equal(t, lsn.ID{Commit: 0x1000}, got.ID)
				requireWhole(t, values, got.Old, c.old, c.message[:kept])
				requireWhole(t, values, got.New, c.new, c.message[:kept])
				require.Less(t, len(got.Old)+len(got.New), 8)
				_, err = d.Decode(enc.Insert(1, values), 0) // it counts, and nothing of it stays
				require.NoError(t, err)
				require.Equal(t, uint32(1), d.Change().ID.Seq)
				require.Zero(t, d.Change().CutSize)
				require.Equal(t, values, d.Change().New)
			}
		})
	}
}

// requireWhole checks that got is a beginning of want and lies in the head.
func requireWhole(t *testing.T, want, got []decoder.Value, may bool, head []byte) {
	t.Helper()
	if !may {
		require.Nil(t, got)
		return
	}
	require.LessOrEqual(t, len(got), len(want))
	require.Equal(t, append([]decoder.Value{}, want[:len(got)]...), append([]decoder.Value{}, got...))
	for _, v := range got {
		require.LessOrEqual(t, len(v.Data), len(head))
	}
}

func TestCutColumnsThatCameWhole(t *testing.T) {
	m := enc.Insert(1, []decoder.Value{decodertest.Text("ab"), decodertest.Null(), decodertest.Text(strings.Repeat("x", 1000))})
	d := inTx(t, table(1, 3))
	_, err := d.DecodeCut(m[:100], int64(len(m)), 0)
	require.NoError(t, err)
	require.Equal(t, []decoder.Value{decodertest.Text("ab"), decodertest.Null()}, d.Change().New)
}

func TestCutMessages(t *testing.T) {
	m := enc.Message(true, 0x900, "outbox", []byte("content"))
	for kept := 10; kept < len(m); kept++ {
		d := inTx(t)
		step, err := d.DecodeCut(m[:kept:kept], int64(len(m)), 0)
		require.NoError(t, err)
		require.Equal(t, decoder.StepChange, step)
		want := ""
		if kept > 10+len("outbox") {
			want = "outbox"
		}
		require.Equal(t, decoder.Change{
			ID: lsn.ID{Commit: 0x1000}, Op: decoder.OpMessage, Tx: d.Tx(), Prefix: want, LSN: 0x900, Transactional: true, CutSize: int64(len(m)),
		}, *d.Change())
	}
	d := decoder.New(decoder.Config{})
	out := enc.Message(false, 0x900, "outbox", []byte("content"))
	step, err := d.DecodeCut(out[:20], int64(len(out)), 0)
	require.NoError(t, err)
	require.Equal(t, decoder.StepChange, step)
	require.Nil(t, d.Change().Tx)
}

// A cut change of a transaction that is durable is counted and dropped as any other.
func TestCutIsDroppedWhenDurable(t *testing.T) {
	m := enc.Insert(1, decodertest.Row(strings.Repeat("x", 1000)))
	d := decoder.New(decoder.Config{From: inside(0xF0, 0x100, 0), Xid: 700})
	_, err := feed(d, enc.Begin(0x100, 5, 700), enc.Relation(table(1, 1)))
	require.NoError(t, err)
	for _, want := range []decoder.Step{decoder.StepNone, decoder.StepChange} {
		step, err := d.DecodeCut(m[:100], int64(len(m)), 0)
		require.NoError(t, err)
		require.Equal(t, want, step)
	}
	require.Equal(t, uint32(1), d.Change().ID.Seq)
}

func TestCutErrors(t *testing.T) {
	insert := enc.Insert(1, decodertest.Row("a"))
	size := int64(len(insert))
	for name, c := range map[string]struct {
		head []byte
		size int64
		want string
	}{
		"nothing kept":            {nil, size, "0x00 message of 14 bytes is too large: the 0 bytes kept of it do not do"},
		"relation not kept":       {insert[:4], size, "Insert message of 14 bytes is too large: the 4 bytes kept of it do not do"},
		"message's LSN not kept":  {enc.Message(true, 0x9, "p", nil)[:9], 100, "Message message of 100 bytes is too large: the 9 bytes kept of it do not do"},
		"relation":                {enc.Relation(table(1, 4))[:12], 900, "Relation message of 900 bytes is too large"},
		"truncate":                {enc.Truncate(false, false, 1, 1)[:12], 14, "Truncate message of 14 bytes is too large"},
		"begin":                   {enc.Begin(1, 2, 3)[:12], 21, "Begin message of 21 bytes is too large"},
		"stream":                  {enc.StreamStart(1, true)[:2], 6, "StreamStart message of 6 bytes is too large"},
		"bytes after the end":     {insert, size + 1, "end of the message: want no more bytes, got 1 byte"},
		"a value beyond the size": {enc.Insert(1, decodertest.Row("abcde"))[:15], 16, "length of column 0: want at most 3 bytes, got 5"},
		"columns beyond the size": {append(insert[:6:6], 0xFF, 0xFF), 900, "number of columns: want at most 892, one for each byte left, got 65535"},
		"a marker that is none":   {append(enc.Delete(1, 'X', row(1, 1)), 0), 900, "row marker"},
		"a kind that is none":     {enc.Insert(1, []decoder.Value{{Kind: 'x'}}), 900, "column 0: want one of n, u, t, b"},
		"more columns than known": {enc.Insert(1, row(3, 1))[:20], 26, "has 2 columns, its Relation message 1"},
		"unknown relation":        {enc.Insert(9, row(2, 1))[:18], 24, "OID 9"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := inTx(t, table(1, 1)).DecodeCut(c.head, c.size, 0)
			require.ErrorContains(t, err, c.want)
		})
	}
}

// A message that was not cut after all is decoded as one.
func TestCutThatIsWhole(t *testing.T) {
	m := enc.Insert(1, decodertest.Row("a"))
	d := inTx(t, table(1, 1))
	for _, size := range []int64{0, int64(len(m))} {
		_, err := d.DecodeCut(m, size, 0)
		require.NoError(t, err)
		require.Zero(t, d.Change().CutSize)
		require.Equal(t, decodertest.Row("a"), d.Change().New)
	}
}
