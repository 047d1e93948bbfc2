package decoder_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/decoder/decodertest"
)

// misplaced is a session whose last message cannot come there.
type misplaced struct {
	name     string
	messages [][]byte
	want     decoder.SequenceError
}

// badPositions are sessions whose last message has a position that cannot be.
func badPositions() []misplaced {
	begin := enc.Begin(0x100, 5, 700)
	return []misplaced{
		{"begin in a transaction", [][]byte{begin, enc.Begin(0x130, 5, 701)}, decoder.SequenceError{
			Message: 'B', What: "the transaction before has not ended", Before: 0x100, Now: 0x130,
		}},
		{"begin at no position", [][]byte{enc.Begin(0, 5, 701)}, decoder.SequenceError{
			Message: 'B', What: "its commit LSN lies before the end of what came before",
		}},
		{"commits do not rise", [][]byte{begin, enc.Commit(0x100, 0x130, 5), enc.Begin(0x100, 5, 701)}, decoder.SequenceError{
			Message: 'B', What: "its commit LSN lies before the end of what came before", Before: 0x130, Now: 0x100,
		}},
		{"commit inside the one before", [][]byte{begin, enc.Commit(0x100, 0x130, 5), enc.Begin(0x12F, 5, 701)}, decoder.SequenceError{
			Message: 'B', What: "its commit LSN lies before the end of what came before", Before: 0x130, Now: 0x12F,
		}},
		{"commit before a message", [][]byte{enc.Message(false, 0x130, "", nil), enc.Begin(0x128, 5, 701)}, decoder.SequenceError{
			Message: 'B', What: "its commit LSN lies before the end of what came before", Before: 0x130, Now: 0x128,
		}},
		{"message before a message", [][]byte{enc.Message(false, 0x130, "", nil), enc.Message(false, 0x130, "", nil)}, decoder.SequenceError{
			Message: 'M', What: "its LSN is not after the end of what came before", Before: 0x130, Now: 0x130,
		}},
		{"message outside inside", [][]byte{begin, enc.Message(false, 0x80, "", nil)}, decoder.SequenceError{
			Message: 'M', What: "it is outside transactions, and one is under way", Before: 0x100, Now: 0x80,
		}},
		{"message at no position", [][]byte{enc.Message(false, 0, "", nil)}, decoder.SequenceError{
			Message: 'M', What: "its LSN is not after the end of what came before",
		}},
		{"another commit", [][]byte{begin, enc.Commit(0x101, 0x130, 5)}, decoder.SequenceError{
			Message: 'C', What: "its commit LSN is not the one that Begin announced", Before: 0x100, Now: 0x101,
		}},
		{"commit without length", [][]byte{begin, enc.Commit(0x100, 0x100, 5)}, decoder.SequenceError{
			Message: 'C', What: "its end LSN is not after its commit LSN", Before: 0x100, Now: 0x100,
		}},
		{"commit outside", [][]byte{enc.Commit(0x100, 0x130, 5)}, decoder.SequenceError{
			Message: 'C', What: "no transaction has begun", Now: 0x100,
		}},
	}
}

// outOfTransactions are sessions whose last message needs a transaction.
func outOfTransactions() []misplaced {
	begin, rel := enc.Begin(0x100, 5, 700), enc.Relation(table(1, 1))
	return []misplaced{
		{"origin outside", [][]byte{enc.Origin(0x9, "o")}, decoder.SequenceError{
			Message: 'O', What: "no transaction has begun", Now: 0x9,
		}},
		{"insert outside", [][]byte{rel, enc.Insert(1, decodertest.Row("a"))}, decoder.SequenceError{
			Message: 'I', What: "no transaction has begun",
		}},
		{"update outside", [][]byte{rel, enc.Update(1, 0, nil, decodertest.Row("a"))}, decoder.SequenceError{
			Message: 'U', What: "no transaction has begun",
		}},
		{"delete outside", [][]byte{rel, enc.Delete(1, 'K', decodertest.Row("a"))}, decoder.SequenceError{
			Message: 'D', What: "no transaction has begun",
		}},
		{"truncate outside", [][]byte{rel, enc.Truncate(false, false, 1)}, decoder.SequenceError{
			Message: 'T', What: "no transaction has begun",
		}},
		{"message outside", [][]byte{enc.Message(true, 0x80, "", nil)}, decoder.SequenceError{
			Message: 'M', What: "no transaction has begun",
		}},
		{"row after commit", [][]byte{rel, begin, enc.Commit(0x100, 0x130, 5), enc.Insert(1, decodertest.Row("a"))}, decoder.SequenceError{
			Message: 'I', What: "no transaction has begun", Before: 0x130,
		}},
	}
}

