package sinktest

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"strings"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/mapper"
)

// JSON is a payload that is its own text.
type JSON []byte

// AppendJSON appends the text.
func (j JSON) AppendJSON(dst []byte) []byte { return append(dst, j...) }

// Change is the items of one row change: one, or the two of a key change.
type Change []mapper.Item

// Tx is a committed transaction, as a pipeline hands it to a sink.
type Tx struct {
	Commit, End lsn.LSN
	Xid         uint32
	CommittedAt lsn.Micros
	Changes     []Change
}

// SourceName is the name of the source that the generated items are of.
const SourceName = "conformance"

// Streams returns the streams of generated items, for destinations in which a
// stream must be made first.
func Streams() []string {
	return []string{"orders", "customers", "public.orders", "public.customers", "legacy.order_line"}
}

// Generator makes transactions with every kind of item. The same seed gives the
// same transactions. It is for one goroutine.
type Generator struct {
	rng    *rand.Rand
	end    lsn.LSN // end of the last transaction
	at     lsn.Micros
	xid    uint32
	events int
}

// NewGenerator returns a generator at an arbitrary place of the log.
func NewGenerator(seed uint64) *Generator {
	return &Generator{
		rng: rand.New(rand.NewPCG(seed, 0x5ca1ab1e)),
		end: 0x16_B374_D848, at: 817_000_000_123456, xid: 4_294_900_000,
	}
}

// Tx makes the next transaction, of as many changes, the last of which is no dead
// letter. Its commit record follows the one before at once in one of four cases,
// so that its commit LSN is the end of that one.
func (g *Generator) Tx(changes int) Tx {
	g.xid++
	g.at += lsn.Micros(1 + g.rng.Int64N(5_000_000))
	commit := g.end
	if g.rng.IntN(4) > 0 {
		commit += lsn.LSN(8 + g.rng.Uint64N(1<<20)&^7)
	}
	tx := Tx{Commit: commit, End: commit + 0x30, Xid: g.xid, CommittedAt: g.at}
	g.end = tx.End
	seq := uint32(0)
	for i := range changes {
		seq += uint32(g.rng.IntN(3)) // changes that no route took
		c := g.change(&tx, seq)
		if i == changes-1 && c[0].Kind == mapper.KindDeadLetter {
			c = Change{g.Event(&tx, c[0].ID)}
		}
		tx.Changes = append(tx.Changes, c)
		seq++
	}
	return tx
}

// Txs makes n transactions of up to maxChanges changes each, at least one.
func (g *Generator) Txs(n, maxChanges int) []Tx {
	txs := make([]Tx, n)
	for i := range txs {
		txs[i] = g.Tx(1 + g.rng.IntN(maxChanges))
	}
	return txs
}

// change makes a change of any kind, the plain ones more often.
func (g *Generator) change(tx *Tx, seq uint32) Change {
	id := lsn.ID{Commit: tx.Commit, Seq: seq}
	switch n := g.rng.IntN(20); {
	case n < 7:
		return Change{g.Event(tx, id)}
	case n < 15:
		return Change{g.Record(tx, id)}
	case n < 17:
		return g.KeyChange(tx, id)
	case n < 18:
		return Change{g.Truncate(tx, id)}
	case n < 19:
		return Change{g.Tombstone(tx, id)}
	}
	return Change{g.DeadLetter(tx, id)}
}

func (g *Generator) item(tx *Tx, id lsn.ID, kind mapper.Kind, stream string) mapper.Item {
	return mapper.Item{
		ID: id, Kind: kind, Stream: stream, Xid: tx.Xid, CommittedAt: tx.CommittedAt, Time: tx.CommittedAt,
		EventID: []byte(SourceName + ":" + id.String()),
	}
}

// Event makes a domain event: now and then without a key or a type, with
// headers or a time of its own, for later.
func (g *Generator) Event(tx *Tx, id lsn.ID) mapper.Item {
	it := g.item(tx, id, mapper.KindEvent, Streams()[g.rng.IntN(2)])
	g.events++
	it.EventID = fmt.Appendf(nil, "%08x-0000-4000-8000-%012x", g.rng.Uint32(), g.events)
	it.Type = []byte([]string{"OrderPaid", "order.shipped", "Stornierung: ganz"}[g.rng.IntN(3)])
	it.Payload = g.payload()
	if g.rng.IntN(4) > 0 {
		it.Key = fmt.Appendf(nil, "order:%d", g.rng.IntN(12))
	}
	if g.rng.IntN(3) == 0 {
		it.Headers = []byte(`{"traceparent": "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01", "who":"Zoë \"Q\""}`)
	}
	if g.rng.IntN(4) == 0 {
		it.Time = tx.CommittedAt - 86_400_000001
	}
	if g.rng.IntN(5) == 0 {
		it.Type = nil
	}
	if g.rng.IntN(5) == 0 {
		it.AvailableAt = tx.CommittedAt + 3600_000000
	}
	return it
}

