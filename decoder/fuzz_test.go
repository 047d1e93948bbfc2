package decoder_test

import (
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/decoder/decodertest"
)

// fuzzMessage feeds a message of one kind, inside and outside of a stream block.
// seeds are hexadecimal, without the type.
func fuzzMessage(f *testing.F, kind decoder.MessageKind, seeds ...string) {
	f.Helper()
	for _, s := range seeds {
		body := wire(f, s)
		for n := range len(body) + 1 {
			f.Add(false, body[:n])
		}
		f.Add(true, append([]byte{0, 0, 3, 60}, body...))
		f.Add(false, append(body[:len(body):len(body)], 0))
	}
	f.Fuzz(func(t *testing.T, inStream bool, body []byte) {
		data := append([]byte{byte(kind)}, body...)
		m, err := parser(t, inStream).Parse(data)
		if err != nil {
			var we *decoder.WireError
			require.ErrorAs(t, err, &we)
			require.LessOrEqual(t, we.Offset, len(data))
			return
		}
		require.Equal(t, kind, m.Kind())
		checkAliases(t, data, m)
		checkOracle(t, data, inStream, m)
		checkEncoding(t, data, inStream, m)
	})
}

// checkAliases makes sure that all that a message holds lies in the bytes that it
// came from, and that no slice is longer than they can fill.
func checkAliases(t testing.TB, data []byte, m decoder.Message) {
	t.Helper()
	switch m := m.(type) {
	case *decoder.OriginMessage:
		requireWithin(t, data, m.Name)
	case *decoder.RelationMessage:
		requireWithin(t, data, m.Namespace)
		requireWithin(t, data, m.Name)
		require.LessOrEqual(t, 10*len(m.Columns), len(data))
		for _, c := range m.Columns {
			requireWithin(t, data, c.Name)
		}
	case *decoder.TypeMessage:
		requireWithin(t, data, m.Namespace)
		requireWithin(t, data, m.Name)
	case *decoder.InsertMessage:
		requireRowWithin(t, data, m.New)
	case *decoder.UpdateMessage:
		requireRowWithin(t, data, m.Old)
		requireRowWithin(t, data, m.New)
	case *decoder.DeleteMessage:
		requireRowWithin(t, data, m.Old)
	case *decoder.TruncateMessage:
		require.LessOrEqual(t, 4*len(m.Relations), len(data))
	case *decoder.LogicalMessage:
		requireWithin(t, data, m.Prefix)
		requireWithin(t, data, m.Content)
	}
}

func requireRowWithin(t testing.TB, data []byte, row []decoder.Value) {
	t.Helper()
	require.LessOrEqual(t, cap(row), max(len(data), 1))
	for _, v := range row {
		requireWithin(t, data, v.Data)
		require.Equal(t, v.Kind == decoder.ValueText || v.Kind == decoder.ValueBinary, v.Data != nil)
	}
}

// requireWithin: part lies in data, and cannot grow into what follows it.
func requireWithin(t testing.TB, data, part []byte) {
	t.Helper()
	require.Equal(t, len(part), cap(part))
	if len(part) == 0 {
		return
	}
	from := uintptr(unsafe.Pointer(unsafe.SliceData(data)))
	at := uintptr(unsafe.Pointer(unsafe.SliceData(part)))
	require.GreaterOrEqual(t, at, from)
	require.LessOrEqual(t, at+uintptr(len(part)), from+uintptr(len(data)))
}

// checkEncoding writes the message again: the encoder was written apart from the
// parser, and what it writes must be as long and read the same.
func checkEncoding(t testing.TB, data []byte, inStream bool, m decoder.Message) {
	t.Helper()
	text := describe(m)
	again := encode(inStream, m)
	if len(again) != len(data) {
		require.True(t, hasTwoForms(m), text)
	}
	back, err := parser(t, inStream).Parse(again)
	require.NoError(t, err, text)
	require.Equal(t, text, strings.Replace(describe(back), `name="".`, `name="pg_catalog".`, strings.Count(text, `name="pg_catalog".`)))
}

// hasTwoForms: the schema of system tables may be spelled out, and the last
// fields of an abort may be left out where they are zero.
func hasTwoForms(m decoder.Message) bool {
	switch m := m.(type) {
	case *decoder.RelationMessage:
		return string(m.Namespace) == "pg_catalog"
	case *decoder.TypeMessage:
		return string(m.Namespace) == "pg_catalog"
	case *decoder.StreamAbortMessage:
		return m.AbortLSN == 0 && m.AbortTime == 0
	}
	return false
}

