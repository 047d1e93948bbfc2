package mapper

import (
	"encoding/json"
	"math"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walbridge/walbridge/internal/lsn"
)

// exactByConversion is isExact without its short cuts.
func exactByConversion(s string) bool {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil {
		return false
	}
	if math.IsInf(f, 0) {
		return false
	}
	short := strconv.FormatFloat(f, 'f', -1, 64)
	return canonical(short) == canonical(s)
}

// canonical takes the zeros off a number that change nothing.
func canonical(s string) string {
	s, negative := strings.CutPrefix(s, "-")
	whole, frac, _ := strings.Cut(s, ".")
	whole, frac = strings.TrimLeft(whole, "0"), strings.TrimRight(frac, "0")
	if negative && whole+frac != "" {
		whole = "-" + whole
	}
	return whole + "." + frac
}

func TestExactNumbers(t *testing.T) {
	for _, s := range []string{
		"0", "0.0", "-0.00", "1", "0.1", "9007199254740992", "9007199254740993", "9007199254740994", "12345678901234567", "12345678901234568",
		"0." + strings.Repeat("0", 322) + "49", "0." + strings.Repeat("0", 323) + "5", "0." + strings.Repeat("0", 400) + "1",
		"1" + strings.Repeat("0", 308), "1" + strings.Repeat("0", 309), "1." + strings.Repeat("0", 5000), "17976931348623157" + strings.Repeat("0", 292),
		"17976931348623159" + strings.Repeat("0", 292), "179769313486231571" + strings.Repeat("0", 291), "0.30000000000000004", "0.30000000000000001", "00000000000000000001",
	} {
		require.Equal(t, exactByConversion(s), isExact([]byte(s)), s)
	}
	rapid.Check(t, func(t *rapid.T) {
		s := rapid.StringMatching(`-?(0|[1-9][0-9]{0,25})(\.[0-9]{1,25})?`).Draw(t, "number")
		require.Equal(t, exactByConversion(s), isExact([]byte(s)), s)
	})
	rapid.Check(t, func(t *rapid.T) {
		f := rapid.Float64().Draw(t, "double")
		s := strconv.FormatFloat(f, 'f', -1, 64)
		require.True(t, isExact([]byte(s)), s)
	})
}

func TestParseTimestamp(t *testing.T) {
	for _, s := range []string{
		"2024-02-03 09:35:06+00", "2000-01-01 00:00:00+00", "1999-12-31 23:59:59.999999+00", "0001-01-01 00:00:00+00", "2024-02-29 12:00:00.5+00", "9999-12-31 23:59:59.123456+00",
	} {
		want, err := time.Parse("2006-01-02 15:04:05.999999-07", s)
		require.NoError(t, err)
		got, ok := parseTimestamp([]byte(s))
		require.True(t, ok, s)
		require.Equal(t, lsn.MicrosOf(want), got, s)
		bare, ok := parseTimestamp([]byte(strings.TrimSuffix(s, "+00")))
		require.True(t, ok)
		require.Equal(t, got, bare)
	}
	zoned, ok := parseTimestamp([]byte("2000-01-01 00:00:00-01:30:15"))
	require.True(t, ok)
	require.EqualValues(t, (3600+1800+15)*1_000_000, zoned)
	iso, ok := parseTimestamp([]byte("2000-01-01T01:30:00.5+01:30"))
	require.True(t, ok)
	require.EqualValues(t, 500_000, iso)
	iso, ok = parseTimestamp([]byte("2000-01-01T00:00:00.5Z"))
	require.True(t, ok)
	require.EqualValues(t, 500_000, iso)
	last, ok := parseTimestamp([]byte("294276-12-31 23:59:59.999999+00"))
	require.True(t, ok)
	require.EqualValues(t, 9223371331199999999, last) // END_TIMESTAMP - 1 of datatype/timestamp.h
	for _, s := range []string{"", "infinity", "-infinity", "0044-03-15 00:00:00+00 BC", "2024-13-01 00:00:00", "2024-02-03", "2024-02-03t09:35:06", "2024-02-03T09:35:06z", "2024-02-03T09:35:06Z+00", "2024-02-03 09:35:06+", "2024-02-03 09:35:06.", "2024-2-3 09:35:06", "0000-01-01 00:00:00"} {
		_, ok := parseTimestamp([]byte(s))
		require.False(t, ok, s)
	}
	rapid.Check(t, func(t *rapid.T) {
		want := lsn.Micros(rapid.Int64Range(-63082281600_000000, 252455615999_999999).Draw(t, "micros"))
		got, ok := parseTimestamp([]byte(want.Time().Format("2006-01-02 15:04:05.999999+00")))
		require.True(t, ok)
		require.Equal(t, want, got)
	})
}

