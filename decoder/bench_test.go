package decoder_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/decoder/decodertest"
)

// table makes a relation of n text columns, the first of them the key.
func table(oid uint32, n int) *decoder.Relation {
	rel := &decoder.Relation{OID: oid, Namespace: "public", Name: fmt.Sprintf("t%d", oid), Identity: decoder.IdentityDefault}
	for i := range n {
		rel.Columns = append(rel.Columns, decoder.Column{
			Name: fmt.Sprintf("c%d", i), TypeOID: 25, TypeMod: -1, Key: i == 0,
		})
	}
	return rel
}

// row makes n values of size bytes.
func row(n, size int) []decoder.Value {
	values := make([]decoder.Value, n)
	for i := range values {
		values[i] = decodertest.Text(strings.Repeat("x", size))
	}
	return values
}

// inTx is a decoder in an open transaction that knows the relations.
func inTx(t testing.TB, rels ...*decoder.Relation) *decoder.Decoder {
	t.Helper()
	var enc decodertest.Encoder
	d := decoder.New(decoder.Config{})
	for _, rel := range rels {
		step, err := d.Decode(enc.Relation(rel), 0)
		require.NoError(t, err)
		require.Equal(t, decoder.StepNone, step)
	}
	step, err := d.Decode(enc.Begin(0x1000, 5, 700), 0x1000)
	require.NoError(t, err)
	require.Equal(t, decoder.StepBegin, step)
	return d
}

func BenchmarkDecode(b *testing.B) {
	var enc decodertest.Encoder
	seven, ten, other := table(1, 7), table(2, 10), table(3, 7)
	for _, bench := range []struct {
		name   string
		frames [][]byte
	}{
		{"insert-7x12", [][]byte{enc.Insert(1, row(7, 12))}},
		{"insert-10x20", [][]byte{enc.Insert(2, row(10, 20))}},
		{"insert-10x1000", [][]byte{enc.Insert(2, row(10, 1000))}},
		{"update-key-7x12", [][]byte{enc.Update(1, 'K', row(7, 12), row(7, 12))}},
		{"update-full-10x20", [][]byte{enc.Update(2, 'O', row(10, 20), row(10, 20))}},
		{"delete-7x12", [][]byte{enc.Delete(1, 'K', row(7, 12))}},
		{"message", [][]byte{enc.Message(true, 0x800, "outbox", []byte(`{"a":1}`))}},
		{"two-tables-7x12", [][]byte{enc.Insert(1, row(7, 12)), enc.Insert(3, row(7, 12))}},
	} {
		b.Run(bench.name, func(b *testing.B) {
			d := inTx(b, seven, ten, other)
			b.SetBytes(int64(len(bench.frames[0])))
			b.ReportAllocs()
			i := 0
			for b.Loop() {
				if step, err := d.Decode(bench.frames[i], 0x900); err != nil || step != decoder.StepChange {
					b.Fatal(step, err)
				}
				if i++; i == len(bench.frames) {
					i = 0
				}
			}
		})
	}
}

func BenchmarkParse(b *testing.B) {
	var p decoder.Parser
	m := decodertest.Encoder{}.Insert(1, row(10, 20))
	b.SetBytes(int64(len(m)))
	b.ReportAllocs()
	for b.Loop() {
		if _, err := p.Parse(m); err != nil {
			b.Fatal(err)
		}
	}
}