// encode writes a message with the test encoder.
func encode(inStream bool, m decoder.Message) []byte {
	switch m := m.(type) {
	case *decoder.BeginMessage:
		return enc.Begin(m.FinalLSN, m.CommitTime, m.Xid)
	case *decoder.CommitMessage:
		return enc.Commit(m.CommitLSN, m.EndLSN, m.CommitTime)
	case *decoder.OriginMessage:
		return enc.Origin(m.CommitLSN, string(m.Name))
	case *decoder.RelationMessage:
		rel := &decoder.Relation{OID: m.OID, Namespace: string(m.Namespace), Name: string(m.Name), Identity: m.Identity}
		for _, c := range m.Columns {
			rel.Columns = append(rel.Columns, decoder.Column{Name: string(c.Name), TypeOID: c.TypeOID, TypeMod: c.TypeMod, Key: c.Key})
		}
		return in(inStream, m.Xid).Relation(rel)
	case *decoder.TypeMessage:
		return in(inStream, m.Xid).Type(m.OID, string(m.Namespace), string(m.Name))
	case *decoder.InsertMessage:
		return in(inStream, m.Xid).Insert(m.Relation, m.New)
	case *decoder.UpdateMessage:
		return in(inStream, m.Xid).Update(m.Relation, marker(m.Old, m.OldIsKey), m.Old, m.New)
	case *decoder.DeleteMessage:
		return in(inStream, m.Xid).Delete(m.Relation, marker(m.Old, m.OldIsKey), m.Old)
	case *decoder.TruncateMessage:
		return in(inStream, m.Xid).Truncate(m.Cascade, m.RestartIdentity, m.Relations...)
	case *decoder.LogicalMessage:
		return in(inStream, m.Xid).Message(m.Transactional, m.LSN, string(m.Prefix), m.Content)
	}
	return encodeLater(m)
}

func encodeLater(m decoder.Message) []byte {
	switch m := m.(type) {
	case *decoder.StreamStartMessage:
		return enc.StreamStart(m.Xid, m.First)
	case *decoder.StreamStopMessage:
		return enc.StreamStop()
	case *decoder.StreamCommitMessage:
		return enc.StreamCommit(m.Xid, m.CommitLSN, m.EndLSN, m.CommitTime)
	case *decoder.StreamAbortMessage:
		if m.AbortLSN == 0 && m.AbortTime == 0 {
			return enc.StreamAbort(m.Xid, m.SubXid)
		}
		return enc.StreamAbortParallel(m.Xid, m.SubXid, m.AbortLSN, m.AbortTime)
	case *decoder.BeginPrepareMessage:
		return enc.BeginPrepare(m.PrepareLSN, m.EndLSN, m.PrepareTime, m.Xid, string(m.GID))
	case *decoder.PrepareMessage:
		return enc.Prepare(m.PrepareLSN, m.EndLSN, m.PrepareTime, m.Xid, string(m.GID))
	case *decoder.StreamPrepareMessage:
		return enc.StreamPrepare(m.PrepareLSN, m.EndLSN, m.PrepareTime, m.Xid, string(m.GID))
	case *decoder.CommitPreparedMessage:
		return enc.CommitPrepared(m.CommitLSN, m.EndLSN, m.CommitTime, m.Xid, string(m.GID))
	case *decoder.RollbackPreparedMessage:
		return enc.RollbackPrepared(m.PrepareEndLSN, m.RollbackEndLSN, m.PrepareTime, m.RollbackTime, m.Xid, string(m.GID))
	}
	return nil
}

func in(inStream bool, xid uint32) decodertest.Encoder {
	return decodertest.Encoder{InStream: inStream, StreamXid: xid}
}

func marker(old []decoder.Value, isKey bool) byte {
	switch {
	case old == nil:
		return 0
	case isKey:
		return 'K'
	}
	return 'O'
}

func FuzzBegin(f *testing.F) {
	fuzzMessage(f, 'B', "0000000001524CE8 0003040A41320A23 000002D6", "FFFFFFFFFFFFFFFF 8000000000000000 FFFFFFFF")
}

