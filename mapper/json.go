package mapper

import (
	"bytes"
	"unicode/utf16"
	"unicode/utf8"
)

// maxJSONDepth is how deep arrays and objects may lie in one another. It is the
// limit of encoding/json, and lies above what PostgreSQL's own parser takes with
// its default stack.
const maxJSONDepth = 10000

// jsonScanner finds where JSON values end. It keeps the kinds of the open
// brackets as bits, so that deep values cost no stack; it is reused.
type jsonScanner struct {
	open [maxJSONDepth/64 + 1]uint64
}

// valid reports whether s is one JSON value in valid UTF-8, as encoding/json.Valid
// does but for the encoding, which that does not look at.
func (j *jsonScanner) valid(s []byte) bool {
	end := j.value(s, skipSpace(s, 0))
	return end >= 0 && skipSpace(s, end) == len(s) && utf8.Valid(s)
}

// value returns the index after the value that begins at i, -1 when there is none.
func (j *jsonScanner) value(s []byte, i int) int {
	depth := 0
	for i >= 0 && i < len(s) {
		// At the start of a value.
		switch s[i] {
		case '{', '[':
			if depth == maxJSONDepth {
				return -1
			}
			j.push(depth, s[i] == '{')
			depth++
			var empty bool
			if i, empty = openBracket(s, i); !empty {
				continue
			}
		default:
			i = scanScalar(s, i)
		}
		// After a value: close what ends here, or go on to the next one.
		var done bool
		if i, depth, done = j.after(s, i, depth); done {
			return i
		}
	}
	return -1
}

// after goes from the end of a value to the start of the next. done: the
// outermost value has ended at i, or nothing follows that may (i is -1).
func (j *jsonScanner) after(s []byte, i, depth int) (next, open int, done bool) {
	for {
		if i < 0 || depth == 0 {
			return i, depth, true
		}
		i = skipSpace(s, i)
		if i >= len(s) {
			return -1, depth, true
		}
		object := j.isObject(depth - 1)
		switch {
		case s[i] == ',' && object:
			return scanLabel(s, skipSpace(s, i+1)), depth, false
		case s[i] == ',':
			return skipSpace(s, i+1), depth, false
		case s[i] == '}' && object, s[i] == ']' && !object:
			depth--
			i++
		default:
			return -1, depth, true
		}
	}
}

func (j *jsonScanner) push(depth int, object bool) {
	bit := uint64(1) << (depth % 64)
	j.open[depth/64] &^= bit
	if object {
		j.open[depth/64] |= bit
	}
}

func (j *jsonScanner) isObject(depth int) bool { return j.open[depth/64]>>(depth%64)&1 == 1 }

// openBracket goes from a bracket to the first value in it. empty: there is none,
// and next is the closing bracket.
func openBracket(s []byte, i int) (next int, empty bool) {
	object := s[i] == '{'
	i = skipSpace(s, i+1)
	if i < len(s) && (object && s[i] == '}' || !object && s[i] == ']') {
		return i, true
	}
	if object {
		i = scanLabel(s, i)
	}
	return i, false
}

// scanLabel returns the index of the value behind a member's name at i, or -1.
func scanLabel(s []byte, i int) int {
	i = scanString(s, i)
	if i < 0 {
		return -1
	}
	i = skipSpace(s, i)
	if i >= len(s) || s[i] != ':' {
		return -1
	}
	return skipSpace(s, i+1)
}

func skipSpace(s []byte, i int) int {
	for i < len(s) && (s[i] == ' ' || s[i] == '\n' || s[i] == '\t' || s[i] == '\r') {
		i++
	}
	return i
}

// scanScalar returns the index after the string, number or word at i, or -1.
func scanScalar(s []byte, i int) int {
	switch s[i] {
	case '"':
		return scanString(s, i)
	case 't':
		return scanWord(s, i, "true")
	case 'f':
		return scanWord(s, i, "false")
	case 'n':
		return scanWord(s, i, "null")
	}
	return scanNumber(s, i)
}

func scanWord(s []byte, i int, word string) int {
	if len(s)-i < len(word) || string(s[i:i+len(word)]) != word {
		return -1
	}
	return i + len(word)
}