func TestSequenceErrors(t *testing.T) {
	for _, c := range append(badPositions(), outOfTransactions()...) {
		t.Run(c.name, func(t *testing.T) {
			d, _, err := session(decoder.Config{}, c.messages...)
			var got *decoder.SequenceError
			require.ErrorAs(t, err, &got)
			require.Equal(t, c.want, *got)
			require.ErrorContains(t, err, fmt.Sprintf("(before: %s, now: %s)", c.want.Before, c.want.Now))
			_, again := d.Decode(enc.Begin(0x1000, 5, 702), 0)
			require.Equal(t, err, again, "an error is a decoder's end")
			_, again = d.DecodeCut(enc.Begin(0x1000, 5, 702), 1<<20, 0)
			require.Equal(t, err, again)
			require.Equal(t, err, d.Mark(0x1000))
		})
	}
}

// Whatever a session does not ask for says what to do.
func TestUnsupportedMessages(t *testing.T) {
	for _, m := range [][]byte{
		enc.StreamStart(700, true), enc.StreamStop(), enc.StreamCommit(700, 0x100, 0x130, 5), enc.StreamAbort(700, 701),
		enc.StreamPrepare(0x100, 0x130, 5, 700, "g"),
	} {
		checkUnsupported(t, m, "option streaming off")
	}
	for _, m := range [][]byte{
		enc.BeginPrepare(0x100, 0x130, 5, 700, "g"), enc.Prepare(0x100, 0x130, 5, 700, "g"),
		enc.CommitPrepared(0x100, 0x130, 5, 700, "g"), enc.RollbackPrepared(0x100, 0x130, 5, 6, 700, "g"),
	} {
		checkUnsupported(t, m, "two_phase")
	}
}

func checkUnsupported(t *testing.T, m []byte, hint string) {
	t.Helper()
	_, _, err := session(decoder.Config{}, m)
	var got *decoder.UnsupportedMessageError
	require.ErrorAs(t, err, &got)
	require.Equal(t, decoder.MessageKind(m[0]), got.Message)
	require.ErrorContains(t, err, hint)
}

func TestUnknownRelation(t *testing.T) {
	for _, m := range [][]byte{
		enc.Insert(9, decodertest.Row("a")), enc.Update(9, 0, nil, decodertest.Row("a")),
		enc.Delete(9, 'K', decodertest.Row("a")), enc.Truncate(false, false, 1, 9),
	} {
		_, err := inTx(t, table(1, 1)).Decode(m, 0x77)
		var got *decoder.UnknownRelationError
		require.ErrorAs(t, err, &got)
		require.Equal(t, decoder.UnknownRelationError{Message: decoder.MessageKind(m[0]), OID: 9}, *got)
		require.ErrorContains(t, err, "decode at 0/77, in the transaction committed at 0/1000 (xid 700) after 0 changes: ")
		require.ErrorContains(t, err, "relation with OID 9")
	}
}

func TestRowsMustHaveTheirRelationsColumns(t *testing.T) {
	for _, c := range []struct {
		message []byte
		tuple   string
		got     int
	}{
		{enc.Insert(1, decodertest.Row("a")), "new", 1},
		{enc.Insert(1, decodertest.Row("a", "b", "c")), "new", 3},
		{enc.Insert(1, nil), "new", 0},
		{enc.Update(1, 'K', decodertest.Row("a"), decodertest.Row("a", "b")), "old", 1},
		{enc.Update(1, 'O', decodertest.Row("a", "b"), decodertest.Row("a")), "new", 1},
		{enc.Delete(1, 'O', decodertest.Row("a", "b", "c")), "old", 3},
	} {
		_, err := inTx(t, table(1, 2)).Decode(c.message, 0)
		var got *decoder.ColumnsError
		require.ErrorAs(t, err, &got)
		require.Equal(t, c.tuple, got.Tuple)
		require.Equal(t, c.got, got.Got)
		require.ErrorContains(t, err, fmt.Sprintf("the %s row of public.t1 has %d columns, its Relation message 2", c.tuple, c.got))
	}
}
