package jsonline

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"
	"unicode/utf8"

	"github.com/stretchr/testify/require"
	"pgregory.net/rapid"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/sink/sinktest"
)

// spaced draws JSON text with white space wherever it may be.
func spaced(t *rapid.T) []byte {
	space := func() string { return rapid.StringMatching(`[ \t\r\n]{0,2}`).Draw(t, "space") }
	var value func(depth int) string
	value = func(depth int) string {
		switch kind := rapid.IntRange(0, 5).Draw(t, "kind"); {
		case kind == 0 && depth > 0:
			return "[" + space() + value(depth-1) + space() + "," + space() + value(depth-1) + space() + "]"
		case kind == 1 && depth > 0:
			return "{" + space() + `"k\"\\"` + space() + ":" + space() + value(depth-1) + space() + "}"
		case kind <= 3:
			text, err := json.Marshal(rapid.String().Draw(t, "text"))
			if err != nil {
				t.Fatal(err)
			}
			return string(text)
		}
		return rapid.SampledFrom([]string{"1e400", "-0.10", "null", "true", `""`, `"\\"`, `"\\\""`, "[]", "{ }"}).Draw(t, "plain")
	}
	return []byte(space() + value(3) + space())
}

// The oracle of compact is encoding/json.
func TestCompact(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := spaced(t)
		var want bytes.Buffer
		if err := json.Compact(&want, text); err != nil {
			t.Fatalf("%q: %v", text, err)
		}
		got := compact(append([]byte(`kept " \ `), text...), len(`kept " \ `))
		if string(got) != `kept " \ `+want.String() {
			t.Fatalf("compact(%q) = %q, want %q", text, got, want.String())
		}
	})
}

// Whatever a payload is, its line is one line.
func TestOneLineWhateverComes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.SliceOf(rapid.SampledFrom([]byte("\"\\\n\r {}:,a\x00"))).Draw(t, "text")
		got := compact(bytes.Clone(text), 0)
		if bytes.ContainsAny(got, "\r\n") || len(got) > len(text) {
			t.Fatalf("compact(%q) = %q", text, got)
		}
		if line := appendJSON(nil, text); !json.Valid(line) || bytes.ContainsAny(line, "\r\n") {
			t.Fatalf("appendJSON(%q) = %q", text, line)
		}
	})
}

// A string reads back as it was, with U+FFFD where it was not UTF-8.
func TestString(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		text := rapid.OneOf(rapid.SliceOf(rapid.Byte()), rapid.Map(rapid.String(), func(s string) []byte { return []byte(s) })).Draw(t, "text")
		line := appendString([]byte("x"), text)
		var got string
		if err := json.Unmarshal(line[1:], &got); err != nil {
			t.Fatalf("%q: %v", line, err)
		}
		if want := string([]rune(string(text))); got != want {
			t.Fatalf("%q came back as %q", want, got)
		}
		if string(line) != string(appendString([]byte("x"), string(text))) || !utf8.Valid(line) {
			t.Fatalf("%q", line)
		}
	})
	require.Equal(t, `"\u2028\u2029\u0001\t\"\\é😀"`, string(appendString(nil, "\u2028\u2029\x01\t\"\\é😀")))
}

// items makes one transaction of every kind but dead letters.
func items() []mapper.Item {
	gen := sinktest.NewGenerator(7)
	tx := gen.Tx(1)
	var all []mapper.Item
	for seq := range uint32(100) {
		id := lsn.ID{Commit: tx.Commit, Seq: seq}
		all = append(all, gen.Record(&tx, id), gen.Event(&tx, id), gen.Tombstone(&tx, id))
	}
	return all
}

func TestAppendDoesNotAllocate(t *testing.T) {
	all := items()
	var b, next Batch
	fill := func() {
		b.Reset()
		for i := range all {
			b.Append(all[i : i+1])
		}
		b.CarryLast(&next)
		next.EndTx()
		next.Reset()
	}
	fill()
	require.Zero(t, testing.AllocsPerRun(20, fill))
}

// Abandon leaves the memory to whoever reads it.
func TestAbandon(t *testing.T) {
	all := items()
	var b Batch
	b.Append(all[:1])
	lines := b.Lines()
	before := string(lines)
	b.Abandon()
	require.Zero(t, b.Items()+b.Bytes())
	b.Append(all[1:2])
	require.Equal(t, before, string(lines))
	require.NotEqual(t, before, string(b.Lines()))
}

// An end that was marked goes with a change that is carried.
func TestCarryAfterEnd(t *testing.T) {
	all := items()
	var b, next Batch
	b.Append(all[:1])
	b.Append(all[1:2])
	b.EndTx()
	_, some := b.CarryLast(&next)
	require.True(t, some)
	next.EndTx()
	require.Equal(t, 1, strings.Count(string(next.Lines()), `"tx_end":true`))
	require.True(t, json.Valid(next.Lines()))
	b.EndTx()
	require.True(t, json.Valid(b.Lines()), "%s", b.Lines())
}

func BenchmarkAppend(b *testing.B) {
	all := items()
	var batch Batch
	b.ReportAllocs()
	for b.Loop() {
		batch.Reset()
		for i := range all {
			batch.Append(all[i : i+1])
		}
	}
	b.ReportMetric(float64(b.Elapsed().Nanoseconds())/float64(b.N*len(all)), "ns/item")
	b.ReportMetric(float64(batch.Bytes())/float64(len(all)), "bytes/item")
}
