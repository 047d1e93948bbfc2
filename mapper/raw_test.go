package mapper

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/internal/lsn"
)

func drawValue(t *rapid.T) decoder.Value {
	kind := rapid.SampledFrom([]decoder.ValueKind{decoder.ValueNull, decoder.ValueUnchanged, decoder.ValueText, decoder.ValueBinary, valueMasked, valueDropped}).Draw(t, "kind")
	v := decoder.Value{Kind: kind}
	switch kind {
	case decoder.ValueText, decoder.ValueBinary:
		v.Data = []byte{}
		v.Data = append(v.Data, rapid.SliceOfN(rapid.Byte(), 0, 12).Draw(t, "data")...)
	case valueMasked:
		v.Data = []byte(rapid.StringMatching("[0-9a-f]{1,8}").Draw(t, "hash"))
	}
	return v
}

func drawRelation(t *rapid.T) *decoder.Relation {
	notJSON := []uint32{oidBool, oidBytea, oidInt8, oidNumeric, oidTimestamptz, 25, 1007, 199, 2950, 99999} // JSON is taken on trust
	r := &decoder.Relation{
		OID: rapid.Uint32().Draw(t, "oid"), Namespace: rapid.String().Draw(t, "schema"), Name: rapid.String().Draw(t, "table"),
		Identity: rapid.SampledFrom([]decoder.ReplicaIdentity{'d', 'n', 'f', 'i'}).Draw(t, "identity"),
	}
	for range rapid.IntRange(1, 4).Draw(t, "columns") {
		c := decoder.Column{Name: rapid.String().Draw(t, "column"), TypeOID: rapid.SampledFrom(notJSON).Draw(t, "type"), TypeMod: rapid.Int32().Draw(t, "typmod"), Key: rapid.Bool().Draw(t, "key")}
		if rapid.Bool().Draw(t, "named") {
			c.TypeNamespace, c.TypeName = rapid.String().Draw(t, "type schema"), rapid.StringN(1, -1, -1).Draw(t, "type name")
		}
		r.Columns = append(r.Columns, c)
	}
	return r
}

func drawChange(t *rapid.T) *decoder.Change {
	c := &decoder.Change{
		ID: lsn.ID{Commit: lsn.LSN(rapid.Uint64().Draw(t, "commit")), Seq: rapid.Uint32().Draw(t, "seq")},
		Op: decoder.Op(rapid.IntRange(int(decoder.OpInsert), int(decoder.OpRead)).Draw(t, "op")),
	}
	if rapid.Bool().Draw(t, "tx") {
		c.Tx = &decoder.Tx{Commit: c.ID.Commit, CommitTime: lsn.Micros(rapid.Int64().Draw(t, "time")), Xid: rapid.Uint32().Draw(t, "xid"), Origin: rapid.String().Draw(t, "origin")}
	}
	if c.Op == decoder.OpMessage {
		c.Prefix, c.Content, c.LSN = rapid.String().Draw(t, "prefix"), append([]byte{}, rapid.SliceOf(rapid.Byte()).Draw(t, "content")...), lsn.LSN(rapid.Uint64().Draw(t, "lsn"))
		c.Transactional = rapid.Bool().Draw(t, "transactional")
		return c
	}
	c.Relation = drawRelation(t)
	if c.Op == decoder.OpTruncate {
		c.Cascade, c.RestartIdentity = rapid.Bool().Draw(t, "cascade"), rapid.Bool().Draw(t, "restart")
		return c
	}
	draw := func() (row []decoder.Value) {
		for range c.Relation.Columns {
			row = append(row, drawValue(t))
		}
		return row
	}
	if c.Op != decoder.OpDelete {
		c.New = draw()
	}
	if c.Op == decoder.OpDelete || rapid.Bool().Draw(t, "old") {
		c.Old = draw()
		c.OldIsKey = rapid.Bool().Draw(t, "old is key")
	}
	return c
}

func TestRawFormKeepsEverything(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		c := drawChange(t)
		raw := EncodeRaw(c, []byte("kept"))
		require.True(t, bytes.HasPrefix(raw, []byte("kept")))
		require.True(t, json.Valid(raw[4:]), "%s", raw)
		again, err := DecodeRaw(raw[4:])
		require.NoError(t, err, "%s", raw)
		require.Equal(t, c, again)
	})
}

// Whatever a change looks like, mapping it is items or dead letters, all of JSON.
func TestAnyChangeIsMapped(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		m, err := New(Config{Routes: []Route{
			{Tables: []string{"*.*"}, Exclude: []string{"*.*a*"}, Changes: &Changes{}},
			{Tables: []string{"*.*"}, Outbox: &Outbox{}},
		}}, Env{Bridge: "shop"})
		require.NoError(t, err)
		for range 3 {
			c := drawChange(t)
			items, err := m.Map(c)
			require.NoError(t, err)
			for i := range items {
				if p := items[i].Payload; p != nil {
					require.True(t, json.Valid(p.AppendJSON(nil)))
				}
				if d := items[i].DeadLetter; d != nil {
					require.True(t, json.Valid(d.Raw))
					require.NotEmpty(t, d.Reason)
				}
			}
		}
	})
}

