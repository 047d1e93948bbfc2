package recordbatch

import (
	"encoding/binary"
	"hash/crc32"
)

// Offsets into a batch, counted from its first byte.
const (
	atLength     = 8
	atEpoch      = 12
	atMagic      = 16
	atCRC        = 17
	atAttributes = 21
	atLastDelta  = 23
	atBaseTime   = 27
	atMaxTime    = 35
	atProducerID = 43
	atProdEpoch  = 51
	atBaseSeq    = 53
	atCount      = 57
)

const (
	magic             = 2
	attrTransactional = 1 << 4
)

// Producer is what a batch says about who wrote it.
type Producer struct {
	ID    int64
	Epoch int16
	// Sequence is that of the batch's first record, 0 after an epoch change and after
	// 2^31-1.
	Sequence      int32
	Transactional bool
}

// Anonymous is a producer that is not idempotent.
func Anonymous() Producer { return Producer{ID: -1, Epoch: -1, Sequence: -1} }

// Close compresses the records and fills the header but for the producer, which
// Stamp writes. The result, Prefix included, is in memory's memory, which is used from
// its beginning, or in the builder's own when nothing is compressed; it is valid
// until either changes. Records that do not become smaller are left as they are.
// It also returns the memory to give to the next call.
func (b *Builder) Close(c *Compressor, memory []byte) (closed, kept []byte) {
	if b.count == 0 {
		return nil, memory
	}
	out, codec := b.buf, None
	if c.codec != None {
		memory = c.append(append(memory[:0], emptyHead[:]...), b.buf[len(emptyHead):])
		if len(memory) < len(b.buf) {
			out, codec = memory, c.codec
		}
	}
	h := out[Prefix:]
	binary.BigEndian.PutUint32(out, uint32(len(h)))
	binary.BigEndian.PutUint64(h, 0) // base offset: the broker's
	binary.BigEndian.PutUint32(h[atLength:], uint32(len(h)-atEpoch))
	binary.BigEndian.PutUint32(h[atEpoch:], 0xFFFFFFFF) // leader epoch: the broker's
	h[atMagic] = magic
	binary.BigEndian.PutUint16(h[atAttributes:], uint16(codec))
	binary.BigEndian.PutUint32(h[atLastDelta:], uint32(b.count-1))
	binary.BigEndian.PutUint64(h[atBaseTime:], uint64(b.base))
	binary.BigEndian.PutUint64(h[atMaxTime:], uint64(b.max))
	binary.BigEndian.PutUint32(h[atCount:], uint32(b.count))
	return out, memory
}

// Stamp writes the producer into a closed batch and renews the checksum: what a
// retry under a new epoch does, without encoding or compressing again.
func (p Producer) Stamp(closed []byte) {
	h := closed[Prefix:]
	attributes := binary.BigEndian.Uint16(h[atAttributes:]) &^ attrTransactional
	if p.Transactional {
		attributes |= attrTransactional
	}
	binary.BigEndian.PutUint16(h[atAttributes:], attributes)
	binary.BigEndian.PutUint64(h[atProducerID:], uint64(p.ID))
	binary.BigEndian.PutUint16(h[atProdEpoch:], uint16(p.Epoch))
	binary.BigEndian.PutUint32(h[atBaseSeq:], uint32(p.Sequence))
	binary.BigEndian.PutUint32(h[atCRC:], crc32.Checksum(h[atAttributes:], castagnoli))
}

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// NextSequence is the sequence behind n records: it wraps to 0 after 2^31-1
// (DefaultRecordBatch.incrementSequence).
func NextSequence(sequence int32, n int) int32 {
	return int32((int64(sequence) + int64(n)) & 0x7fffffff)
}
