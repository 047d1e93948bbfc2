package jsonline

import (
	"bytes"
	"encoding/json"
	"unicode/utf8"
)

// compact takes the white space between the tokens out of the JSON text that
// begins at from, in place, and returns the shorter dst. A line break within a
// string, which JSON forbids, becomes a space, so that the text is one line
// whatever it is.
func compact(dst []byte, from int) []byte {
	to := from
	for i := from; i < len(dst); {
		switch c := dst[i]; c {
		case ' ', '\t', '\n', '\r':
			i++
		case '"':
			end := stringEnd(dst, i+1)
			to += moveString(dst, to, i, end)
			i = end
		default:
			dst[to] = c
			to++
			i++
		}
	}
	return dst[:to]
}

// stringEnd returns the index behind the quote that ends the string whose content
// begins at i.
func stringEnd(text []byte, i int) int {
	for i < len(text) {
		n := bytes.IndexByte(text[i:], '"')
		if n < 0 {
			break
		}
		end := i + n
		slashes := 0
		for slashes < n && text[end-1-slashes] == '\\' {
			slashes++
		}
		if slashes%2 == 0 {
			return end + 1
		}
		i = end + 1
	}
	return len(text)
}

// moveString moves text[i:end] to to and returns its length.
func moveString(text []byte, to, i, end int) int {
	if to != i {
		copy(text[to:], text[i:end])
	}
	n := end - i
	if moved := text[to : to+n]; bytes.IndexByte(moved, '\n') >= 0 || bytes.IndexByte(moved, '\r') >= 0 {
		for j, c := range moved {
			if c == '\n' || c == '\r' {
				moved[j] = ' '
			}
		}
	}
	return n
}

// appendJSON appends JSON text on one line, or as a JSON string what is none.
func appendJSON(dst, text []byte) []byte {
	if !json.Valid(text) {
		return appendString(dst, text)
	}
	from := len(dst)
	return compact(append(dst, text...), from)
}

const hex = "0123456789abcdef"

// appendString appends a JSON string of text. Bytes that are not UTF-8 become
// U+FFFD; the line separators U+2028 and U+2029 are escaped, as some readers take
// them for line breaks.
func appendString[T ~string | ~[]byte](dst []byte, text T) []byte {
	dst = append(dst, '"')
	start := 0
	for i := 0; i < len(text); {
		c := text[i]
		if c < utf8.RuneSelf {
			if c >= ' ' && c != '"' && c != '\\' {
				i++
				continue
			}
			dst = appendEscape(append(dst, text[start:i]...), c)
			i++
			start = i
			continue
		}
		r, size := decodeRune(text[i:])
		switch {
		case r == utf8.RuneError && size == 1:
			dst = append(append(dst, text[start:i]...), "\ufffd"...)
			start = i + size
		case r == '\u2028' || r == '\u2029':
			dst = append(append(dst, text[start:i]...), `\u202`...)
			dst = append(dst, hex[r&0xF])
			start = i + size
		}
		i += size
	}
	return append(append(dst, text[start:]...), '"')
}

// decodeRune decodes the first rune, of at most four bytes, without an allocation.
func decodeRune[T ~string | ~[]byte](text T) (rune, int) {
	var four [utf8.UTFMax]byte
	return utf8.DecodeRune(four[:copy(four[:], text[:min(len(text), utf8.UTFMax)])])
}

func appendEscape(dst []byte, c byte) []byte {
	switch c {
	case '"', '\\':
		return append(dst, '\\', c)
	case '\n':
		return append(dst, '\\', 'n')
	case '\r':
		return append(dst, '\\', 'r')
	case '\t':
		return append(dst, '\\', 't')
	}
	return append(dst, '\\', 'u', '0', '0', hex[c>>4], hex[c&0xF])
}
