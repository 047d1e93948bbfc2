package mapper

import "strconv"

// The values of PostgreSQL that are no moment, as Debezium writes them.
const (
	dateInfinity, dateMinusInfinity   = -2147472692, -2147472691
	epochInfinity, epochMinusInfinity = 9223372036825200000, -9223372036832400000
)

const microsPerDay = 86_400_000_000

func floorDiv(a, b int64) int64 {
	q := a / b
	if a%b < 0 {
		q--
	}
	return q
}

// appendDays appends a date as days since 1970.
func appendDays(dst, s []byte) (out []byte, ok bool) {
	switch string(s) {
	case "infinity":
		return strconv.AppendInt(dst, dateInfinity, 10), true
	case "-infinity":
		return strconv.AppendInt(dst, dateMinusInfinity, 10), true
	}
	p := timeReader{s: s}
	days := p.date()
	p.era(&days)
	return strconv.AppendInt(dst, days.since1970(), 10), p.end()
}

// civil is a date of the proleptic Gregorian calendar.
type civil struct{ year, month, day int64 }

// date reads 2024-02-29.
func (p *timeReader) date() (c civil) {
	c.year = p.number(4, 7)
	p.expect('-')
	c.month = p.number(2, 2)
	p.expect('-')
	c.day = p.number(2, 2)
	p.bad = p.bad || c.month < 1 || c.month > 12 || c.day < 1 || c.day > 31 || c.year < 1
	return c
}

// era reads the BC that may end a text: the year before 1 is 0.
func (p *timeReader) era(c *civil) {
	if !p.next(' ') {
		return
	}
	p.expect('B')
	p.expect('C')
	c.year = 1 - c.year
}

func (p *timeReader) end() bool { return !p.bad && len(p.s) == 0 }

// since1970 counts days. Whole cycles of the calendar make the year positive.
func (c civil) since1970() int64 {
	const cycles, cycleYears, cycleDays = 20, 400, 146_097
	const from1970To2000 = 10_957
	return daysSince2000(c.year+cycles*cycleYears, c.month, c.day) - cycles*cycleDays + from1970To2000
}

// appendEpoch appends a timestamp as a number since 1970: milliseconds for up to three
// digits of a second, else microseconds.
func appendEpoch(dst, s []byte, digits int8) (out []byte, ok bool) {
	switch string(s) {
	case "infinity":
		return strconv.AppendInt(dst, epochInfinity, 10), true
	case "-infinity":
		return strconv.AppendInt(dst, epochMinusInfinity, 10), true
	}
	p := timeReader{s: s}
	c := p.date()
	p.expect(' ')
	micros := p.clock()*1_000_000 + p.fraction()
	p.era(&c)
	const lastYear = 294_000 // beyond it 64 bits of microseconds may not be enough
	if !p.end() || c.year > lastYear {
		return dst, false
	}
	micros += c.since1970() * microsPerDay
	return appendByDigits(dst, micros, digits), true
}

func appendByDigits(dst []byte, micros int64, digits int8) []byte {
	if digits <= 3 {
		micros = floorDiv(micros, 1000)
	}
	return strconv.AppendInt(dst, micros, 10)
}

// appendTimeOfDay appends a time as a number since midnight.
func appendTimeOfDay(dst, s []byte, digits int8) (out []byte, ok bool) {
	p := timeReader{s: s}
	micros := p.clock()*1_000_000 + p.fraction()
	return appendByDigits(dst, micros, digits), p.end()
}

// appendZoned appends a timestamptz, which timezone UTC makes end in +00, as text in
// ISO 8601 with that many digits of a second. Years that have no four digits have a
// sign.
func appendZoned(dst, s []byte, digits int8) (out []byte, ok bool) {
	if string(s) == "infinity" || string(s) == "-infinity" {
		return appendString(dst, s), true
	}
	p := timeReader{s: s}
	c := p.date()
	p.expect(' ')
	clock := p.s
	p.clock()
	fraction := p.fraction()
	p.bad = p.bad || p.zone() != 0
	p.era(&c)
	if !p.end() {
		return dst, false
	}
	dst = appendYear(append(dst, '"'), c.year)
	dst = appendTwo(append(dst, '-'), c.month)
	dst = appendTwo(append(dst, '-'), c.day)
	dst = append(append(dst, 'T'), clock[:len("00:00:00")]...)
	return append(appendFraction(dst, fraction, digits), 'Z', '"'), true
}

func appendYear(dst []byte, year int64) []byte {
	switch {
	case year > 9999:
		dst = append(dst, '+')
	case year < 0:
		dst, year = append(dst, '-'), -year
	}
	for limit := int64(1000); limit > 1 && year < limit; limit /= 10 {
		dst = append(dst, '0')
	}
	return strconv.AppendInt(dst, year, 10)
}

func appendTwo(dst []byte, n int64) []byte { return append(dst, byte('0'+n/10), byte('0'+n%10)) }

// appendFraction appends a point and the first digits of microseconds; nothing for none.
func appendFraction(dst []byte, micros int64, digits int8) []byte {
	if digits == 0 {
		return dst
	}
	dst = append(dst, '.')
	for unit, n := int64(100_000), int8(0); n < digits; n++ {
		dst = append(dst, byte('0'+micros/unit%10))
		unit /= 10
	}
	return dst
}

// appendZonedTime appends a timetz as the time in UTC, with the digits it has.
func appendZonedTime(dst, s []byte) (out []byte, ok bool) {
	p := timeReader{s: s}
	seconds := p.clock()
	micros := p.fraction()
	seconds -= p.zone()
	seconds = (seconds%86_400 + 86_400) % 86_400
	dst = appendTwo(append(dst, '"'), seconds/3600)
	dst = appendTwo(append(dst, ':'), seconds/60%60)
	dst = appendTwo(append(dst, ':'), seconds%60)
	digits := int8(6)
	for rest := micros; digits > 0 && rest%10 == 0; rest /= 10 {
		digits--
	}
	return append(appendFraction(dst, micros, digits), 'Z', '"'), p.end()
}

// appendInterval appends an interval of the pinned form (intervalstyle postgres) as
// microseconds: a month is 30.4375 days.
func appendInterval(dst, s []byte) (out []byte, ok bool) {
	p := timeReader{s: s}
	micros := int64(0)
	for len(p.s) > 0 && !p.bad {
		micros += p.intervalPart()
		if len(p.s) > 0 {
			p.expect(' ')
		}
	}
	return strconv.AppendInt(dst, micros, 10), p.end() && len(s) > 0
}

// intervalPart reads 1 year, -2 mons, 3 days or -04:05:06.789 as microseconds.
func (p *timeReader) intervalPart() int64 {
	const month = 30*microsPerDay + 4375*microsPerDay/10_000
	sign := int64(1)
	if p.next('-') {
		sign = -1
	} else {
		p.next('+')
	}
	n := p.number(1, 18)
	switch {
	case p.next(':'):
		minutes := p.number(2, 2)
		p.expect(':')
		seconds := p.number(2, 2)
		return sign * (((n*60+minutes)*60+seconds)*1_000_000 + p.fraction())
	case p.word(" years", " year"):
		return sign * n * 12 * month
	case p.word(" mons", " mon"):
		return sign * n * month
	case p.word(" days", " day"):
		return sign * n * microsPerDay
	}
	p.bad = true
	return 0
}

// word takes one of the words, if the text goes on with it.
func (p *timeReader) word(words ...string) bool {
	for _, w := range words {
		if len(p.s) >= len(w) && string(p.s[:len(w)]) == w {
			p.s = p.s[len(w):]
			return true
		}
	}
	return false
}
