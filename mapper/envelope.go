package mapper

import (
	"strconv"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/internal/lsn"
)

// recordPayload writes one record. It is valid as long as the change is.
type recordPayload struct {
	m    *Mapper
	plan *recordPlan
	c    *decoder.Change
	op   decoder.Op // the record's: a change of key is a delete and an insert
	// before and after are the row as the server sent it; nil: there is none.
	before, after []decoder.Value
	// key is the tuple with the record's key; otherKey that with the other key of a
	// change of key, else nil.
	key, otherKey []decoder.Value
}

// AppendJSON appends the record in its route's envelope.
func (p *recordPayload) AppendJSON(dst []byte) []byte {
	switch {
	case p.plan.row:
		return p.appendRow(dst, p.after, false)
	case p.plan.debezium != nil:
		return p.appendDebezium(dst)
	}
	dst = append(dst, p.plan.heads[p.op]...)
	dst = p.appendKey(dst, p.key)
	if p.otherKey != nil {
		name := `,"new_key":`
		if p.op == decoder.OpInsert {
			name = `,"old_key":`
		}
		dst = append(dst, name...)
		dst = p.appendKey(dst, p.otherKey)
	}
	dst = append(dst, `,"before":`...)
	dst = p.appendRow(dst, p.before, p.c.OldIsKey)
	dst = append(dst, `,"after":`...)
	dst = p.appendRow(dst, p.after, false)
	dst = append(dst, `,"unchanged":`...)
	dst, _ = p.appendUnchanged(dst)
	if p.op == decoder.OpTruncate {
		dst = strconv.AppendBool(append(dst, `,"cascade":`...), p.c.Cascade)
		dst = strconv.AppendBool(append(dst, `,"restart_identity":`...), p.c.RestartIdentity)
	}
	return p.m.appendSource(dst, p.c)
}

// appendKey appends the key as an object, null when the table has none.
func (p *recordPayload) appendKey(dst []byte, tuple []decoder.Value) []byte {
	if tuple == nil || len(p.plan.key) == 0 {
		return append(dst, "null"...)
	}
	start := len(dst)
	keys := p.plan.key
	for i := range p.plan.columns {
		col := &p.plan.columns[i]
		for len(keys) > 0 && keys[0].index < col.index {
			keys = keys[1:] // an excluded one
		}
		if len(keys) == 0 {
			break
		}
		if keys[0].index != col.index {
			continue
		}
		dst = append(dst, col.label...)
		dst = p.appendValue(dst, col, p.keyValue(tuple, col.index))
	}
	return closeObject(dst, start)
}

// keyValue returns a key column's value, from the old tuple where the new one says
// that it is unchanged.
func (p *recordPayload) keyValue(tuple []decoder.Value, index int) *decoder.Value {
	v := &tuple[index]
	if v.Kind == decoder.ValueUnchanged && p.c.Old != nil {
		return &p.c.Old[index]
	}
	return v
}

// appendRow appends a row as an object of the columns whose values came, null for
// no row. keyOnly: only those of the replica identity have.
func (p *recordPayload) appendRow(dst []byte, row []decoder.Value, keyOnly bool) []byte {
	if row == nil {
		return append(dst, "null"...)
	}
	start := len(dst)
	for i := range p.plan.columns {
		col := &p.plan.columns[i]
		if keyOnly && !col.wireKey {
			continue
		}
		v := &row[col.index]
		if v.Kind == decoder.ValueUnchanged {
			if v = p.filled(col); v == nil {
				continue
			}
		}
		dst = append(dst, col.label...)
		dst = p.appendValue(dst, col, v)
	}
	return closeObject(dst, start)
}

// filled returns the value of an unchanged column from the old tuple, nil when it
// is not there either: with REPLICA IDENTITY FULL the server sends every old value
// whole (heapam.c: ExtractReplicaIdentity, which flattens what is out of line).
func (p *recordPayload) filled(col *recordColumn) *decoder.Value {
	if p.c.Old == nil || p.c.OldIsKey && !col.wireKey {
		return nil
	}
	v := &p.c.Old[col.index]
	if v.Kind == decoder.ValueUnchanged {
		return nil
	}
	return v
}

