package mapper

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/internal/lsn"
)

// The id of a row that was read names the reading and the key, wherever in the stream
// the row is put; a key that must not leave is not in it.
func TestIDsOfRowsThatWereRead(t *testing.T) {
	rel := &decoder.Relation{OID: 1, Namespace: "public", Name: "orders", Identity: decoder.IdentityDefault, Columns: []decoder.Column{
		{Name: "id", TypeOID: 20, TypeMod: -1, Key: true}, {Name: "k", TypeOID: 25, TypeMod: -1, Key: true}, {Name: "v", TypeOID: 25, TypeMod: -1}}}
	text := func(s string) decoder.Value { return decoder.Value{Kind: decoder.ValueText, Data: []byte(s)} }
	read := func(route Route, commit lsn.LSN) Item {
		m, err := New(Config{Routes: []Route{route}}, Env{Bridge: "shop"})
		require.NoError(t, err)
		items, err := m.Map(&decoder.Change{
			ID: lsn.ID{Commit: commit, Seq: 7}, Op: decoder.OpRead, Relation: rel, New: []decoder.Value{text("5"), text(`a"b`), text("v")},
			Read: &decoder.Read{Run: "3.2", At: 99, Salt: []byte("salt")},
		})
		require.NoError(t, err)
		require.Len(t, items, 1)
		return items[0]
	}
	plain := Route{Tables: []string{"public.*"}, Changes: &Changes{}}
	it := read(plain, 10)
	require.Equal(t, `shop:r3.2:public.orders:[5,"a\"b"]`, string(it.EventID))
	require.Equal(t, lsn.Micros(99), it.CommittedAt)
	require.Equal(t, "read", string(it.Type))
	require.Equal(t, it.EventID, read(plain, 20).EventID)
	payload := string(it.Payload.AppendJSON(nil))
	require.Contains(t, payload, `"op":"read"`)
	require.Contains(t, payload, `"snapshot":true`)

	hidden := plain
	hidden.Changes, hidden.Columns = &Changes{Order: "table"}, &Columns{Exclude: []string{"k"}}
	it = read(hidden, 10)
	require.Regexp(t, `^shop:r3\.2:public\.orders:[0-9a-f]{32}$`, string(it.EventID))
	require.Equal(t, it.EventID, read(hidden, 20).EventID)
}

// A row that was read and became a dead letter is the same row when it is replayed.
func TestRawKeepsWhatReadTheRow(t *testing.T) {
	rel := &decoder.Relation{OID: 1, Namespace: "public", Name: "orders", Identity: decoder.IdentityDefault, Columns: []decoder.Column{{Name: "id", TypeOID: 20, TypeMod: -1, Key: true}}}
	c := &decoder.Change{ID: lsn.ID{Commit: 9}, Op: decoder.OpRead, Relation: rel, New: []decoder.Value{{Kind: decoder.ValueText, Data: []byte("5")}}, Read: &decoder.Read{Run: "3", At: 99}}
	got, err := DecodeRaw(EncodeRaw(c, nil))
	require.NoError(t, err)
	require.Equal(t, c, got)
}
