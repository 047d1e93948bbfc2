package mapper

import (
	"strconv"
	"strings"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/internal/lsn"
)

// The envelope of Debezium's connector for PostgreSQL, as its JSON converter writes it
// without schemas: for consumers that are there already. What differs from it, and why,
// is in docs/debezium.md; internal/debeziumtest has what Debezium itself wrote.

// unavailable is in the place of a large value that an update left alone.
const unavailable = "__debezium_unavailable_value"

// debeziumOps are Debezium's words.
var debeziumOps = [decoder.OpRead + 1]string{
	decoder.OpInsert: "c", decoder.OpUpdate: "u", decoder.OpDelete: "d", decoder.OpTruncate: "t", decoder.OpRead: "r",
}

// debeziumPlan is what a table needs beside its recordPlan.
type debeziumPlan struct {
	key    []recordColumn // in the order of the primary key
	source []byte         // ,"schema":…,"table":…,"txId":
	absent [][]byte       // by column of the plan: what is in before where the value did not come
}

// mapDebezium makes the records of a change that became no dead letter.
func (m *Mapper) mapDebezium(c *decoder.Change, p *recordPlan) {
	switch {
	case p.keyChanged(c):
		old, now := m.debeziumKey(p, c, c.Old), m.debeziumKey(p, c, c.New)
		m.debeziumDelete(c, p, old, m.keyHeader("__debezium.newkey", now))
		m.records[1] = recordPayload{m: m, plan: p, c: c, op: decoder.OpInsert, after: c.New}
		it := m.debeziumItem(&m.records[1], now, 2)
		it.Headers = m.keyHeader("__debezium.oldkey", old)
	case c.Op == decoder.OpDelete:
		m.debeziumDelete(c, p, m.debeziumKey(p, c, c.Old), nil)
	default:
		m.records[0] = recordPayload{m: m, plan: p, c: c, op: c.Op, after: c.New}
		if !c.OldIsKey {
			m.records[0].before = c.Old
		}
		m.debeziumItem(&m.records[0], m.debeziumKey(p, c, c.New), 0)
	}
}

// debeziumDelete makes the record of a delete, and the tombstone after it, which lets a
// compacted topic forget the key.
func (m *Mapper) debeziumDelete(c *decoder.Change, p *recordPlan, key, headers []byte) {
	m.records[0] = recordPayload{m: m, plan: p, c: c, op: decoder.OpDelete, before: c.Old}
	m.debeziumItem(&m.records[0], key, 0).Headers = headers
	it := m.debeziumItem(&m.records[0], key, 1)
	it.Headers, it.Payload = headers, nil
}

func (m *Mapper) debeziumItem(rec *recordPayload, key []byte, sub uint16) *Item {
	it := m.item(rec.c, KindRecord, sub)
	it.Stream, it.Key, it.Type, it.Payload = rec.plan.stream, key, opNames[rec.op], rec
	it.EventID = m.recordID(it)
	return it
}

// debeziumKey returns the key as an object, nil for a table without one.
func (m *Mapper) debeziumKey(p *recordPlan, c *decoder.Change, tuple []decoder.Value) []byte {
	if len(p.debezium.key) == 0 {
		return nil
	}
	rec := recordPayload{m: m, plan: p, c: c}
	start := len(m.arena)
	for i := range p.debezium.key {
		col := &p.debezium.key[i]
		m.arena = append(m.arena, col.label...)
		m.arena = rec.appendValue(m.arena, col, rec.keyValue(tuple, col.index))
	}
	m.arena = closeObject(m.arena, start)
	return m.kept(start)
}

// keyHeader returns headers with the other key of a change of key.
func (m *Mapper) keyHeader(name string, key []byte) []byte {
	start := len(m.arena)
	m.arena = append(append(append(m.arena, `{"`...), name...), `":`...)
	m.arena = append(appendString(m.arena, key), '}')
	return m.kept(start)
}

