package torture

import (
	"fmt"
	"math/rand/v2"
	"strings"
)

// statement is one statement with its parameters, for the simple protocol: every
// parameter is an untyped literal there.
type statement struct {
	sql  string
	args []any
}

// step draws the statements of one operation on a table. keys bounds the numbers
// of its keys; temp is a number that only this writer uses.
type step func(r *rand.Rand, s *shape, keys, temp int) []statement

// keyedSteps are the operations on a table with a key; the more often one is
// listed, the more often it is drawn.
func keyedSteps() []step {
	return []step{insertRows, insertRows, insertRows, upsert, updateRow, updateRow, updateRow,
		updateRows, deleteRows, rekey, rekey, swap, reinsert}
}

// keylessSteps are those on a table without one.
func keylessSteps() []step {
	return []step{insertRows, insertRows, updateEqual, deleteEqual, deleteOne}
}

func insertRows(r *rand.Rand, s *shape, keys, _ int) []statement {
	rows := 1 + r.IntN(1+r.IntN(12))
	var args []any
	for range rows {
		args = append(args, s.row(r, r.IntN(keys))...)
	}
	names := s.names()
	sql := fmt.Sprintf("INSERT INTO %s (%s) VALUES %s", s.name, strings.Join(names, ", "), tuples(rows, len(names)))
	if s.key != nil {
		sql += " ON CONFLICT DO NOTHING"
	}
	return []statement{{sql, args}}
}

func upsert(r *rand.Rand, s *shape, keys, _ int) []statement {
	names := s.names()
	var set []string
	for _, c := range s.columns {
		set = append(set, c.name+" = EXCLUDED."+c.name)
	}
	return []statement{{
		fmt.Sprintf("INSERT INTO %s (%s) VALUES %s ON CONFLICT (%s) DO UPDATE SET %s", s.name, strings.Join(names, ", "),
			tuples(1, len(names)), strings.Join(s.identity, ", "), strings.Join(set, ", ")),
		s.row(r, r.IntN(keys)),
	}}
}

// some draws at least one of the columns, with values.
func (s *shape) some(r *rand.Rand) (names []string, args []any) {
	must := r.IntN(len(s.columns))
	for i, c := range s.columns {
		if i == must || r.IntN(3) == 0 {
			names = append(names, c.name)
			args = append(args, c.value(r))
		}
	}
	return names, args
}

func updateRow(r *rand.Rand, s *shape, keys, _ int) []statement {
	names, args := s.some(r)
	return []statement{{
		fmt.Sprintf("UPDATE %s SET %s WHERE %s", s.name, assign(names, 1), s.keyIs(len(names)+1)),
		append(args, s.key(r.IntN(keys))...),
	}}
}

// keysIn returns a condition on several drawn keys.
func (s *shape) keysIn(r *rand.Rand, keys int) (condition string, args []any) {
	n := 1 + r.IntN(6)
	for range n {
		args = append(args, s.key(r.IntN(keys))...)
	}
	return fmt.Sprintf("(%s) IN (%s)", strings.Join(s.identity, ", "), tuples(n, len(s.identity))), args
}

// updateRows leaves the values as they are, which is an update all the same.
func updateRows(r *rand.Rand, s *shape, keys, _ int) []statement {
	condition, args := s.keysIn(r, keys)
	c := s.columns[r.IntN(len(s.columns))].name
	return []statement{{fmt.Sprintf("UPDATE %s SET %s = %s WHERE %s", s.name, c, c, condition), args}}
}

func deleteRows(r *rand.Rand, s *shape, keys, _ int) []statement {
	condition, args := s.keysIn(r, keys)
	return []statement{{fmt.Sprintf("DELETE FROM %s WHERE %s", s.name, condition), args}}
}

// move changes a key, and with it now and then another column.
func (s *shape) move(from, to []any, names []string, args []any) statement {
	all := append(append([]any(nil), to...), args...)
	n := len(all)
	return statement{
		fmt.Sprintf("UPDATE %s SET %s WHERE %s AND NOT EXISTS (SELECT FROM %s WHERE %s)", s.name,
			assign(append(append([]string(nil), s.identity...), names...), 1), s.keyIs(n+1), s.name, s.keyIs(1)),
		append(all, from...),
	}
}

func rekey(r *rand.Rand, s *shape, keys, _ int) []statement {
	var names []string
	var args []any
	if r.IntN(2) == 0 {
		names, args = s.some(r)
	}
	return []statement{s.move(s.key(r.IntN(keys)), s.key(r.IntN(keys)), names, args)}
}

// swap exchanges the keys of two rows by way of a third.
func swap(r *rand.Rand, s *shape, keys, temp int) []statement {
	a, b, t := s.key(r.IntN(keys)), s.key(r.IntN(keys)), s.key(temp)
	return []statement{s.move(a, t, nil, nil), s.move(b, a, nil, nil), s.move(t, b, nil, nil), s.move(t, a, nil, nil)}
}

// reinsert makes, deletes and makes rows of one key.
func reinsert(r *rand.Rand, s *shape, keys, _ int) []statement {
	k := r.IntN(keys)
	names := s.names()
	insert := fmt.Sprintf("INSERT INTO %s (%s) VALUES %s ON CONFLICT DO NOTHING", s.name, strings.Join(names, ", "), tuples(1, len(names)))
	remove := fmt.Sprintf("DELETE FROM %s WHERE %s", s.name, s.keyIs(1))
	return []statement{
		{insert, s.row(r, k)}, {remove, s.key(k)}, {insert, s.row(r, k)}, {remove, s.key(k)}, {insert, s.row(r, k)},
	}
}

func updateEqual(r *rand.Rand, s *shape, _, _ int) []statement {
	c := s.columns[1+r.IntN(len(s.columns)-1)]
	return []statement{{
		fmt.Sprintf("UPDATE %s SET %s = $1 WHERE %s = $2", s.name, c.name, s.columns[0].name),
		[]any{c.value(r), s.columns[0].value(r)},
	}}
}

func deleteEqual(r *rand.Rand, s *shape, _, _ int) []statement {
	return []statement{{fmt.Sprintf("DELETE FROM %s WHERE %s = $1", s.name, s.columns[0].name), []any{s.columns[0].value(r)}}}
}

// deleteOne takes one of several equal rows.
func deleteOne(_ *rand.Rand, s *shape, _, _ int) []statement {
	return []statement{{sql: fmt.Sprintf("DELETE FROM %s WHERE ctid = (SELECT min(ctid) FROM %s)", s.name, s.name)}}
}