// Record makes a change record with one of the operations of a row.
func (g *Generator) Record(tx *Tx, id lsn.ID) mapper.Item {
	it := g.item(tx, id, mapper.KindRecord, Streams()[2+g.rng.IntN(3)])
	it.Type = []byte([]string{"insert", "update", "update", "delete", "read"}[g.rng.IntN(5)])
	n := g.rng.IntN(9)
	it.Key = fmt.Appendf(nil, "%s:[%d,%q]", it.Stream, n, "k")
	it.Payload = g.envelope(string(it.Type), n)
	return it
}

// KeyChange makes the two items of an update that changed the key.
func (g *Generator) KeyChange(tx *Tx, id lsn.ID) Change {
	del, ins := g.Record(tx, id), g.Record(tx, lsn.ID{Commit: id.Commit, Seq: id.Seq, Sub: 1})
	ins.Stream = del.Stream
	del.Type, ins.Type = []byte("delete"), []byte("insert")
	del.Key, ins.Key = []byte(del.Stream+":[1]"), []byte(del.Stream+":[2]")
	del.Payload, ins.Payload = JSON(`{"op":"delete","key":{"id":1},"new_key":{"id":2}}`), JSON(`{"op":"insert","key":{"id":2},"old_key":{"id":1}}`)
	return Change{del, ins}
}

// Truncate makes an item of all lanes.
func (g *Generator) Truncate(tx *Tx, id lsn.ID) mapper.Item {
	it := g.item(tx, id, mapper.KindRecord, "public.orders")
	it.Type, it.AllLanes = []byte("truncate"), true
	it.Payload = JSON(`{"op":"truncate","schema":"public","table":"orders"}`)
	return it
}

// Tombstone makes an item without a payload.
func (g *Generator) Tombstone(tx *Tx, id lsn.ID) mapper.Item {
	it := g.Record(tx, id)
	it.Type, it.Payload = []byte("delete"), nil
	return it
}

// DeadLetter makes a change that could not be mapped.
func (g *Generator) DeadLetter(tx *Tx, id lsn.ID) mapper.Item {
	it := g.item(tx, id, mapper.KindDeadLetter, "orders")
	whole := g.rng.IntN(2) == 0
	it.DeadLetter = &mapper.DeadLetter{
		Reason: "payload_not_json", Error: `column "payload" of public.outbox: invalid character 'x'`,
		Raw: fmt.Appendf(nil, `{"table":"public.outbox","new":{"id":%d,"payload":"x\u0000y"}}`, g.rng.IntN(100)), Replayable: whole,
	}
	return it
}

// payload makes the text of an event: as people write it, with what hurts in it.
func (g *Generator) payload() JSON {
	switch g.rng.IntN(7) {
	case 0:
		return JSON(`null`)
	case 1:
		return JSON("{\n  \"order_id\" : 9182,\r\n\t\"total\": 12.50 ,\"note\": \"a\\nb \\\" \\\\\"\n}")
	case 2:
		return JSON(`"text: ünï, \ud83d\ude00, 😀, \u0000, ` + "\u2028 \u007f" + `"`)
	case 3:
		return JSON(`[1e400, 12345678901234567890123, -0.0, 1.10, true, {}, [], ""]`)
	case 4:
		return JSON(`{"blob":"` + strings.Repeat("long text, ", 800+g.rng.IntN(800)) + `"}`)
	}
	return JSON(fmt.Sprintf(`{"order_id":%d,"status":"paid"}`, g.rng.IntN(1000)))
}

func (g *Generator) envelope(op string, n int) JSON {
	row := fmt.Sprintf(`{"id":%d,"status":"paid","note":"%x"}`, n, g.rng.Uint64())
	before, after := "null", row
	switch op {
	case "update":
		before = fmt.Sprintf(`{"id":%d,"status":"pending","note":"old"}`, n)
	case "delete":
		before, after = row, "null"
	}
	return JSON(fmt.Sprintf(`{"op":%q,"schema":"public","table":"orders","key":{"id":%d},"before":%s,"after":%s}`, op, n, before, after))
}

// scribble clones the items of a change, hands them to use, and overwrites their
// memory after it, as a mapper does with its own.
func (c Change) scribble(use func([]mapper.Item)) {
	items := make([]mapper.Item, len(c))
	var memory [][]byte
	clone := func(b []byte) []byte {
		b = bytes.Clone(b)
		memory = append(memory, b)
		return b
	}
	for i, it := range c {
		it.Key, it.EventID, it.Type, it.Headers = clone(it.Key), clone(it.EventID), clone(it.Type), clone(it.Headers)
		if it.Payload != nil {
			it.Payload = JSON(clone(it.Payload.AppendJSON(nil)))
		}
		if it.DeadLetter != nil {
			d := *it.DeadLetter
			d.Raw = clone(d.Raw)
			it.DeadLetter = &d
		}
		items[i] = it
	}
	use(items)
	for _, b := range memory {
		for i := range b {
			b[i] = '#'
		}
	}
	for i := range items {
		if d := items[i].DeadLetter; d != nil {
			*d = mapper.DeadLetter{Reason: "overwritten"}
		}
	}
	clear(items)
}
