package decoder

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"strconv"

	"github.com/walbridge/walbridge/internal/lsn"
)

// reader walks over one message. It never reads beyond the end: the first thing
// that does not fit is kept as err, and everything after it reads as zero. So a
// message reads all its fields and looks at err once. What it returns aliases
// data, with the capacity cut, so that an append cannot reach the next field.
type reader struct {
	data []byte
	off  int // of the next byte, from the message's first
	kind MessageKind
	err  *WireError
	// size is the length of the whole message: above len(data) when only its head was
	// kept, and then cut says that the end of the head was met.
	size int64
	cut  bool
}

// fail keeps the first error and moves to the end, so that nothing follows it.
func (r *reader) fail(at int, field, want, got string) {
	if r.err == nil && !r.cut {
		r.err = &WireError{Message: r.kind, Offset: at, Field: field, Want: want, Got: got}
	}
	r.off = len(r.data)
}

// short is met when n bytes are wanted and fewer are there. In a message of which
// only the head was kept that is no error when the whole has them.
func (r *reader) short(field string, n int) {
	if r.err == nil && int64(r.off)+int64(n) <= r.size {
		r.cut = true
	}
	r.fail(r.off, field, bytesText(n), bytesText(r.size-int64(r.off)))
}

func (r *reader) left() int { return len(r.data) - r.off }

func (r *reader) uint8(field string) uint8 {
	if r.left() < 1 {
		r.short(field, 1)
		return 0
	}
	v := r.data[r.off]
	r.off++
	return v
}

func (r *reader) uint16(field string) uint16 {
	if r.left() < 2 {
		r.short(field, 2)
		return 0
	}
	v := binary.BigEndian.Uint16(r.data[r.off:])
	r.off += 2
	return v
}

func (r *reader) uint32(field string) uint32 {
	if r.left() < 4 {
		r.short(field, 4)
		return 0
	}
	v := binary.BigEndian.Uint32(r.data[r.off:])
	r.off += 4
	return v
}

func (r *reader) uint64(field string) uint64 {
	if r.left() < 8 {
		r.short(field, 8)
		return 0
	}
	v := binary.BigEndian.Uint64(r.data[r.off:])
	r.off += 8
	return v
}

func (r *reader) lsn(field string) lsn.LSN     { return lsn.LSN(r.uint64(field)) }
func (r *reader) time(field string) lsn.Micros { return lsn.Micros(r.uint64(field)) }

// string reads up to a zero byte, which is not part of the result.
func (r *reader) string(field string) []byte {
	n := bytes.IndexByte(r.data[r.off:], 0)
	if n < 0 {
		if r.err == nil && r.size > int64(len(r.data)) {
			r.cut = true
		}
		r.fail(r.off, field, "a string that ends in a zero byte", bytesText(r.left())+" without one")
		return nil
	}
	s := r.data[r.off : r.off+n : r.off+n]
	r.off += n + 1
	return s
}

// bytes reads n bytes.
func (r *reader) bytes(field string, n uint32) []byte {
	if uint64(n) > uint64(r.left()) {
		r.shortValue(field, n)
		return nil
	}
	b := r.data[r.off : r.off+int(n) : r.off+int(n)]
	r.off += int(n)
	return b
}

// shortValue is met when a length on the wire reaches beyond the end.
func (r *reader) shortValue(field string, n uint32) {
	if r.err == nil && int64(r.off)+int64(n) <= r.size {
		r.cut = true
	}
	r.fail(r.off, field, "at most "+bytesText(r.size-int64(r.off)), strconv.FormatInt(int64(int32(n)), 10))
}

// flags reads a byte of which only the bits of known may be set.
func (r *reader) flags(known uint8) uint8 {
	v := r.uint8("flags")
	if v&^known != 0 {
		r.fail(r.off-1, "flags", fmt.Sprintf("no bits but 0x%02X", known), fmt.Sprintf("0x%02X", v))
	}
	return v
}

// end is called when all fields are read: it reports what did not fit, and bytes
// that no field has claimed.
func (r *reader) end() error {
	if left := r.size - int64(r.off); left > 0 {
		r.fail(r.off, "end of the message", "no more bytes", bytesText(left))
	}
	if r.err != nil {
		return r.err
	}
	return nil
}

func bytesText[N int | int64](n N) string {
	if n == 1 {
		return "1 byte"
	}
	return strconv.FormatInt(int64(n), 10) + " bytes"
}
