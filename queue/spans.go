package queue

import (
	"fmt"
	"strconv"
	"strings"
)

// span is a range of seqs, both ends in it.
type span struct{ low, high int64 }

// spans are ranges in ascending order that neither overlap nor touch: what the
// database has as int8multirange.
type spans []span

func (s spans) has(seq int64) bool {
	for _, r := range s {
		if seq < r.low {
			return false
		}
		if seq <= r.high {
			return true
		}
	}
	return false
}

// above returns what lies above a seq.
func (s spans) above(seq int64) spans {
	for len(s) > 0 && s[0].high <= seq {
		s = s[1:]
	}
	if len(s) > 0 && s[0].low <= seq {
		s = append(spans{{seq + 1, s[0].high}}, s[1:]...)
	}
	return s
}

// overlap reports whether a seq between low and high is in one of them.
func (s spans) overlap(low, high int64) bool {
	for _, r := range s {
		if r.low <= high && low <= r.high {
			return true
		}
	}
	return false
}

// add appends a range that begins behind the last one, merging neighbours.
func (s spans) add(low, high int64) spans {
	if low > high {
		return s
	}
	if n := len(s); n > 0 && low <= s[n-1].high+1 {
		s[n-1].high = max(s[n-1].high, high)
		return s
	}
	return append(s, span{low, high})
}

// String returns the form of an int8multirange.
func (s spans) String() string {
	var b strings.Builder
	b.WriteByte('{')
	for i, r := range s {
		if i > 0 {
			b.WriteByte(',')
		}
		b.WriteByte('[')
		b.WriteString(strconv.FormatInt(r.low, 10))
		b.WriteByte(',')
		b.WriteString(strconv.FormatInt(r.high, 10))
		b.WriteByte(']')
	}
	b.WriteByte('}')
	return b.String()
}

// parseSpans reads an int8multirange in the canonical form of the server,
// {[1,5),[9,10)}, or that of String.
func parseSpans(text string) (spans, error) {
	bad := fmt.Errorf("%q is no multirange of bigint", text)
	inner, ok := strings.CutPrefix(text, "{")
	inner, ok2 := strings.CutSuffix(inner, "}")
	if !ok || !ok2 {
		return nil, bad
	}
	var s spans
	for inner != "" {
		end := strings.IndexAny(inner, ")]")
		if inner[0] != '[' && inner[0] != '(' || end < 0 {
			return nil, bad
		}
		low, high, found := strings.Cut(inner[1:end], ",")
		l, err1 := strconv.ParseInt(low, 10, 64)
		h, err2 := strconv.ParseInt(high, 10, 64)
		if !found || err1 != nil || err2 != nil {
			return nil, bad
		}
		if inner[0] == '(' {
			l++
		}
		if inner[end] == ')' {
			h--
		}
		s = s.add(l, h)
		inner = strings.TrimPrefix(inner[end+1:], ",")
	}
	return s, nil
}
