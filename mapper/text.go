package mapper

import (
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"math/bits"
	"unicode/utf8"
)

// appendString appends s as a JSON string. Only what JSON demands is escaped.
//
// Values are checked to be UTF-8 when the item is made, so that an invalid byte
// is a dead letter; should one come here all the same, U+FFFD stands for it and
// the text stays JSON.
func appendString(dst, s []byte) []byte {
	dst = append(dst, '"')
	for {
		n := plainPrefix(s)
		dst = append(dst, s[:n]...)
		if n == len(s) {
			return append(dst, '"')
		}
		dst, s = appendSpecial(dst, s[n:])
	}
}

// plainPrefix returns how many of the first bytes of s are ASCII that needs no
// escape. Eight bytes are looked at together: a byte is special when its high bit
// is set, or is set by taking 0x20 from it, or when it becomes zero by xor with a
// quote or a backslash. A borrow spoils only bytes after one that is special.
func plainPrefix(s []byte) int {
	const low, high = 0x0101010101010101, 0x8080808080808080
	n := 0
	for ; n+8 <= len(s); n += 8 {
		x := binary.LittleEndian.Uint64(s[n:])
		special := (x | (x - low*0x20) | ((x ^ low*'"') - low) | ((x ^ low*'\\') - low)) & high
		if special != 0 {
			return n + bits.TrailingZeros64(special)/8
		}
	}
	for ; n < len(s); n++ {
		if c := s[n]; c < 0x20 || c == '"' || c == '\\' || c >= utf8.RuneSelf {
			return n
		}
	}
	return n
}

// appendSpecial appends the run of special bytes at the start of s, of which there
// is at least one, and returns what follows it.
func appendSpecial(dst, s []byte) (rest, after []byte) {
	const digits = "0123456789abcdef"
	for len(s) > 0 {
		c := s[0]
		switch {
		case c == '"' || c == '\\':
			dst = append(dst, '\\', c)
		case c >= utf8.RuneSelf:
			r, size := utf8.DecodeRune(s)
			dst = utf8.AppendRune(dst, r)
			s = s[size:]
			continue
		case c >= 0x20:
			return dst, s
		case c == '\n':
			dst = append(dst, '\\', 'n')
		case c == '\r':
			dst = append(dst, '\\', 'r')
		case c == '\t':
			dst = append(dst, '\\', 't')
		default:
			dst = append(dst, '\\', 'u', '0', '0', digits[c>>4], digits[c&0xF])
		}
		s = s[1:]
	}
	return dst, s
}

// isHexBytea reports whether s is bytea as bytea_output = hex writes it.
func isHexBytea(s []byte) bool {
	if len(s) < 2 || len(s)%2 != 0 || s[0] != '\\' || s[1] != 'x' {
		return false
	}
	for _, c := range s[2:] {
		if (c < '0' || c > '9') && (c < 'a' || c > 'f') && (c < 'A' || c > 'F') {
			return false
		}
	}
	return true
}

// appendBytea appends the bytes that s, the hex form of a bytea, stands for. ok is
// false, and dst as it was, when s is not that form.
func appendBytea(dst, s []byte) (out []byte, ok bool) {
	if !isHexBytea(s) {
		return dst, false
	}
	out, err := hex.AppendDecode(dst, s[2:])
	return out, err == nil
}

// appendByteaBase64 appends a bytea as a JSON string in base64 (RFC 4648 section
// 4, padded), piece by piece, so that no copy of the whole is made.
func appendByteaBase64(dst, s []byte) (out []byte, ok bool) {
	if !isHexBytea(s) {
		return dst, false
	}
	const piece = 768 // a multiple of three, so that pieces join without padding
	var raw [piece]byte
	dst = append(dst, '"')
	for s = s[2:]; len(s) > 0; {
		hexes := s[:min(len(s), 2*piece)]
		n, err := hex.Decode(raw[:], hexes)
		if err != nil {
			return dst, false
		}
		dst = base64.StdEncoding.AppendEncode(dst, raw[:n])
		s = s[len(hexes):]
	}
	return append(dst, '"'), true
}

// appendBase64 appends s as a JSON string in base64.
func appendBase64(dst, s []byte) []byte {
	dst = append(dst, '"')
	dst = base64.StdEncoding.AppendEncode(dst, s)
	return append(dst, '"')
}