func FuzzCommit(f *testing.F) {
	fuzzMessage(f, 'C', "00 0000000001524CE8 0000000001524D18 0003040A41320A23", "FF 0000000000000000 0000000000000000 7FFFFFFFFFFFFFFF")
}

func FuzzOrigin(f *testing.F) {
	fuzzMessage(f, 'O', "0000000000000010 'bridge' 00", "0000000000000010 00")
}

func FuzzRelation(f *testing.F) {
	fuzzMessage(f, 'R',
		"00004000 'public' 00 't' 00 64 0002 01 'id' 00 00000017 FFFFFFFF 00 'v' 00 00000413 00000024",
		"00004000 00 00 66 0000", "00004000 'pg_catalog' 00 00 6E 0000", "00004000 00 00 69 FFFF 00 00 00000000 00000000",
		"00004000 00 00 64 0001 FF 'flags' 00 00000017 80000000")
}

func FuzzType(f *testing.F) {
	fuzzMessage(f, 'Y', "00004001 'public' 00 '_mood' 00", "00004001 00 00", "00004001 'pg_catalog' 00 00")
}

func FuzzInsert(f *testing.F) {
	fuzzMessage(f, 'I',
		"00004000 4E 0005 6E 75 74 00000003 'abc' 62 00000002 0001 74 00000000", "00004000 4E 0000", "00004000 4E FFFF 6E",
		"00004000 4E 0001 74 FFFFFFFF", "00004000 4E 0001 74 7FFFFFFF 61", "00004000 4E 0001 78", "00004000 4B 0001 6E")
}

func FuzzUpdate(f *testing.F) {
	fuzzMessage(f, 'U',
		"00004000 4E 0001 75", "00004000 4B 0002 74 00000001 'o' 6E 4E 0002 74 00000001 'n' 75",
		"00004000 4F 0001 62 00000001 00 4E 0001 6E", "00004000 4B 0000 4E 0000", "00004000 4B 0001 6E 4B 0001 6E")
}

func FuzzDelete(f *testing.F) {
	fuzzMessage(f, 'D', "00004000 4B 0002 74 00000001 '1' 6E", "00004000 4F 0000", "00004000 4E 0000")
}

func FuzzTruncate(f *testing.F) {
	fuzzMessage(f, 'T', "00000002 03 00004000 00004001", "00000000 00", "FFFFFFFF 00 00004000", "40000001 00 00004000", "00000001 FF 00004000")
}

func FuzzMessage(f *testing.F) {
	fuzzMessage(f, 'M', "01 0000000001520A80 'x' 00 00000002 'hi'", "00 0000000000000000 00 00000000", "00 0000000000000001 00 FFFFFFFF", "FF 0000000000000001 00 00000000")
}

func FuzzStreamStart(f *testing.F) { fuzzMessage(f, 'S', "0000033C 01", "0000033C FF") }

func FuzzStreamStop(f *testing.F) { fuzzMessage(f, 'E', "") }

func FuzzStreamCommit(f *testing.F) {
	fuzzMessage(f, 'c', "0000033C 00 0000000001524CE8 0000000001524D18 0000000000000005")
}

func FuzzStreamAbort(f *testing.F) {
	fuzzMessage(f, 'A', "0000033C 0000033D", "0000033C 0000033D 0000000001524CE8 0000000000000005", "0000033C 0000033D 0000000000000000 0000000000000000")
}

func FuzzBeginPrepare(f *testing.F) {
	fuzzMessage(f, 'b', "0000000000000010 0000000000000020 0000000000000005 0000033C 'gid' 00")
}

func FuzzPrepare(f *testing.F) {
	fuzzMessage(f, 'P', "00 0000000000000010 0000000000000020 0000000000000005 0000033C 'gid' 00")
}

func FuzzCommitPrepared(f *testing.F) {
	fuzzMessage(f, 'K', "00 0000000000000010 0000000000000020 0000000000000005 0000033C 'gid' 00")
}

func FuzzRollbackPrepared(f *testing.F) {
	fuzzMessage(f, 'r', "00 0000000000000010 0000000000000020 0000000000000005 0000000000000006 0000033C 'gid' 00")
}

func FuzzStreamPrepare(f *testing.F) {
	fuzzMessage(f, 'p', "00 0000000000000010 0000000000000020 0000000000000005 0000033C 'gid' 00")
}
