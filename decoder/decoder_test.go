package decoder_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/decoder/decodertest"
	"github.com/walbridge/walbridge/internal/lsn"
)

var enc decodertest.Encoder

// inside is a position after change seq of the transaction committed at commit.
func inside(end, commit lsn.LSN, seq uint32) lsn.Position {
	return lsn.Position{End: end, LastTxEnd: end, Commit: commit, Seq: seq}
}

// session decodes messages until one fails, and tells the steps as short text:
// what came, with its ids.
func session(cfg decoder.Config, messages ...[]byte) (*decoder.Decoder, []string, error) {
	d := decoder.New(cfg)
	steps, err := feed(d, messages...)
	return d, steps, err
}

func feed(d *decoder.Decoder, messages ...[]byte) (steps []string, err error) {
	for _, m := range messages {
		step, err := d.Decode(m, 0x42)
		if err != nil {
			return steps, err
		}
		steps = appendStep(steps, d, step)
	}
	return steps, nil
}

func appendStep(steps []string, d *decoder.Decoder, step decoder.Step) []string {
	switch step {
	case decoder.StepBegin:
		steps = append(steps, fmt.Sprintf("begin %s xid %d", d.Tx().Commit, d.Tx().Xid))
	case decoder.StepCommit:
		steps = append(steps, fmt.Sprintf("commit %s end %s", d.Tx().Commit, d.Tx().End))
	case decoder.StepChange:
		for more := true; more; more = d.More() {
			steps = append(steps, changeText(d.Change()))
		}
	}
	return steps
}

func changeText(c *decoder.Change) string {
	what := ""
	if c.Relation != nil {
		what = " " + c.Relation.Name
	}
	if c.Op == decoder.OpMessage {
		what = fmt.Sprintf(" %s %s", c.Prefix, c.Content)
	}
	return fmt.Sprintf("%s %s%s", c.ID, c.Op, what)
}

// Two relations and a transaction with a change of each kind.
func oneOfEach(commit lsn.LSN) [][]byte {
	return [][]byte{
		enc.Begin(commit, 5, 700),
		enc.Relation(table(1, 1)),
		enc.Relation(table(2, 1)),
		enc.Insert(1, decodertest.Row("a")),
		enc.Update(1, 'K', decodertest.Row("a"), decodertest.Row("b")),
		enc.Message(true, commit-8, "outbox", []byte("hello")),
		enc.Truncate(true, false, 2, 1),
		enc.Delete(1, 'K', decodertest.Row("b")),
		enc.Commit(commit, commit+0x30, 5),
	}
}

func TestChangesAreNumberedInTheirTransaction(t *testing.T) {
	_, steps, err := session(decoder.Config{}, append(oneOfEach(0x100), oneOfEach(0x130)...)...)
	require.NoError(t, err)
	require.Equal(t, []string{
		"begin 0/100 xid 700",
		"0000000000000100-00000000-0000 insert t1",
		"0000000000000100-00000001-0000 update t1",
		"0000000000000100-00000002-0000 message outbox hello",
		"0000000000000100-00000003-0000 truncate t2",
		"0000000000000100-00000004-0000 truncate t1",
		"0000000000000100-00000005-0000 delete t1",
		"commit 0/100 end 0/130",
		"begin 0/130 xid 700", // a commit LSN may be the end of the transaction before
		"0000000000000130-00000000-0000 insert t1",
		"0000000000000130-00000001-0000 update t1",
		"0000000000000130-00000002-0000 message outbox hello",
		"0000000000000130-00000003-0000 truncate t2",
		"0000000000000130-00000004-0000 truncate t1",
		"0000000000000130-00000005-0000 delete t1",
		"commit 0/130 end 0/160",
	}, steps)
}

// A truncate whose relations the caller does not ask for counts all the same.
func TestTruncateCountsWithoutMore(t *testing.T) {
	d := inTx(t, table(1, 1), table(2, 1))
	step, err := d.Decode(enc.Truncate(false, true, 1, 2), 0)
	require.NoError(t, err)
	require.Equal(t, decoder.StepChange, step)
	require.True(t, d.Change().RestartIdentity)
	require.False(t, d.Change().Cascade)
	_, err = d.Decode(enc.Insert(1, decodertest.Row("a")), 0)
	require.NoError(t, err)
	require.Equal(t, uint32(2), d.Change().ID.Seq)
	require.False(t, d.More())
}