// appendDebezium appends a record.
func (p *recordPayload) appendDebezium(dst []byte) []byte {
	dst = append(dst, `{"before":`...)
	dst = p.appendDebeziumRow(dst, p.before, p.c.OldIsKey)
	dst = append(dst, `,"after":`...)
	dst = p.appendDebeziumRow(dst, p.after, false)
	at := p.m.debeziumTime(p.c)
	dst = append(dst, `,"source":{`...)
	dst = append(dst, p.m.debeziumHead...)
	dst = strconv.AppendInt(append(dst, `,"ts_ms":`...), floorDiv(at, 1000), 10)
	dst = append(dst, `,"snapshot":"`...)
	dst = strconv.AppendBool(dst, p.c.Op == decoder.OpRead)
	dst = append(dst, p.m.debeziumDatabase...)
	dst = p.appendSequence(dst)
	dst = strconv.AppendInt(append(dst, `,"ts_us":`...), at, 10)
	dst = strconv.AppendInt(append(dst, `,"ts_ns":`...), at*1000, 10)
	dst = append(dst, p.plan.debezium.source...)
	dst = p.appendPosition(dst)
	dst = append(dst, `,"transaction":null,"op":"`...)
	dst = append(dst, debeziumOps[p.op]...)
	dst = strconv.AppendInt(append(dst, `","ts_ms":`...), floorDiv(at, 1000), 10)
	dst = strconv.AppendInt(append(dst, `,"ts_us":`...), at, 10)
	return append(strconv.AppendInt(append(dst, `,"ts_ns":`...), at*1000, 10), '}')
}

// debeziumTime is the commit's time in microseconds since 1970, for a row that was read
// that of its place in the stream. It stands for the time of processing too, so that a redelivery is the same bytes.
func (m *Mapper) debeziumTime(c *decoder.Change) int64 {
	switch {
	case c.Read != nil:
		return c.Read.At.Time().UnixMicro()
	case c.Tx == nil:
		return 0
	}
	return c.Tx.CommitTime.Time().UnixMicro()
}

// appendSequence appends ,"sequence":"[\"commit\",\"change\"]", whose two numbers order
// all records of the source.
func (p *recordPayload) appendSequence(dst []byte) []byte {
	dst = strconv.AppendUint(append(dst, `,"sequence":"[\"`...), uint64(p.c.ID.Commit), 10)
	dst = strconv.AppendUint(append(dst, `\",\"`...), uint64(p.lsn()), 10)
	return append(dst, `\"]"`...)
}

// appendPosition appends the rest of source, behind ,"txId": .
func (p *recordPayload) appendPosition(dst []byte) []byte {
	if p.c.Tx == nil {
		dst = append(dst, "null"...)
	} else {
		dst = strconv.AppendUint(dst, uint64(p.c.Tx.Xid), 10)
	}
	dst = strconv.AppendUint(append(dst, `,"lsn":`...), uint64(p.lsn()), 10)
	return append(dst, `,"xmin":null,"origin":null,"origin_lsn":null}`...)
}

// lsn is where the change is in the WAL; that of its commit where that is not known.
func (p *recordPayload) lsn() lsn.LSN {
	if p.c.LSN != 0 {
		return p.c.LSN
	}
	return p.c.ID.Commit
}

// appendDebeziumRow appends a row with all its columns, null for no row. keyOnly: only
// those of the replica identity have values.
func (p *recordPayload) appendDebeziumRow(dst []byte, row []decoder.Value, keyOnly bool) []byte {
	if row == nil {
		return append(dst, "null"...)
	}
	start := len(dst)
	for i := range p.plan.columns {
		col := &p.plan.columns[i]
		dst = append(dst, col.label...)
		v := &row[col.index]
		switch {
		case keyOnly && !col.wireKey:
			dst = append(dst, p.plan.debezium.absent[i]...)
		case v.Kind == decoder.ValueUnchanged && p.filled(col) == nil:
			dst = append(dst, col.codec.unavailable()...)
		case v.Kind == decoder.ValueUnchanged:
			dst = p.appendValue(dst, col, p.filled(col))
		default:
			dst = p.appendValue(dst, col, v)
		}
	}
	return closeObject(dst, start)
}

// unavailable is the placeholder in a type's form.
func (c *codec) unavailable() string {
	switch c.form {
	case formBytea:
		return `"X19kZWJleml1bV91bmF2YWlsYWJsZV92YWx1ZQ=="` // base64 of it
	case formArray:
		return `["` + unavailable + `"]`
	}
	return `"` + unavailable + `"`
}

// sanitized replaces what a topic's name must not have by _, as Debezium does.
func sanitized(stream string) string {
	return strings.Map(func(r rune) rune {
		switch {
		case r >= 'a' && r <= 'z', r >= 'A' && r <= 'Z', r >= '0' && r <= '9', r == '.', r == '_', r == '-':
			return r
		}
		return '_'
	}, stream)
}
