package mapper

import (
	"fmt"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/internal/fault"
)

// columnHalt is for a column that the route names and the table lacks.
func columnHalt(rt *route, rel *decoder.Relation, column string) *fault.Halt {
	return &fault.Halt{
		Rule:  "column-missing",
		What:  fmt.Sprintf("table %s has no column %q, which %s.columns names", qualified(rel), column, rt.key()),
		Why:   "the column may have been renamed, and what must not leave would leave under its new name",
		Facts: tableFacts(rt, rel),
		Ways: []fault.Way{
			{Text: fmt.Sprintf("name the column as it is called now in %s.columns and start again", rt.key())},
			{Text: fmt.Sprintf("if the column is gone for good, take it out of %s.columns and start again", rt.key())},
		},
	}
}

// keyHalt is for a key column that may not leave, where order is per key.
func keyHalt(rt *route, rel *decoder.Relation, column string) *fault.Halt {
	return &fault.Halt{
		Rule:  "key-column-withheld",
		What:  fmt.Sprintf("column %q of table %s is part of its key, and %s.columns excludes or masks it", column, qualified(rel), rt.key()),
		Why:   "records are ordered by the key, so it has to leave with them",
		Facts: tableFacts(rt, rel),
		Ways: []fault.Way{
			{Text: fmt.Sprintf("set %s.changes.order: table, so that the whole table is one order, and start again", rt.key())},
			{Text: fmt.Sprintf("take the column out of %s.columns and start again", rt.key())},
		},
	}
}

// updateHalt is for on_update: halt.
func updateHalt(rt *route, c *decoder.Change) *fault.Halt {
	return &fault.Halt{
		Rule:  "outbox-update",
		What:  fmt.Sprintf("a row of the outbox %s was updated", qualified(c.Relation)),
		Why:   "an event that was delivered cannot be taken back, and the update is none of its own",
		Facts: changeFacts(rt, c),
		Ways:  []fault.Way{{Text: fmt.Sprintf("set %s.outbox.on_update: skip, so that updates are skipped and counted, and start again", rt.key())}},
	}
}

// truncateHalt is for truncate: halt.
func truncateHalt(rt *route, c *decoder.Change) *fault.Halt {
	return &fault.Halt{
		Rule:  "truncate",
		What:  fmt.Sprintf("table %s was truncated", qualified(c.Relation)),
		Why:   "consumers would have to remove every row of it, or keep rows that are gone",
		Facts: changeFacts(rt, c),
		Ways: []fault.Way{
			{Text: fmt.Sprintf("set %s.changes.truncate: propagate, so that consumers are told, and start again", rt.key())},
			{Text: fmt.Sprintf("set %s.changes.truncate: ignore, so that they keep the rows, and start again", rt.key())},
		},
	}
}

func tableFacts(rt *route, rel *decoder.Relation) []fault.Fact {
	return []fault.Fact{{Name: "route", Value: rt.key()}, {Name: "table", Value: qualified(rel)}}
}

func changeFacts(rt *route, c *decoder.Change) []fault.Fact {
	facts := append(tableFacts(rt, c.Relation), fault.Fact{Name: "change", Value: c.ID.String()})
	if c.Tx != nil {
		facts = append(facts, fault.Fact{Name: "commit LSN", Value: c.Tx.Commit.String()}, fault.Fact{Name: "xid", Value: fmt.Sprint(c.Tx.Xid)})
	}
	return facts
}
