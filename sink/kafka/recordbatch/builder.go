package recordbatch

import (
	"encoding/binary"
	"math/bits"
)

// Prefix is the length that stands before a batch in a produce request; kafka-go's
// RawRecordSet writes none.
const Prefix = 4

// HeaderSize is the length of a batch without its records.
const HeaderSize = 61

// Builder is an open batch: the records of one partition. The zero value is empty.
type Builder struct {
	buf       []byte // Prefix and header, to be filled by Close, then the records
	count     int
	base, max int64 // times, ms since 1970
}

// Append puts a record at the end.
func (b *Builder) Append(timeMs int64, body []byte) {
	if len(b.buf) == 0 {
		b.buf = append(b.buf, emptyHead[:]...)
	}
	if b.count == 0 {
		b.base, b.max = timeMs, timeMs
	}
	b.max = max(b.max, timeMs)
	delta := timeMs - b.base
	size := 1 + sizeVarint(delta) + sizeVarint(int64(b.count)) + len(body)
	p := binary.AppendVarint(b.buf, int64(size))
	p = append(p, 0) // record attributes: none are defined
	p = binary.AppendVarint(p, delta)
	p = binary.AppendVarint(p, int64(b.count))
	b.buf = append(p, body...)
	b.count++
}

var emptyHead = [Prefix + HeaderSize]byte{}

// MaxRecord is the most that a record of such a body can take in a batch.
func MaxRecord(body int) int { return body + 1 + 2*maxVarint + binary.MaxVarintLen64 }

// Count is the number of records.
func (b *Builder) Count() int { return b.count }

// Len is the size of the batch in bytes, uncompressed, without Prefix.
func (b *Builder) Len() int {
	if len(b.buf) == 0 {
		return HeaderSize
	}
	return len(b.buf) - Prefix
}

// Latest is the greatest time of a record, ms since 1970.
func (b *Builder) Latest() int64 { return b.max }

// Cap is the memory held.
func (b *Builder) Cap() int { return cap(b.buf) }

// Reset empties the batch and keeps its memory.
func (b *Builder) Reset() { *b = Builder{buf: b.buf[:0]} }

// Mark is a place between two records.
type Mark struct {
	at, count int
	base, max int64
}

// Mark returns the end of the batch.
func (b *Builder) Mark() Mark { return Mark{len(b.buf), b.count, b.base, b.max} }

// Cut drops all behind a mark.
func (b *Builder) Cut(m Mark) {
	b.buf, b.count, b.base, b.max = b.buf[:m.at], m.count, m.base, m.max
}

// Record is a record as it lies in a batch.
type Record struct {
	Time int64 // ms since 1970
	Body []byte
}

// At returns the record that begins at a mark, false when there is none.
func (b *Builder) At(m Mark) (Record, bool) {
	at := m.at
	if at == 0 {
		at = len(emptyHead)
	}
	if at >= len(b.buf) {
		return Record{}, false
	}
	rec, _ := b.record(b.buf[at:])
	return rec, true
}

// Records calls yield for each record until it returns false.
func (b *Builder) Records(yield func(Record) bool) {
	if b.count == 0 {
		return
	}
	rest := b.buf[len(emptyHead):]
	for range b.count {
		var rec Record
		if rec, rest = b.record(rest); !yield(rec) {
			return
		}
	}
}

// record cuts off the record that Append has written at the beginning of p.
func (b *Builder) record(p []byte) (rec Record, rest []byte) {
	size, n := binary.Varint(p)
	p, rest = p[n:n+int(size)], p[n+int(size):]
	delta, n := binary.Varint(p[1:])
	p = p[1+n:]
	_, n = binary.Varint(p)
	return Record{b.base + delta, p[n:]}, rest
}

func sizeVarint(v int64) int {
	u := uint64(v<<1) ^ uint64(v>>63)
	return (bits.Len64(u|1) + 6) / 7
}
