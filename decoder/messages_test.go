package decoder_test

import (
	"encoding/hex"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/decoder"
)

// wire reads hexadecimal bytes with blanks between, and text in quotes.
func wire(t testing.TB, s string) []byte {
	t.Helper()
	var out []byte
	for i, part := range strings.Split(s, "'") {
		if i%2 == 1 {
			out = append(out, part...)
			continue
		}
		b, err := hex.DecodeString(strings.Join(strings.Fields(part), ""))
		require.NoError(t, err, s)
		out = append(out, b...)
	}
	return out
}

// parser returns a new parser, inside a stream block when that is asked for.
func parser(t testing.TB, inStream bool) *decoder.Parser {
	t.Helper()
	var p decoder.Parser
	if inStream {
		_, err := p.Parse(wire(t, "53 000002BC 01"))
		require.NoError(t, err)
	}
	return &p
}

// checkMessage parses the bytes; then with a byte too many, and with any number of
// bytes too few but for the lengths in also, which are messages too.
func checkMessage(t *testing.T, inStream bool, bytes string, want decoder.Message, also ...int) {
	t.Helper()
	data := wire(t, bytes)
	got, err := parser(t, inStream).Parse(data)
	require.NoError(t, err)
	require.Equal(t, want, got)
	for n := range data {
		got, err := parser(t, inStream).Parse(data[:n:n])
		if slices.Contains(also, n) {
			require.NoError(t, err)
			continue
		}
		var short *decoder.WireError
		require.ErrorAs(t, err, &short, "%d bytes: %v", n, got)
		require.LessOrEqual(t, short.Offset, n)
		if n > 0 {
			require.Equal(t, want.Kind(), short.Message)
		}
	}
	checkWireError(t, inStream, bytes+" 00", decoder.WireError{
		Message: want.Kind(), Offset: len(data), Field: "end of the message", Want: "no more bytes", Got: "1 byte",
	})
}

func checkWireError(t *testing.T, inStream bool, bytes string, want decoder.WireError) {
	t.Helper()
	got, err := parser(t, inStream).Parse(wire(t, bytes))
	require.Nil(t, got)
	require.Equal(t, &want, err)
}

func TestBeginMessage(t *testing.T) {
	checkMessage(t, false, "42 0000000001524CE8 0003040A41320A23 000002D6", &decoder.BeginMessage{
		FinalLSN: 0x1524CE8, CommitTime: 0x3040A41320A23, Xid: 726,
	})
	checkWireError(t, false, "42 00000000", decoder.WireError{
		Message: 'B', Offset: 1, Field: "final LSN", Want: "8 bytes", Got: "4 bytes",
	})
}

func TestCommitMessage(t *testing.T) {
	checkMessage(t, false, "43 00 0000000001524CE8 0000000001524D18 FFFFFFFFFFFFFFFF", &decoder.CommitMessage{
		CommitLSN: 0x1524CE8, EndLSN: 0x1524D18, CommitTime: -1,
	})
	checkWireError(t, false, "43 01 0000000001524CE8 0000000001524D18 FFFFFFFFFFFFFFFF", decoder.WireError{
		Message: 'C', Offset: 1, Field: "flags", Want: "no bits but 0x00", Got: "0x01",
	})
}

func TestOriginMessage(t *testing.T) {
	checkMessage(t, false, "4F 0000000000000010 'bridge' 00", &decoder.OriginMessage{CommitLSN: 16, Name: []byte("bridge")})
	checkMessage(t, false, "4F 0000000000000000 00", &decoder.OriginMessage{Name: []byte{}})
	checkMessage(t, true, "4F 0000000000000000 'b' 00", &decoder.OriginMessage{Name: []byte("b")}) // without an xid
	checkWireError(t, false, "4F 0000000000000010 'bri'", decoder.WireError{
		Message: 'O', Offset: 9, Field: "origin name", Want: "a string that ends in a zero byte", Got: "3 bytes without one",
	})
}

