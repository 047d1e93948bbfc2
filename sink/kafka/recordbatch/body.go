package recordbatch

import (
	"encoding/binary"
	"errors"
)

// Value writes itself. It is what mapper.Payload does.
type Value interface {
	// AppendJSON appends the value.
	AppendJSON(dst []byte) []byte
}

// Body is the part of a record that is the same wherever the record lies: key,
// value and headers. It is built by Begin, Header… and End, and reused by the next
// Begin. The zero value is ready.
type Body struct {
	buf     []byte
	from    int // where the body begins in buf
	headers int // their number
	at      int // where their number is written
}

// maxVarint is the room for a length of 32 bits (zigzag).
const maxVarint = binary.MaxVarintLen32

// Begin starts a body. A nil key or value is Kafka's null.
func (b *Body) Begin(key []byte, value Value) {
	if value == nil {
		b.BeginBytes(key, nil)
		return
	}
	// The value's length is known only behind the value. The key, which is short, is
	// moved up to the length, not the value down.
	gap := maxVarint + len(key) + maxVarint
	b.room(gap)
	b.buf = value.AppendJSON(b.buf)
	b.lead(key, int64(len(b.buf)-gap), gap)
	b.count()
}

// BeginBytes is Begin with a value that is there already.
func (b *Body) BeginBytes(key, value []byte) {
	gap := maxVarint + len(key) + maxVarint
	b.room(gap)
	b.buf = append(b.buf, value...)
	size := int64(len(value))
	if value == nil {
		size = -1
	}
	b.lead(key, size, gap)
	b.count()
}

func (b *Body) room(n int) {
	if cap(b.buf) < n {
		b.buf = make([]byte, n, 2*n+512)
	}
	b.buf = b.buf[:n]
}

// lead writes key and value length so that they end where the value begins.
func (b *Body) lead(key []byte, size int64, valueAt int) {
	var text [2 * maxVarint]byte
	keySize := int64(len(key))
	if key == nil {
		keySize = -1
	}
	head := binary.AppendVarint(text[:0], keySize)
	n := len(head)
	all := binary.AppendVarint(head, size)
	b.from = valueAt - len(all) - len(key)
	copy(b.buf[b.from:], all[:n])
	copy(b.buf[b.from+n:], key)
	copy(b.buf[b.from+n+len(key):], all[n:])
}

// count leaves room for the number of headers, which is one byte up to 63.
func (b *Body) count() {
	b.at, b.headers = len(b.buf), 0
	b.buf = append(b.buf, 0)
}

// Header adds a header. A nil value is Kafka's null.
func (b *Body) Header(name string, value []byte) {
	b.headers++
	b.buf = append(binary.AppendVarint(b.buf, int64(len(name))), name...)
	b.buf = appendBytes(b.buf, value)
}

// HeaderBytes is Header with a name that is no string.
func (b *Body) HeaderBytes(name, value []byte) {
	b.headers++
	b.buf = appendBytes(append(binary.AppendVarint(b.buf, int64(len(name))), name...), value)
}

// HeaderText is Header with a text.
func (b *Body) HeaderText(name, value string) {
	b.headers++
	b.buf = append(binary.AppendVarint(b.buf, int64(len(name))), name...)
	b.buf = append(binary.AppendVarint(b.buf, int64(len(value))), value...)
}

// End returns the finished body, valid until the next Begin.
func (b *Body) End() []byte {
	var text [maxVarint]byte
	number := binary.AppendVarint(text[:0], int64(b.headers))
	b.buf[b.at] = number[0]
	if more := len(number) - 1; more > 0 {
		b.buf = append(b.buf, number[1:]...) // for its length
		copy(b.buf[b.at+len(number):], b.buf[b.at+1:len(b.buf)-more])
		copy(b.buf[b.at:], number)
	}
	return b.buf[b.from:]
}

func appendBytes(dst, v []byte) []byte {
	if v == nil {
		return binary.AppendVarint(dst, -1)
	}
	return append(binary.AppendVarint(dst, int64(len(v))), v...)
}

// Parsed is a body taken apart. Its slices alias the body.
type Parsed struct {
	Key, Value []byte // nil: null
	headers    []byte
	count      int64
}

var errCut = errors.New("record body: a length lies beyond its end")

// Parse takes a finished body apart.
func Parse(body []byte) (Parsed, error) {
	var p Parsed
	r := reader{body}
	var ok1, ok2, ok3 bool
	p.Key, ok1 = r.bytes()
	p.Value, ok2 = r.bytes()
	p.count, ok3 = r.varint()
	if !ok1 || !ok2 || !ok3 || p.count < 0 {
		return Parsed{}, errCut
	}
	p.headers = r.rest
	return p, nil
}

// Header is one header of a parsed body.
type Header struct {
	Name  []byte
	Value []byte // nil: null
}

// Headers calls yield for each header, until one that is cut or yield returns false.
func (p Parsed) Headers(yield func(Header) bool) {
	r := reader{p.headers}
	for range p.count {
		name, ok1 := r.bytes()
		value, ok2 := r.bytes()
		if !ok1 || !ok2 || !yield(Header{name, value}) {
			return
		}
	}
}

// Header returns the value of the first header of a name, nil when there is none.
func (p Parsed) Header(name string) []byte {
	for h := range p.Headers {
		if string(h.Name) == name {
			return h.Value
		}
	}
	return nil
}

// reader cuts fields off bytes.
type reader struct{ rest []byte }

func (r *reader) varint() (int64, bool) {
	v, n := binary.Varint(r.rest)
	if n <= 0 {
		return 0, false
	}
	r.rest = r.rest[n:]
	return v, true
}

// bytes reads a length and so many bytes, nil for a length of -1.
func (r *reader) bytes() ([]byte, bool) {
	n, ok := r.varint()
	if !ok || n < -1 || n > int64(len(r.rest)) {
		return nil, false
	}
	if n < 0 {
		return nil, true
	}
	v := r.rest[:n:n]
	r.rest = r.rest[n:]
	return v, true
}
