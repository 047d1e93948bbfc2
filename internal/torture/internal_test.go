package torture

import (
	"encoding/json"
	"errors"
	"reflect"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgtype"
	"github.com/stretchr/testify/require"
)

func TestNormalForm(t *testing.T) {
	for text, want := range map[string]string{
		` { "b" : 1.50, "a":[ true , null,"x" ] } `: `{"b":1.50,"a":[true,null,"x"]}`,
		`"\u00e9\n\/"`:              "\"é\\u000a/\"",
		`{"a":1,"a":2}`:             `{"a":1,"a":2}`,
		`[]`:                        `[]`,
		`{}`:                        `{}`,
		`[[],{},""]`:                `[[],{},""]`,
		`"]"`:                       `"]"`,
		`["[","{",",",":", "\""]`:   `["[","{",",",":","\""]`,
		`-0`:                        `-0`,
		`12345678901234567890.0100`: `12345678901234567890.0100`,
	} {
		got, err := normal(nil, []byte(text))
		require.NoError(t, err, text)
		require.Equal(t, want, string(got), text)
	}
}

// The normal form says the same as the text, is the same for its own text, and no
// text makes the reader panic or run on.
func FuzzNormalForm(f *testing.F) {
	for _, s := range []string{`{"a":[1,"b\\",{"c":null}]}`, `"\ud83d\ude00"`, `[`, `{"a"`, `{"a":}`, `"\`, ``, `]`, `{,}`, `[1 2]`, `{"a" "b"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		got, err := normal(nil, text)
		if !json.Valid(text) {
			return
		}
		require.NoError(t, err)
		again, err := normal(nil, got)
		require.NoError(t, err)
		require.Equal(t, string(got), string(again))
		var want, same any
		if json.Unmarshal(text, &want) == nil {
			require.NoError(t, json.Unmarshal(got, &same), "%s", got)
			require.True(t, reflect.DeepEqual(want, same), "%s became %s", text, got)
		}
	})
}

func TestRowValue(t *testing.T) {
	for _, c := range []struct {
		oid        uint32
		text, want string
	}{
		{pgtype.BoolOID, "t", `true`},
		{pgtype.Int8OID, "-9223372036854775808", `-9223372036854775808`},
		{pgtype.NumericOID, "1.10", `1.10`},
		{pgtype.NumericOID, "NaN", `"NaN"`},
		{pgtype.NumericOID, "12345678901234567890.123", `"12345678901234567890.123"`},
		{pgtype.NumericOID, "1" + strings.Repeat("0", 22), `1` + strings.Repeat("0", 22)},
		{pgtype.Float8OID, "1e+300", `1e+300`},
		{pgtype.Float8OID, "-Infinity", `"-Infinity"`},
		{pgtype.TimestamptzOID, "2024-02-03 09:35:06.789+00", `"2024-02-03T09:35:06.789Z"`},
		{pgtype.TimestampOID, "2024-02-03 09:35:06", `"2024-02-03T09:35:06"`},
		{pgtype.TimestampOID, "0044-03-15 12:00:00 BC", `"0044-03-15 12:00:00 BC"`},
		{pgtype.DateOID, "infinity", `"infinity"`},
		{pgtype.ByteaOID, `\x00ff`, `"AP8="`},
		{pgtype.JSONBOID, `{"a": 1}`, `{"a":1}`},
		{pgtype.TextArrayOID, `{a,"b,\"c\\",NULL,"NULL",""}`, `["a","b,\"c\\",null,"NULL",""]`},
		{pgtype.Int4ArrayOID, `{1,NULL,-3}`, `[1,null,-3]`},
		{pgtype.TextOID, "it's\n", "\"it's\\u000a\""},
	} {
		got, err := rowValue(nil, c.oid, []byte(c.text))
		require.NoError(t, err, c.text)
		require.Equal(t, c.want, string(got), c.text)
	}
	got, err := rowValue(nil, pgtype.TextOID, nil)
	require.NoError(t, err)
	require.Equal(t, "null", string(got))
	for _, bad := range []struct {
		oid  uint32
		text string
	}{{pgtype.ByteaOID, `\000`}, {pgtype.TextArrayOID, `[2:3]={a,b}`}} {
		_, err := rowValue(nil, bad.oid, []byte(bad.text))
		require.Error(t, err, bad.text)
	}
}

