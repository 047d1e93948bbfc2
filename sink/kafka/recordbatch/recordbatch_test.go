package recordbatch

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"
	"go.uber.org/goleak"
	"pgregory.net/rapid"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// text is a value that is its own text.
type text []byte

func (t text) AppendJSON(dst []byte) []byte { return append(dst, t...) }

// record is a record as a test makes it.
type record struct {
	time       int64
	key, value []byte
	headers    []Header
}

func (r record) body(b *Body) []byte {
	if r.value == nil {
		b.Begin(r.key, nil)
	} else {
		b.Begin(r.key, text(r.value))
	}
	for _, h := range r.headers {
		b.HeaderBytes(h.Name, h.Value)
	}
	return b.End()
}

func build(records []record) *Builder {
	var b Builder
	var body Body
	for _, r := range records {
		b.Append(r.time, r.body(&body))
	}
	return &b
}

// franz decodes a closed batch with another implementation of the format.
func franz(t require.TestingT, closed []byte) []*kgo.Record {
	require.Equal(t, len(closed)-Prefix, int(binary.BigEndian.Uint32(closed)), "length prefix")
	rp := kmsg.NewFetchResponseTopicPartition()
	rp.RecordBatches, rp.HighWatermark, rp.LastStableOffset = closed[Prefix:], 1<<40, 1<<40
	got, _ := kgo.ProcessFetchPartition(kgo.ProcessFetchPartitionOpts{Topic: "t"}, &rp, kgo.DefaultDecompressor(), nil)
	require.NoError(t, got.Err)
	return got.Records
}

// same fails unless franz-go reads what was written.
func same(t require.TestingT, want []record, got []*kgo.Record) {
	require.Len(t, got, len(want))
	for i, w := range want {
		g := got[i]
		require.Equal(t, int64(i), g.Offset)
		require.Equal(t, w.time, g.Timestamp.UnixMilli())
		require.Equal(t, w.key, g.Key)
		require.Equal(t, w.value, g.Value)
		require.Len(t, g.Headers, len(w.headers))
		for j, h := range w.headers {
			require.Equal(t, string(h.Name), g.Headers[j].Key)
			require.Equal(t, h.Value, g.Headers[j].Value)
		}
	}
}

func sample() []record {
	big := make([]byte, 200_000)
	rng := rand.NewChaCha8([32]byte{1})
	_, _ = rng.Read(big) // never fails
	many := make([]Header, 70)
	for i := range many {
		many[i] = Header{fmt.Appendf(nil, "h%d", i), []byte{byte(i)}}
	}
	const at = 1_790_000_000_000
	return []record{
		{at, []byte("order-1"), []byte(`{"id":1,"name":"Zoë"}`), []Header{{[]byte("id"), []byte("1")}, {[]byte("id"), []byte("twice")}}},
		{at - 86_400_000, nil, []byte("no key, a day older"), nil},
		{at + 5000, []byte{}, []byte{}, []Header{{[]byte{}, []byte{}}, {[]byte("null"), nil}, {[]byte("ключ"), []byte{0, 255}}}},
		{at + 1, []byte("tombstone"), nil, nil},
		{at + 2, []byte("big"), big, many},
		{at + 3, bytes.Repeat([]byte("k"), 3000), make([]byte, 300_000), nil},
	}
}

// Every codec, read back by franz-go, field by field.
func TestRoundTrip(t *testing.T) {
	want := sample()
	for i, name := range Codecs() {
		c, err := NewCompressor(name)
		require.NoError(t, err)
		for range 2 { // a compressor is used again
			closed, _ := build(want).Close(c, nil)
			Producer{ID: 7, Epoch: 3, Sequence: 11, Transactional: true}.Stamp(closed)
			got := franz(t, closed)
			same(t, want, got)
			require.Equal(t, uint8(i), got[0].Attrs.CompressionType(), name)
			require.True(t, got[0].Attrs.IsTransactional())
			require.Equal(t, []any{int64(7), int16(3)}, []any{got[0].ProducerID, got[0].ProducerEpoch})
			require.Equal(t, int32(11), int32(binary.BigEndian.Uint32(closed[Prefix+atBaseSeq:])))
		}
	}
	_, err := NewCompressor("brotli")
	require.ErrorContains(t, err, `"brotli"`)
}

