package torture

import (
	"fmt"
	"strconv"
	"strings"
)

// change takes a change record.
func (c *Checker) change(s *source, it *Item) *Finding {
	r, err := parseRecord(it.Payload)
	if err != nil {
		return &Finding{Rule: RulePayload, What: fmt.Sprintf("%v: %.300s", err, it.Payload)}
	}
	name := r.schema + "." + r.table
	if f := identify(it, &r, name); f != nil {
		return f
	}
	t := s.tables[name]
	if t == nil {
		t = newTable(name, c.rules.Lanes)
		s.tables[name] = t
	}
	if r.op == "truncate" {
		return c.truncate(s, t, it)
	}
	key, f := rowKey(it, &r, name)
	if f != nil {
		return f
	}
	lane := 0
	if c.rules.Lanes > 0 {
		lane = laneOf(it.Key, c.rules.Lanes)
		if it.Lane != lane {
			return &Finding{Rule: RuleLane, What: fmt.Sprintf("lane %d is not that of the key %q", it.Lane, it.Key)}
		}
	}
	a := application{s: s, t: t, it: it, r: &r, key: key, lane: lane}
	if f := a.apply(); f != nil {
		f.What = fmt.Sprintf("%s of %s %s: %s", r.op, name, key, f.What)
		return f
	}
	switch {
	case r.oldKey != nil:
		t.counts["update"]++
	case r.newKey == nil:
		t.counts[r.op]++
	}
	return nil
}

// identify checks that an item and its payload name the same change.
func identify(it *Item, r *record, name string) *Finding {
	switch {
	case it.EventID != it.Source+":"+it.ID.String():
		return &Finding{Rule: RuleItemID, What: fmt.Sprintf("idempotency key %q", it.EventID)}
	case r.bridge != it.Source || r.commit != it.ID.Commit || r.seq != it.ID.Seq:
		return &Finding{Rule: RuleItemID, What: fmt.Sprintf("the payload is of %s, change %d of the transaction at %s", r.bridge, r.seq, r.commit)}
	case r.op != it.Type:
		return &Finding{Rule: RulePayload, What: fmt.Sprintf("type %s, op %s", it.Type, r.op)}
	case it.Stream != name:
		return &Finding{Rule: RulePayload, What: fmt.Sprintf("stream %s, table %s", it.Stream, name)}
	}
	return nil
}

// rowKey returns the key of the record's row in its normal form, empty for a table
// without a key. The item's own key must say the same.
func rowKey(it *Item, r *record, name string) (string, *Finding) {
	if r.key == nil {
		if it.Key != name {
			return "", &Finding{Rule: RuleKey, What: fmt.Sprintf("key %q of a record without one", it.Key)}
		}
		return "", nil
	}
	key, err := keyOf(r.key)
	if err != nil {
		return "", &Finding{Rule: RulePayload, What: err.Error()}
	}
	array, ok := strings.CutPrefix(it.Key, name+":")
	if said, err := normal(nil, []byte(array)); !ok || err != nil || string(said) != key {
		return "", &Finding{Rule: RuleKey, What: fmt.Sprintf("key %q, the payload's is %s", it.Key, key)}
	}
	return key, nil
}

// keyOf makes the array of the values of a key of the object that a payload has.
func keyOf(object []byte) (string, error) {
	key := []byte("[")
	err := members(object, func(_, value []byte) error {
		var err error
		key, err = normal(comma(key), value)
		return err
	})
	return string(append(key, ']')), err
}

// truncate takes one lane's item of a truncate.
func (c *Checker) truncate(s *source, t *table, it *Item) *Finding {
	if c.rules.Lanes == 0 {
		t.truncate(0)
		t.counts["truncate"]++
		return nil
	}
	if s.lanes == nil {
		s.lanes = &truncation{id: it.ID, at: it.At, name: t.name}
	}
	if it.Lane != s.lanes.next || int(it.ID.Sub) != it.Lane || it.Lane >= c.rules.Lanes {
		return &Finding{Rule: RuleTruncateLanes, What: fmt.Sprintf("truncate of %s: lane %d, sub %d where lane %d has to follow", t.name, it.Lane, it.ID.Sub, s.lanes.next)}
	}
	t.truncate(it.Lane)
	if s.lanes.next++; s.lanes.next == c.rules.Lanes {
		s.lanes = nil
		t.counts["truncate"]++
	}
	return nil
}

// application applies one record to its table.
type application struct {
	s   *source
	t   *table
	it  *Item
	r   *record
	key string // empty: the table has none
	// lane is that of the key; 0 where there are none.
	lane int
}

func (a *application) apply() *Finding {
	before, after, f := a.rows()
	if f != nil {
		return f
	}
	if a.key == "" {
		return a.applyToBag(before, after)
	}
	switch a.r.op {
	case "insert":
		return a.insert(after)
	case "update":
		return a.update(before, after)
	case "delete":
		return a.delete(before)
	}
	return &Finding{Rule: RulePayload, What: "an unknown operation"}
}

