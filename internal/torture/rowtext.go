package torture

import (
	"bytes"
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"math/big"
	"regexp"
	"strconv"

	"github.com/jackc/pgx/v5/pgtype"
)

// rowSettings make the text of values what rowValue reads.
func rowSettings() map[string]string {
	return map[string]string{
		"client_encoding": "UTF8", "datestyle": "ISO", "intervalstyle": "postgres", "extra_float_digits": "3",
		"bytea_output": "hex", "timezone": "UTC",
	}
}

// rowValue appends the normal form of the record's value for a value that the
// source shows as text. It is a second implementation of the rules for values in
// JSON, written from their description alone. text nil: NULL.
func rowValue(dst []byte, oid uint32, text []byte) ([]byte, error) {
	if text == nil {
		return append(dst, "null"...), nil
	}
	switch oid {
	case pgtype.BoolOID:
		return strconv.AppendBool(dst, string(text) == "t"), nil
	case pgtype.Int2OID, pgtype.Int4OID, pgtype.Int8OID:
		return append(dst, text...), nil
	case pgtype.Float4OID, pgtype.Float8OID:
		return number(dst, text, true), nil
	case pgtype.NumericOID:
		return number(dst, text, false), nil
	case pgtype.TimestampOID, pgtype.TimestamptzOID:
		return quote(dst, isoTime(text)), nil
	case pgtype.JSONOID, pgtype.JSONBOID:
		return normal(dst, text)
	case pgtype.ByteaOID:
		return appendBytea(dst, text)
	case pgtype.Int4ArrayOID, pgtype.TextArrayOID:
		return appendArray(dst, oid == pgtype.TextArrayOID, text)
	}
	return quote(dst, text), nil
}

// number appends a number where JSON can say it, always or only where the nearest
// double's shortest text has the same value; else a string.
func number(dst, text []byte, always bool) []byte {
	exact, ok := new(big.Rat).SetString(string(text))
	if ok && !always {
		f, _ := strconv.ParseFloat(string(text), 64)
		back, isNumber := new(big.Rat).SetString(strconv.FormatFloat(f, 'g', -1, 64))
		ok = isNumber && back.Cmp(exact) == 0
	}
	if !ok {
		return quote(dst, text)
	}
	return append(dst, text...)
}

var plainTime = regexp.MustCompile(`^(\d{4}-\d\d-\d\d) (\d\d:\d\d:\d\d(?:\.\d+)?)(\+00)?$`)

func isoTime(text []byte) []byte {
	m := plainTime.FindSubmatch(text)
	if m == nil {
		return text
	}
	iso := append(append(append([]byte(nil), m[1]...), 'T'), m[2]...)
	if m[3] != nil {
		iso = append(iso, 'Z')
	}
	return iso
}

func appendBytea(dst, text []byte) ([]byte, error) {
	digits, ok := bytes.CutPrefix(text, []byte(`\x`))
	raw, err := hex.AppendDecode(nil, digits)
	if !ok || err != nil {
		return dst, fmt.Errorf("read bytea %.40q: not its hex form", text)
	}
	return quote(dst, []byte(base64.StdEncoding.EncodeToString(raw))), nil
}

// appendArray reads a literal of one dimension.
func appendArray(dst []byte, quoted bool, literal []byte) ([]byte, error) {
	if len(literal) < 2 || literal[0] != '{' || literal[len(literal)-1] != '}' {
		return dst, fmt.Errorf("read array %.40q: not of one dimension", literal)
	}
	dst = append(dst, '[')
	for rest := literal[1 : len(literal)-1]; len(rest) > 0; {
		var element []byte
		var isQuoted bool
		element, isQuoted, rest = cutElement(rest)
		dst = comma(dst)
		switch {
		case !isQuoted && string(element) == "NULL":
			dst = append(dst, "null"...)
		case quoted:
			dst = quote(dst, element)
		default:
			dst = append(dst, element...)
		}
	}
	return append(dst, ']'), nil
}

// cutElement cuts the first element off an array literal without its braces
// (manual, 8.15.6 "Array Input and Output Syntax").
func cutElement(s []byte) (element []byte, quoted bool, rest []byte) {
	if s[0] != '"' {
		element, rest, _ = bytes.Cut(s, []byte(","))
		return element, false, rest
	}
	i := 1
	for ; i < len(s) && s[i] != '"'; i++ {
		if s[i] == '\\' && i+1 < len(s) {
			i++
		}
		element = append(element, s[i])
	}
	return element, true, bytes.TrimPrefix(s[min(i+1, len(s)):], []byte(","))
}