// The vectors that the documentation of the work table promises to clients.
func TestLaneOf(t *testing.T) {
	require.Equal(t, 0, laneOf("anything", 1))
	for _, key := range []string{"", "order:9182", "load.item:[1]", "ü"} {
		require.Less(t, laneOf(key, 64), 64)
		require.Equal(t, laneOf(key, 64), laneOf(key, 128)%64, "the same first bytes of the hash")
	}
}

// A packed value is never taken for another one that is short or long.
func TestPack(t *testing.T) {
	long := strings.Repeat("x", maxKept+1)
	require.Equal(t, "1", pack([]byte("1")))
	require.NotEqual(t, pack([]byte(long)), pack([]byte(long+"x")))
	require.NotEqual(t, pack([]byte(long)), pack([]byte(strings.Repeat("y", maxKept+1))))
	require.Less(t, len(pack([]byte(long))), maxKept)
}

func TestSeed(t *testing.T) {
	t.Setenv(SeedVariable, "42")
	for given, want := range map[uint64]uint64{0: 42, 7: 7} {
		got, err := Seed(given)
		require.NoError(t, err)
		require.Equal(t, want, got)
	}
	for _, bad := range []string{"0", "-1", "x"} {
		t.Setenv(SeedVariable, bad)
		_, err := Seed(0)
		require.Error(t, err, bad)
	}
	t.Setenv(SeedVariable, "")
	got, err := Seed(0)
	require.NoError(t, err)
	require.NotZero(t, got)
}

// The choices of a writer come from its seed and number alone.
func TestWriterIsReplayable(t *testing.T) {
	script := func(seed, part uint64) []statement {
		r := Rand(seed, part)
		var all []statement
		for range 200 {
			s := &shapes()[r.IntN(len(shapes()))]
			steps := keylessSteps()
			if s.key != nil {
				steps = keyedSteps()
			}
			all = append(all, steps[r.IntN(len(steps))](r, s, 50, -1000)...)
		}
		return all
	}
	require.Equal(t, script(1, 1), script(1, 1))
	require.NotEqual(t, script(1, 1), script(1, 2))
	require.NotEqual(t, script(1, 1), script(2, 1))
}

const goodLine = `{"id":"0000000001924CE8-00000002-0001","kind":"change","stream":"load.item","key":"load.item:[1]","type":"insert","event_id":"s:x","tx_end":true,"payload":{"op":"insert"}}`

func TestLines(t *testing.T) {
	var got []Item
	r := &LineReader{Source: "s"}
	keep := func(it *Item) error { got = append(got, *it); return nil }
	require.NoError(t, r.Read(strings.NewReader(goodLine+"\n"+goodLine[:50]+"\n"+goodLine[:60]+goodLine+"\n"), keep))
	require.Len(t, got, 2)
	require.EqualValues(t, 2, r.Torn)
	require.EqualValues(t, 3, r.After)
	require.EqualValues(t, 3, got[1].At)
	require.Equal(t, "0000000001924CE8-00000002-0001", got[0].ID.String())
	require.True(t, got[0].TxEnd)
	require.Equal(t, "load.item:[1]", got[1].Key)

	stop := errors.New("stop")
	require.ErrorIs(t, r.Read(strings.NewReader(goodLine+"\n"), func(*Item) error { return stop }), stop)
	require.Error(t, r.Read(strings.NewReader(`{"id":"x"}`+"\n"), keep))
	require.ErrorContains(t, r.Read(strings.NewReader(strings.Replace(goodLine, `"change"`, `"dead_letter"`, 1)), keep), "dead letter")
}
