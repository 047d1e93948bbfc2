package torture

import (
	"fmt"
	"math"
	"math/rand/v2"
	"strconv"
	"strings"
	"time"
)

// value draws a value for a column: text as the type's input function takes it, or
// nil for NULL.
type value func(r *rand.Rand) any

// orNull makes a value NULL once in a while.
func orNull(v value) value {
	return func(r *rand.Rand) any {
		if r.IntN(12) == 0 {
			return nil
		}
		return v(r)
	}
}

// oneOf draws one of given texts.
func oneOf(texts ...string) value {
	return func(r *rand.Rand) any { return texts[r.IntN(len(texts))] }
}

// hostile are pieces of text that quoting, escaping or splitting can get wrong.
var hostile = []string{
	"", " ", "a", "it's", `"`, `\`, `\\x41`, "\n", "\t\r", "\x01", "{", "}", ",", "NULL", "null",
	"ü", "ß漢", "😀", "\u2028", "\u00a0", "</script>", "%s", "$1", "é", "%", "_", "/", ":", "[1]", "∅",
}

func text(r *rand.Rand) any {
	var b strings.Builder
	for n := r.IntN(6); n >= 0; n-- {
		b.WriteString(hostile[r.IntN(len(hostile))])
		b.WriteString(strconv.Itoa(r.IntN(100)))
	}
	return b.String()
}

// large draws a value that is stored out of line: 8 to 16 kB, most of it new.
func large(r *rand.Rand) any {
	piece := fmt.Sprintf("%016x%016x%016x%016x", r.Uint64(), r.Uint64(), r.Uint64(), r.Uint64())
	return strings.Repeat(piece, 128+r.IntN(128))
}

func largeBytes(r *rand.Rand) any { return `\x` + large(r).(string) }

func shortBytes(r *rand.Rand) any {
	return fmt.Sprintf(`\x%0*x`, 2*(1+r.IntN(8)), r.Uint64()&0xFF)
}

func small(r *rand.Rand) any { return strconv.Itoa(r.IntN(1000)) }

func boolean(r *rand.Rand) any { return strconv.FormatBool(r.IntN(2) == 0) }

func bigInt(r *rand.Rand) any {
	switch r.IntN(6) {
	case 0:
		return strconv.FormatInt(math.MaxInt64, 10)
	case 1:
		return strconv.FormatInt(math.MinInt64, 10)
	}
	return strconv.FormatInt(int64(r.Uint64())>>r.IntN(64), 10)
}

// numeric draws numbers on both sides of what a double holds exactly.
func numeric(r *rand.Rand) any {
	switch r.IntN(8) {
	case 0:
		return []string{"NaN", "0", "0.00", "-0.1", "1e100", "1e-40", "12345678901234567890.123456789"}[r.IntN(7)]
	case 1:
		return fmt.Sprintf("%d.%018d", r.Int64(), r.Int64N(1e18))
	}
	return fmt.Sprintf("%d.%02d", r.IntN(1e6)-5e5, r.IntN(100))
}

func float(r *rand.Rand) any {
	switch r.IntN(8) {
	case 0:
		return []string{"NaN", "Infinity", "-Infinity", "-0", "1e300", "5e-324"}[r.IntN(6)]
	case 1:
		return strconv.FormatFloat(r.NormFloat64(), 'g', -1, 64)
	}
	return strconv.Itoa(r.IntN(100))
}

func timestamp(r *rand.Rand) any {
	if r.IntN(20) == 0 {
		return []string{"infinity", "-infinity", "0044-03-15 12:00:00 BC", "20240-01-01 00:00:00"}[r.IntN(4)]
	}
	t := time.UnixMicro(r.Int64N(4e15)).UTC()
	return t.Format("2006-01-02 15:04:05.999999")
}

func date(r *rand.Rand) any {
	if r.IntN(20) == 0 {
		return "infinity"
	}
	return time.Unix(r.Int64N(4e9), 0).UTC().Format(time.DateOnly)
}

func document(r *rand.Rand) any {
	return fmt.Sprintf(`{ "z" : %d, "a" : [true, null, "%d\n\u00e9\"", 1.50], "n": {"deep": %v} }`,
		r.IntN(100), r.IntN(100), bigInt(r))
}

func textArray(r *rand.Rand) any {
	parts := make([]string, r.IntN(4))
	for i := range parts {
		if r.IntN(6) == 0 {
			parts[i] = "NULL"
			continue
		}
		parts[i] = `"` + strings.NewReplacer(`\`, `\\`, `"`, `\"`).Replace(text(r).(string)) + `"`
	}
	return "{" + strings.Join(parts, ",") + "}"
}

func intArray(r *rand.Rand) any {
	parts := make([]string, r.IntN(4))
	for i := range parts {
		parts[i] = strconv.Itoa(r.IntN(2000) - 1000)
	}
	return "{" + strings.Join(parts, ",") + "}"
}

// uuidOf makes the same uuid of the same number.
func uuidOf(n uint64) string {
	return fmt.Sprintf("%08x-0000-4000-8000-%012x", n>>48, n&0xFFFFFFFFFFFF)
}
