package decoder_test

import (
	"math"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/decoder/decodertest"
	"github.com/walbridge/walbridge/internal/lsn"
)

// Nothing is allocated for what repeats: rows of known relations, transactions
// with an origin, messages with a prefix, descriptions that say nothing new.
func TestSteadyStateDoesNotAllocate(t *testing.T) {
	rel := table(1, 10)
	rel.Name = "a_name_that_is_longer_than_what_the_compiler_keeps_on_the_stack"
	rel.Namespace = "and_a_schema_with_a_name_that_is_at_least_as_long_as_that"
	rel.Columns[1].TypeOID = 16390
	body := [][]byte{
		enc.Type(16390, rel.Namespace, rel.Name), enc.Relation(rel), enc.Relation(table(2, 3)),
		enc.Insert(1, row(10, 20)), enc.Insert(2, row(3, 2000)),
		enc.Update(1, 'K', row(10, 20), row(10, 20)), enc.Update(1, 'O', row(10, 20), row(10, 20)), enc.Update(1, 0, nil, row(10, 20)),
		enc.Delete(1, 'O', row(10, 20)), enc.Truncate(true, true, 1, 2), enc.Message(true, 0x99, "outbox", row(1, 20)[0].Data),
	}
	d := decoder.New(decoder.Config{})
	commit := lsn.LSN(0x1000)
	begin, end := enc.Begin(commit, 0, 700), enc.Commit(commit, commit+8, 0)
	origin, outside := enc.Origin(1, "elsewhere"), enc.Message(false, commit, "heartbeat", nil)
	step := func(want decoder.Step, got decoder.Step, err error) {
		if err != nil || want != got && want != decoder.StepNone {
			t.Fatalf("step %v, want %v: %v", got, want, err)
		}
		for d.More() {
			continue
		}
	}
	once := func() {
		commit += 16
		putLSN(begin[1:], commit)
		putLSN(end[2:], commit)
		putLSN(end[10:], commit+8)
		putLSN(outside[2:], commit)
		for _, m := range [][]byte{outside, begin, origin} {
			got, err := d.Decode(m, commit)
			step(decoder.StepNone, got, err)
		}
		for _, m := range body {
			got, err := d.Decode(m, commit)
			step(decoder.StepNone, got, err)
		}
		got, err := d.Decode(end, commit)
		step(decoder.StepCommit, got, err)
	}
	require.Zero(t, testing.AllocsPerRun(100, once))
	require.Equal(t, uint32(8), d.Change().ID.Seq)
}

func putLSN(b []byte, l lsn.LSN) {
	for i := range 8 {
		b[i] = byte(l >> (56 - 8*i))
	}
}

// What a length on the wire claims is not allocated before it is there.
func TestClaimsAreNotAllocated(t *testing.T) {
	for name, m := range map[string]string{
		"columns of a row":      "49 00004000 4E FFFF",
		"columns of a relation": "52 00004000 00 00 64 FFFF",
		"length of a value":     "49 00004000 4E 0001 74 7FFFFFFF 61",
		"relations":             "54 FFFFFFFF 00",
		"content":               "4D 00 0000000000000010 00 7FFFFFFF",
	} {
		data := wire(t, m)
		bytes := allocated(func() {
			var p decoder.Parser
			_, err := p.Parse(data)
			require.Error(t, err)
		})
		require.Less(t, bytes, uint64(16<<10), name)
	}
}

// allocated returns the bytes that f allocates.
func allocated(f func()) uint64 {
	var before, after runtime.MemStats
	runtime.ReadMemStats(&before)
	f()
	runtime.ReadMemStats(&after)
	return after.TotalAlloc - before.TotalAlloc
}

func TestTooManyChanges(t *testing.T) {
	d := inTx(t, table(1, 1), table(2, 1))
	insert := enc.Insert(1, decodertest.Row("a"))
	d.SetSeq(math.MaxUint32)
	_, err := d.Decode(insert, 0)
	require.NoError(t, err)
	require.Equal(t, uint32(math.MaxUint32), d.Change().ID.Seq)
	_, err = d.Decode(insert, 0)
	require.ErrorIs(t, err, decoder.ErrTooManyChanges)

	d = inTx(t, table(1, 1), table(2, 1))
	d.SetSeq(math.MaxUint32)
	_, err = d.Decode(enc.Truncate(false, false, 1, 2), 0)
	require.ErrorIs(t, err, decoder.ErrTooManyChanges)
	require.False(t, d.More())
}