// What does not become smaller is left as it is.
func TestIncompressible(t *testing.T) {
	noise := make([]byte, 1000)
	rng := rand.NewChaCha8([32]byte{2})
	_, _ = rng.Read(noise) // never fails
	for _, name := range Codecs() {
		c, err := NewCompressor(name)
		require.NoError(t, err)
		b := build([]record{{1, nil, noise, nil}})
		closed, _ := b.Close(c, nil)
		Anonymous().Stamp(closed)
		require.LessOrEqual(t, len(closed)-Prefix, b.Len(), name)
		require.Equal(t, noise, franz(t, closed)[0].Value)
	}
	none, err := NewCompressor("none")
	require.NoError(t, err)
	closed, _ := new(Builder).Close(none, nil)
	require.Nil(t, closed, "an empty batch is none")
}

var rewrite = flag.Bool("rewrite", false, "write testdata anew")

// The bytes of a batch are fixed: what one version writes, the next does.
func TestGolden(t *testing.T) {
	c, err := NewCompressor("none")
	require.NoError(t, err)
	closed, _ := build([]record{
		{1_790_000_000_123, []byte("order:1"), []byte(`{"a":1}`), []Header{{[]byte("wb-id"), []byte("0000000001924CE8-00000002-0001")}, {[]byte("n"), nil}}},
		{1_790_000_000_100, nil, nil, nil},
	}).Close(c, nil)
	Producer{ID: 0x0102030405060708, Epoch: 0x0A0B, Sequence: 0x10203040, Transactional: true}.Stamp(closed)
	path := filepath.Join("testdata", "batch.hex")
	got := hex.Dump(closed)
	if *rewrite {
		require.NoError(t, os.WriteFile(path, []byte(got), 0o644))
	}
	want, err := os.ReadFile(path)
	require.NoError(t, err)
	require.Equal(t, string(want), got)
}

// The vectors are those of the Java client's Utils.murmur2.
func TestMurmur2(t *testing.T) {
	for key, want := range map[string]int32{
		"": 275646681, "a": -1563381124, "abc": 479470107, "abcd": -1323649548, "order-1": 1221710326,
		"Zoë": -1306457314, "\x00\xff\x80\x7f": 578742699,
	} {
		require.Equal(t, want, int32(murmur2([]byte(key))), "%q", key)
		require.Equal(t, int(uint32(want)&0x7fffffff)%12, Partition([]byte(key), 12), "%q", key)
	}
}

func records() *rapid.Generator[[]record] {
	bytesOrNil := rapid.Custom(func(t *rapid.T) []byte {
		if rapid.IntRange(0, 4).Draw(t, "null") == 0 {
			return nil
		}
		return rapid.SliceOfN(rapid.Byte(), 0, rapid.SampledFrom([]int{0, 3, 63, 64, 9000}).Draw(t, "size")).Draw(t, "bytes")
	})
	header := rapid.Custom(func(t *rapid.T) Header {
		return Header{[]byte(rapid.StringN(0, 8, 20).Draw(t, "name")), bytesOrNil.Draw(t, "header")}
	})
	one := rapid.Custom(func(t *rapid.T) record {
		return record{
			rapid.Int64Range(0, 1<<42).Draw(t, "time"), bytesOrNil.Draw(t, "key"), bytesOrNil.Draw(t, "value"),
			rapid.SliceOfN(header, 0, rapid.SampledFrom([]int{0, 2, 66}).Draw(t, "headers")).Draw(t, "list"),
		}
	})
	return rapid.SliceOfN(one, 1, 12)
}

