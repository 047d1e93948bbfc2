package torture

import (
	"fmt"

	"github.com/walbridge/walbridge/internal/lsn"
)

// Rules say what a destination promises.
type Rules struct {
	// Lanes is the number of the log's lanes; 0: the destination has none.
	Lanes int
	// Repeats allows items to come again, as a destination that is delivered to at
	// least once may show after a crash. They are passed over, as a consumer would that
	// remembers the highest id.
	Repeats bool
}

// Checker rebuilds the tables of every source from the items of a destination. It
// holds the rows as they are now, with digests for large values, and 32 bytes per
// event; not the items. For one goroutine.
type Checker struct {
	rules   Rules
	sources map[string]*source
	// Items counts the items taken, Repeated those passed over.
	Items, Repeated int64
}

// source is what one bridge has delivered so far.
type source struct {
	name   string
	last   lsn.ID
	open   bool // the transaction of last has not ended
	tables map[string]*table
	events events
	// moved is the first half of a key change whose second has to come next.
	moved *move
	// lanes is a truncate that has not reached every lane yet.
	lanes *truncation
	sum   int64 // of the balances
}

type move struct {
	id     lsn.ID
	at     int64
	table  *table
	key    string // the old one
	newKey string
	row    *row
}

type truncation struct {
	id   lsn.ID
	at   int64
	name string
	next int // lane
}

// NewChecker returns a checker of an empty destination.
func NewChecker(rules Rules) *Checker {
	return &Checker{rules: rules, sources: make(map[string]*source)}
}

// Add takes the destination's next item. The first error is a *Finding; after it
// the checker is of no use.
func (c *Checker) Add(it *Item) error {
	s := c.sources[it.Source]
	if s == nil {
		s = &source{name: it.Source, tables: make(map[string]*table), events: newEvents()}
		c.sources[it.Source] = s
	}
	fresh := c.Items == 0 || s.last.Compare(it.ID) < 0 || s.last == lsn.ID{}
	if !fresh && c.rules.Repeats {
		c.Repeated++
		return nil
	}
	c.Items++
	if f := c.check(s, it, fresh); f != nil {
		f.At, f.ID = it.At, it.ID
		return f
	}
	s.last, s.open = it.ID, !it.TxEnd
	return nil
}

func (c *Checker) check(s *source, it *Item, fresh bool) *Finding {
	if !fresh {
		return &Finding{Rule: RuleIDOrder, What: "it is not above " + s.last.String() + ", the item before it"}
	}
	if f := s.transaction(it); f != nil {
		return f
	}
	if f := s.unfinished(it); f != nil {
		return f
	}
	var f *Finding
	switch it.Kind {
	case kindEvent:
		f = c.event(s, it)
	case kindChange:
		f = c.change(s, it)
	default:
		f = &Finding{Rule: RulePayload, What: fmt.Sprintf("kind %q", it.Kind)}
	}
	if f == nil && it.TxEnd && s.sum != 0 {
		f = &Finding{Rule: RuleTransferSum, What: fmt.Sprintf("the balances sum up to %d", s.sum)}
	}
	return f
}

// transaction checks the marks at the ends of transactions.
func (s *source) transaction(it *Item) *Finding {
	same := s.last.Commit == it.ID.Commit
	switch {
	case s.last == lsn.ID{}:
	case same && !s.open:
		return &Finding{Rule: RuleTxEndEarly, What: s.last.String() + " was marked as the last of its transaction"}
	case !same && s.open:
		return &Finding{Rule: RuleTxEndMissing, What: s.last.String() + " is the last of its transaction without the mark"}
	}
	return nil
}

// unfinished checks that what takes several items is not broken off.
func (s *source) unfinished(it *Item) *Finding {
	if m := s.moved; m != nil && (it.ID.Commit != m.id.Commit || it.ID.Seq != m.id.Seq) {
		return &Finding{Rule: RuleHalfMove, What: fmt.Sprintf("%s was moved from %s to %s by %s, and its insert does not follow", m.table.name, m.key, m.newKey, m.id)}
	}
	if t := s.lanes; t != nil && (it.ID.Commit != t.id.Commit || it.ID.Seq != t.id.Seq) {
		return &Finding{Rule: RuleTruncateLanes, What: fmt.Sprintf("the truncate of %s by %s stopped before lane %d", t.name, t.id, t.next)}
	}
	return nil
}

// End checks that the destination does not end in the middle of something.
func (c *Checker) End() error {
	for _, s := range c.sources {
		if f := s.unfinished(&Item{}); f != nil {
			return f
		}
		if s.open {
			return &Finding{Rule: RuleTxEndMissing, What: fmt.Sprintf("the items of %s end inside a transaction, at %s", s.name, s.last)}
		}
	}
	return nil
}

// Last returns the id of a source's last item.
func (c *Checker) Last(sourceName string) lsn.ID {
	if s := c.sources[sourceName]; s != nil {
		return s.last
	}
	return lsn.ID{}
}

// Rows returns the number of rows of all rebuilt tables of a source.
func (c *Checker) Rows(sourceName string) int {
	n := 0
	if s := c.sources[sourceName]; s != nil {
		for _, t := range s.tables {
			n += t.size()
		}
	}
	return n
}

// Events returns the number of a source's events.
func (c *Checker) Events(sourceName string) int {
	if s := c.sources[sourceName]; s != nil {
		return len(s.events.seen)
	}
	return 0
}