func TestRelationMessage(t *testing.T) {
	two := " 00004000 'public' 00 't' 00 64 0002 01 'id' 00 00000017 FFFFFFFF 00 'v' 00 00000413 00000024"
	want := decoder.RelationMessage{
		OID: 16384, Namespace: []byte("public"), Name: []byte("t"), Identity: 'd', Columns: []decoder.RelationColumn{
			{Key: true, Name: []byte("id"), TypeOID: 23, TypeMod: -1},
			{Name: []byte("v"), TypeOID: 1043, TypeMod: 36},
		},
	}
	checkMessage(t, false, "52"+two, &want)
	want.Xid = 828
	checkMessage(t, true, "52 0000033C"+two, &want)
	checkMessage(t, false, "52 00004000 00 't' 00 66 0000", &decoder.RelationMessage{
		OID: 16384, Namespace: []byte{}, Name: []byte("t"), Identity: 'f',
	})
	checkWireError(t, false, "52 00004000 00 't' 00 78 0000", decoder.WireError{
		Message: 'R', Offset: 8, Field: "replica identity", Want: "one of d, n, f, i", Got: "0x78",
	})
	checkWireError(t, false, "52 00004000 00 't' 00 64 FFFF 01 'id' 00 00000017 FFFFFFFF", decoder.WireError{
		Message: 'R', Offset: 9, Field: "number of columns", Want: "at most 1, for the bytes left", Got: "65535",
	})
	checkWireError(t, false, "52 00004000 00 't' 00 64 0001 01 'identifier'", decoder.WireError{
		Message: 'R', Offset: 12, Field: "column name", Want: "a string that ends in a zero byte", Got: "10 bytes without one",
	})
	// Bits that are not defined are left alone, as PostgreSQL's own subscriber does.
	got, err := parser(t, false).Parse(wire(t, "52 00004000 00 't' 00 64 0001 FE 'v' 00 00000017 FFFFFFFF"))
	require.NoError(t, err)
	require.False(t, got.(*decoder.RelationMessage).Columns[0].Key)
}

func TestTypeMessage(t *testing.T) {
	checkMessage(t, false, "59 00004001 'public' 00 '_mood' 00", &decoder.TypeMessage{
		OID: 16385, Namespace: []byte("public"), Name: []byte("_mood"),
	})
	checkMessage(t, true, "59 0000033C 00004001 00 'text' 00", &decoder.TypeMessage{
		Xid: 828, OID: 16385, Namespace: []byte{}, Name: []byte("text"),
	})
}

func TestInsertMessage(t *testing.T) {
	tuple := " 00004000 4E 0005 6E 75 74 00000003 'abc' 62 00000002 0001 74 00000000"
	want := decoder.InsertMessage{Relation: 16384, New: []decoder.Value{
		{Kind: 'n'}, {Kind: 'u'}, {Kind: 't', Data: []byte("abc")}, {Kind: 'b', Data: []byte{0, 1}}, {Kind: 't', Data: []byte{}},
	}}
	checkMessage(t, false, "49"+tuple, &want)
	want.Xid = 829
	checkMessage(t, true, "49 0000033D"+tuple, &want)
	checkMessage(t, false, "49 00004000 4E 0000", &decoder.InsertMessage{Relation: 16384, New: []decoder.Value{}})
	checkWireError(t, false, "49 00004000 4B 0000", decoder.WireError{
		Message: 'I', Offset: 5, Field: "row marker", Want: "N", Got: "0x4B",
	})
}

func TestTuple(t *testing.T) {
	for _, c := range []struct {
		tuple string
		want  decoder.WireError
	}{
		{"FFFF 6E", decoder.WireError{Offset: 6, Field: "number of columns", Want: "at most 1, one for each byte left", Got: "65535"}},
		{"0001 78", decoder.WireError{Offset: 8, Field: "column 0", Want: "one of n, u, t, b", Got: "0x78"}},
		{"0001 00", decoder.WireError{Offset: 8, Field: "column 0", Want: "one of n, u, t, b", Got: "0x00"}},
		{"0002 6E 74 000000", decoder.WireError{Offset: 10, Field: "length of column 1", Want: "4 bytes", Got: "3 bytes"}},
		{"0001 74 00000004 616263", decoder.WireError{Offset: 13, Field: "length of column 0", Want: "at most 3 bytes", Got: "4"}},
		{"0001 62 FFFFFFFF 616263", decoder.WireError{Offset: 13, Field: "length of column 0", Want: "at most 3 bytes", Got: "-1"}},
		{"0001 74 80000000", decoder.WireError{Offset: 13, Field: "length of column 0", Want: "at most 0 bytes", Got: "-2147483648"}},
		{"0002 74 00000001 61", decoder.WireError{Offset: 14, Field: "column 1", Want: "1 byte", Got: "0 bytes"}},
	} {
		c.want.Message = 'I'
		checkWireError(t, false, "49 00004000 4E "+c.tuple, c.want)
	}
}

