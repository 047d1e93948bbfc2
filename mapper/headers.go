package mapper

import "github.com/walbridge/walbridge/decoder"

// headers gives the item its headers: those of the column, then those of extra
// columns.
func (m *Mapper) headers(it *Item, p *eventPlan, row []decoder.Value) *refusal {
	column := text(row, p.headers)
	if scanWord(column, skipSpace(column, 0), "null") >= 0 {
		column = nil
	}
	if column == nil && len(p.headerExtras) == 0 && !m.reading {
		return nil
	}
	if column != nil && !p.headersTrust && !m.enc.scan.valid(column) {
		return refuse(ReasonHeadersInvalid, "the headers are not JSON")
	}
	if column != nil && len(p.headerExtras) == 0 && !m.reading {
		if plain, some := m.plainHeaders(column); plain {
			if some {
				it.Headers = column
			}
			return nil
		}
	}
	return m.buildHeaders(it, p, row, column)
}

// plainHeaders reports whether a JSON text is an object of strings alone, which
// can leave as it is, and whether it has any.
func (m *Mapper) plainHeaders(column []byte) (plain, some bool) {
	walk := m.enc.scan.membersOf(column)
	for walk.next() {
		some = true
		if walk.value[0] != '"' {
			return false, true
		}
	}
	return !walk.bad, some
}

// snapshotHeader marks the event of a row that was there before the stream. It has the
// place of a header of that name.
const snapshotHeader = `,"snapshot":"true"`

// buildHeaders writes headers anew.
func (m *Mapper) buildHeaders(it *Item, p *eventPlan, row []decoder.Value, column []byte) *refusal {
	start := len(m.arena)
	if column != nil {
		if bad := m.copyHeaders(p, row, column); bad != nil {
			return bad
		}
	}
	for i := range p.headerExtras {
		x := &p.headerExtras[i]
		if x.column < 0 {
			m.arena = append(m.arena, x.label...)
			m.arena = appendString(m.arena, x.value)
			continue
		}
		if value := text(row, x.column); value != nil {
			m.arena = append(m.arena, x.label...)
			m.arena = appendString(m.arena, value)
		}
	}
	if m.reading {
		m.arena = append(m.arena, snapshotHeader...)
	}
	if len(m.arena) > start {
		m.arena = closeObject(m.arena, start)
		it.Headers = m.kept(start)
	}
	return nil
}

// copyHeaders appends the members of the headers column, each with a comma before
// it, but for those that an extra column replaces.
func (m *Mapper) copyHeaders(p *eventPlan, row []decoder.Value, column []byte) *refusal {
	walk := m.enc.scan.membersOf(column)
	for walk.next() {
		v := walk.value
		if v[0] == '{' || v[0] == '[' {
			return refuse(ReasonHeadersInvalid, "a header is an array or an object")
		}
		if v[0] == 'n' || m.replaced(p, row, walk.name) {
			continue
		}
		m.arena = append(append(append(m.arena, ','), walk.name...), ':')
		if v[0] == '"' {
			m.arena = append(m.arena, v...)
			continue
		}
		m.arena = append(append(append(m.arena, '"'), v...), '"')
	}
	if walk.bad {
		return refuse(ReasonHeadersInvalid, "the headers are not a JSON object")
	}
	return nil
}

// replaced reports whether an extra column gives the header of that name.
func (m *Mapper) replaced(p *eventPlan, row []decoder.Value, name []byte) bool {
	if m.reading && m.sameName(name, []byte("snapshot")) {
		return true
	}
	for i := range p.headerExtras {
		x := &p.headerExtras[i]
		if (x.column < 0 || text(row, x.column) != nil) && m.sameName(name, x.name) {
			return true
		}
	}
	return false
}
