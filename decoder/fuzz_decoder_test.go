package decoder_test

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/decoder/decodertest"
	"github.com/walbridge/walbridge/internal/lsn"
)

// packed is messages as one fuzz input: a byte that says how much of the message
// was kept (0: all), two bytes of length, the message.
func packed(kept byte, messages ...[]byte) []byte {
	var out []byte
	for _, m := range messages {
		out = append(out, kept)
		out = binary.BigEndian.AppendUint16(out, uint16(len(m)))
		out = append(out, m...)
	}
	return out
}

// unpack returns the next message of a fuzz input; nil at its end.
func unpack(in []byte) (kept int, m, rest []byte) {
	if len(in) < 3 {
		return 0, nil, nil
	}
	size := min(int(binary.BigEndian.Uint16(in[1:])), len(in)-3)
	kept = int(in[0])
	if kept == 0 || kept > size {
		kept = size
	}
	return kept, in[3 : 3+size : 3+size], in[3+size:]
}

// newestMajor is the version whose captures are seeds.
const newestMajor = 18

// FuzzDecoder feeds whole sessions: whatever comes, there is no panic, what a
// change holds lies in its frame, ids rise strictly and without a gap, and an
// error is the end.
func FuzzDecoder(f *testing.F) {
	session := append(oneOfEach(0x100), oneOfEach(0x130)...)
	f.Add(uint64(0), uint64(0), uint32(0), uint32(0), packed(0, session...))
	f.Add(uint64(0x130), uint64(0), uint32(0), uint32(0), packed(0, session...))
	f.Add(uint64(0xF0), uint64(0x100), uint32(3), uint32(700), packed(0, session...))
	f.Add(uint64(0xF0), uint64(0x100), uint32(9), uint32(0), packed(0, session...))
	f.Add(uint64(0), uint64(0), uint32(0), uint32(0), packed(12, session...))
	f.Add(uint64(0x120), uint64(0), uint32(0), uint32(0), packed(0, enc.Message(false, 0x100, "m", nil), enc.Begin(0x100, 0, 1)))
	f.Add(uint64(0), uint64(0), uint32(0), uint32(0), packed(0, enc.StreamStart(1, true), enc.Insert(1, nil)))
	f.Add(uint64(0), uint64(0), uint32(0), uint32(0), packed(0, enc.Begin(0x100, 0, 1), enc.Relation(table(1, 2)), enc.Insert(1, decodertest.Row("a"))))
	eachCapture(f, func(major int, _ scenario, frames []decodertest.Frame) {
		if major != newestMajor {
			return
		}
		var messages [][]byte
		for _, f := range frames {
			messages = append(messages, f.Data)
		}
		f.Add(uint64(0), uint64(0), uint32(0), uint32(0), packed(0, messages...))
	})
	f.Fuzz(func(t *testing.T, end, commit uint64, seq, xid uint32, in []byte) {
		d := decoder.New(decoder.Config{
			From: lsn.Position{End: lsn.LSN(end), Commit: lsn.LSN(commit), Seq: seq}, Xid: uint64(xid),
		})
		var last lsn.ID
		for kept, m, rest := unpack(in); m != nil; kept, m, rest = unpack(rest) {
			step, err := d.DecodeCut(m[:kept:kept], int64(len(m)), 0)
			if err != nil {
				require.Equal(t, decoder.StepNone, step)
				require.False(t, d.More())
				requireTyped(t, err)
				_, again := d.Decode(enc.Relation(table(1, 1)), 0)
				require.Equal(t, err, again)
				return
			}
			if step == decoder.StepChange {
				last = checkChanges(t, d, m, last)
			}
			require.Equal(t, step == decoder.StepBegin || step == decoder.StepChange && d.Change().Tx != nil, d.InTx() && step != decoder.StepNone)
		}
	})
}

// checkChanges looks at the changes of one message and returns the id of the last.
func checkChanges(t *testing.T, d *decoder.Decoder, m []byte, last lsn.ID) lsn.ID {
	t.Helper()
	for more := true; more; more = d.More() {
		c := d.Change()
		require.True(t, last == lsn.ID{} || last.Compare(c.ID) < 0, "%s after %s", c.ID, last)
		if c.ID.Commit == last.Commit {
			require.Equal(t, last.Seq+1, c.ID.Seq)
		}
		last = c.ID
		requireRowWithin(t, m, c.New)
		requireRowWithin(t, m, c.Old)
		requireWithin(t, m, c.Content)
		if c.Op == decoder.OpMessage {
			require.Nil(t, c.Relation)
			continue
		}
		require.NotNil(t, c.Relation)
		if c.CutSize == 0 && c.New != nil {
			require.Len(t, c.New, len(c.Relation.Columns))
		}
	}
	return last
}

// requireTyped: every error is one that a caller can tell by its type.
func requireTyped(t *testing.T, err error) {
	t.Helper()
	var (
		wire        *decoder.WireError
		sequence    *decoder.SequenceError
		unsupported *decoder.UnsupportedMessageError
		relation    *decoder.UnknownRelationError
		columns     *decoder.ColumnsError
		incomplete  *decoder.IncompleteTransactionError
		position    *decoder.PositionError
		cut         *decoder.CutError
	)
	require.True(t, errors.As(err, &wire) || errors.As(err, &sequence) || errors.As(err, &unsupported) ||
		errors.As(err, &relation) || errors.As(err, &columns) || errors.As(err, &incomplete) ||
		errors.As(err, &position) || errors.As(err, &cut) || errors.Is(err, decoder.ErrTooManyChanges), "%T: %v", errors.Unwrap(err), err)
}
