package torture

import (
	"crypto/sha256"
	"fmt"
	"slices"
	"strings"
)

// row is one rebuilt row. names is shared by rows of one shape.
type row struct {
	names  []string
	values []string // packed
}

func (r *row) value(name string) (string, bool) {
	if i := slices.Index(r.names, name); i >= 0 {
		return r.values[i], true
	}
	return "", false
}

// maxKept is the longest normal form that a row keeps as it is.
const maxKept = 48

// pack is a value's normal form, or for a long one what tells it from any other: a
// digest, which no normal form begins like. Large values would fill the memory.
func pack(normal []byte) string {
	if len(normal) <= maxKept {
		return string(normal)
	}
	sum := sha256.Sum256(normal)
	return fmt.Sprintf("#%d:%x", len(normal), sum[:16])
}

// rowReader makes rows of objects. It keeps the names of columns, which repeat.
type rowReader struct {
	shapes  map[string][]string
	scratch []byte
	names   []string
}

// row reads an object of columns.
func (rr *rowReader) row(object []byte) (*row, error) {
	r := &row{values: make([]string, 0, len(rr.names))}
	rr.names = rr.names[:0]
	err := members(object, func(name, value []byte) error {
		n, err := normal(rr.scratch[:0], value)
		rr.scratch = n
		rr.names = append(rr.names, rr.intern(name))
		r.values = append(r.values, pack(n))
		return err
	})
	r.names = rr.shape(rr.names)
	return r, err
}

// intern returns the one string of a column's name.
func (rr *rowReader) intern(name []byte) string {
	if s, ok := rr.shapes[string(name)]; ok && len(s) == 1 {
		return s[0]
	}
	return string(name)
}

// shape returns the one copy of a list of names.
func (rr *rowReader) shape(names []string) []string {
	id := strings.Join(names, "\x00")
	if s, ok := rr.shapes[id]; ok {
		return s
	}
	if rr.shapes == nil {
		rr.shapes = make(map[string][]string)
	}
	s := slices.Clone(names)
	rr.shapes[id] = s
	for _, n := range s {
		if _, ok := rr.shapes[n]; !ok {
			rr.shapes[n] = []string{n}
		}
	}
	return s
}

// with returns the row with the values of further columns, taken from old; missing
// is the first that old lacks.
func (rr *rowReader) with(r *row, names []string, old *row) (full *row, missing string) {
	if len(names) == 0 {
		return r, ""
	}
	full = &row{names: slices.Clone(r.names), values: slices.Clone(r.values)}
	for _, n := range names {
		v, ok := old.value(n)
		if !ok {
			return nil, n
		}
		full.names = append(full.names, n)
		full.values = append(full.values, v)
	}
	full.names = rr.shape(full.names)
	return full, ""
}