func TestChangeCarriesRows(t *testing.T) {
	rel := table(1, 2)
	d := inTx(t, rel)
	for _, c := range []struct {
		message []byte
		want    decoder.Change
	}{
		{enc.Insert(1, decodertest.Row("a", "b")), decoder.Change{Op: decoder.OpInsert, New: decodertest.Row("a", "b")}},
		{
			enc.Update(1, 'K', []decoder.Value{decodertest.Text("a"), decodertest.Null()}, []decoder.Value{decodertest.Text("c"), decodertest.Unchanged()}),
			decoder.Change{
				Op: decoder.OpUpdate, OldIsKey: true, Old: []decoder.Value{decodertest.Text("a"), decodertest.Null()},
				New: []decoder.Value{decodertest.Text("c"), decodertest.Unchanged()},
			},
		},
		{enc.Update(1, 0, nil, decodertest.Row("a", "b")), decoder.Change{Op: decoder.OpUpdate, New: decodertest.Row("a", "b")}},
		{
			enc.Update(1, 'O', decodertest.Row("a", "b"), decodertest.Row("c", "d")),
			decoder.Change{Op: decoder.OpUpdate, Old: decodertest.Row("a", "b"), New: decodertest.Row("c", "d")},
		},
		{enc.Delete(1, 'O', decodertest.Row("a", "b")), decoder.Change{Op: decoder.OpDelete, Old: decodertest.Row("a", "b")}},
		{
			enc.Insert(1, []decoder.Value{decodertest.Binary([]byte{0, 1}), decodertest.Null()}),
			decoder.Change{Op: decoder.OpInsert, New: []decoder.Value{decodertest.Binary([]byte{0, 1}), decodertest.Null()}},
		},
	} {
		step, err := d.Decode(c.message, 0)
		require.NoError(t, err)
		require.Equal(t, decoder.StepChange, step)
		got := *d.Change()
		require.Equal(t, rel, got.Relation)
		require.Same(t, d.Tx(), got.Tx)
		got.ID, got.Relation, got.Tx = lsn.ID{}, nil, nil
		require.Equal(t, c.want, got)
	}
}

func TestTxIsKnownFromBeginOn(t *testing.T) {
	d := decoder.New(decoder.Config{})
	require.Nil(t, d.Tx())
	require.False(t, d.InTx())
	_, err := feed(d, enc.Begin(0x100, 7, 700))
	require.NoError(t, err)
	require.True(t, d.InTx())
	require.Equal(t, decoder.Tx{Commit: 0x100, CommitTime: 7, Xid: 700}, *d.Tx())
	_, err = feed(d, enc.Origin(0x9, "elsewhere"))
	require.NoError(t, err)
	require.Equal(t, "elsewhere", d.Tx().Origin)
	_, err = feed(d, enc.Commit(0x100, 0x130, 7))
	require.NoError(t, err)
	require.False(t, d.InTx())
	require.Equal(t, lsn.LSN(0x130), d.Tx().End)
	_, err = feed(d, enc.Relation(table(1, 1)))
	require.NoError(t, err)
	require.Nil(t, d.Tx())
	_, err = feed(d, enc.Begin(0x130, 7, 701)) // the origin is the transaction's, not the session's
	require.NoError(t, err)
	require.Empty(t, d.Tx().Origin)
}

func TestEmptyTransaction(t *testing.T) {
	d, steps, err := session(decoder.Config{}, enc.Begin(0x100, 5, 700), enc.Commit(0x100, 0x130, 5))
	require.NoError(t, err)
	require.Equal(t, []string{"begin 0/100 xid 700", "commit 0/100 end 0/130"}, steps)
	require.Zero(t, d.Stats())
}

// The id of a message outside transactions: its LSN is the end of its record, and
// a commit record may begin there.
func TestMessageOutsideTransactions(t *testing.T) {
	d := decoder.New(decoder.Config{})
	steps, err := feed(d, enc.Message(false, 0x100, "hb", []byte("1")))
	require.NoError(t, err)
	require.Equal(t, []string{"00000000000000FF-00000000-0000 message hb 1"}, steps)
	require.Equal(t, lsn.LSN(0x100), d.Change().LSN)
	require.False(t, d.Change().Transactional)
	require.Nil(t, d.Change().Tx)
	require.Nil(t, d.Tx())
	steps, err = feed(d, oneOfEach(0x100)...)
	require.NoError(t, err)
	require.Equal(t, "0000000000000100-00000000-0000 insert t1", steps[1])
	_, err = feed(d, enc.Begin(0x130, 5, 701), enc.Message(true, 0x108, "outbox", nil))
	require.NoError(t, err)
	require.True(t, d.Change().Transactional)
	require.Equal(t, lsn.LSN(0x108), d.Change().LSN)
	require.NotNil(t, d.Change().Tx)
}

