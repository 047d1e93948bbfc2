package stdout

import (
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/sink"
)

// prettyBatch is a batch of text for people: a line for each transaction, and
// under it one for each item. A batch begins with the line of its transaction,
// also when that was begun in the batch before.
type prettyBatch struct {
	colour bool
	buf    []byte
	lent   bool
	items  int
	last   lsn.ID
	tx     txHead // of the last item
	change prettyChange
}

// txHead is what the line of a transaction says.
type txHead struct {
	commit lsn.LSN
	xid    uint32
	at     lsn.Micros
}

// prettyChange is where the last change begins and what was before it; of no items
// when there is none.
type prettyChange struct {
	start, items int
	headed       bool // it begins with the line of its transaction
	last         lsn.ID
	tx           txHead
}

func (b *prettyBatch) text() []byte { return b.buf }
func (b *prettyBatch) lend()        { b.lent = true }

func (b *prettyBatch) Append(items []mapper.Item) {
	if len(items) == 0 {
		return
	}
	tx := txHead{items[0].ID.Commit, items[0].Xid, items[0].CommittedAt}
	headed := b.items == 0 || b.tx.commit != tx.commit
	b.change = prettyChange{len(b.buf), len(items), headed, b.last, b.tx}
	if headed {
		b.buf = b.appendHead(b.buf, tx)
	}
	b.tx = tx
	for i := range items {
		b.buf = b.appendItem(b.buf, &items[i])
	}
	b.items += len(items)
	b.last = items[len(items)-1].ID
}

// EndTx does nothing: the next transaction's line shows the end.
func (b *prettyBatch) EndTx() {}

func (b *prettyBatch) CarryLast(next sink.Batch) (lsn.ID, bool) {
	to, c := next.(*prettyBatch), b.change
	if c.items > 0 {
		to.buf = to.buf[:0]
		if !c.headed {
			to.buf = b.appendHead(to.buf, b.tx)
		}
		to.buf = append(to.buf, b.buf[c.start:]...)
		to.items, to.last, to.tx = c.items, b.last, b.tx
		to.change = prettyChange{items: c.items, headed: true}
		b.buf, b.items, b.last, b.tx = b.buf[:c.start], b.items-c.items, c.last, c.tx
		b.change = prettyChange{}
	}
	return b.last, b.items > 0
}

func (b *prettyBatch) Items() int { return b.items }

func (b *prettyBatch) Bytes() int { return len(b.buf) }

func (b *prettyBatch) Reset() {
	if b.lent {
		b.buf = nil
	}
	*b = prettyBatch{colour: b.colour, buf: b.buf[:0]}
}

// The terminal's colours (ECMA-48, SGR).
const (
	plain   = "\x1b[0m"
	bold    = "\x1b[1m"
	red     = "\x1b[31m"
	green   = "\x1b[32m"
	yellow  = "\x1b[33m"
	blue    = "\x1b[34m"
	magenta = "\x1b[35m"
	cyan    = "\x1b[36m"
)

// paint appends text in a colour, on a terminal.
func (b *prettyBatch) paint(dst []byte, colour, text string) []byte {
	if !b.colour || colour == "" {
		return append(dst, text...)
	}
	return append(append(append(dst, colour...), text...), plain...)
}

func (b *prettyBatch) appendHead(dst []byte, tx txHead) []byte {
	head := tx.at.Time().Format("2006-01-02 15:04:05.000000Z")
	if tx.xid != 0 {
		head += "  xid " + uintText(tx.xid)
	}
	return append(b.paint(dst, bold, head+"  "+tx.commit.String()), '\n')
}

// The widths that columns are filled up to; longer text moves the rest.
const (
	opWidth     = 8
	streamWidth = 24
	keyWidth    = 16
)

func (b *prettyBatch) appendItem(dst []byte, it *mapper.Item) []byte {
	op := operation(it)
	dst = append(dst, ' ', ' ')
	dst = b.paint(dst, colourOf(op), pad(op, opWidth))
	dst = append(append(dst, ' ', ' '), pad(visible(it.Stream, maxName), streamWidth)...)
	dst = append(append(dst, ' ', ' '), pad(keyText(it), keyWidth)...)
	dst = append(append(dst, ' ', ' '), describe(it)...)
	for dst[len(dst)-1] == ' ' {
		dst = dst[:len(dst)-1]
	}
	return append(dst, '\n')
}

// operation is the word of the first column.
func operation(it *mapper.Item) string {
	switch it.Kind {
	case mapper.KindDeadLetter:
		return "dead"
	case mapper.KindEvent:
		return "event"
	}
	return visible(string(it.Type), maxName)
}

func colourOf(op string) string {
	return map[string]string{
		"insert": green, "update": yellow, "delete": red, "truncate": magenta, "read": cyan, "event": blue, "dead": red,
	}[op]
}
