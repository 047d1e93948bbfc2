package decoder_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/decoder/decodertest"
	"github.com/walbridge/walbridge/internal/lsn"
)

// event is what a sink gets of a history, in order: a change, a message outside
// transactions, or a commit.
type event struct {
	id     lsn.ID
	end    lsn.LSN // of a commit or of a message outside transactions; 0 of a change
	xid    uint32
	text   string
	commit bool
}

// read decodes a session and returns its events; a Begin must precede changes.
func read(t require.TestingT, cfg decoder.Config, frames []decodertest.Frame) ([]event, decoder.Stats) {
	d := decoder.New(cfg)
	var events []event
	begun := false
	for _, f := range frames {
		step, err := d.Decode(f.Data, f.Start)
		require.NoError(t, err)
		switch step {
		case decoder.StepBegin:
			begun = true
		case decoder.StepCommit:
			require.True(t, begun)
			begun = false
			tx := d.Tx()
			events = append(events, event{
				id: lsn.ID{Commit: tx.Commit}, end: tx.End, xid: tx.Xid, commit: true,
				text: fmt.Sprintf("commit %s %s at %d from %q", tx.Commit, tx.End, tx.CommitTime, tx.Origin),
			})
		case decoder.StepChange:
			for more := true; more; more = d.More() {
				require.Equal(t, begun, d.Change().Tx != nil)
				events = append(events, changeEvent(d.Change()))
			}
		}
	}
	require.False(t, d.InTx())
	return events, d.Stats()
}

func changeEvent(c *decoder.Change) event {
	e := event{id: c.ID, text: fullText(c)}
	if c.Tx == nil {
		e.end = c.LSN
	} else {
		e.xid = c.Tx.Xid
	}
	return e
}

// fullText is a change with all it holds.
func fullText(c *decoder.Change) string {
	text := changeText(c) + oldText(c.Old, c.OldIsKey)
	if c.New != nil {
		text += " new=" + rowText(c.New)
	}
	if c.Relation != nil {
		text += fmt.Sprintf(" of %+v", *c.Relation)
	}
	if c.Tx != nil {
		text += fmt.Sprintf(" in %s at %d xid %d from %q", c.Tx.Commit, c.Tx.CommitTime, c.Tx.Xid, c.Tx.Origin)
	}
	return text
}

// tables are what a random history is about; DDL makes new ones of them.
type tables []*decoder.Relation

// maxMessageRecord is more than the longest record of a message outside
// transactions takes in a random history.
const maxMessageRecord = 128

func (ts tables) any(t *rapid.T) *decoder.Relation { return rapid.SampledFrom(ts).Draw(t, "table") }

// alter gives one of the tables another description.
func (ts tables) alter(t *rapid.T) {
	i := rapid.IntRange(0, len(ts)-1).Draw(t, "altered")
	changed := table(ts[i].OID, rapid.IntRange(1, 4).Draw(t, "columns"))
	changed.Name = fmt.Sprintf("t%d_%s", changed.OID, rapid.StringMatching("[a-z]{1,3}").Draw(t, "name"))
	if rapid.Bool().Draw(t, "typed") {
		changed.Columns[0].TypeOID, changed.Columns[0].TypeNamespace, changed.Columns[0].TypeName = 16400+changed.OID, "public", "mood"
	}
	ts[i] = changed
}

func values(t *rapid.T, n int) []decoder.Value {
	row := make([]decoder.Value, n)
	for i := range row {
		switch kind := rapid.SampledFrom([]decoder.ValueKind{'t', 't', 't', 'b', 'n', 'u'}).Draw(t, "kind"); kind {
		case decoder.ValueText, decoder.ValueBinary:
			row[i] = decoder.Value{Kind: kind, Data: []byte(rapid.StringN(0, 8, 16).Draw(t, "value"))}
		default:
			row[i] = decoder.Value{Kind: kind}
		}
	}
	return row
}

// history writes a random log: transactions with changes of every kind, DDL
// between their rows, empty ones, messages outside transactions (also in the
// middle of one, and directly before its commit record), idle stretches.
func history(t *rapid.T) *decodertest.Log {
	log := decodertest.NewLog(0x1000)
	ts := tables{table(1, 2), table(2, 3), table(3, 1)}
	for range rapid.IntRange(1, 8).Draw(t, "units") {
		switch rapid.IntRange(0, 5).Draw(t, "unit") {
		case 0:
			log.MessageOutside("hb", []byte("beat"))
		case 1:
			log.Idle(rapid.IntRange(1, 500).Draw(t, "idle"))
		default:
			transaction(t, log, ts)
		}
	}
	return log
}