// A transaction is skipped when its commit record begins before the position; one
// that begins exactly there is the next (rule R2).
func TestTransactionsBeforeThePositionAreSkipped(t *testing.T) {
	history := [][]byte{enc.Message(false, 0xF8, "m", nil)}
	history = append(history, oneOfEach(0x100)...)
	history = append(history, enc.Message(false, 0x138, "m", nil))
	history = append(history, oneOfEach(0x138)...)
	for _, c := range []struct {
		end   lsn.LSN
		first string
		stats decoder.Stats
	}{
		{0, "00000000000000F7-00000000-0000 message m ", decoder.Stats{}},
		{0xF7, "00000000000000F7-00000000-0000 message m ", decoder.Stats{}},
		{0xF8, "begin 0/100 xid 700", decoder.Stats{SkippedMessages: 1}},
		{0x100, "begin 0/100 xid 700", decoder.Stats{SkippedMessages: 1}},
		{0x130, "0000000000000137-00000000-0000 message m ", decoder.Stats{SkippedTransactions: 1, SkippedMessages: 1}},
		{0x138, "begin 0/138 xid 700", decoder.Stats{SkippedTransactions: 1, SkippedMessages: 2}},
		{0x168, "", decoder.Stats{SkippedTransactions: 2, SkippedMessages: 2}},
		{0x900, "", decoder.Stats{SkippedTransactions: 2, SkippedMessages: 2}},
	} {
		d, steps, err := session(decoder.Config{From: lsn.Position{End: c.end}}, history...)
		require.NoError(t, err, c.end)
		require.Equal(t, c.first, append(steps, "")[0], c.end)
		require.Equal(t, c.stats, d.Stats(), c.end)
	}
}

// What a skipped transaction says of relations counts: the server says it once.
func TestRelationsOfSkippedTransactionsCount(t *testing.T) {
	d := decoder.New(decoder.Config{From: lsn.Position{End: 0x130}})
	steps, err := feed(d, oneOfEach(0x100)...)
	require.NoError(t, err)
	require.Empty(t, steps)
	require.NotNil(t, d.Tx())
	steps, err = feed(d, enc.Begin(0x130, 5, 701), enc.Insert(2, decodertest.Row("x")))
	require.NoError(t, err)
	require.Equal(t, "0000000000000130-00000000-0000 insert t2", steps[1])
}

func TestPositionInsideACommitRecord(t *testing.T) {
	_, _, err := session(decoder.Config{From: lsn.Position{End: 0x120}}, oneOfEach(0x100)...)
	var pe *decoder.PositionError
	require.ErrorAs(t, err, &pe)
	require.Equal(t, decoder.PositionError{From: 0x120, Commit: 0x100, End: 0x130}, *pe)
	require.ErrorContains(t, err, "position 0/120 is no end of a transaction: it lies inside the commit record from 0/100 to 0/130")
}

// From any change of a transaction on, exactly the changes after it come, with
// the ids that they have without a restart, also from the middle of a truncate.
func TestResumeInsideATransaction(t *testing.T) {
	_, whole, err := session(decoder.Config{}, oneOfEach(0x100)...)
	require.NoError(t, err)
	for seq := range uint32(6) {
		d, steps, err := session(decoder.Config{From: inside(0xF0, 0x100, seq), Xid: 7<<32 | 700}, oneOfEach(0x100)...)
		require.NoError(t, err)
		want := append([]string{whole[0]}, whole[seq+2:]...)
		require.Equal(t, want, steps)
		require.Equal(t, decoder.Stats{SkippedChanges: uint64(seq) + 1}, d.Stats())
	}
}

// The transaction after the one that was resumed has all its changes.
func TestResumeIsForOneTransaction(t *testing.T) {
	_, steps, err := session(decoder.Config{From: inside(0xF0, 0x100, 5), Xid: 700}, append(oneOfEach(0x100), oneOfEach(0x130)...)...)
	require.NoError(t, err)
	require.Len(t, steps, 2+8)
}

// A message outside transactions that was decoded before the transaction that the
// position lies inside is durable; one after it means that the transaction is gone.
func TestMessagesAroundAResumedTransaction(t *testing.T) {
	from := decoder.Config{From: inside(0xF0, 0x100, 0), Xid: 700}
	d, steps, err := session(from, append([][]byte{enc.Message(false, 0x100, "m", nil)}, oneOfEach(0x100)...)...)
	require.NoError(t, err)
	require.Equal(t, "begin 0/100 xid 700", steps[0])
	require.Equal(t, uint64(1), d.Stats().SkippedMessages)

	_, _, err = session(from, enc.Message(false, 0x138, "m", nil))
	var incomplete *decoder.IncompleteTransactionError
	require.ErrorAs(t, err, &incomplete)
	require.Equal(t, decoder.IncompleteTransactionError{Want: 0x100, WantXid: 700, Got: 0x138}, *incomplete)
}

