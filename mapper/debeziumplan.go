package mapper

import (
	"slices"

	"github.com/walbridge/walbridge/decoder"
)

// planDebezium adds to the plan of a table what the envelope needs.
func (m *Mapper) planDebezium(p *recordPlan, rel *decoder.Relation, keys []int) {
	d := &debeziumPlan{}
	for _, i := range m.keyOrder(rel, keys) {
		col := &rel.Columns[i]
		d.key = append(d.key, recordColumn{index: i, name: col.Name, label: label(col.Name), codec: m.codecs.column(col, p.route.numbers())})
	}
	d.source = appendString([]byte(`,"schema":`), []byte(rel.Namespace))
	d.source = appendString(append(d.source, `,"table":`...), []byte(rel.Name))
	d.source = append(d.source, `,"txId":`...)
	for i := range p.columns {
		d.absent = append(d.absent, m.absentValue(rel, &p.columns[i]))
	}
	p.debezium = d
}

// keyOrder returns the columns of the key in the order that the catalog has them in,
// where it has the same ones.
func (m *Mapper) keyOrder(rel *decoder.Relation, keys []int) []int {
	var ordered []int
	for _, name := range m.tables.key(rel) {
		ordered = append(ordered, columnIndex(rel, name))
	}
	sorted := slices.Clone(ordered)
	slices.Sort(sorted)
	if slices.Equal(sorted, keys) {
		return ordered
	}
	return keys
}

// absentValue is what stands in before for a column that a delete does not carry: null,
// or for one that is NOT NULL the zero of its type.
func (m *Mapper) absentValue(rel *decoder.Relation, col *recordColumn) []byte {
	if !m.tables.of(rel).notNull[col.name] || col.mask != nil {
		return []byte("null")
	}
	switch col.codec.form {
	case formInt, formFloat:
		return []byte("0")
	case formBool:
		return []byte("false")
	case formText:
		return []byte(`""`)
	}
	return []byte("null")
}

// OIDs of built-in types that Debezium gives a form of their own
// (catalog/pg_type.dat).
const (
	oidOID      = 26
	oidPoint    = 600
	oidMoney    = 790
	oidDate     = 1082
	oidTime     = 1083
	oidInterval = 1186
	oidTimetz   = 1266
	oidBit      = 1560
	oidVarbit   = 1562
)

// debeziumForm returns the form of a built-in type in Debezium's envelope. typmod is the
// column's, -1 for none, and of an element of an array.
func debeziumForm(oid uint32, nf numberFormat) (c codec, ok bool) {
	const defaultDigits = 6
	c.digits = defaultDigits
	if nf.typmod >= 0 && nf.typmod < defaultDigits {
		c.digits = int8(nf.typmod)
	}
	switch oid {
	case oidTimestamp:
		c.form = formEpoch
	case oidTimestamptz:
		c.form = formZoned
	case oidDate:
		c.form = formDays
	case oidTime:
		c.form = formTimeOfDay
	case oidTimetz:
		c.form = formZonedTime
	case oidInterval:
		c.form = formInterval
	case oidNumeric:
		c.form = formDecimal
		if nf.numeric == formNumericAny {
			c.form = formNumericAny
		}
	case oidMoney:
		c.form = formMoney
		if nf.numeric == formNumericAny {
			c.form = formMoneyNumber
		}
	case oidJSON, oidJSONB:
		c.form = formText
	case oidOID:
		c.form = formInt
	case oidPoint:
		c.form = formPoint
	case oidBit, oidVarbit:
		c.form = formBits
		if oid == oidBit && nf.typmod == 1 {
			c.form = formBit
		}
	default:
		c.form, ok = builtinForm(oid, numberFormat{numeric: nf.numeric, int8: nf.int8})
		return c, ok
	}
	return c, true
}

// debeziumArray returns the element type of built-in arrays whose elements have a form
// of their own here alone.
func debeziumArray(oid uint32) (elem uint32, ok bool) {
	elem, ok = map[uint32]uint32{
		1182: oidDate, 1183: oidTime, 1270: oidTimetz, 1187: oidInterval, 1028: oidOID, 791: oidMoney, 1017: oidPoint, 1561: oidBit, 1563: oidVarbit,
	}[oid]
	return elem, ok
}
