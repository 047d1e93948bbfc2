package snapshot

import (
	"slices"
	"time"

	"github.com/walbridge/walbridge/decoder"
)

// Chunk is a number of rows that one SELECT has read.
type Chunk struct {
	table *table
	// gen is the table's generation when it was read: rows of an earlier one count for
	// nothing.
	gen  int
	desc *description
	seen Visibility
	// frozen, if not nil, is what the slot's snapshot saw: only rows of its transactions
	// are taken.
	frozen *Visibility
	rows   rows
	// keep are the rows that may be delivered, once the place in the stream is known.
	keep []int
	// next is the key of the last row, nil when there was none; last: no row is behind
	// it.
	next []string
	last bool
	// cutShort: reading stopped at the bound of bytes, with rows left.
	cutShort bool
	// again are the keys that were asked for by name; nil: the chunk goes on behind the
	// cursor.
	again [][]string
	sent  time.Time // when its mark was
	run   string
	salt  []byte
}

// Relation describes the rows as the stream would.
func (c *Chunk) Relation() *decoder.Relation { return c.desc.relation }

// Table is the table's name, schema.name.
func (c *Chunk) Table() string { return c.table.state.QualifiedName() }

// Run is the name of the reading, for decoder.Read.
func (c *Chunk) Run() string { return c.run }

// Salt is that of decoder.Read.
func (c *Chunk) Salt() []byte { return c.salt }

// Len is the number of rows that may be delivered.
func (c *Chunk) Len() int { return len(c.keep) }

// Bytes is the length of all values.
func (c *Chunk) Bytes() int { return len(c.rows.data) }

// Row returns the i-th row and its length if it is above the limit and was not read
// whole, else 0. The row is in the memory of dst, its values alias the chunk.
func (c *Chunk) Row(i int, dst []decoder.Value) (row []decoder.Value, cut int64) {
	return c.rows.row(c.keep[i], len(c.desc.relation.Columns), dst)
}

// sift decides which rows may be delivered.
func (c *Chunk) sift(v verdict, h hasher) {
	c.keep = c.keep[:0]
	if v.all {
		return
	}
	n := c.rows.len(len(c.desc.relation.Columns))
	c.keep = slices.Grow(c.keep, n)
	if len(v.newer) == 0 {
		for i := range n {
			c.keep = append(c.keep, i)
		}
		return
	}
	var values []decoder.Value
	var key []byte
	for i := range n {
		values, _ = c.rows.row(i, len(c.desc.relation.Columns), values[:0])
		key = key[:0]
		for _, at := range c.desc.key.columns {
			key = appendPart(key, values[at].Data)
		}
		if _, touched := v.newer[h.hash(key)]; !touched {
			c.keep = append(c.keep, i)
		}
	}
}

// keys returns the keys of all rows.
func (c *Chunk) keys() [][]string {
	var all [][]string
	var values []decoder.Value
	for i := range c.rows.len(len(c.desc.relation.Columns)) {
		values, _ = c.rows.row(i, len(c.desc.relation.Columns), values[:0])
		if key, ok := c.desc.key.values(values, nil); ok {
			all = append(all, key)
		}
	}
	return all
}

// dropped returns the keys of rows that the stream has newer, but not whole.
func (c *Chunk) dropped(v verdict, h hasher) [][]string {
	var keys [][]string
	if v.all || len(v.newer) == 0 {
		return nil
	}
	var scratch []byte
	for _, key := range c.keys() {
		scratch = encodeKey(scratch[:0], key)
		if v.newer[h.hash(scratch)] {
			keys = append(keys, key)
		}
	}
	return keys
}

// rows are values, one after the other. The zero value is empty.
type rows struct {
	data []byte
	// ends has for each value where it ends in data, and null's bit.
	ends []uint32
	// cut are the lengths of rows above the limit, by number.
	cut map[int]int64
}

const nullBit = 1 << 31

// room makes space for values of so many bytes together: growing would copy them again
// and again.
func (r *rows) room(bytes, values int) {
	r.data, r.ends = slices.Grow(r.data, bytes), slices.Grow(r.ends, values)
}

func (r *rows) reset() { *r = rows{data: r.data[:0], ends: r.ends[:0]} }

// add appends a value; nil is NULL.
func (r *rows) add(value []byte) {
	r.data = append(r.data, value...)
	end := uint32(len(r.data))
	if value == nil {
		end |= nullBit
	}
	r.ends = append(r.ends, end)
}

func (r *rows) len(columns int) int {
	if columns == 0 {
		return 0
	}
	return len(r.ends) / columns
}

func (r *rows) row(n, columns int, dst []decoder.Value) ([]decoder.Value, int64) {
	first := n * columns
	start := uint32(0)
	if first > 0 {
		start = r.ends[first-1] &^ nullBit
	}
	for _, end := range r.ends[first : first+columns] {
		if end&nullBit != 0 {
			dst = append(dst, decoder.Value{Kind: decoder.ValueNull})
			continue
		}
		dst = append(dst, decoder.Value{Kind: decoder.ValueText, Data: r.data[start:end:end]})
		start = end
	}
	return dst, r.cut[n]
}
