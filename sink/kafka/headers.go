package kafka

import (
	"bytes"
	"strings"
	"unicode/utf16"
	"unicode/utf8"

	"github.com/walbridge/walbridge/sink/kafka/recordbatch"
)

// reserved begins the names of our own headers. An item's header of such a name is
// stored behind renamed, so that wb-id is always ours.
const (
	reserved = "wb-"
	renamed  = "x-"
)

// headers writes an item's headers, a JSON object of strings, as headers of a record.
type headers struct {
	name, value []byte // unescaped, reused
}

// append adds each member of text. What is no object of strings is kept whole, under
// the name headers.
func (h *headers) append(b *recordbatch.Body, text []byte) {
	if !h.walk(text, nil) {
		b.Header("headers", text)
		return
	}
	h.walk(text, b)
}

// walk reads the members; with a body it adds them to it. It reports whether text is
// an object of strings.
func (h *headers) walk(text []byte, b *recordbatch.Body) bool {
	rest, ok := after(text, '{')
	if !ok {
		return false
	}
	if end, ok := after(rest, '}'); ok {
		return len(space(end)) == 0
	}
	for {
		if h.name, rest, ok = unquote(h.name[:0], space(rest)); !ok {
			return false
		}
		if rest, ok = after(rest, ':'); !ok {
			return false
		}
		if h.value, rest, ok = unquote(h.value[:0], space(rest)); !ok {
			return false
		}
		if b != nil {
			h.add(b)
		}
		if end, ok := after(rest, '}'); ok {
			return len(space(end)) == 0
		}
		if rest, ok = after(rest, ','); !ok {
			return false
		}
	}
}

func (h *headers) add(b *recordbatch.Body) {
	if len(h.name) >= len(reserved) && strings.EqualFold(string(h.name[:len(reserved)]), reserved) {
		h.name = append(h.name, renamed...)
		copy(h.name[len(renamed):], h.name)
		copy(h.name, renamed)
	}
	b.HeaderBytes(h.name, h.value)
}

func space(p []byte) []byte { return bytes.TrimLeft(p, " \t\r\n") }

// after skips white space and one character.
func after(p []byte, c byte) ([]byte, bool) {
	p = space(p)
	if len(p) == 0 || p[0] != c {
		return p, false
	}
	return p[1:], true
}

// unquote appends the JSON string at the beginning of p, unescaped, and returns what
// follows it.
func unquote(dst, p []byte) (value, rest []byte, ok bool) {
	if len(p) == 0 || p[0] != '"' {
		return dst, p, false
	}
	for p = p[1:]; ; {
		i := bytes.IndexAny(p, `"\`)
		if i < 0 {
			return dst, p, false
		}
		dst = append(dst, p[:i]...)
		if p[i] == '"' {
			return dst, p[i+1:], true
		}
		if dst, p, ok = unescape(dst, p[i+1:]); !ok {
			return dst, p, false
		}
	}
}

// unescape appends what the escape behind a backslash stands for.
func unescape(dst, p []byte) (value, rest []byte, ok bool) {
	if len(p) == 0 {
		return dst, p, false
	}
	const escapes, plain = `"\/bfnrt`, "\"\\/\b\f\n\r\t"
	if i := strings.IndexByte(escapes, p[0]); i >= 0 {
		return append(dst, plain[i]), p[1:], true
	}
	r, ok := hex4(p)
	if !ok {
		return dst, p, false
	}
	p = p[5:]
	if utf16.IsSurrogate(r) {
		low := rune(utf8.RuneError)
		if len(p) > 0 && p[0] == '\\' {
			low, _ = hex4(p[1:])
		}
		if r = utf16.DecodeRune(r, low); r != utf8.RuneError {
			p = p[6:]
		}
	}
	return utf8.AppendRune(dst, r), p, true
}

// hex4 reads u and four hexadecimal digits.
func hex4(p []byte) (rune, bool) {
	if len(p) < 5 || p[0] != 'u' {
		return utf8.RuneError, false
	}
	var r rune
	for _, c := range p[1:5] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return utf8.RuneError, false
		}
	}
	return r, true
}
