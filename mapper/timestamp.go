package mapper

import "github.com/walbridge/walbridge/internal/lsn"

// appendTimestamp appends a timestamp of the pinned form (datestyle ISO) as ISO
// 8601 text in a JSON string: T in the place of the space, and for one with time
// zone Z in the place of +00, which timezone UTC makes it always. What ISO 8601
// has no four-digit form for stays as PostgreSQL writes it: infinity, years above
// 9999, BC.
func appendTimestamp(dst, s []byte, zoned bool) []byte {
	if !isPlainTimestamp(s) {
		return appendString(dst, s)
	}
	utc := zoned && len(s) >= len("0000-00-00 00:00:00+00") && string(s[len(s)-3:]) == "+00"
	dst = append(dst, '"')
	dst = append(dst, s[:10]...)
	dst = append(dst, 'T')
	if !utc {
		dst = append(dst, s[11:]...)
		return append(dst, '"')
	}
	dst = append(dst, s[11:len(s)-3]...)
	return append(dst, 'Z', '"')
}

// isPlainTimestamp reports whether s begins like 2024-02-03 09:35:06 and has
// nothing after it but the digits and signs of a fraction and a zone.
func isPlainTimestamp(s []byte) bool {
	const form = "0000-00-00 00:00:00"
	if len(s) < len(form) {
		return false
	}
	for i, c := range s[:len(form)] {
		if form[i] == '0' && c-'0' > 9 || form[i] != '0' && c != form[i] {
			return false
		}
	}
	for _, c := range s[len(form):] {
		if c-'0' > 9 && c != '.' && c != '+' && c != '-' && c != ':' {
			return false
		}
	}
	return true
}

// parseTimestamp reads a timestamp of the pinned form, or with T and Z as ISO 8601 and
// PostgreSQL's JSON have them, with or without a zone (without one it counts as UTC),
// years up to 294276, PostgreSQL's last. ok is false for infinity, for years BC, and for anything that is no such text.
func parseTimestamp(s []byte) (t lsn.Micros, ok bool) {
	p := timeReader{s: s}
	year := p.number(4, 6)
	p.expect('-')
	month := p.number(2, 2)
	p.expect('-')
	day := p.number(2, 2)
	if !p.next('T') {
		p.expect(' ')
	}
	seconds := p.clock()
	micros := p.fraction()
	offset := int64(0)
	if !p.next('Z') {
		offset = p.zone()
	}
	if p.bad || len(p.s) > 0 || month < 1 || month > 12 || day < 1 || day > 31 || year < 1 {
		return 0, false
	}
	days := daysSince2000(year, month, day)
	return lsn.Micros((days*86400+seconds-offset)*1_000_000 + micros), true
}

// timeReader takes a text apart from the left; bad stays set once something was
// not as expected.
type timeReader struct {
	s   []byte
	bad bool
}

func (p *timeReader) number(least, most int) int64 {
	n, v := 0, int64(0)
	for n < len(p.s) && n < most && p.s[n]-'0' <= 9 {
		v = v*10 + int64(p.s[n]-'0')
		n++
	}
	p.bad = p.bad || n < least
	p.s = p.s[n:]
	return v
}

func (p *timeReader) next(c byte) bool {
	if len(p.s) == 0 || p.s[0] != c {
		return false
	}
	p.s = p.s[1:]
	return true
}

func (p *timeReader) expect(c byte) {
	if !p.next(c) {
		p.bad = true
	}
}

// clock reads 09:35:06 as seconds.
func (p *timeReader) clock() int64 {
	hour := p.number(2, 2)
	p.expect(':')
	minute := p.number(2, 2)
	p.expect(':')
	second := p.number(2, 2)
	p.bad = p.bad || hour > 24 || minute > 59 || second > 60
	return hour*3600 + minute*60 + second
}

// fraction reads up to six digits after a point as microseconds.
func (p *timeReader) fraction() int64 {
	if !p.next('.') {
		return 0
	}
	before := len(p.s)
	v := p.number(1, 6)
	for n := before - len(p.s); n < 6; n++ {
		v *= 10
	}
	return v
}

// zone reads +00, -03:30 or +01:02:03 as seconds east of UTC.
func (p *timeReader) zone() int64 {
	sign := int64(1)
	switch {
	case p.next('+'):
	case p.next('-'):
		sign = -1
	default:
		return 0
	}
	v := p.number(2, 2) * 3600
	for unit := int64(60); unit > 0 && p.next(':'); unit /= 60 {
		v += p.number(2, 2) * unit
	}
	return sign * v
}

// daysSince2000 counts days of the proleptic Gregorian calendar, as PostgreSQL
// does (date2j in utils/adt/datetime.c). Years begin in March here, so that the
// leap day is the last of its year.
func daysSince2000(year, month, day int64) int64 {
	if month <= 2 {
		year--
		month += 12
	}
	const fromMarch0000To2000 = 730425
	return year*365 + year/4 - year/100 + year/400 + (153*(month-3)+2)/5 + day - 1 - fromMarch0000To2000
}