// A replayed dead letter has no value that the route withheld when it was made: a
// route that needs it makes a dead letter again, rather than a record without it.
func TestReplayOfWithheldColumns(t *testing.T) {
	rel := newRelation("public", "users", 'd', "*id int4", "password text", "email text", "bio text")
	c := insert(rel, "1", "MARKER", "a@example.org", "hi")
	c.New[3].Kind = decoder.ValueBinary
	withheld := newMapper(t, Config{Routes: []Route{{
		Tables: []string{"public.users"}, Changes: &Changes{},
		Columns: &Columns{Exclude: []string{"password"}, Mask: map[string]string{"email": "hash"}},
	}}})
	raw := mapOne(t, withheld, c).DeadLetter.Raw
	require.NotContains(t, string(raw), "MARKER")
	require.NotContains(t, string(raw), "example")
	replay := func(m *Mapper) *Item {
		again, err := DecodeRaw(raw)
		require.NoError(t, err)
		again.New[3].Kind = decoder.ValueText // as if this version could read it
		return mapOne(t, m, again)
	}
	it := replay(withheld)
	require.Equal(t, KindRecord, it.Kind)
	c.New[3].Kind = decoder.ValueText
	got := string(it.Payload.AppendJSON(nil))
	require.Equal(t, string(mapOne(t, withheld, c).Payload.AppendJSON(nil)), got)

	for _, cols := range []*Columns{nil, {Exclude: []string{"password"}}, {Mask: map[string]string{"email": "hash"}}} {
		m := newMapper(t, Config{Routes: []Route{{Tables: []string{"public.users"}, Changes: &Changes{}, Columns: cols}}})
		it := replay(m)
		require.Equal(t, KindDeadLetter, it.Kind)
		require.Equal(t, ReasonColumnWithheld, it.DeadLetter.Reason)
	}
}

func TestRawOfARowThatWasCut(t *testing.T) {
	rel := newRelation("public", "users", 'd', "*id int4", "bio text", "big bytea")
	c := insert(rel, "1", strings.Repeat("x", maxCutBytes+1))
	c.CutSize = 1 << 30
	m := newMapper(t, Config{Routes: []Route{{Tables: []string{"public.users"}, Changes: &Changes{}}}})
	d := mapOne(t, m, c).DeadLetter
	require.Equal(t, ReasonRowTooLarge, d.Reason)
	require.False(t, d.Replayable)
	require.Less(t, len(d.Raw), 3000)
	require.Contains(t, string(d.Raw), `{"length":1025,"begins":"eHh4`)
	_, err := DecodeRaw(d.Raw)
	require.ErrorContains(t, err, "cut")
}

func TestDecodeRawRefuses(t *testing.T) {
	for raw, want := range map[string]string{
		"":                                     "EOF",
		"{}":                                   "version 0",
		`{"version":2}`:                        "version 2",
		`{"version":1,"id":"x","op":"insert"}`: "parse id",
		`{"version":1,"id":"0000000000000000-00000000-0000","op":"insert"}`:                                                                             "without its relation",
		`{"version":1,"id":"0000000000000000-00000000-0000","op":"drop"}`:                                                                               "unknown operation",
		`{"version":1,"id":"0000000000000000-00000000-0000","op":"insert","relation":{"identity":"z"}}`:                                                 "replica identity",
		`{"version":1,"id":"0000000000000000-00000000-0000","op":"insert","relation":{"identity":"d"},"new":["a"]}`:                                     "0 columns",
		`{"version":1,"id":"0000000000000000-00000000-0000","op":"insert","relation":{"identity":"d","columns":[{}]},"new":[{"what":1}]}`:               "unknown field",
		`{"version":1,"id":"0000000000000000-00000000-0000","op":"insert","relation":{"identity":"d","columns":[{}]},"new":[{}]}`:                       "no kind of value",
		`{"version":1,"id":"0000000000000000-00000000-0000","op":"truncate","relation":{"identity":"d","columns":[{}]},"tx":{"commit_lsn":"nonsense"}}`: "parse LSN",
		`{"version":1} x`:            "follows",
		`{"version":1,"surprise":1}`: "unknown field",
	} {
		_, err := DecodeRaw([]byte(raw))
		require.ErrorContains(t, err, want, raw)
	}
}

func FuzzDecodeRaw(f *testing.F) {
	f.Add(EncodeRaw(sevenColumns(), nil))
	f.Add(EncodeRaw(outboxRow(), nil))
	f.Add([]byte(`{"version":1,"id":"0000000000000000-00000000-0000","op":"truncate","relation":{"oid":1,"schema":"s","table":"t","identity":"f","columns":[]}}`))
	f.Fuzz(func(t *testing.T, raw []byte) {
		c, err := DecodeRaw(raw)
		if err != nil {
			return
		}
		again, err := DecodeRaw(EncodeRaw(c, nil))
		require.NoError(t, err)
		m, err := New(Config{Routes: []Route{{Tables: []string{"public.outbox"}, Outbox: &Outbox{}}, {Tables: []string{"*.*"}, Changes: &Changes{}}}}, Env{Bridge: "b"})
		require.NoError(t, err)
		require.Equal(t, show(m.Map(c)), show(m.Map(again)))
	})
}
