package mapper

import (
	"bytes"
	"encoding/base64"
	"encoding/binary"
	"math"
	"slices"
	"strconv"
)

// debezium appends a value of a form that only Debezium's envelope has.
func (e *encoder) debezium(dst []byte, c *codec, text []byte) (out []byte, ok bool) {
	switch c.form {
	case formDays:
		return appendDays(dst, text)
	case formTimeOfDay:
		return appendTimeOfDay(dst, text, c.digits)
	case formZonedTime:
		return appendZonedTime(dst, text)
	case formEpoch:
		return appendEpoch(dst, text, c.digits)
	case formZoned:
		return appendZoned(dst, text, c.digits)
	case formInterval:
		return appendInterval(dst, text)
	case formDecimal:
		return appendDecimal(dst, text), true
	case formMoney, formMoneyNumber:
		return appendMoney(dst, text, c.form == formMoney)
	case formPoint:
		return appendPoint(dst, text)
	case formBit:
		return append(dst, strconv.FormatBool(string(text) == "1")...), string(text) == "0" || string(text) == "1"
	case formBits:
		return appendBits(dst, text)
	case formHstoreText:
		return e.hstoreText(dst, text)
	}
	return dst, false
}

// appendDecimal appends a numeric as text. What is no number has Java's names.
func appendDecimal(dst, text []byte) []byte {
	switch string(text) {
	case "NaN":
		return append(dst, `"NAN"`...)
	case "Infinity":
		return append(dst, `"POSITIVE_INFINITY"`...)
	case "-Infinity":
		return append(dst, `"NEGATIVE_INFINITY"`...)
	}
	return appendString(dst, text)
}

// appendMoney appends an amount without currency and separators. Which sign is the
// decimal point depends on the database's lc_monetary.
func appendMoney(dst, text []byte, quoted bool) (out []byte, ok bool) {
	point := decimalPoint(text)
	if quoted {
		dst = append(dst, '"')
	}
	start := len(dst)
	if bytes.ContainsAny(text, "-(") {
		dst = append(dst, '-')
	}
	for i, c := range text {
		switch {
		case c >= '0' && c <= '9':
			dst = append(dst, c)
		case i == point:
			dst = append(dst, '.')
		}
	}
	ok = isNumber(dst[start:])
	if quoted {
		dst = append(dst, '"')
	}
	return dst, ok
}

// decimalPoint returns the index of the last point or comma if it stands behind a digit
// and two digits follow, else -1: then it parts thousands, or is the currency's.
func decimalPoint(text []byte) int {
	at, digits := bytes.LastIndexAny(text, ".,"), 0
	for _, c := range text[at+1:] {
		if c >= '0' && c <= '9' {
			digits++
		}
	}
	if digits != 2 || at < 1 || text[at-1] < '0' || text[at-1] > '9' {
		return -1
	}
	return at
}

// appendPoint appends a point as an object with its coordinates and their well-known
// binary form.
func appendPoint(dst, text []byte) (out []byte, ok bool) {
	inner, opened := bytes.CutPrefix(text, []byte("("))
	inner, closed := bytes.CutSuffix(inner, []byte(")"))
	x, y, cut := bytes.Cut(inner, []byte(","))
	fx, errX := strconv.ParseFloat(string(x), 64)
	fy, errY := strconv.ParseFloat(string(y), 64)
	if !opened || !closed || !cut || errX != nil || errY != nil || !isNumber(x) || !isNumber(y) {
		return dst, false
	}
	const littleEndian, kindPoint = 1, 1
	var buf [1 + 4 + 2*8]byte
	wkb := binary.LittleEndian.AppendUint32(append(buf[:0], littleEndian), kindPoint)
	wkb = binary.LittleEndian.AppendUint64(wkb, math.Float64bits(fx))
	wkb = binary.LittleEndian.AppendUint64(wkb, math.Float64bits(fy))
	dst = append(append(dst, `{"x":`...), x...)
	dst = append(append(dst, `,"y":`...), y...)
	dst = base64.StdEncoding.AppendEncode(append(dst, `,"wkb":"`...), wkb)
	return append(dst, `","srid":null}`...), true
}

// appendBits appends a bit string as the base64 of its bytes, the lowest first and
// without the zeros above the highest one.
func appendBits(dst, text []byte) (out []byte, ok bool) {
	packed := make([]byte, (len(text)+7)/8)
	for i, c := range text {
		bit := len(text) - 1 - i
		switch c {
		case '1':
			packed[bit/8] |= 1 << (bit % 8)
		case '0':
		default:
			return dst, false
		}
	}
	for len(packed) > 0 && packed[len(packed)-1] == 0 {
		packed = packed[:len(packed)-1]
	}
	return appendBase64(dst, packed), true
}

// hstoreText appends an hstore as a string that holds the JSON of it.
func (e *encoder) hstoreText(dst, text []byte) (out []byte, ok bool) {
	start := len(dst)
	dst, ok = e.nested(dst, &codec{form: formHstore}, text)
	if !ok {
		return dst[:start], false
	}
	object := slices.Clone(dst[start:])
	return appendString(dst[:start], object), true
}