// rows reads both rows, each of which the operation must or must not have.
func (a *application) rows() (before, after *row, f *Finding) {
	needAfter := a.r.op != "delete"
	if (a.r.after != nil) != needAfter || a.r.op == "insert" && a.r.before != nil && a.r.oldKey == nil {
		return nil, nil, &Finding{Rule: RulePayload, What: "before or after should not be there, or should"}
	}
	var err1, err2 error
	if a.r.before != nil {
		before, err1 = a.t.read.row(a.r.before)
	}
	if a.r.after != nil {
		after, err2 = a.t.read.row(a.r.after)
	}
	if err1 != nil || err2 != nil {
		return nil, nil, &Finding{Rule: RulePayload, What: fmt.Sprintf("read before: %v; read after: %v", err1, err2)}
	}
	return before, after, nil
}

func (a *application) insert(after *row) *Finding {
	if a.t.get(a.lane, a.key) != nil {
		return &Finding{Rule: RuleRowThere, What: "the row is there"}
	}
	var old *row
	if a.r.oldKey != nil {
		m := a.s.moved
		if m == nil || m.table != a.t || m.newKey != a.key || a.it.ID.Sub != 1 {
			return &Finding{Rule: RuleHalfMove, What: "the delete of the old key did not come before it"}
		}
		old, a.s.moved = m.row, nil
	}
	return a.put(after, old)
}

// put stores the row, with the values that did not come taken from the old one.
func (a *application) put(after, old *row) *Finding {
	var names []string
	err := elements(a.r.unchanged, func(v []byte) error {
		names = append(names, text1(v))
		return nil
	})
	if err != nil || len(names) > 0 && old == nil {
		return &Finding{Rule: RuleUnchanged, What: fmt.Sprintf("unchanged columns %v of a new row (%v)", names, err)}
	}
	full, missing := a.t.read.with(after, names, old)
	if missing != "" {
		return &Finding{Rule: RuleUnchanged, What: "column " + missing + " is unchanged, and nothing has brought it"}
	}
	if f := nextVersion(old, full); f != nil {
		return f
	}
	a.t.put(a.lane, a.key, full)
	a.balance(full, 1)
	return nil
}

// versionColumn counts the updates of a row.
const versionColumn = "ver"

// nextVersion checks that a row follows its old self, with no update in between.
func nextVersion(old, now *row) *Finding {
	if old == nil {
		return nil
	}
	was, counted := old.value(versionColumn)
	is, _ := now.value(versionColumn)
	v, _ := strconv.ParseInt(was, 10, 64) // what is none differs
	if counted && is != strconv.FormatInt(v+1, 10) {
		return &Finding{Rule: RuleVersion, What: fmt.Sprintf("version %s follows version %s", is, was)}
	}
	return nil
}

func (a *application) update(before, after *row) *Finding {
	old := a.t.get(a.lane, a.key)
	if old == nil {
		return &Finding{Rule: RuleRowMissing, What: "there is no such row"}
	}
	if f := sameBefore(before, old); f != nil {
		return f
	}
	a.balance(old, -1)
	return a.put(after, old)
}

func (a *application) delete(before *row) *Finding {
	old := a.t.get(a.lane, a.key)
	if old == nil {
		return &Finding{Rule: RuleRowMissing, What: "there is no such row"}
	}
	if f := sameBefore(before, old); f != nil {
		return f
	}
	a.balance(old, -1)
	a.t.remove(a.lane, a.key)
	if a.r.newKey == nil {
		return nil
	}
	newKey, err := keyOf(a.r.newKey)
	if err != nil {
		return &Finding{Rule: RulePayload, What: err.Error()}
	}
	a.s.moved = &move{id: a.it.ID, at: a.it.At, table: a.t, key: a.key, newKey: newKey, row: old}
	return nil
}

// sameBefore checks the old values that came against the row as it was rebuilt.
func sameBefore(before, old *row) *Finding {
	if before == nil {
		return nil
	}
	for i, name := range before.names {
		if v, ok := old.value(name); ok && v != before.values[i] {
			return &Finding{Rule: RuleBefore, What: fmt.Sprintf("%s was %s, the record says %s", name, v, before.values[i])}
		}
	}
	return nil
}

// applyToBag applies a record of a table without a key.
func (a *application) applyToBag(before, after *row) *Finding {
	if a.r.op != "insert" {
		if before == nil {
			return &Finding{Rule: RulePayload, What: "no old row in a table without a key"}
		}
		old := before.whole()
		if a.t.bag[old] == 0 {
			return &Finding{Rule: RuleRowMissing, What: "there is no row " + old}
		}
		a.t.add(old, -1)
	}
	if after != nil {
		a.t.add(after.whole(), 1)
	}
	return nil
}

// whole is a row as one text.
func (r *row) whole() string {
	var b strings.Builder
	for i, n := range r.names {
		b.WriteString(strconv.Quote(n) + ":" + r.values[i] + ",")
	}
	return b.String()
}

// balance keeps the sum of the accounts.
func (a *application) balance(r *row, sign int64) {
	if a.t.name != "load.account" {
		return
	}
	text, _ := r.value("balance")
	v, _ := strconv.ParseInt(text, 10, 64) // what is none shows when the tables are compared
	a.s.sum += sign * v
}
