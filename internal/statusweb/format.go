package statusweb

import (
	"fmt"
	"math"
	"strconv"
	"strings"
	"time"

	"github.com/walbridge/walbridge/internal/bytesize"
)

// noSample stands where a figure has not been measured yet: that is not 0.
const noSample = "no sample yet"

// seconds writes a lag for people: 40 ms, 1.2 s, 3 min 20 s, 2 d 4 h.
func seconds(s float64) string {
	switch {
	case math.IsNaN(s) || s < 0:
		return noSample
	case s < 0.001:
		return "under 1 ms"
	case s < 0.9995:
		return strconv.Itoa(int(math.Round(s*1000))) + " ms"
	case s < 59.95:
		return strconv.FormatFloat(s, 'f', 1, 64) + " s"
	}
	return span(time.Duration(min(s, math.MaxInt64/2e9) * float64(time.Second)))
}

// span writes a length of time for people in at most two units.
func span(d time.Duration) string {
	d = max(d, 0).Round(time.Second)
	units := []struct {
		name   string
		length time.Duration
	}{{"d", 24 * time.Hour}, {"h", time.Hour}, {"min", time.Minute}, {"s", time.Second}}
	for i, u := range units {
		if d < u.length && u.name != "s" {
			continue
		}
		text := fmt.Sprintf("%d %s", d/u.length, u.name)
		if rest := d % u.length; i+1 < len(units) && rest >= units[i+1].length {
			text += fmt.Sprintf(" %d %s", rest/units[i+1].length, units[i+1].name)
		}
		return text
	}
	return ""
}

// count writes n with a comma between each three digits.
func count(n int64) string {
	digits := strconv.FormatInt(n, 10)
	sign := ""
	if n < 0 {
		sign, digits = "-", digits[1:]
	}
	var b strings.Builder
	for i, c := range digits {
		if i > 0 && (len(digits)-i)%3 == 0 {
			b.WriteByte(',')
		}
		b.WriteRune(c)
	}
	return sign + b.String()
}

// rate writes a number per second for people.
func rate(f float64) string {
	switch {
	case math.IsNaN(f) || math.IsInf(f, 0) || f < 0:
		return noSample
	case f == 0:
		return "0"
	case f < 0.1:
		return "under 0.1"
	case f < 9.95:
		return strconv.FormatFloat(f, 'f', 1, 64)
	}
	return count(int64(math.Round(min(f, math.MaxInt64/2))))
}

// bytesPerSecond writes a rate of bytes for people.
func bytesPerSecond(f float64) string {
	if math.IsNaN(f) || f < 0 {
		return noSample
	}
	return bytesize.Human(int64(min(f, math.MaxInt64/2))) + "/s"
}

// optionalBytes writes a size that may not have been measured.
func optionalBytes(n *int64) string {
	if n == nil {
		return noSample
	}
	return bytesize.Human(*n)
}

// optionalSeconds writes a lag that may not have been measured.
func optionalSeconds(s *float64) string {
	if s == nil {
		return noSample
	}
	return seconds(*s)
}

// stamp writes a moment, empty for none.
func stamp(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.UTC().Format("2006-01-02 15:04:05 UTC")
}
