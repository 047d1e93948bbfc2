package snapshot

import (
	"encoding/binary"
	"hash/maphash"

	"github.com/walbridge/walbridge/decoder"
)

// keyHash stands for a key, 128 bits under seeds that nobody knows: two keys of one
// hash would lose a row.
type keyHash [2]uint64

type hasher struct{ a, b maphash.Seed }

func newHasher() hasher { return hasher{maphash.MakeSeed(), maphash.MakeSeed()} }

func (h hasher) hash(key []byte) keyHash {
	return keyHash{maphash.Bytes(h.a, key), maphash.Bytes(h.b, key)}
}

// appendPart appends one value of a key, so that no two keys give the same bytes.
func appendPart(dst, value []byte) []byte {
	return append(binary.BigEndian.AppendUint32(dst, uint32(len(value))), value...)
}

// keyTouch is a key that a transaction has touched. partial: what was streamed of the
// row lacks values that the update left alone.
type keyTouch struct {
	key     keyHash
	partial bool
}

// txTouch is what one transaction has touched of a table.
type txTouch struct {
	xid  uint32
	keys []keyTouch
	// all: the table was truncated.
	all bool
	// unknown: a change came without its key, for a row above the limit.
	unknown bool
}

// maxTouched bounds the keys noted of a table. More come when the stream is far
// behind, or the table is hotter than it can be read; then the chunks under way are
// given up and the notes with them.
const maxTouched = 1 << 17

// touched are the notes of one table, in the order of the stream.
type touched struct {
	txs  []txTouch
	keys int
}

func (n *touched) clear() { n.txs, n.keys = nil, 0 }

// tx returns the notes of the transaction that is being streamed.
func (n *touched) tx(xid uint32) *txTouch {
	if last := len(n.txs) - 1; last >= 0 && n.txs[last].xid == xid {
		return &n.txs[last]
	}
	n.txs = append(n.txs, txTouch{xid: xid})
	return &n.txs[len(n.txs)-1]
}

func (n *touched) add(xid uint32, key keyHash, partial bool) {
	tx := n.tx(xid)
	tx.keys = append(tx.keys, keyTouch{key, partial})
	n.keys++
}

// verdict is what the notes mean for the rows that one SELECT has seen.
type verdict struct {
	// newer are the keys that the stream has newer; true: not whole.
	newer map[keyHash]bool
	// all: the stream has said that every row is gone.
	all bool
	// unknown: nobody can say.
	unknown bool
}

// judge compares the notes with what was visible, and forgets those that were: every
// later SELECT sees them as well.
func (n *touched) judge(seen Visibility) verdict {
	v := verdict{newer: map[keyHash]bool{}}
	kept := n.txs[:0]
	n.keys = 0
	for _, tx := range n.txs {
		if seen.Sees(tx.xid) {
			continue
		}
		v.all, v.unknown = v.all || tx.all, v.unknown || tx.unknown
		for _, k := range tx.keys {
			v.newer[k.key] = v.newer[k.key] || k.partial
		}
		n.keys += len(tx.keys)
		kept = append(kept, tx)
	}
	clear(n.txs[len(kept):])
	n.txs = kept
	return v
}

// keyed finds the key of rows of one description of a table.
type keyed struct{ columns []int }

// keyedBy returns false when the description lacks a column of the key.
func keyedBy(rel *decoder.Relation, names []string) (keyed, bool) {
	var k keyed
	for _, name := range names {
		at := -1
		for i := range rel.Columns {
			if rel.Columns[i].Name == name {
				at = i
			}
		}
		if at < 0 {
			return keyed{}, false
		}
		k.columns = append(k.columns, at)
	}
	return k, true
}

// identifies reports whether changes under the description say which row they are of by
// that key: it is the replica identity, or every change has the whole old row.
func identifies(rel *decoder.Relation, k keyed) bool {
	if rel.Identity == decoder.IdentityFull {
		return true
	}
	flagged := 0
	for i := range rel.Columns {
		if rel.Columns[i].Key {
			flagged++
		}
	}
	for _, at := range k.columns {
		if !rel.Columns[at].Key {
			return false
		}
	}
	return flagged == len(k.columns)
}

// values returns the key in a tuple. An unchanged value that is stored out of line is
// in the old tuple. false: it is not there.
func (k keyed) values(tuple, old []decoder.Value) ([]string, bool) {
	key := make([]string, len(k.columns))
	for i, at := range k.columns {
		v, ok := valueAt(tuple, at)
		if ok && v.Kind == decoder.ValueUnchanged {
			v, ok = valueAt(old, at)
		}
		if !ok || v.Kind != decoder.ValueText {
			return nil, false
		}
		key[i] = string(v.Data)
	}
	return key, true
}

// texts returns the key in a row that was read, nil when part of it is NULL.
func (k keyed) texts(row [][]byte) []string {
	key := make([]string, len(k.columns))
	for i, at := range k.columns {
		if row[at] == nil {
			return nil
		}
		key[i] = string(row[at])
	}
	return key
}

func valueAt(tuple []decoder.Value, at int) (decoder.Value, bool) {
	if at >= len(tuple) {
		return decoder.Value{}, false
	}
	return tuple[at], true
}

// partial reports whether values of the new row did not come.
func partial(ch *decoder.Change) bool {
	for i := range ch.New {
		if ch.New[i].Kind != decoder.ValueUnchanged {
			continue
		}
		if ch.OldIsKey && !ch.Relation.Columns[i].Key {
			return true
		}
		if old, ok := valueAt(ch.Old, i); !ok || old.Kind == decoder.ValueUnchanged {
			return true
		}
	}
	return false
}

// encodeKey makes the bytes that a key is hashed by.
func encodeKey(dst []byte, key []string) []byte {
	for _, v := range key {
		dst = append(binary.BigEndian.AppendUint32(dst, uint32(len(v))), v...)
	}
	return dst
}