// scanString returns the index after the string at i, or -1.
func scanString(s []byte, i int) int {
	if i >= len(s) || s[i] != '"' {
		return -1
	}
	for i++; ; {
		i += plainPrefix(s[i:])
		if i >= len(s) {
			return -1
		}
		switch c := s[i]; {
		case c == '"':
			return i + 1
		case c == '\\':
			n := escapeLen(s[i:])
			if n == 0 {
				return -1
			}
			i += n
		case c < 0x20:
			return -1
		default:
			i++ // a byte beyond ASCII
		}
	}
}

// escapeLen returns the length of the escape that s begins with, 0 when it is none.
func escapeLen(s []byte) int {
	if len(s) < 2 {
		return 0
	}
	switch s[1] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return 2
	case 'u':
		if _, ok := hex4(s[2:]); ok {
			return 6
		}
	}
	return 0
}

func hex4(s []byte) (r rune, ok bool) {
	if len(s) < 4 {
		return 0, false
	}
	for _, c := range s[:4] {
		switch {
		case c >= '0' && c <= '9':
			r = r<<4 | rune(c-'0')
		case c|0x20 >= 'a' && c|0x20 <= 'f':
			r = r<<4 | rune(c|0x20-'a'+10)
		default:
			return 0, false
		}
	}
	return r, true
}

// appendUnquoted appends what the JSON string s, quotes included, stands for. Half
// of a surrogate pair becomes U+FFFD, as everywhere in Go.
func appendUnquoted(dst, s []byte) []byte {
	s = s[1 : len(s)-1]
	for {
		n := bytes.IndexByte(s, '\\')
		if n < 0 {
			return append(dst, s...)
		}
		dst = append(dst, s[:n]...)
		dst, s = appendEscape(dst, s[n:])
	}
}

// appendEscape appends the character of the valid escape that s begins with and
// returns what follows it.
func appendEscape(dst, s []byte) (out, after []byte) {
	switch c := s[1]; c {
	case 'b':
		return append(dst, '\b'), s[2:]
	case 'f':
		return append(dst, '\f'), s[2:]
	case 'n':
		return append(dst, '\n'), s[2:]
	case 'r':
		return append(dst, '\r'), s[2:]
	case 't':
		return append(dst, '\t'), s[2:]
	case 'u':
	default:
		return append(dst, c), s[2:]
	}
	r, _ := hex4(s[2:])
	s = s[6:]
	if utf16.IsSurrogate(r) && len(s) >= 6 && s[0] == '\\' && s[1] == 'u' {
		second, _ := hex4(s[2:])
		if pair := utf16.DecodeRune(r, second); pair != utf8.RuneError {
			return utf8.AppendRune(dst, pair), s[6:]
		}
	}
	return utf8.AppendRune(dst, r), s
}

// members walks the members of one object. Use: for m.next() { m.name, m.value }.
type members struct {
	scan  *jsonScanner
	s     []byte
	i     int
	name  []byte // with its quotes, escapes untouched
	value []byte
	bad   bool // what was looked at is no object
}

// membersOf begins a walk over s.
func (j *jsonScanner) membersOf(s []byte) members {
	m := members{scan: j, s: s, i: skipSpace(s, 0)}
	m.bad = m.i >= len(s) || s[m.i] != '{'
	return m
}

// next goes to the next member. The walk ends at the closing brace; what follows
// it is not looked at.
func (m *members) next() bool {
	if m.bad || m.s[m.i] == '}' {
		return false
	}
	i := skipSpace(m.s, m.i+1)
	if m.s[m.i] == '{' && i < len(m.s) && m.s[i] == '}' {
		m.i = i
		return false
	}
	value := scanLabel(m.s, i)
	if value < 0 {
		m.bad = true
		return false
	}
	m.name = m.s[i:scanString(m.s, i)]
	end := m.scan.value(m.s, value)
	if end < 0 {
		m.bad = true
		return false
	}
	m.value = m.s[value:end]
	m.i = skipSpace(m.s, end)
	m.bad = m.i >= len(m.s) || m.s[m.i] != ',' && m.s[m.i] != '}'
	return !m.bad
}