func TestIncompleteTransaction(t *testing.T) {
	for _, c := range []struct {
		name string
		from decoder.Config
		want decoder.IncompleteTransactionError
		text string
	}{
		{
			"another one comes first", decoder.Config{From: inside(0xF0, 0xF8, 3), Xid: 699},
			decoder.IncompleteTransactionError{Want: 0xF8, Got: 0x100, WantXid: 699, GotXid: 700, Seq: 3},
			"the sink has the transaction committed at 0/F8 (xid 699) only up to change 3, and the server goes on at 0/100 (xid 700)",
		},
		{
			"another one has its commit LSN", decoder.Config{From: inside(0xF0, 0x100, 3), Xid: 1<<32 | 699},
			decoder.IncompleteTransactionError{Want: 0x100, Got: 0x100, WantXid: 699, GotXid: 700, Seq: 3},
			"the sink has the transaction committed at 0/100 (xid 699) only up to change 3, and the server goes on at 0/100 (xid 700)",
		},
		{
			"it has fewer changes", decoder.Config{From: inside(0xF0, 0x100, 6), Xid: 700},
			decoder.IncompleteTransactionError{Want: 0x100, Got: 0x100, WantXid: 700, GotXid: 700, Seq: 6, Changes: 6},
			"the sink has the transaction committed at 0/100 (xid 700) up to change 6, and the server sends only 6 changes of it, numbered from 0",
		},
		{
			"it has fewer changes, and its xid is not known", decoder.Config{From: inside(0xF0, 0x100, 6)},
			decoder.IncompleteTransactionError{Want: 0x100, Got: 0x100, GotXid: 700, Seq: 6, Changes: 6},
			"the sink has the transaction committed at 0/100 (xid 700) up to change 6, and the server sends only 6 changes of it, numbered from 0",
		},
	} {
		_, _, err := session(c.from, oneOfEach(0x100)...)
		var got *decoder.IncompleteTransactionError
		require.ErrorAs(t, err, &got, c.name)
		require.Equal(t, c.want, *got, c.name)
		require.EqualError(t, got, c.text)
	}
}

// A keepalive that has passed the commit says that the transaction does not come.
func TestMark(t *testing.T) {
	d := decoder.New(decoder.Config{From: inside(0xF0, 0x100, 0), Xid: 700})
	require.NoError(t, d.Mark(0xF0))
	require.NoError(t, d.Mark(0x100)) // the record that begins there is still to be decoded
	var incomplete *decoder.IncompleteTransactionError
	require.ErrorAs(t, d.Mark(0x130), &incomplete)
	require.Equal(t, lsn.LSN(0x130), incomplete.Got)
	_, err := d.Decode(enc.Begin(0x100, 5, 700), 0)
	require.ErrorAs(t, err, &incomplete, "an error is a decoder's end")

	d = decoder.New(decoder.Config{From: inside(0xF0, 0x100, 0), Xid: 700})
	_, err = feed(d, enc.Begin(0x100, 5, 700))
	require.NoError(t, err)
	require.NoError(t, d.Mark(0x130))
	require.NoError(t, decoder.New(decoder.Config{From: lsn.Position{End: 0xF0}}).Mark(0x130))
}

func TestTableWithoutColumns(t *testing.T) {
	d := inTx(t, table(1, 0))
	_, err := d.Decode(enc.Insert(1, nil), 0)
	require.NoError(t, err)
	require.NotNil(t, d.Change().New)
	require.Nil(t, d.Change().Old)
}

func TestWireErrorsCarryThePosition(t *testing.T) {
	_, _, err := session(decoder.Config{}, []byte("B\x00"))
	require.EqualError(t, err, "decode at 0/42: Begin message, byte 1, final LSN: want 8 bytes, got 1 byte")
	require.Error(t, errors.Unwrap(err))
}

func TestStepNames(t *testing.T) {
	require.Equal(t, "none begin change commit unknown", fmt.Sprintf("%s %s %s %s %s",
		decoder.StepNone, decoder.StepBegin, decoder.StepChange, decoder.StepCommit, decoder.Step(9)))
}

func TestOpNames(t *testing.T) {
	var names []string
	for op := decoder.Op(0); op <= decoder.OpRead+1; op++ {
		names = append(names, op.String())
	}
	require.Equal(t, []string{"unknown", "insert", "update", "delete", "truncate", "message", "read", "unknown"}, names)
}
