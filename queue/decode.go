package queue

import (
	"encoding/json"
	"time"
)

// itemColumns are what reader reads, of fetch and of fetch_parked.
const itemColumns = "lane, seq, stream, partition_key, idempotency_key, kind, type, payload, headers, source, commit_lsn, tx_seq, sub, committed_at, created_at, "

// fetched is one row of a read.
type fetched struct {
	entry *entry
	lane  int
	seq   int64
	keyed bool
	wait  time.Duration
}

// itemReader turns rows into entries. The items of one read share blocks of memory:
// payloads and headers in large ones, entries by the hundred; names that repeat are
// kept once. So a row costs one allocation, for its id and key.
type itemReader struct {
	names   map[string]string
	block   []byte
	entries []entry
	text    []byte
	got     []fetched
	marks   []fetched
	bytes   int64
}

const (
	blockBytes   = 256 << 10
	blockEntries = 128
	// entryBytes is what an entry costs beside its payload, about.
	entryBytes = 400
)

func newItemReader() *itemReader { return &itemReader{names: map[string]string{}} }

// start forgets the last read's items, which belong to others now.
func (r *itemReader) start() { r.got, r.marks, r.bytes = r.got[:0], r.marks[:0], 0 }

// row takes a row of itemColumns, wait_ms, attempts.
func (r *itemReader) row(v [][]byte) error {
	f := fetched{lane: int16Of(v[0]), seq: int64Of(v[1])}
	if v[5] == nil { // kind: a mark
		r.marks = append(r.marks, f)
		return nil
	}
	if len(r.entries) == 0 {
		r.entries = make([]entry, blockEntries)
	}
	e := &r.entries[0]
	r.entries = r.entries[1:]
	r.text = append(append(r.text[:0], v[4]...), v[3]...)
	text := string(r.text)
	it := &e.item
	it.Seq, it.Lane = f.seq, f.lane
	it.ID, it.Key = text[:len(v[4])], text[len(v[4]):]
	it.Stream, it.Kind, it.Type = r.name(v[2]), r.name(v[5]), r.name(v[6])
	it.Payload, it.Headers = r.keep(v[7]), r.keep(v[8])
	it.Position = Position{Source: r.name(v[9]), LSN: LSN(int64Of(v[10])), TxSeq: int64Of(v[11]), Sub: int32(int32Of(v[12]))}
	it.CommittedAt, it.CreatedAt = timeOf(v[13]), timeOf(v[14])
	it.Attempt = int32Of(v[16]) + 1
	e.size = entryBytes + len(v[3]) + len(v[4]) + len(v[7]) + len(v[8])
	f.entry, f.keyed, f.wait = e, v[3] != nil, time.Duration(int64Of(v[15]))*time.Millisecond
	r.got = append(r.got, f)
	r.bytes += int64(e.size)
	return nil
}

// maxNames bounds what is kept of names: types can be anything.
const maxNames = 10_000

func (r *itemReader) name(v []byte) string {
	if name, ok := r.names[string(v)]; ok {
		return name
	}
	if len(r.names) >= maxNames {
		clear(r.names)
	}
	name := string(v)
	r.names[name] = name
	return name
}

// keep copies a value into the block; nil stays nil.
func (r *itemReader) keep(v []byte) json.RawMessage {
	if v == nil {
		return nil
	}
	if len(v) > cap(r.block)-len(r.block) {
		r.block = make([]byte, 0, max(blockBytes, len(v)))
	}
	from := len(r.block)
	r.block = append(r.block, v...)
	return json.RawMessage(r.block[from:len(r.block):len(r.block)])
}
