package mapper

// encoder writes values as JSON. Its scratch holds the unescaped inner values of
// literals while they are written: one encoder serves one goroutine.
type encoder struct {
	scratch []byte
	scan    jsonScanner
}

// maxKeptScratch is the most memory a scratch buffer keeps for the next use.
const maxKeptScratch = 1 << 20

// value appends the text of a value in its type's JSON form. Text that is not of
// its type's syntax, which no server sends, becomes a JSON string.
func (e *encoder) value(dst []byte, c *codec, text []byte) []byte {
	start := len(dst)
	ok := true
	switch c.form {
	case formText, formNumericText:
		return appendString(dst, text)
	case formInt, formFloat, formNumericAny:
		ok = isNumber(text)
		dst = append(dst, text...)
	case formNumeric:
		ok = isNumber(text) && isExact(text)
		dst = append(dst, text...)
	case formBool:
		dst, ok = appendBool(dst, text)
	case formTimestamp, formTimestamptz:
		return appendTimestamp(dst, text, c.form == formTimestamptz)
	case formJSON:
		ok = len(text) > 0
		dst = append(dst, text...)
	case formBytea:
		dst, ok = appendByteaBase64(dst, text)
	case formArray, formComposite, formHstore:
		dst, ok = e.nested(dst, c, text)
	default:
		dst, ok = e.debezium(dst, c, text)
	}
	if !ok {
		return appendString(dst[:start], text)
	}
	return dst
}

func appendBool(dst, text []byte) (out []byte, ok bool) {
	switch string(text) {
	case "t":
		return append(dst, "true"...), true
	case "f":
		return append(dst, "false"...), true
	}
	return dst, false
}

// nested appends a literal that holds other values.
func (e *encoder) nested(dst []byte, c *codec, text []byte) (out []byte, ok bool) {
	kept := len(e.scratch)
	l := literal{e: e, s: text}
	switch c.form {
	case formArray:
		if c.plain {
			l.bounds()
		}
		dst = l.array(dst, c, 1)
	case formComposite:
		dst = l.composite(dst, c)
	case formHstore:
		dst = l.hstore(dst)
	}
	e.scratch = e.scratch[:kept]
	if kept == 0 && cap(e.scratch) > maxKeptScratch {
		e.scratch = nil
	}
	return dst, !l.bad && l.i == len(l.s)
}

// inner appends a value that a literal holds. The types of a composite's fields
// are those of today's catalog, which may differ from those of the time when the
// row was written: what should be JSON is looked at first.
func (e *encoder) inner(dst []byte, c *codec, text []byte) []byte {
	if c.form == formJSON && !e.scan.valid(text) {
		return appendString(dst, text)
	}
	return e.value(dst, c, text)
}
