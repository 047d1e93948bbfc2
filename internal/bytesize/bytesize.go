// Package bytesize reads and writes sizes in bytes the way people spell them:
// 4MiB, 128MB, 65536. It knows no rates and no fractions of a byte.
package bytesize

import (
	"errors"
	"fmt"
	"math"
	"strconv"
	"strings"
)

// The binary units.
const (
	KiB = 1 << 10
	MiB = 1 << 20
	GiB = 1 << 30
	TiB = 1 << 40
)

type unit struct {
	name  string
	bytes int64
}

// units is ordered from the largest to the smallest, binary before decimal, as
// Format tries them. PostgreSQL's own kB, MB and GB are binary; here, as in most
// tools, MB is 10^6 and MiB 2^20.
var units = []unit{
	{"TiB", TiB}, {"TB", 1e12},
	{"GiB", GiB}, {"GB", 1e9},
	{"MiB", MiB}, {"MB", 1e6},
	{"KiB", KiB}, {"kB", 1e3},
	{"B", 1},
}

// ErrSyntax says what a size looks like. Parse wraps it with the text it was given.
var ErrSyntax = errors.New("a size is a number of bytes or a number with a unit, such as 65536, 512KiB, 4MiB, 128MB, 1GiB")

// Parse reads a size. Units are told apart without regard to case; a fraction is
// fine when it comes to a whole number of bytes (1.5MiB).
func Parse(s string) (int64, error) {
	text := strings.TrimSpace(s)
	digits := strings.TrimRight(text, "BbKkMmGgTtIi ")
	factor, ok := factorOf(strings.TrimSpace(text[len(digits):]))
	if !ok || digits == "" {
		return 0, fmt.Errorf("%q: %w", s, ErrSyntax)
	}
	if n, err := strconv.ParseInt(digits, 10, 64); err == nil {
		return multiply(s, n, factor)
	}
	f, err := strconv.ParseFloat(digits, 64)
	if err != nil || strings.Trim(digits, "0123456789.") != "" {
		return 0, fmt.Errorf("%q: %w", s, ErrSyntax)
	}
	f *= float64(factor)
	if f >= math.MaxInt64 {
		return 0, fmt.Errorf("%q: larger than %d bytes", s, int64(math.MaxInt64))
	}
	if f != math.Trunc(f) {
		return 0, fmt.Errorf("%q: not a whole number of bytes", s)
	}
	return int64(f), nil
}

func multiply(s string, n, factor int64) (int64, error) {
	if n < 0 {
		return 0, fmt.Errorf("%q: a size is not negative", s)
	}
	if n > math.MaxInt64/factor {
		return 0, fmt.Errorf("%q: larger than %d bytes", s, int64(math.MaxInt64))
	}
	return n * factor, nil
}

func factorOf(name string) (int64, bool) {
	if name == "" {
		return 1, true
	}
	for _, u := range units {
		if strings.EqualFold(u.name, name) {
			return u.bytes, true
		}
	}
	return 0, false
}

// Format writes n exactly, in the largest unit that divides it: 4MiB, 1500kB, 7B.
// Parse reads it back. Zero is "0".
func Format(n int64) string {
	if n == 0 {
		return "0"
	}
	for _, u := range units {
		if n%u.bytes == 0 {
			return strconv.FormatInt(n/u.bytes, 10) + u.name
		}
	}
	return strconv.FormatInt(n, 10) + "B"
}

// Human writes n for people, rounded to three digits in binary units: "0 B",
// "912 B", "1.5 KiB", "12.3 MiB", "-4 KiB".
func Human(n int64) string {
	if n < 0 {
		if n == math.MinInt64 {
			n++
		}
		return "-" + Human(-n)
	}
	if n < KiB {
		return strconv.FormatInt(n, 10) + " B"
	}
	f, names := float64(n)/KiB, []string{"KiB", "MiB", "GiB", "TiB"}
	i := 0
	for f >= 1023.5 && i < len(names)-1 {
		f, i = f/KiB, i+1
	}
	return threeDigits(f) + " " + names[i]
}

func threeDigits(f float64) string {
	decimals := 0
	switch {
	case f < 9.995:
		decimals = 2
	case f < 99.95:
		decimals = 1
	}
	s := strconv.FormatFloat(f, 'f', decimals, 64)
	if decimals > 0 {
		s = strings.TrimRight(strings.TrimRight(s, "0"), ".")
	}
	return s
}