func TestUpdateMessage(t *testing.T) {
	one := func(s string) []decoder.Value { return []decoder.Value{{Kind: 't', Data: []byte(s)}} }
	checkMessage(t, false, "55 00004000 4E 0001 74 00000001 'n'", &decoder.UpdateMessage{Relation: 16384, New: one("n")})
	checkMessage(t, false, "55 00004000 4B 0001 74 00000001 'o' 4E 0001 74 00000001 'n'",
		&decoder.UpdateMessage{Relation: 16384, OldIsKey: true, Old: one("o"), New: one("n")})
	checkMessage(t, false, "55 00004000 4F 0001 74 00000001 'o' 4E 0001 74 00000001 'n'",
		&decoder.UpdateMessage{Relation: 16384, Old: one("o"), New: one("n")})
	checkMessage(t, true, "55 0000033D 00004000 4E 0001 75",
		&decoder.UpdateMessage{Xid: 829, Relation: 16384, New: []decoder.Value{{Kind: 'u'}}})
	checkWireError(t, false, "55 00004000 58 0001 6E", decoder.WireError{
		Message: 'U', Offset: 5, Field: "row marker", Want: "one of K, O, N", Got: "0x58",
	})
	checkWireError(t, false, "55 00004000 4B 0001 6E 4F 0001 6E", decoder.WireError{
		Message: 'U', Offset: 9, Field: "row marker", Want: "N", Got: "0x4F",
	})
}

func TestDeleteMessage(t *testing.T) {
	old := []decoder.Value{{Kind: 't', Data: []byte("1")}, {Kind: 'n'}}
	checkMessage(t, false, "44 00004000 4B 0002 74 00000001 '1' 6E", &decoder.DeleteMessage{Relation: 16384, OldIsKey: true, Old: old})
	checkMessage(t, false, "44 00004000 4F 0002 74 00000001 '1' 6E", &decoder.DeleteMessage{Relation: 16384, Old: old})
	checkMessage(t, true, "44 0000033D 00004000 4F 0002 74 00000001 '1' 6E", &decoder.DeleteMessage{Xid: 829, Relation: 16384, Old: old})
	checkWireError(t, false, "44 00004000 4E 0001 6E", decoder.WireError{
		Message: 'D', Offset: 5, Field: "row marker", Want: "one of K, O", Got: "0x4E",
	})
}

func TestTruncateMessage(t *testing.T) {
	checkMessage(t, false, "54 00000002 01 00004000 00004001", &decoder.TruncateMessage{Cascade: true, Relations: []uint32{16384, 16385}})
	checkMessage(t, false, "54 00000001 02 00004000", &decoder.TruncateMessage{RestartIdentity: true, Relations: []uint32{16384}})
	checkMessage(t, true, "54 0000033D 00000001 03 00004000",
		&decoder.TruncateMessage{Xid: 829, Cascade: true, RestartIdentity: true, Relations: []uint32{16384}})
	checkWireError(t, false, "54 FFFFFFFF 00 00004000", decoder.WireError{
		Message: 'T', Offset: 1, Field: "number of relations", Want: "at most 1, for the bytes left", Got: "4294967295",
	})
}