// appendUnchanged appends the names of the columns that are missing from after as
// an array, and says whether there are any.
func (p *recordPayload) appendUnchanged(dst []byte) (out []byte, any bool) {
	dst = append(dst, '[')
	if p.after == nil {
		return append(dst, ']'), false
	}
	for i := range p.plan.columns {
		col := &p.plan.columns[i]
		if p.after[col.index].Kind != decoder.ValueUnchanged || p.filled(col) != nil {
			continue
		}
		if any {
			dst = append(dst, ',')
		}
		any = true
		dst = append(dst, col.label[1:len(col.label)-1]...)
	}
	return append(dst, ']'), any
}

func (p *recordPayload) appendValue(dst []byte, col *recordColumn, v *decoder.Value) []byte {
	switch {
	case v.Kind == decoder.ValueNull:
		return append(dst, "null"...)
	case v.Kind == valueMasked:
		return appendString(dst, v.Data)
	case col.mask != nil:
		dst = append(dst, '"')
		dst = col.mask.append(dst, v.Data)
		return append(dst, '"')
	}
	return p.m.enc.value(dst, col.codec, v.Data)
}

// txText is what the records of one transaction have in common, written once. Rows that
// a snapshot read belong to none, and have the position of the one that they are put to.
type txText struct {
	tx   decoder.Tx // of the text; of rows that were read only Commit
	read bool
	head []byte // ,"source":{… up to the number of the change; nil: there is none yet
	tail []byte // what follows it, up to the value of snapshot
}

// appendSource appends where a record comes from, and ends the record. Nothing in
// it differs when the change is delivered again.
func (m *Mapper) appendSource(dst []byte, c *decoder.Change) []byte {
	if c.Tx == nil {
		m.sourceOfRead(c.ID.Commit)
	} else {
		m.sourceOfTx(c.Tx)
	}
	dst = append(dst, m.tx.head...)
	dst = strconv.AppendUint(dst, uint64(c.ID.Seq), 10)
	dst = append(dst, m.tx.tail...)
	return append(strconv.AppendBool(dst, c.Op == decoder.OpRead), '}', '}')
}

const isoMicros = "2006-01-02T15:04:05.000000Z"

func (m *Mapper) sourceOfTx(tx *decoder.Tx) {
	t := &m.tx
	if t.head != nil && !t.read && t.tx.Commit == tx.Commit && t.tx.Xid == tx.Xid && t.tx.CommitTime == tx.CommitTime {
		return
	}
	t.tx, t.read = *tx, false
	t.head = m.sourceHead(t.head[:0], tx.Commit)
	t.tail = strconv.AppendUint(append(t.tail[:0], `,"xid":`...), uint64(tx.Xid), 10)
	t.tail = tx.CommitTime.Time().AppendFormat(append(t.tail, `,"committed_at":"`...), isoMicros)
	t.tail = append(t.tail, `","snapshot":`...)
}

func (m *Mapper) sourceOfRead(at lsn.LSN) {
	t := &m.tx
	if t.head != nil && t.read && t.tx.Commit == at {
		return
	}
	t.tx, t.read = decoder.Tx{Commit: at}, true
	t.head = m.sourceHead(t.head[:0], at)
	t.tail = append(t.tail[:0], `,"xid":null,"committed_at":null,"snapshot":`...)
}

func (m *Mapper) sourceHead(dst []byte, commit lsn.LSN) []byte {
	dst = appendString(append(dst, `,"source":{"bridge":`...), []byte(m.env.Bridge))
	dst = appendString(append(dst, `,"db":`...), []byte(m.env.Database))
	dst = commit.AppendText(append(dst, `,"commit_lsn":"`...))
	return append(dst, `","tx_seq":`...)
}
