package mapper

// literal reads the text forms of values that hold other values. bad stays set
// once the text is not of the form; what was appended is then thrown away.
type literal struct {
	e   *encoder
	s   []byte
	i   int
	bad bool
}

func (l *literal) peek() byte {
	if l.i < len(l.s) {
		return l.s[l.i]
	}
	return 0
}

func (l *literal) take(c byte) bool {
	if l.peek() != c {
		return false
	}
	l.i++
	return true
}

func (l *literal) expect(c byte) {
	if !l.take(c) {
		l.bad = true
	}
}

// maxArrayDims is MAXDIM of utils/array.h.
const maxArrayDims = 6

// array appends an array literal as JSON arrays (manual, section 8.15.6; array_out
// in utils/adt/arrayfuncs.c). One with lower bounds of its own, [2:3]={…}, is no
// such literal here and stays text.
func (l *literal) array(dst []byte, c *codec, dims int) []byte {
	l.expect('{')
	dst = append(dst, '[')
	for first := true; !l.bad && !l.take('}'); first = false {
		if !first {
			l.expect(c.delim)
			dst = append(dst, ',')
		}
		switch {
		case l.peek() == '{' && dims < maxArrayDims:
			dst = l.array(dst, c, dims+1)
		case l.peek() == '"':
			dst = l.quoted(dst, c.elem)
		default:
			dst = l.bare(dst, c)
		}
	}
	return append(dst, ']')
}

// bounds passes over the lower bounds of an array's own, [2:3]= .
func (l *literal) bounds() {
	if l.peek() != '[' {
		return
	}
	for l.i < len(l.s) && !l.take('=') {
		l.i++
	}
}

// bare appends an element without quotes. array_out quotes whatever is empty or
// has a quote, a backslash, a brace, the delimiter or white space in it, or reads
// as NULL.
func (l *literal) bare(dst []byte, c *codec) []byte {
	start := l.i
	for l.i < len(l.s) {
		switch ch := l.s[l.i]; ch {
		case '{', '"', '\\':
			l.bad = true
			return dst
		case '}', c.delim:
			return l.bareElement(dst, c.elem, l.s[start:l.i])
		}
		l.i++
	}
	l.bad = true
	return dst
}

func (l *literal) bareElement(dst []byte, elem *codec, text []byte) []byte {
	if string(text) == "NULL" {
		return append(dst, "null"...)
	}
	l.bad = l.bad || len(text) == 0
	return l.e.inner(dst, elem, text)
}

// quoted appends a value within quotes.
func (l *literal) quoted(dst []byte, elem *codec) []byte {
	kept := len(l.e.scratch)
	text := l.unquote()
	if !l.bad {
		dst = l.e.inner(dst, elem, text)
	}
	l.e.scratch = l.e.scratch[:kept]
	return dst
}

// unquote reads a text within quotes, in which a backslash stands before any
// character meant as such. It aliases the literal, or the scratch when there was
// something to take out.
func (l *literal) unquote() []byte {
	l.expect('"')
	start, kept := l.i, len(l.e.scratch)
	for l.i < len(l.s) {
		switch l.s[l.i] {
		case '"':
			rest := l.s[start:l.i]
			l.i++
			if len(l.e.scratch) == kept {
				return rest
			}
			l.e.scratch = append(l.e.scratch, rest...)
			return l.e.scratch[kept:]
		case '\\':
			l.e.scratch = append(l.e.scratch, l.s[start:l.i]...)
			l.i++
			if l.i == len(l.s) {
				l.bad = true
				return nil
			}
			l.e.scratch = append(l.e.scratch, l.s[l.i])
			l.i++
			start = l.i
		default:
			l.i++
		}
	}
	l.bad = true
	return nil
}

// composite appends a row literal as an object (manual, section 8.16.6; record_out
// in utils/adt/rowtypes.c). A literal with another number of fields than the type
// has today is no such literal here.
func (l *literal) composite(dst []byte, c *codec) []byte {
	l.expect('(')
	start := len(dst)
	for i := range c.fields {
		if i > 0 {
			l.expect(',')
		}
		if l.bad {
			return dst
		}
		dst = append(dst, c.fields[i].label...)
		dst = l.field(dst, c.fields[i].codec)
	}
	l.expect(')')
	return closeObject(dst, start)
}

// closeObject ends an object whose members each began with a comma: the first
// comma makes place for the brace.
func closeObject(dst []byte, start int) []byte {
	if len(dst) == start {
		return append(dst, '{', '}')
	}
	dst[start] = '{'
	return append(dst, '}')
}

// field appends one field of a row literal. Nothing at all is NULL, "" is the
// empty string.
func (l *literal) field(dst []byte, c *codec) []byte {
	if ch := l.peek(); ch == ',' || ch == ')' {
		return append(dst, "null"...)
	}
	kept := len(l.e.scratch)
	text := l.fieldText()
	if !l.bad {
		dst = l.e.inner(dst, c, text)
	}
	l.e.scratch = l.e.scratch[:kept]
	return dst
}

// fieldText reads a field up to the comma or parenthesis after it. Quotes may
// begin and end anywhere in it; within them a doubled quote is one, and a backslash
// takes the next character as it is, within them or not.
func (l *literal) fieldText() []byte {
	start, kept := l.i, len(l.e.scratch)
	inQuotes, plain := false, true
	for l.i < len(l.s) {
		ch := l.s[l.i]
		switch {
		case ch == '\\' && l.i+1 < len(l.s):
			l.i++
			l.e.scratch = append(l.e.scratch, l.s[l.i])
			plain = false
		case ch == '"' && inQuotes && l.i+1 < len(l.s) && l.s[l.i+1] == '"':
			l.i++
			l.e.scratch = append(l.e.scratch, '"')
		case ch == '"':
			inQuotes = !inQuotes
			plain = false
		case (ch == ',' || ch == ')') && !inQuotes:
			return l.endField(start, kept, plain)
		default:
			l.e.scratch = append(l.e.scratch, ch)
		}
		l.i++
	}
	l.bad = true
	return nil
}

// endField gives the text of a field without quotes from the literal itself.
func (l *literal) endField(start, kept int, plain bool) []byte {
	if plain {
		return l.s[start:l.i]
	}
	return l.e.scratch[kept:]
}

// hstore appends an hstore as an object of strings and nulls (hstore_out in
// contrib/hstore/hstore_io.c): "key"=>"value", "key"=>NULL.
func (l *literal) hstore(dst []byte) []byte {
	dst = append(dst, '{')
	for first := true; !l.bad && l.i < len(l.s); first = false {
		if !first {
			l.expect(',')
			l.expect(' ')
			dst = append(dst, ',')
		}
		dst = l.hstoreText(dst)
		l.expect('=')
		l.expect('>')
		dst = append(dst, ':')
		if l.peek() == '"' {
			dst = l.hstoreText(dst)
			continue
		}
		l.i += len("NULL")
		l.bad = l.bad || l.i > len(l.s) || string(l.s[l.i-len("NULL"):l.i]) != "NULL"
		dst = append(dst, "null"...)
	}
	return append(dst, '}')
}

func (l *literal) hstoreText(dst []byte) []byte {
	kept := len(l.e.scratch)
	dst = appendString(dst, l.unquote())
	l.e.scratch = l.e.scratch[:kept]
	return dst
}
