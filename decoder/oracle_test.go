package decoder_test

import (
	"fmt"
	"math"
	"testing"
	"time"

	"github.com/jackc/pglogrepl"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/internal/lsn"
)

// askOracle has pglogrepl read a message that our parser took, and describes it
// as describe does. It panics on short input and allocates what the wire claims,
// so it is asked only about messages whose lengths are true.
func askOracle(data []byte, inStream bool) (text string, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("panic: %v", r)
		}
	}()
	m, err := pglogrepl.ParseV2(data, inStream)
	if err != nil {
		return "", err
	}
	return describeOracle(m), nil
}

// checkOracle compares the two readings of a message that ours took.
func checkOracle(t testing.TB, data []byte, inStream bool, ours decoder.Message) {
	t.Helper()
	if differs(ours) {
		return
	}
	theirs, err := askOracle(data, inStream)
	require.NoError(t, err, "%s: %x", describe(ours), data)
	require.Equal(t, theirs, describe(ours), "%x", data)
}

// differs reports whether the message is one that the oracle is known to read
// otherwise; TestDifferencesFromOracle has an example of each.
func differs(m decoder.Message) bool {
	switch m := m.(type) {
	case *decoder.BeginMessage:
		return tooFar(m.CommitTime)
	case *decoder.CommitMessage:
		return tooFar(m.CommitTime)
	case *decoder.StreamCommitMessage:
		return tooFar(m.CommitTime)
	case *decoder.StreamAbortMessage:
		return m.AbortLSN != 0 || m.AbortTime != 0
	case *decoder.InsertMessage:
		return len(m.New) == 0
	case *decoder.TruncateMessage:
		return len(m.Relations) == 0
	case *decoder.BeginPrepareMessage, *decoder.PrepareMessage, *decoder.StreamPrepareMessage,
		*decoder.CommitPreparedMessage, *decoder.RollbackPreparedMessage:
		return true
	}
	return false
}

// tooFar: the oracle's times are nanoseconds in 64 bits.
func tooFar(at lsn.Micros) bool {
	return at.Time().Year() < 1700 || at.Time().Year() > 2200
}

func micros(t time.Time) lsn.Micros { return lsn.MicrosOf(t) }

func describeOracle(m pglogrepl.Message) string {
	switch m := m.(type) {
	case *pglogrepl.BeginMessage:
		return describe(&decoder.BeginMessage{FinalLSN: lsn.LSN(m.FinalLSN), CommitTime: micros(m.CommitTime), Xid: m.Xid})
	case *pglogrepl.CommitMessage:
		return describe(&decoder.CommitMessage{CommitLSN: lsn.LSN(m.CommitLSN), EndLSN: lsn.LSN(m.TransactionEndLSN), CommitTime: micros(m.CommitTime)})
	case *pglogrepl.OriginMessage:
		return describe(&decoder.OriginMessage{CommitLSN: lsn.LSN(m.CommitLSN), Name: []byte(m.Name)})
	case *pglogrepl.RelationMessageV2:
		ours := &decoder.RelationMessage{
			Xid: m.Xid, OID: m.RelationID, Namespace: []byte(m.Namespace), Name: []byte(m.RelationName),
			Identity: decoder.ReplicaIdentity(m.ReplicaIdentity),
		}
		for _, c := range m.Columns {
			ours.Columns = append(ours.Columns, decoder.RelationColumn{
				Key: c.Flags&1 != 0, Name: []byte(c.Name), TypeOID: c.DataType, TypeMod: c.TypeModifier,
			})
		}
		return describe(ours)
	case *pglogrepl.TypeMessageV2:
		return describe(&decoder.TypeMessage{Xid: m.Xid, OID: m.DataType, Namespace: []byte(m.Namespace), Name: []byte(m.Name)})
	case *pglogrepl.InsertMessageV2:
		return describe(&decoder.InsertMessage{Xid: m.Xid, Relation: m.RelationID, New: oracleRow(m.Tuple)})
	case *pglogrepl.UpdateMessageV2:
		return describe(&decoder.UpdateMessage{
			Xid: m.Xid, Relation: m.RelationID, OldIsKey: m.OldTupleType == 'K', Old: oracleRow(m.OldTuple), New: oracleRow(m.NewTuple),
		})
	case *pglogrepl.DeleteMessageV2:
		return describe(&decoder.DeleteMessage{Xid: m.Xid, Relation: m.RelationID, OldIsKey: m.OldTupleType == 'K', Old: oracleRow(m.OldTuple)})
	case *pglogrepl.TruncateMessageV2:
		return describe(&decoder.TruncateMessage{Xid: m.Xid, Cascade: m.Option&1 != 0, RestartIdentity: m.Option&2 != 0, Relations: m.RelationIDs})
	case *pglogrepl.LogicalDecodingMessageV2:
		return describe(&decoder.LogicalMessage{
			Xid: m.Xid, Transactional: m.Transactional, LSN: lsn.LSN(m.LSN), Prefix: []byte(m.Prefix), Content: m.Content,
		})
	case *pglogrepl.StreamStartMessageV2:
		return describe(&decoder.StreamStartMessage{Xid: m.Xid, First: m.FirstSegment == 1})
	case *pglogrepl.StreamStopMessageV2:
		return describe(&decoder.StreamStopMessage{})
	case *pglogrepl.StreamCommitMessageV2:
		return describe(&decoder.StreamCommitMessage{
			Xid: m.Xid, CommitLSN: lsn.LSN(m.CommitLSN), EndLSN: lsn.LSN(m.TransactionEndLSN), CommitTime: micros(m.CommitTime),
		})
	case *pglogrepl.StreamAbortMessageV2:
		return describe(&decoder.StreamAbortMessage{Xid: m.Xid, SubXid: m.SubXid})
	}
	return fmt.Sprintf("%T", m)
}

