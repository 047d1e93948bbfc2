package mapper

import (
	"bytes"
	"strconv"
)

// isNumber reports whether s is a number of JSON's grammar (RFC 8259 section 6).
func isNumber(s []byte) bool { return len(s) > 0 && scanNumber(s, 0) == len(s) }

// scanNumber returns the index after the number of JSON's grammar that begins at
// i, or -1 when there is none.
func scanNumber(s []byte, i int) int {
	if i < len(s) && s[i] == '-' {
		i++
	}
	start := i
	i = scanDigits(s, i)
	if i == start || (s[start] == '0' && i > start+1) {
		return -1
	}
	if i < len(s) && s[i] == '.' {
		frac := i + 1
		if i = scanDigits(s, frac); i == frac {
			return -1
		}
	}
	if i < len(s) && s[i]|0x20 == 'e' {
		i++
		if i < len(s) && (s[i] == '+' || s[i] == '-') {
			i++
		}
		exp := i
		if i = scanDigits(s, exp); i == exp {
			return -1
		}
	}
	return i
}

func scanDigits(s []byte, i int) int {
	for i < len(s) && s[i]-'0' <= 9 {
		i++
	}
	return i
}

// isExact reports whether s, a number without exponent, survives a consumer that
// reads numbers as doubles: the shortest text of the nearest double has the same
// value.
//
// Up to 15 significant digits always do (DBL_DIG of IEEE 754 binary64), more than
// 17 never do (no shortest text is longer); only those between are converted.
func isExact(s []byte) bool {
	if len(s) <= 15 {
		return true
	}
	d := significant(s)
	const edge = 300 // well within the normal doubles, whose exponents end at ±308
	switch {
	case d.count == 0:
		return true
	case d.count > 17 || d.exp > 2*edge || d.exp < -2*edge:
		return false
	case d.count <= 15 && d.exp <= edge && d.exp >= -edge:
		return true
	}
	f, err := strconv.ParseFloat(string(s), 64)
	if err != nil || f == 0 {
		return false
	}
	var buf [32]byte
	return significant(strconv.AppendFloat(buf[:0], f, 'e', -1, 64)) == d
}

// digits are the significant digits of a number: its value is 0.text × 10^exp,
// whatever the notation, and without its sign. Numbers of more than 17 digits
// have no text.
type digits struct {
	text  [17]byte
	count int
	exp   int
}

// significant reads the digits of a number in JSON's grammar.
func significant(s []byte) digits {
	var d digits
	if e := bytes.IndexByte(s, 'e'); e >= 0 {
		d.exp, _ = strconv.Atoi(string(s[e+1:]))
		s = s[:e]
	}
	point, zeros := -1, 0
	seen := 0 // digits from the first that is not zero, whether kept or not
	for i, c := range s {
		switch {
		case c == '-':
		case c == '.':
			point = i
		case c == '0' && seen == 0:
			if point >= 0 {
				d.exp--
			}
		case c == '0':
			seen++
			zeros++
			d.exp += before(point)
		default:
			seen++
			d.exp += before(point)
			for ; zeros > 0; zeros-- {
				d.add('0')
			}
			d.add(c)
		}
	}
	if d.count > len(d.text) {
		d.text = [17]byte{}
	}
	return d
}

// before is 1 as long as no decimal point has been met.
func before(point int) int {
	if point < 0 {
		return 1
	}
	return 0
}

func (d *digits) add(c byte) {
	if d.count < len(d.text) {
		d.text[d.count] = c
	}
	d.count++
}
