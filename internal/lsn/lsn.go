// Package lsn holds the positions of the bridge: log sequence numbers, the ids
// of changes, and the durable record of how far a bridge has come.
//
// It is the leaf that every stage shares. It is pure: no I/O, no clock, and none
// of a network stack behind it, which is why pglogrepl's LSN type is not used.
package lsn

import (
	"fmt"
	"strconv"
	"strings"
)

// LSN is a byte position in the write-ahead log. Zero is PostgreSQL's
// InvalidXLogRecPtr: no position.
type LSN uint64

// Parse reads PostgreSQL's text form, two hexadecimal halves of one to eight
// digits around a slash. PostgreSQL 19 pads the lower half; both forms are read.
func Parse(s string) (LSN, error) {
	hi, lo, ok := strings.Cut(s, "/")
	if !ok {
		return 0, fmt.Errorf("parse LSN %q: no slash", s)
	}
	h, err := parseHalf(hi)
	if err != nil {
		return 0, fmt.Errorf("parse LSN %q: upper half: %w", s, err)
	}
	l, err := parseHalf(lo)
	if err != nil {
		return 0, fmt.Errorf("parse LSN %q: lower half: %w", s, err)
	}
	return LSN(h<<32 | l), nil
}

func parseHalf(s string) (uint64, error) {
	if len(s) > 8 || strings.HasPrefix(s, "+") {
		return 0, fmt.Errorf("%q is not up to eight hexadecimal digits", s)
	}
	return strconv.ParseUint(s, 16, 32)
}

// String returns PostgreSQL's text form, such as 16/B374D848. It does not sort;
// ids use the fixed-width form of ID.
func (l LSN) String() string {
	return string(l.AppendText(make([]byte, 0, 17)))
}

// AppendText appends the form of String to dst, without allocating.
func (l LSN) AppendText(dst []byte) []byte {
	dst = appendUpperHex(dst, uint64(l>>32))
	dst = append(dst, '/')
	return appendUpperHex(dst, uint64(l&0xFFFFFFFF))
}

// Sub returns the bytes from o to l, negative when l lies before o.
func (l LSN) Sub(o LSN) int64 { return int64(l - o) }

const upperHex = "0123456789ABCDEF"

func appendUpperHex(dst []byte, v uint64) []byte {
	shift := 60
	for shift > 0 && v>>shift == 0 {
		shift -= 4
	}
	return appendHexDigits(dst, v, shift/4+1)
}

func appendHexDigits(dst []byte, v uint64, digits int) []byte {
	for shift := (digits - 1) * 4; shift >= 0; shift -= 4 {
		dst = append(dst, upperHex[v>>shift&0xF])
	}
	return dst
}