// Random records, read back by franz-go and by our own walk over them; cut at a
// mark, and put into another batch.
func TestProperties(t *testing.T) {
	codecs := make([]*Compressor, len(Codecs()))
	for i, name := range Codecs() {
		var err error
		codecs[i], err = NewCompressor(name)
		require.NoError(t, err)
	}
	rapid.Check(t, func(t *rapid.T) {
		want := records().Draw(t, "records")
		var b, other Builder
		var body Body
		var marks []Mark
		for _, r := range want {
			marks = append(marks, b.Mark())
			b.Append(r.time, r.body(&body))
		}
		c := rapid.SampledFrom(codecs).Draw(t, "codec")
		closed, _ := b.Close(c, nil)
		Anonymous().Stamp(closed)
		same(t, want, franz(t, closed))
		i := 0
		for rec := range b.Records {
			at, ok := b.At(marks[i])
			require.True(t, ok)
			require.Equal(t, rec, at)
			p, err := Parse(rec.Body)
			require.NoError(t, err)
			require.Equal(t, want[i].key, p.Key)
			require.Equal(t, want[i].value, p.Value)
			other.Append(rec.Time, rec.Body)
			i++
		}
		require.Equal(t, len(want), i)
		closed, _ = other.Close(c, nil)
		Anonymous().Stamp(closed)
		same(t, want, franz(t, closed))
		n := rapid.IntRange(0, len(want)-1).Draw(t, "cut")
		b.Cut(marks[n])
		require.Equal(t, n, b.Count())
		_, there := b.At(b.Mark())
		require.False(t, there)
		b.Append(5, want[0].body(&body))
		closed, _ = b.Close(c, nil)
		Anonymous().Stamp(closed)
		same(t, append(want[:n:n], record{5, want[0].key, want[0].value, want[0].headers}), franz(t, closed))
	})
}

// A batch fits what Len and MaxRecord promise.
func TestSizes(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		var b Builder
		var body Body
		for _, r := range records().Draw(t, "records") {
			before, bytes := b.Len(), r.body(&body)
			b.Append(r.time, bytes)
			require.LessOrEqual(t, b.Len(), before+MaxRecord(len(bytes)))
		}
		c, err := NewCompressor("none")
		require.NoError(t, err)
		closed, _ := b.Close(c, nil)
		require.Len(t, closed, Prefix+b.Len())
	})
}

func TestNextSequence(t *testing.T) {
	require.Equal(t, int32(5), NextSequence(2, 3))
	require.Equal(t, int32(0), NextSequence(1<<31-1, 1))
	require.Equal(t, int32(1), NextSequence(1<<31-2, 3))
}

// FuzzParse: no bytes make it panic, and what it accepts lies within them.
func FuzzParse(f *testing.F) {
	var body Body
	for _, r := range sample()[:4] {
		f.Add(bytes.Clone(r.body(&body)))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		p, err := Parse(data)
		if err != nil {
			return
		}
		n := len(p.Key) + len(p.Value)
		for h := range p.Headers {
			n += len(h.Name) + len(h.Value)
		}
		require.LessOrEqual(t, n, len(data))
	})
}

// FuzzRoundTrip: any key, value, header and time.
func FuzzRoundTrip(f *testing.F) {
	f.Add([]byte("k"), []byte("v"), []byte("name"), []byte("value"), int64(5), uint8(4))
	f.Fuzz(func(t *testing.T, key, value, name, header []byte, at int64, codec uint8) {
		at &= 1<<42 - 1
		c, err := NewCompressor(Codecs()[int(codec)%len(Codecs())])
		require.NoError(t, err)
		want := []record{{at, append([]byte{}, key...), append([]byte{}, value...), []Header{{name, append([]byte{}, header...)}}}, {0, nil, nil, nil}}
		closed, _ := build(want).Close(c, nil)
		Anonymous().Stamp(closed)
		same(t, want, franz(t, closed))
	})
}

// A record costs no allocation once the memory is there, nor does a batch.
func TestAppendDoesNotAllocate(t *testing.T) {
	var b Builder
	var body Body
	value := Value(text(strings.Repeat("x", 300)))
	key, header := []byte("order:1"), []byte("0000000001924CE8-00000002-0001")
	for _, name := range []string{"none", "snappy", "zstd"} {
		c, err := NewCompressor(name)
		require.NoError(t, err)
		out := make([]byte, 0, 1<<20)
		require.Zero(t, testing.AllocsPerRun(50, func() {
			b.Reset()
			for i := range int64(100) {
				body.Begin(key, value)
				body.Header("wb-id", header)
				b.Append(i, body.End())
			}
			closed, _ := b.Close(c, out)
			Producer{ID: 1}.Stamp(closed)
		}), name)
	}
}

func BenchmarkAppend(b *testing.B) {
	var batch Builder
	var body Body
	value := Value(text(strings.Repeat("x", 300)))
	key, header := []byte("order:1"), []byte("0000000001924CE8-00000002-0001")
	b.ReportAllocs()
	b.SetBytes(350)
	for i := 0; b.Loop(); i++ {
		if i%1000 == 0 {
			batch.Reset()
		}
		body.Begin(key, value)
		body.Header("wb-id", header)
		batch.Append(int64(i), body.End())
	}
}