func TestLogicalMessage(t *testing.T) {
	checkMessage(t, false, "4D 01 0000000001520A80 'x' 00 00000002 'hi'", &decoder.LogicalMessage{
		Transactional: true, LSN: 0x1520A80, Prefix: []byte("x"), Content: []byte("hi"),
	})
	checkMessage(t, false, "4D 00 0000000001520A80 00 00000000", &decoder.LogicalMessage{
		LSN: 0x1520A80, Prefix: []byte{}, Content: []byte{},
	})
	checkMessage(t, true, "4D 0000033D 01 0000000001520A80 'x' 00 00000001 00", &decoder.LogicalMessage{
		Xid: 829, Transactional: true, LSN: 0x1520A80, Prefix: []byte("x"), Content: []byte{0},
	})
	checkWireError(t, false, "4D 02 0000000001520A80 00 00000000", decoder.WireError{
		Message: 'M', Offset: 1, Field: "flags", Want: "no bits but 0x01", Got: "0x02",
	})
	checkWireError(t, false, "4D 00 0000000001520A80 00 FFFFFFFF", decoder.WireError{
		Message: 'M', Offset: 15, Field: "length of the content", Want: "at most 0 bytes", Got: "-1",
	})
}

func TestStreamStartMessage(t *testing.T) {
	checkMessage(t, false, "53 0000033C 01", &decoder.StreamStartMessage{Xid: 828, First: true})
	checkMessage(t, false, "53 0000033C 00", &decoder.StreamStartMessage{Xid: 828})
}

func TestStreamStopMessage(t *testing.T) {
	checkMessage(t, true, "45", &decoder.StreamStopMessage{})
	p := parser(t, true) // after it, rows have no xid
	_, err := p.Parse(wire(t, "45"))
	require.NoError(t, err)
	got, err := p.Parse(wire(t, "49 00004000 4E 0001 6E"))
	require.NoError(t, err)
	require.Equal(t, uint32(16384), got.(*decoder.InsertMessage).Relation)
}

func TestStreamCommitMessage(t *testing.T) {
	checkMessage(t, false, "63 0000033C 00 0000000001524CE8 0000000001524D18 0000000000000005", &decoder.StreamCommitMessage{
		Xid: 828, CommitLSN: 0x1524CE8, EndLSN: 0x1524D18, CommitTime: 5,
	})
	checkWireError(t, false, "63 0000033C 80 0000000001524CE8 0000000001524D18 0000000000000005", decoder.WireError{
		Message: 'c', Offset: 5, Field: "flags", Want: "no bits but 0x00", Got: "0x80",
	})
}

func TestStreamAbortMessage(t *testing.T) {
	got, err := parser(t, false).Parse(wire(t, "41 0000033C 0000033D"))
	require.NoError(t, err)
	require.Equal(t, &decoder.StreamAbortMessage{Xid: 828, SubXid: 829}, got)
	checkWireError(t, false, "41 0000033C 0000033D 00", decoder.WireError{
		Message: 'A', Offset: 9, Field: "abort LSN", Want: "8 bytes", Got: "1 byte",
	})
	checkMessage(t, false, "41 0000033C 0000033D 0000000001524CE8 0000000000000005", &decoder.StreamAbortMessage{
		Xid: 828, SubXid: 829, AbortLSN: 0x1524CE8, AbortTime: 5,
	}, 9) // versions 2 and 3 end there
}

func TestBeginPrepareMessage(t *testing.T) {
	checkMessage(t, false, "62 0000000000000010 0000000000000020 0000000000000005 0000033C 'gid' 00", &decoder.BeginPrepareMessage{
		PrepareLSN: 16, EndLSN: 32, PrepareTime: 5, Xid: 828, GID: []byte("gid"),
	})
}

func TestPrepareMessage(t *testing.T) {
	checkMessage(t, false, "50 00 0000000000000010 0000000000000020 0000000000000005 0000033C 'gid' 00", &decoder.PrepareMessage{
		PrepareLSN: 16, EndLSN: 32, PrepareTime: 5, Xid: 828, GID: []byte("gid"),
	})
	checkFlags(t, "50 01 0000000000000010 0000000000000020 0000000000000005 0000033C 00")
}

func TestCommitPreparedMessage(t *testing.T) {
	checkMessage(t, false, "4B 00 0000000000000010 0000000000000020 0000000000000005 0000033C 'gid' 00", &decoder.CommitPreparedMessage{
		CommitLSN: 16, EndLSN: 32, CommitTime: 5, Xid: 828, GID: []byte("gid"),
	})
	checkFlags(t, "4B 01 0000000000000010 0000000000000020 0000000000000005 0000033C 00")
}