func transaction(t *rapid.T, log *decodertest.Log, ts tables) {
	log.Begin()
	if rapid.Bool().Draw(t, "foreign") {
		log.Origin(rapid.SampledFrom([]string{"a", "b"}).Draw(t, "origin"))
	}
	for range rapid.IntRange(0, 6).Draw(t, "changes") {
		rel := ts.any(t)
		n := len(rel.Columns)
		switch rapid.IntRange(0, 7).Draw(t, "change") {
		case 0:
			log.Update(rel, 'K', values(t, n), values(t, n))
		case 1:
			log.Update(rel, 0, nil, values(t, n))
		case 2:
			log.Delete(rel, 'O', values(t, n))
		case 3:
			log.Truncate(ts[:rapid.IntRange(1, len(ts)).Draw(t, "truncated")]...)
		case 4:
			log.Message("outbox", []byte(rapid.String().Draw(t, "content")))
		case 5:
			log.MessageOutside("hb", []byte("in a transaction"))
		case 6:
			ts.alter(t)
		default:
			log.Insert(rel, values(t, n))
		}
	}
	log.Commit(lsn.Micros(rapid.Int64().Draw(t, "at")))
}

// A restart anywhere gives exactly the rest, with the ids, rows and relations
// that it had: from any commit, idle mark, message, or change inside a
// transaction, and from a slot that has gone back as far as it likes.
func TestRestartAnywhereGivesTheRest(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log := history(t)
		whole, _ := read(t, decoder.Config{}, log.Frames(0))
		requireRising(t, whole)
		at := rapid.IntRange(-1, len(whole)-1).Draw(t, "last durable event")
		from := position(t, log, whole, at)
		start := lsn.LSN(rapid.Uint64Range(0, uint64(from.From.End)).Draw(t, "start"))
		rest, stats := read(t, from, log.Frames(start))
		require.Equal(t, append([]event{}, whole[at+1:]...), append([]event{}, rest...), "from %v", from.From)
		if from.From.Inside() {
			require.Equal(t, uint64(from.From.Seq)+1, stats.SkippedChanges)
		}
	})
}

// requireRising: ids rise strictly over everything, messages outside of
// transactions included, and by one within a transaction.
func requireRising(t require.TestingT, events []event) {
	var last lsn.ID
	for _, e := range events {
		if e.commit {
			continue
		}
		require.Equal(t, -1, last.Compare(e.id), "%s after %s", e.id, last)
		if last.Commit == e.id.Commit {
			require.Equal(t, last.Seq+1, e.id.Seq)
		} else {
			require.Zero(t, e.id.Seq)
		}
		last = e.id
	}
}

// position is what a sink has stored once event at is durable: the end of it, or
// an idle mark up to where the next one begins; or a place inside the transaction.
func position(t *rapid.T, log *decodertest.Log, whole []event, at int) decoder.Config {
	var end lsn.LSN // of the last whole thing that is durable
	ends := []lsn.LSN{0}
	for _, e := range whole[:at+1] {
		if e.end != 0 {
			end = e.end
			ends = append(ends, end)
		}
	}
	if at >= 0 && whole[at].end == 0 { // messages outside transactions need not have moved the position
		end = rapid.SampledFrom(ends[lastCommit(whole[:at+1], ends):]).Draw(t, "end")
		return decoder.Config{
			From: lsn.Position{End: end, Commit: whole[at].id.Commit, Seq: whole[at].id.Seq, Sub: 7}, Xid: 3<<32 | uint64(whole[at].xid),
		}
	}
	next := log.End()
	if at+1 < len(whole) {
		next = whole[at+1].id.Commit
		if whole[at+1].end != 0 && !whole[at+1].commit {
			next = max(end, next-maxMessageRecord) // a mark is never inside of a record
		}
	}
	return decoder.Config{From: lsn.Position{End: lsn.LSN(rapid.Uint64Range(uint64(end), uint64(next)).Draw(t, "idle mark"))}}
}

// lastCommit returns which of ends is that of the last commit.
func lastCommit(events []event, ends []lsn.LSN) int {
	for i := len(ends) - 1; i > 0; i-- {
		for _, e := range events {
			if e.commit && e.end == ends[i] {
				return i
			}
		}
	}
	return 0
}

// What a restart must not find is an error, not a gap: the transaction that the
// position lies inside is missing from the log.
func TestRestartWithoutTheTransaction(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		log := decodertest.NewLog(0x1000)
		rel := table(1, 1)
		log.Begin()
		log.Insert(rel, values(t, 1))
		_, end := log.Commit(1)
		gone := log.Idle(48)
		if rapid.Bool().Draw(t, "message first") {
			log.MessageOutside("hb", nil)
		}
		log.Begin()
		log.Insert(rel, values(t, 1))
		log.Commit(2)
		d := decoder.New(decoder.Config{From: lsn.Position{End: end, Commit: gone - 48, Seq: 3}, Xid: 999})
		var err error
		for _, f := range log.Frames(end) {
			if _, err = d.Decode(f.Data, f.Start); err != nil {
				break
			}
		}
		var incomplete *decoder.IncompleteTransactionError
		require.ErrorAs(t, err, &incomplete)
		require.Equal(t, gone-48, incomplete.Want)
	})
}