func FuzzParseTimestamp(f *testing.F) {
	f.Add("2024-02-03 09:35:06.789012+00")
	f.Fuzz(func(t *testing.T, s string) {
		got, ok := parseTimestamp([]byte(s))
		if want, err := time.Parse("2006-01-02 15:04:05.999999-07", s); err == nil && ok && len(s) > 4 && s[4] == '-' {
			require.Equal(t, lsn.MicrosOf(want), got)
		}
		require.True(t, json.Valid(appendTimestamp(nil, []byte(s), true)))
	})
}

func TestJSONScanner(t *testing.T) {
	var j jsonScanner
	for _, s := range []string{
		"", " ", "1", "-", "01", "1.", "1e", "1E+5", "tru", "true", "nulll", "[", "[]", "[1,]", "[1 2]", "{", "{}", `{"a"}`, `{"a":}`, `{"a":1,}`, `{"a":1}`, `{a:1}`,
		`"\u12"`, `"\ud800"`, `"\x"`, "\"\n\"", "\"\x7f\"", `[{"a":[]},{}]`, `[}`, `{]`, `[1]]`, "\ufeff1", "\v1", " [ 1 , { \"a\" : \"b\" } ]\r\n",
		strings.Repeat("[", 10000) + strings.Repeat("]", 10000), strings.Repeat("[", 10001) + strings.Repeat("]", 10001), strings.Repeat(`{"a":[`, 100) + strings.Repeat("]}", 100),
	} {
		require.Equal(t, json.Valid([]byte(s)), j.valid([]byte(s)), "%.40q", s)
	}
	require.False(t, j.valid([]byte("\"\xff\"")), "JSON is UTF-8")
}

func FuzzJSONScanner(f *testing.F) {
	for _, s := range []string{`{"a":[1,-2.5e3,"\u00e9",true,null]}`, `[[],{}]`, `"\ud83d\ude00"`, `{"type":"x","type":"y"}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, s []byte) {
		m := Mapper{}
		require.Equal(t, json.Valid(s) && utf8.Valid(s), m.enc.scan.valid(s))
		got := m.member(s, []byte("type")) // must not panic, whatever s is
		var object map[string]json.RawMessage
		if utf8.Valid(s) && json.Unmarshal(s, &object) == nil {
			require.Equal(t, string(object["type"]), string(got))
		}
		var text string
		if utf8.Valid(s) && len(s) > 0 && s[0] == '"' && json.Unmarshal(s, &text) == nil {
			require.Equal(t, text, string(appendUnquoted(nil, s[:scanString(s, 0)])))
		}
	})
}

func FuzzTemplate(f *testing.F) {
	for _, s := range []string{"${schema}.${table}", "a$b", "${", "${}", "x${a}${b}y"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		tpl, err := parseTemplate(s)
		if err != nil {
			return
		}
		require.Equal(t, s, tpl.String())
		require.Equal(t, s, tpl.expand(func(name string) string { return "${" + name + "}" }))
	})
}

func TestInternerIsBounded(t *testing.T) {
	var n interner
	for i := range 3 * maxInternedNames {
		name := strconv.Itoa(i)
		require.Equal(t, name, n.name([]byte(name)))
	}
	require.Len(t, n.names, maxInternedNames)
	long := strings.Repeat("x", maxInternedBytes+1)
	require.Equal(t, long, n.name([]byte(long)))
	require.NotContains(t, n.names, long)
}