func oracleRow(tuple *pglogrepl.TupleData) []decoder.Value {
	if tuple == nil {
		return nil
	}
	row := []decoder.Value{}
	for _, c := range tuple.Columns {
		row = append(row, decoder.Value{Kind: decoder.ValueKind(c.DataType), Data: c.Data})
	}
	return row
}

// Where the two readings differ, so that a change of either is noticed.
func TestDifferencesFromOracle(t *testing.T) {
	for _, c := range []struct {
		name, bytes  string
		inStream     bool
		ours, theirs string // a description, or part of an error
	}{
		{"bytes after the end", "59 00004001 00 't' 00 FF", false, "no more bytes", `Type oid=16385 name=""."t"`},
		{"flags of a commit", "43 01 0000000000000010 0000000000000020 0000000000000000", false, "flags", "Commit commit=0/10 end=0/20 at=0"},
		{"flags of a message", "4D 02 0000000000000010 00 00000000", false, "flags", `Message transactional=false lsn=0/10 prefix="" content=""`},
		{"a kind of value", "49 00004000 4E 0002 78 6E", false, "one of n, u, t, b", `Insert rel=16384 new=("", NULL)`},
		{"a replica identity", "52 00004000 00 't' 00 78 0000", false, "one of d, n, f, i", `Relation oid=16384 name=""."t" identity='x' ()`},
		{"a table without columns", "49 00004000 4E 0000", false, "Insert rel=16384 new=()", "must have 8 bytes"},
		{"a truncate of nothing", "54 00000000 00", false, "Truncate rels=[] cascade=false restart=false", "must have 9 bytes"},
		{"short input", "49 00004000 4E 0002 6E", false, "number of columns", "panic"},
		{"a prepared transaction", "62 0000000000000010 0000000000000020 0000000000000005 0000033C 'g' 00", false,
			`BeginPrepare prepare=0/10 end=0/20 at=5 xid=828 gid="g"`, "not supported"},
		{"an abort of version 4", "41 00000001 00000002 0000000000000010 0000000000000005", false,
			"StreamAbort xid=1 subxid=2 lsn=0/10 at=5", "StreamAbort xid=1 subxid=2 lsn=0/0 at=0"},
		{"a time far off", fmt.Sprintf("42 0000000000000010 %016X 00000001", int64(math.MaxInt64/2)), false,
			"Begin final=0/10 at=4611686018427387903 xid=1", "Begin final=0/10 at=-"},
	} {
		t.Run(c.name, func(t *testing.T) {
			data := wire(t, c.bytes)
			m, err := parser(t, c.inStream).Parse(data)
			require.Contains(t, outcome(err, func() string { return describe(m) }), c.ours)
			text, err := askOracle(data, c.inStream)
			require.Contains(t, outcome(err, func() string { return text }), c.theirs)
			require.True(t, m == nil || differs(m))
		})
	}
}

func outcome(err error, text func() string) string {
	if err != nil {
		return err.Error()
	}
	return text()
}
