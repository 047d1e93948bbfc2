package mapper

import (
	"encoding/base64"
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walbridge/walbridge/decoder"
)

// codecOf returns the codec of a type of the tests.
func codecOf(typ string, nf numberFormat) *codec {
	var c codecs
	c.set(testTypes())
	return c.column(&decoder.Column{TypeOID: typeOIDs()[typ]}, nf)
}

func toJSON(typ, text string) string {
	var e encoder
	return string(e.value(nil, codecOf(typ, defaultNumbers()), []byte(text)))
}

func TestValues(t *testing.T) {
	bytea768 := strings.Repeat("\x00\xff", 384)
	for _, c := range []struct{ typ, text, want string }{
		{"bool", "t", "true"}, {"bool", "f", "false"}, {"bool", "maybe", `"maybe"`},
		{"int2", "-32768", "-32768"}, {"int4", "2147483647", "2147483647"}, {"int4", "0", "0"},
		{"int4", "", `""`}, {"int4", "007", `"007"`}, {"int4", "1 ", `"1 "`},
		{"int8", "9223372036854775807", "9223372036854775807"}, {"int8", "-9223372036854775808", "-9223372036854775808"},
		{"float4", "1e-45", "1e-45"}, {"float4", "3.4028235e+38", "3.4028235e+38"},
		{"float8", "1.7976931348623157e+308", "1.7976931348623157e+308"}, {"float8", "5e-324", "5e-324"},
		{"float8", "-0", "-0"}, {"float8", "NaN", `"NaN"`}, {"float8", "Infinity", `"Infinity"`}, {"float8", "-Infinity", `"-Infinity"`},
		{"numeric", "129.95", "129.95"}, {"numeric", "123.4500", "123.4500"}, {"numeric", "NaN", `"NaN"`}, {"numeric", "-Infinity", `"-Infinity"`},
		{"numeric", "9007199254740993", `"9007199254740993"`}, {"numeric", "9007199254740992", "9007199254740992"},
		{"numeric", "0.1000000000000000055511151231257827", `"0.1000000000000000055511151231257827"`},
		{"numeric", "100000000000000000000000000", "100000000000000000000000000"},
		{"date", "2024-02-29", `"2024-02-29"`}, {"date", "infinity", `"infinity"`}, {"date", "0044-03-15 BC", `"0044-03-15 BC"`},
		{"time", "24:00:00", `"24:00:00"`}, {"interval", "-1 mons +2 days -03:04:05.6", `"-1 mons +2 days -03:04:05.6"`},
		{"timestamp", "2024-02-03 09:35:06.789", `"2024-02-03T09:35:06.789"`}, {"timestamp", "0001-01-01 00:00:00", `"0001-01-01T00:00:00"`},
		{"timestamp", "-infinity", `"-infinity"`}, {"timestamp", "294276-12-31 23:59:59.999999", `"294276-12-31 23:59:59.999999"`},
		{"timestamp", "4713-01-01 00:00:00 BC", `"4713-01-01 00:00:00 BC"`},
		{"timestamptz", "2024-02-03 09:35:06.789012+00", `"2024-02-03T09:35:06.789012Z"`}, {"timestamptz", "2024-02-03 09:35:06+00", `"2024-02-03T09:35:06Z"`},
		{"timestamptz", "infinity", `"infinity"`}, {"timestamptz", "0044-03-15 00:00:00+00 BC", `"0044-03-15 00:00:00+00 BC"`},
		{"timestamptz", "10000-01-01 00:00:00+00", `"10000-01-01 00:00:00+00"`}, {"timestamptz", "2024-02-03 09:35:06+05:30", `"2024-02-03T09:35:06+05:30"`},
		{"json", "{\"b\": 1,\n \"b\": \"\\u0000\"}", "{\"b\": 1,\n \"b\": \"\\u0000\"}"}, {"jsonb", "null", "null"},
		{"bytea", `\x`, `""`}, {"bytea", `\x77616c`, `"d2Fs"`}, {"bytea", `\x0`, `"\\x0"`}, {"bytea", `\000a`, `"\\000a"`},
		{"bytea", fmt.Sprintf(`\x%x`, bytea768+"a"), `"` + base64.StdEncoding.EncodeToString([]byte(bytea768+"a")) + `"`},
		{"text", "a\"b\\c\n\r\t\x00\x1f\x7f/é😀<", `"a\"b\\c\n\r\t\u0000\u001f` + "\x7f" + `/é😀<"`}, {"text", "", `""`},
		{"text", "bad\xff\xc0utf8", `"bad��utf8"`},
		{"uuid", "0f8fad5b-d9cb-469f-a165-70867728950e", `"0f8fad5b-d9cb-469f-a165-70867728950e"`},
		{"int4range", "[1,10)", `"[1,10)"`}, {"int4range", "empty", `"empty"`}, {"inet", "::1/128", `"::1/128"`},
		{"mood", "so \"so\"", `"so \"so\""`}, {"posint", "7", "7"}, {"lost", "whatever", `"whatever"`}, {"int2vector", "1 2 3", `"1 2 3"`},
	} {
		require.Equal(t, c.want, toJSON(c.typ, c.text), "%s %q", c.typ, c.text)
	}
}

