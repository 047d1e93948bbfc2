package torture

import (
	"math/rand/v2"
	"strconv"
	"strings"
)

// column is a column that the writers fill.
type column struct {
	name  string
	value value
}

// shape is a table of the workload, as its writers see it.
type shape struct {
	name string // with its schema
	// identity are the columns that name a row; none for a table without a key. key
	// makes the identity of number n: from 0 for the rows, negative for those that no
	// draw gives.
	identity []string
	key      func(n int) []any
	columns  []column // the others
}

func intKey(n int) []any { return []any{strconv.Itoa(n)} }

// shapes returns the tables that take every kind of row change.
func shapes() []shape {
	return []shape{
		{name: "load.item", identity: []string{"id"}, key: intKey, columns: []column{
			{"n", orNull(bigInt)}, {"v", orNull(text)}, {"num", orNull(numeric)}, {"flag", orNull(boolean)}, {"at", orNull(timestamp)}}},
		{name: "load.doc", identity: []string{"id"}, key: uuidKey, columns: []column{
			{"title", orNull(text)}, {"body", orNull(document)}, {"raw", orNull(document)}, {"bytes", orNull(shortBytes)},
			{"tags", orNull(textArray)}, {"nums", orNull(intArray)}, {"f", orNull(float)}, {"day", orNull(date)}, {"ts", orNull(timestamp)}}},
		{name: "load.label", identity: []string{"code"}, key: labelKey, columns: []column{{"v", orNull(text)}}},
		{name: "load.line", identity: []string{"order_id", "pos"}, key: lineKey, columns: []column{
			{"qty", orNull(small)}, {"note", orNull(text)}}},
		{name: "load.reading", columns: []column{
			{"sensor", oneOf("s1", "s2", "s3", "s'4", "s5", "s6", "s7", "s8")}, {"value", orNull(float)}, {"at", orNull(timestamp)}}},
		{name: "load.asset", identity: []string{"tag", "owner"}, key: assetKey, columns: []column{{"v", orNull(text)}}},
		{name: "load.blob", identity: []string{"id"}, key: intKey, columns: []column{
			{"n", orNull(small)}, {"big", orNull(large)}, {"bytes", orNull(largeBytes)}}},
		{name: "load.blob_full", identity: []string{"id"}, key: intKey, columns: []column{
			{"n", orNull(small)}, {"big", orNull(large)}}},
		{name: "load.part", identity: []string{"region", "id"}, key: partKey, columns: []column{{"v", orNull(text)}}},
		{name: "load.shape", identity: []string{"id"}, key: intKey, columns: []column{{"v", small}}},
	}
}

func uuidKey(n int) []any { return []any{uuidOf(uint64(int64(n)))} }

func labelKey(n int) []any {
	return []any{hostile[uint(n)%uint(len(hostile))] + strconv.Itoa(n)}
}

func lineKey(n int) []any { return []any{strconv.Itoa(n / 7), strconv.Itoa(n % 7)} }

func assetKey(n int) []any {
	return []any{hostile[uint(n)%uint(len(hostile))], strconv.Itoa(n)}
}

func partKey(n int) []any {
	return []any{[]string{"a", "b", "c"}[uint(n)%3], strconv.Itoa(n / 3)}
}

// row draws a row with the key of number n.
func (s *shape) row(r *rand.Rand, n int) []any {
	var row []any
	if s.key != nil {
		row = s.key(n)
	}
	for _, c := range s.columns {
		row = append(row, c.value(r))
	}
	return row
}

// names returns the columns of a row, in its order.
func (s *shape) names() []string {
	names := append([]string(nil), s.identity...)
	for _, c := range s.columns {
		names = append(names, c.name)
	}
	return names
}

// keyIs returns the condition that a row has the key at these parameters.
func (s *shape) keyIs(first int) string {
	parts := make([]string, len(s.identity))
	for i, name := range s.identity {
		parts[i] = name + " = $" + strconv.Itoa(first+i)
	}
	return strings.Join(parts, " AND ")
}

// assign returns the assignments of columns to parameters.
func assign(columns []string, first int) string {
	parts := make([]string, len(columns))
	for i, name := range columns {
		parts[i] = name + " = $" + strconv.Itoa(first+i)
	}
	return strings.Join(parts, ", ")
}

// tuples returns rows of parameters, such as ($1, $2), ($3, $4).
func tuples(rows, width int) string {
	var b strings.Builder
	for i := range rows * width {
		switch {
		case i == 0:
			b.WriteByte('(')
		case i%width == 0:
			b.WriteString("), (")
		default:
			b.WriteString(", ")
		}
		b.WriteString("$" + strconv.Itoa(i+1))
	}
	b.WriteByte(')')
	return b.String()
}
