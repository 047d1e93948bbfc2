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

// The event of a row that was there before the stream says so in a header, whatever
// headers the row has; and the update of one that may not have been read is kept as the
// row that it is now.
func TestEventsOfRowsThatWereRead(t *testing.T) {
	rel := &decoder.Relation{OID: 1, Namespace: "public", Name: "outbox", Identity: decoder.IdentityDefault, Columns: []decoder.Column{
		{Name: "id", TypeOID: 25, TypeMod: -1, Key: true}, {Name: "aggregatetype", TypeOID: 25}, {Name: "aggregateid", TypeOID: 25}, {Name: "type", TypeOID: 25},
		{Name: "payload", TypeOID: oidJSON}, {Name: "headers", TypeOID: oidJSON}}}
	m, err := New(Config{Routes: []Route{{Tables: []string{"public.outbox"}, Outbox: &Outbox{}, Snapshot: "initial"}, {Tables: []string{"public.*"}, Changes: &Changes{}}}}, Env{Bridge: "shop"})
	require.NoError(t, err)
	row := func(headers string) []decoder.Value {
		var values []decoder.Value
		for _, v := range []string{"e1", "order", "7", "Paid", `{"n":1}`} {
			values = append(values, decoder.Value{Kind: decoder.ValueText, Data: []byte(v)})
		}
		if headers == "" {
			return append(values, decoder.Value{Kind: decoder.ValueNull})
		}
		return append(values, decoder.Value{Kind: decoder.ValueText, Data: []byte(headers)})
	}
	for headers, want := range map[string]string{
		"": `{"snapshot":"true"}`, `{}`: `{"snapshot":"true"}`, `{"a":"1"}`: `{"a":"1","snapshot":"true"}`, `{"snapshot":"mine","b":2}`: `{"b":"2","snapshot":"true"}`,
	} {
		items, err := m.Map(&decoder.Change{Op: decoder.OpRead, Relation: rel, New: row(headers), Read: &decoder.Read{Run: "1", At: 99}})
		require.NoError(t, err)
		require.Len(t, items, 1)
		require.Equal(t, want, string(items[0].Headers))
		require.Equal(t, "e1", string(items[0].EventID))
		require.Equal(t, KindEvent, items[0].Kind)
	}
	items, err := m.Map(&decoder.Change{Op: decoder.OpInsert, Tx: &decoder.Tx{}, Relation: rel, New: row(`{"a":"1"}`)})
	require.NoError(t, err)
	require.Equal(t, `{"a":"1"}`, string(items[0].Headers))

	update := &decoder.Change{ID: lsn.ID{Commit: 9}, Op: decoder.OpUpdate, Tx: &decoder.Tx{Commit: 9}, Relation: rel, New: row("")}
	items, err = m.Doubt(update)
	require.NoError(t, err)
	require.Len(t, items, 1)
	require.Equal(t, ReasonSnapshotInDoubt, items[0].DeadLetter.Reason)
	require.True(t, items[0].DeadLetter.Replayable)
	again, err := DecodeRaw(items[0].DeadLetter.Raw)
	require.NoError(t, err)
	items, err = m.Map(again)
	require.NoError(t, err)
	require.Equal(t, "e1", string(items[0].EventID))
	require.Nil(t, items[0].Headers)

	other := *rel
	other.OID, other.Name = 2, "orders"
	update.Relation = &other
	items, err = m.Doubt(update)
	require.NoError(t, err)
	require.Empty(t, items, "a record says itself what it is")
}

// Rows that were read lie at the end of a transaction, between its changes and those of
// the next: each record has its own source.
func TestSourceOfRowsThatWereReadBetweenTransactions(t *testing.T) {
	rel := &decoder.Relation{OID: 1, Namespace: "public", Name: "orders", Identity: decoder.IdentityDefault, Columns: []decoder.Column{{Name: "id", TypeOID: 20, TypeMod: -1, Key: true}}}
	m, err := New(Config{Routes: []Route{{Tables: []string{"public.*"}, Changes: &Changes{}}}}, Env{Bridge: "shop"})
	require.NoError(t, err)
	payload := func(c decoder.Change) string {
		c.Relation, c.New = rel, []decoder.Value{{Kind: decoder.ValueText, Data: []byte("5")}}
		items, err := m.Map(&c)
		require.NoError(t, err)
		return string(items[0].Payload.AppendJSON(nil))
	}
	tx, r := &decoder.Tx{Commit: 16, Xid: 7}, &decoder.Read{Run: "3"}
	streamed := payload(decoder.Change{ID: lsn.ID{Commit: 16}, Op: decoder.OpInsert, Tx: tx})
	require.Contains(t, streamed, `"commit_lsn":"0/10","tx_seq":0,"xid":7,"committed_at":"2000-`)
	for _, at := range []lsn.LSN{16, 17} {
		read := payload(decoder.Change{ID: lsn.ID{Commit: at, Seq: 1}, Op: decoder.OpRead, Read: r})
		require.Contains(t, read, `"commit_lsn":"`+at.String()+`","tx_seq":1,"xid":null,"committed_at":null,"snapshot":true`)
	}
	require.Equal(t, streamed, payload(decoder.Change{ID: lsn.ID{Commit: 16}, Op: decoder.OpInsert, Tx: tx}))
}