func TestNestedValues(t *testing.T) {
	for _, c := range []struct{ typ, text, want string }{
		{"_int4", "{}", "[]"}, {"_int4", "{1,NULL,-3}", "[1,null,-3]"}, {"_int4", "{{1,2},{3,4}}", "[[1,2],[3,4]]"},
		{"_int4", "[2:3]={1,2}", `"[2:3]={1,2}"`}, {"_int4", "{1,2", `"{1,2"`}, {"_int4", "{1,}", `"{1,}"`}, {"_int4", "{1}x", `"{1}x"`},
		{"_int4", strings.Repeat("{", 7) + "1" + strings.Repeat("}", 7), `"{{{{{{{1}}}}}}}"`},
		{"_text", `{a,"NULL",NULL,"","a,b","q\"q","b\\s","{}"," x "}`, `["a","NULL",null,"","a,b","q\"q","b\\s","{}"," x "]`},
		{"_text", `{"a`, `"{\"a"`}, {"_text", `{"a\`, `"{\"a\\"`}, {"_text", `{a"b"}`, `"{a\"b\"}"`}, {"_text", "", `""`},
		{"_numeric", "{1.50,NaN,12345678901234567890}", `[1.50,"NaN","12345678901234567890"]`},
		{"_bool", "{t,f,NULL}", "[true,false,null]"}, {"_bytea", `{"\\x00ff","\\x"}`, `["AP8=",""]`},
		{"_timestamptz", `{"2024-02-03 09:35:06+00",infinity}`, `["2024-02-03T09:35:06Z","infinity"]`},
		{"_json", `{"{\"a\": [1, \"x\"]}","\"s\"",null,1}`, `[{"a": [1, "x"]},"s",null,1]`}, {"_json", `{"{oops"}`, `["{oops"]`},
		{"_box", "{(3,4),(1,2);NULL}", `["(3,4),(1,2)",null]`},
		{"pair", `(1,"a ""b""\\c,)")`, `{"n":1,"say \"s\"":"a \"b\"\\c,)"}`}, {"pair", "(,)", `{"n":null,"say \"s\"":null}`},
		{"pair", `(,"")`, `{"n":null,"say \"s\"":""}`}, {"pair", `(1,a b)`, `{"n":1,"say \"s\"":"a b"}`}, {"pair", `(1,a"b"\"c)`, `{"n":1,"say \"s\"":"ab\"c"}`},
		{"pair", "(1)", `"(1)"`}, {"pair", "(1,2,3)", `"(1,2,3)"`}, {"pair", "(1,2", `"(1,2"`}, {"pair", `(1,"x`, `"(1,\"x"`}, {"pair", "", `""`},
		{"_pair", `{"(1,\"a \"\"b\\\\\\\\\")",NULL}`, `[{"n":1,"say \"s\"":"a \"b\\\\"},null]`},
		{"nested", `("(1,""x y"")","{""(2,)"",""(3,\\""a,b\\"")""}","[1, 2]")`, `{"p":{"n":1,"say \"s\"":"x y"},"list":[{"n":2,"say \"s\"":null},{"n":3,"say \"s\"":"a,b"}],"doc":[1, 2]}`},
		{"nested", `(,,"{no json")`, `{"p":null,"list":null,"doc":"{no json"}`},
		{"hstore", "", "{}"}, {"hstore", `"a"=>"1", "b\"\\"=>NULL`, `{"a":"1","b\"\\":null}`}, {"hstore", `"a"=>"NULL"`, `{"a":"NULL"}`},
		{"hstore", `"a"=>`, `"\"a\"=>"`}, {"hstore", `"a"=>NUL`, `"\"a\"=>NUL"`}, {"hstore", `a=>1`, `"a=>1"`},
	} {
		require.Equal(t, c.want, toJSON(c.typ, c.text), "%s %q", c.typ, c.text)
		require.True(t, json.Valid([]byte(c.want)), c.want)
	}
}

func TestNumberSettings(t *testing.T) {
	write := func(typ string, nf numberFormat, text string) string {
		var e encoder
		return string(e.value(nil, codecOf(typ, nf), []byte(text)))
	}
	text := numberFormat{numeric: formNumericText, int8: formText}
	require.Equal(t, `"1.50"`, write("numeric", text, "1.50"))
	require.Equal(t, `["1.5"]`, write("_numeric", text, "{1.5}"))
	require.Equal(t, `"42"`, write("int8", text, "42"))
	anyNumber := numberFormat{numeric: formNumericAny, int8: formInt}
	require.Equal(t, "12345678901234567890.5", write("numeric", anyNumber, "12345678901234567890.5"))
	require.Equal(t, `"NaN"`, write("numeric", anyNumber, "NaN"))
}

// A domain bears its base type's name in the stream, and an array of a type that
// is gone its own: both are found by name where the set has no such OID.
func TestTypesByTheNameOfTheStream(t *testing.T) {
	var c codecs
	c.set(nil)
	of := func(schema, name string) *codec {
		return c.column(&decoder.Column{TypeOID: 99999, TypeNamespace: schema, TypeName: name}, defaultNumbers())
	}
	require.Equal(t, formInt, of("pg_catalog", "int4").form)
	require.Equal(t, formArray, of("pg_catalog", "_jsonb").form)
	require.Equal(t, formJSON, of("pg_catalog", "_jsonb").elem.form)
	require.Equal(t, byte(';'), of("pg_catalog", "_box").delim)
	require.False(t, c.stale)
	require.Equal(t, formText, of("public", "mood").form)
	require.True(t, c.stale, "a type that is nowhere asks for a new set")
	c.set(testTypes())
	require.Equal(t, formComposite, of("public", "pair").form)
	require.False(t, c.stale)
	require.Equal(t, formText, of("public", "mood2").form)
	require.False(t, c.stale, "it asks once")
}

// A damaged catalog may say that a type contains itself.
func TestCyclicTypesEnd(t *testing.T) {
	types := testTypes()
	types[20001].Fields[0].TypeOID = 20002
	types[20004].Base = 20004
	var c codecs
	c.set(types)
	var e encoder
	for _, oid := range []uint32{20001, 20002, 20004} {
		got := e.value(nil, c.column(&decoder.Column{TypeOID: oid}, defaultNumbers()), []byte(strings.Repeat("({", 100)))
		require.True(t, json.Valid(got))
	}
}

// quoteElement writes an array element as array_out does.
func quoteElement(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(s) + `"`
}

func quoteField(s string) string {
	return `"` + strings.NewReplacer(`\`, `\\`, `"`, `""`).Replace(s) + `"`
}

func TestTextSurvivesInEveryLiteral(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		words := rapid.SliceOfN(rapid.StringOf(rapid.OneOf(rapid.Rune(), rapid.SampledFrom([]rune(`"\{}(),=> NUL'`)))), 1, 4).Draw(t, "words")
		var list []string
		var elements, hstores []string
		for i, w := range words {
			elements = append(elements, quoteElement(w))
			hstores = append(hstores, fmt.Sprintf(`"%d"=>%s`, i, quoteElement(w)))
		}
		require.NoError(t, json.Unmarshal([]byte(toJSON("_text", "{"+strings.Join(elements, ",")+"}")), &list))
		require.Equal(t, words, list)
		var h map[string]string
		require.NoError(t, json.Unmarshal([]byte(toJSON("hstore", strings.Join(hstores, ", "))), &h))
		for i, w := range words {
			require.Equal(t, w, h[fmt.Sprint(i)])
		}
		pair := "(7," + quoteField(words[0]) + ")"
		var p map[string]any
		require.NoError(t, json.Unmarshal([]byte(toJSON("pair", pair)), &p))
		require.Equal(t, map[string]any{"n": 7.0, `say "s"`: words[0]}, p)
		var pairs []map[string]any
		require.NoError(t, json.Unmarshal([]byte(toJSON("_pair", "{"+quoteElement(pair)+",NULL}")), &pairs))
		require.Equal(t, []map[string]any{p, nil}, pairs)
		var s string
		require.NoError(t, json.Unmarshal([]byte(toJSON("text", words[0])), &s))
		require.Equal(t, words[0], s)
	})
}

func FuzzValueIsAlwaysJSON(f *testing.F) {
	for _, s := range []string{"{1,NULL}", `("a",)`, `"a"=>NULL`, "[2:3]={1,2}", "-1.5e3", `\xff`, "2024-02-03 09:35:06+00", `{"a\"b",{}}`} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		for typ := range typeOIDs() {
			if typ == "json" || typ == "jsonb" {
				continue // taken on trust: the server has parsed it
			}
			got := toJSON(typ, s)
			require.True(t, json.Valid([]byte(got)), "%s %q gave %s", typ, s, got)
			require.True(t, utf8.ValidString(got))
		}
	})
}