func TestRollbackPreparedMessage(t *testing.T) {
	checkMessage(t, false, "72 00 0000000000000010 0000000000000020 0000000000000005 0000000000000006 0000033C 'gid' 00",
		&decoder.RollbackPreparedMessage{
			PrepareEndLSN: 16, RollbackEndLSN: 32, PrepareTime: 5, RollbackTime: 6, Xid: 828, GID: []byte("gid"),
		})
	checkFlags(t, "72 01 0000000000000010 0000000000000020 0000000000000005 0000000000000006 0000033C 00")
}

func TestStreamPrepareMessage(t *testing.T) {
	checkMessage(t, false, "70 00 0000000000000010 0000000000000020 0000000000000005 0000033C 'gid' 00", &decoder.StreamPrepareMessage{
		PrepareLSN: 16, EndLSN: 32, PrepareTime: 5, Xid: 828, GID: []byte("gid"),
	})
	checkFlags(t, "70 01 0000000000000010 0000000000000020 0000000000000005 0000033C 00")
}

func checkFlags(t *testing.T, bytes string) {
	t.Helper()
	checkWireError(t, false, bytes, decoder.WireError{
		Message: decoder.MessageKind(wire(t, bytes)[0]), Offset: 1, Field: "flags", Want: "no bits but 0x00", Got: "0x01",
	})
}

// Every byte that is no message is refused by name, and the empty frame too.
func TestUnknownMessage(t *testing.T) {
	const known = "BCORYIUDTMSEcAbPKrp"
	for b := range 256 {
		_, err := parser(t, false).Parse([]byte{byte(b)})
		var we *decoder.WireError
		if b == 'E' {
			require.NoError(t, err)
			continue
		}
		require.ErrorAs(t, err, &we)
		if !strings.ContainsRune(known, rune(b)) {
			require.Equal(t, fmt.Sprintf("0x%02X message, byte 0, type: want the type of a message, got 0x%02X", b, b), err.Error())
		}
	}
	checkWireError(t, false, "", decoder.WireError{Field: "type", Want: "1 byte", Got: "0 bytes"})
}

func TestKindNames(t *testing.T) {
	var names []string
	for _, b := range []byte("BCORYIUDTMSEcAbPKrpz") {
		names = append(names, decoder.MessageKind(b).String())
	}
	require.Equal(t, "Begin Commit Origin Relation Type Insert Update Delete Truncate Message StreamStart StreamStop StreamCommit "+
		"StreamAbort BeginPrepare Prepare CommitPrepared RollbackPrepared StreamPrepare 0x7A", strings.Join(names, " "))
}

// A parser can be used again after an error, and what it returned before is
// overwritten, not kept: that is its contract.
func TestParserReuse(t *testing.T) {
	p := parser(t, false)
	wide, err := p.Parse(wire(t, "49 00004000 4E 0003 74 00000001 'a' 74 00000001 'b' 74 00000001 'c'"))
	require.NoError(t, err)
	row := wide.(*decoder.InsertMessage).New
	_, err = p.Parse(wire(t, "49 00004000 4E 0003 74"))
	require.Error(t, err)
	narrow, err := p.Parse(wire(t, "49 00004000 4E 0001 74 00000001 'd'"))
	require.NoError(t, err)
	require.Same(t, &row[0], &narrow.(*decoder.InsertMessage).New[0])
	require.Equal(t, []decoder.Value{{Kind: 't', Data: []byte("d")}, {}, {}}, row, "values beyond a row must not hold on to a frame")
	_, err = p.Parse(wire(t, "44 00004000 4B 0001 6E"))
	require.NoError(t, err)
	require.Equal(t, make([]decoder.Value, 3), row)
}

// An append to a value cannot reach the bytes after it.
func TestValuesAliasWithoutRoom(t *testing.T) {
	data := wire(t, "49 00004000 4E 0002 74 00000001 'a' 74 00000001 'b'")
	m, err := parser(t, false).Parse(data)
	require.NoError(t, err)
	first := m.(*decoder.InsertMessage).New[0].Data
	require.Same(t, &data[13], &first[0])
	require.Equal(t, 1, cap(first))
}
