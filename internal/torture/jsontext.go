package torture

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"unicode/utf8"
)

var errSyntax = errors.New("not the JSON that was expected")

// members calls f with each member of a JSON object, in order. The name is
// unquoted, the value is its text. Both alias raw or last until the next call.
func members(raw []byte, f func(name, value []byte) error) error {
	i := space(raw, 0)
	if i >= len(raw) || raw[i] != '{' {
		return fmt.Errorf("read an object: %w", errSyntax)
	}
	for i = space(raw, i+1); i < len(raw) && raw[i] != '}'; {
		end := valueEnd(raw, i)
		colon := space(raw, end)
		if end < 0 || raw[i] != '"' || colon >= len(raw) || raw[colon] != ':' {
			return fmt.Errorf("read an object's member: %w", errSyntax)
		}
		name := unquote(raw[i:end])
		i = space(raw, colon+1)
		if end = valueEnd(raw, i); end < 0 {
			return fmt.Errorf("read the member %s: %w", name, errSyntax)
		}
		if err := f(name, raw[i:end]); err != nil {
			return err
		}
		i = next(raw, end)
	}
	return closed(raw, i)
}

// elements calls f with the text of each element of a JSON array.
func elements(raw []byte, f func(value []byte) error) error {
	i := space(raw, 0)
	if i >= len(raw) || raw[i] != '[' {
		return fmt.Errorf("read an array: %w", errSyntax)
	}
	for i = space(raw, i+1); i < len(raw) && raw[i] != ']'; {
		end := valueEnd(raw, i)
		if end < 0 {
			return fmt.Errorf("read an array's element: %w", errSyntax)
		}
		if err := f(raw[i:end]); err != nil {
			return err
		}
		i = next(raw, end)
	}
	return closed(raw, i)
}

// closed is an error unless a bracket closes at i.
func closed(raw []byte, i int) error {
	if i >= len(raw) {
		return fmt.Errorf("find the end: %w", errSyntax)
	}
	return nil
}

// next goes from the end of a member or element to the next one.
func next(raw []byte, i int) int {
	if i = space(raw, i); i < len(raw) && raw[i] == ',' {
		i = space(raw, i+1)
	}
	return i
}

// space skips white space from i on; a negative i stays out of range.
func space(raw []byte, i int) int {
	if i < 0 {
		return len(raw)
	}
	for i < len(raw) && (raw[i] == ' ' || raw[i] == '\n' || raw[i] == '\t' || raw[i] == '\r') {
		i++
	}
	return i
}

// valueEnd returns the index after the value at i, -1 when there is none. It does
// not check what is inside brackets: texts were valid JSON when they came in.
func valueEnd(raw []byte, i int) int {
	depth := 0
	for ; i < len(raw); i++ {
		switch raw[i] {
		case '"':
			if i = stringEnd(raw, i); i < 0 {
				return -1
			}
			if depth == 0 {
				return i
			}
			i--
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth <= 0 {
				return ifDepth(depth, i)
			}
		case ',', ':', ' ', '\n', '\t', '\r':
		default:
			if depth == 0 {
				return wordEnd(raw, i)
			}
		}
	}
	return -1
}

// ifDepth is the index after a closing bracket, -1 when nothing was open.
func ifDepth(depth, i int) int {
	if depth < 0 {
		return -1
	}
	return i + 1
}

func stringEnd(raw []byte, i int) int {
	for i++; i < len(raw); i++ {
		n := bytes.IndexAny(raw[i:], `"\`)
		if n < 0 {
			return -1
		}
		i += n
		if raw[i] == '"' {
			return i + 1
		}
		i++ // what follows a backslash
	}
	return -1
}

func wordEnd(raw []byte, i int) int {
	for i < len(raw) && bytes.IndexByte([]byte(",]} \n\t\r:"), raw[i]) < 0 {
		i++
	}
	return i
}

// unquote returns what a JSON string stands for. A string without a backslash
// aliases raw.
func unquote(raw []byte) []byte {
	if len(raw) < 2 {
		return nil // half of a text that was cut off
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw[1 : len(raw)-1]
	}
	var s string
	if json.Unmarshal(raw, &s) != nil {
		return raw
	}
	return []byte(s)
}

// normal appends the normal form of a JSON value: no white space, every string
// escaped in the one way of quote; members keep their order and repetitions, and
// numbers every digit. Two texts have the same one exactly if they say the same.
func normal(dst, raw []byte) ([]byte, error) {
	i := space(raw, 0)
	if i >= len(raw) {
		return dst, fmt.Errorf("read a value: %w", errSyntax)
	}
	var err error
	switch raw[i] {
	case '"':
		return quote(dst, unquote(bytes.TrimSpace(raw[i:]))), nil
	case '{':
		dst = append(dst, '{')
		err = members(raw, func(name, value []byte) error {
			dst = quote(comma(dst), name)
			dst, err = normal(append(dst, ':'), value)
			return err
		})
		return append(dst, '}'), err
	case '[':
		dst = append(dst, '[')
		err = elements(raw, func(value []byte) error {
			dst, err = normal(comma(dst), value)
			return err
		})
		return append(dst, ']'), err
	}
	return append(dst, bytes.TrimSpace(raw[i:])...), nil
}

// comma appends one unless a bracket has just been opened.
func comma(dst []byte) []byte {
	if n := len(dst); n > 0 && dst[n-1] != '{' && dst[n-1] != '[' {
		return append(dst, ',')
	}
	return dst
}

// quote appends text as a JSON string, in a form of its own.
func quote(dst, text []byte) []byte {
	dst = append(dst, '"')
	for len(text) > 0 {
		n := 0
		for n < len(text) && text[n] >= 0x20 && text[n] != '"' && text[n] != '\\' && text[n] < utf8.RuneSelf {
			n++
		}
		dst = append(dst, text[:n]...)
		if n == len(text) {
			break
		}
		switch c := text[n]; {
		case c >= utf8.RuneSelf:
			dst = append(dst, c)
		case c < 0x20:
			dst = fmt.Appendf(dst, `\u%04x`, c)
		default:
			dst = append(dst, '\\', c)
		}
		text = text[n+1:]
	}
	return append(dst, '"')
}
