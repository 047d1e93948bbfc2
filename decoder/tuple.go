package decoder

import (
	"encoding/binary"
	"fmt"
)

// tuple reads TupleData: uint16 number of columns, then for each one byte that
// says how it came, and for 't' and 'b' an int32 length and so many bytes
// (proto.c: logicalrep_write_tuple). The values are written over dst, whose
// memory is used again; those of a wider row before are cleared, so that they do
// not hold on to its frame.
//
// This is the inner loop of the program: it works on local variables and only
// leaves for an error.
func (r *reader) tuple(dst []Value) []Value {
	n := int(r.uint16("number of columns"))
	if most := r.size - int64(r.off); int64(n) > most { // a column takes at least a byte
		r.fail(r.off-2, "number of columns", fmt.Sprintf("at most %d, one for each byte left", most), fmt.Sprint(n))
		n = 0
	}
	dst = resize(dst, min(n, r.left()))
	data, off := r.data, r.off
	for i := range dst {
		if off >= len(data) {
			return r.endTuple(dst, i, off)
		}
		kind := ValueKind(data[off])
		if kind == ValueText || kind == ValueBinary {
			if len(data)-off < 5 {
				return r.endTuple(dst, i, off)
			}
			size := binary.BigEndian.Uint32(data[off+1:])
			off += 5
			if uint64(size) > uint64(len(data)-off) {
				return r.endTuple(dst, i, off-5)
			}
			end := off + int(size)
			dst[i] = Value{kind, data[off:end:end]}
			off = end
			continue
		}
		if kind != ValueNull && kind != ValueUnchanged {
			return r.endTuple(dst, i, off)
		}
		dst[i] = Value{Kind: kind}
		off++
	}
	r.off = off
	if len(dst) < n { // only of a message of which the head was kept
		r.short(columnField(len(dst)), 1)
	}
	return dst
}

// endTuple reads column i, which the loop could not, once more to say why, and
// returns the columns before it.
func (r *reader) endTuple(dst []Value, i, off int) []Value {
	r.off = off
	switch kind := ValueKind(r.uint8(columnField(i))); {
	case r.err != nil || r.cut:
	case kind == ValueText || kind == ValueBinary:
		r.bytes("length of "+columnField(i), r.uint32("length of "+columnField(i)))
	default:
		r.fail(off, columnField(i), "one of n, u, t, b", fmt.Sprintf("0x%02X", byte(kind)))
	}
	clear(dst[i:])
	return dst[:i]
}

func columnField(i int) string { return fmt.Sprintf("column %d", i) }

// resize returns dst with length n, and no reference left in what lies beyond.
func resize(dst []Value, n int) []Value {
	if n < len(dst) {
		clear(dst[n:])
	}
	if dst == nil || n > cap(dst) { // a row of no columns is not nil, which is no row
		return make([]Value, n)
	}
	return dst[:n]
}
