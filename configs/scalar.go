package configs

import (
	"encoding"
	"errors"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"

	"github.com/walbridge/walbridge/internal/bytesize"
	"github.com/walbridge/walbridge/internal/secret"
)

var (
	typeDuration = reflect.TypeFor[time.Duration]()
	typeSize     = reflect.TypeFor[int64]()
	typeDSN      = reflect.TypeFor[secret.DSN]()
	typeText     = reflect.TypeFor[secret.Text]()
	typeParser   = reflect.TypeFor[encoding.TextUnmarshaler]()
)

// isSecret reports whether values of t are never shown and keep their expressions.
func isSecret(t reflect.Type) bool { return t == typeDSN || t == typeText }

// isScalar reports whether one word of YAML makes a value of t.
func isScalar(t reflect.Type) bool {
	if reflect.PointerTo(t).Implements(typeParser) {
		return true
	}
	switch t.Kind() {
	case reflect.String, reflect.Bool, reflect.Int, reflect.Int32, reflect.Int64, reflect.Float64:
		return true
	}
	return false
}

// expected says what a value of t looks like, for the text of a problem.
func expected(t reflect.Type) string {
	switch {
	case t == typeDuration:
		return "a duration such as 5ms, 30s or 7d"
	case t == typeSize:
		return "a size such as 512KiB or 4MiB"
	case isSecret(t), t.Kind() == reflect.String, reflect.PointerTo(t).Implements(typeParser):
		return "a text"
	}
	switch t.Kind() {
	case reflect.Pointer:
		return expected(t.Elem())
	case reflect.Bool:
		return "true or false"
	case reflect.Int, reflect.Int32, reflect.Int64:
		return "a whole number"
	case reflect.Float64:
		return "a number"
	case reflect.Slice:
		return "a list"
	}
	return "keys with values"
}

var errNotOfType = errors.New("not of the type")

// setScalar parses text into v. An error that is errNotOfType says no more than
// expected does; any other adds to it.
func setScalar(v reflect.Value, text string) error {
	if p, ok := v.Addr().Interface().(encoding.TextUnmarshaler); ok {
		return p.UnmarshalText([]byte(text))
	}
	switch v.Type() {
	case typeDuration:
		d, err := ParseDuration(text)
		v.SetInt(int64(d))
		return err
	case typeSize:
		n, err := bytesize.Parse(text)
		if errors.Is(err, bytesize.ErrSyntax) {
			return errNotOfType
		}
		v.SetInt(n)
		return err
	}
	return setBasic(v, text)
}

func setBasic(v reflect.Value, text string) error {
	switch v.Kind() {
	case reflect.String:
		v.SetString(text)
		return nil
	case reflect.Bool:
		if text != "true" && text != "false" {
			return errNotOfType
		}
		v.SetBool(text == "true")
		return nil
	case reflect.Float64:
		f, err := strconv.ParseFloat(text, 64)
		if err != nil || math.IsNaN(f) || math.IsInf(f, 0) {
			return errNotOfType
		}
		v.SetFloat(f)
		return nil
	}
	n, err := strconv.ParseInt(text, 10, v.Type().Bits())
	if errors.Is(err, strconv.ErrRange) {
		return errors.New("too large a number")
	}
	if err != nil {
		return errNotOfType
	}
	v.SetInt(n)
	return nil
}

// day is the one unit that time.ParseDuration does not know: 24 hours.
const day = 24 * time.Hour

// ParseDuration reads what time.ParseDuration reads, and days before it: 7d,
// 1d12h, 30s, 5ms. A number without a unit is refused, but for 0.
func ParseDuration(s string) (time.Duration, error) {
	days, rest, found := strings.Cut(s, "d")
	if !found {
		days, rest = "", s
	}
	var total time.Duration
	if found {
		n, err := strconv.ParseUint(days, 10, 31)
		if err != nil {
			return 0, errNotOfType
		}
		if n > uint64(math.MaxInt64/day) {
			return 0, fmt.Errorf("longer than %d days", math.MaxInt64/day)
		}
		total = time.Duration(n) * day
	}
	if found && rest == "" {
		return total, nil
	}
	d, err := time.ParseDuration(rest)
	if err != nil || found && d < 0 || total > math.MaxInt64-max(d, 0) {
		return 0, errNotOfType
	}
	return total + d, nil
}

// FormatDuration writes d in the form ParseDuration reads: 7d, 1d12h, 1m30s, 5ms.
func FormatDuration(d time.Duration) string {
	if d < day {
		return trimZeroUnits(d.String())
	}
	s := strconv.FormatInt(int64(d/day), 10) + "d"
	if d%day == 0 {
		return s
	}
	return s + trimZeroUnits((d % day).String())
}

// trimZeroUnits turns 1h0m0s into 1h and 5m0s into 5m.
func trimZeroUnits(s string) string {
	if strings.HasSuffix(s, "m0s") {
		s = strings.TrimSuffix(s, "0s")
	}
	if strings.HasSuffix(s, "h0m") {
		s = strings.TrimSuffix(s, "0m")
	}
	return s
}
