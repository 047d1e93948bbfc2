package replication

import (
	"encoding/binary"
	"fmt"
)

// message is one message of the wire protocol. body aliases the reader's block and
// is valid until the next call of next.
type message struct {
	kind byte
	body []byte
	// cut is the length of the whole body when it was longer than the limit and body
	// holds only its beginning; else 0.
	cut int64
}

const (
	messageHeader = 1 + 4 // kind, and a length that counts itself
	// maxWireBody is the longest body that a server can send: it is built in one
	// palloc'd chunk (memutils.h, MaxAllocSize).
	maxWireBody = 1<<30 - 1
	// maxControlBody bounds every message that is not CopyData.
	maxControlBody = 1 << 20
	minBlock       = 4 << 10
	// calmReads is how many reads a grown block is kept for after it was last needed.
	calmReads = 64
)

// reader cuts a byte stream into messages without copying them. It reads into one
// block, which grows for a message that is longer, up to the limit, and shrinks
// back afterwards; of a message above the limit it keeps the beginning and throws
// the rest away in pieces. An error of the source leaves it whole: the next call
// goes on where it stood.
type reader struct {
	fill  func([]byte) (int, error) // as io.Reader, but never 0 bytes without an error
	block []byte
	r, w  int // block[r:w] is unread
	base  []byte
	limit int // of a CopyData body
	keep  int // of a body above the limit; the same whatever the block's size now is
	calm  int // reads since the grown block was last needed
	skip  struct {
		left int // bytes of the body still to be thrown away; 0: not skipping
		kept int // bytes of the body at block[messageHeader:]
		size int
	}
}

func newReader(fill func([]byte) (int, error), blockBytes, limit int) *reader {
	b := make([]byte, max(blockBytes, minBlock))
	return &reader{fill: fill, block: b, base: b, limit: limit, keep: min(len(b)/2-messageHeader, limit)}
}

// next returns the next message, reading as long as it takes.
func (rd *reader) next() (message, error) {
	for {
		if rd.skip.left > 0 {
			return rd.skipOn()
		}
		have := rd.w - rd.r
		need := messageHeader
		if have >= messageHeader {
			kind, n := rd.block[rd.r], rd.bodyLen()
			if err := checkLength(kind, n); err != nil {
				return message{}, err
			}
			whole := have-messageHeader >= n
			switch {
			case kind == 'd' && n > rd.limit && !whole:
				rd.startSkip(n)
				continue
			case kind == 'd' && n > rd.limit:
				return message{kind, rd.take(n)[:rd.keep], int64(n)}, nil
			case whole:
				return message{kind: kind, body: rd.take(n)}, nil
			}
			need += n
		}
		if err := rd.more(need); err != nil {
			return message{}, err
		}
	}
}

// take passes a whole message with a body of n bytes and returns the body.
func (rd *reader) take(n int) []byte {
	from := rd.r + messageHeader
	rd.r = from + n
	return rd.block[from:rd.r]
}

// bodyLen is the length of the body of the message at r, whose header is there.
func (rd *reader) bodyLen() int {
	return int(binary.BigEndian.Uint32(rd.block[rd.r+1:])) - 4
}

func checkLength(kind byte, n int) error {
	switch {
	case n < 0 || n > maxWireBody:
		return &ProtocolError{What: fmt.Sprintf("message 0x%02X with the impossible length %d", kind, n+4)}
	case kind != 'd' && n > maxControlBody:
		return &ProtocolError{What: fmt.Sprintf("message 0x%02X of %d bytes", kind, n)}
	}
	return nil
}

// ready reports whether next will return without reading.
func (rd *reader) ready() bool {
	if rd.skip.left > 0 || rd.w-rd.r < messageHeader {
		return false
	}
	n := rd.bodyLen()
	return n < 0 || rd.w-rd.r-messageHeader >= n
}

// more makes room for a message of need bytes that begins at r, and reads once.
func (rd *reader) more(need int) error {
	rd.fit(need)
	n, err := rd.fill(rd.block[rd.w:])
	rd.w += n
	if n > 0 {
		return nil // an error that came with bytes comes again without
	}
	return err
}

// fit moves what is unread to the front of a block that can hold need bytes.
func (rd *reader) fit(need int) {
	to := rd.block
	switch {
	case need > len(rd.block):
		const step = 64 << 10
		to = make([]byte, (need+step-1)/step*step)
		rd.calm = 0
	case len(rd.block) == len(rd.base):
	case need > len(rd.base) || rd.w-rd.r > len(rd.base):
		rd.calm = 0
	case rd.calm < calmReads:
		rd.calm++
	default:
		to = rd.base
	}
	if rd.r > 0 || &to[0] != &rd.block[0] {
		rd.w = copy(to, rd.block[rd.r:rd.w])
		rd.r = 0
	}
	rd.block = to
}

// startSkip begins to throw away a body of n bytes that is longer than the limit
// and not all there yet. The first half of the block keeps its beginning, the
// second takes the pieces.
func (rd *reader) startSkip(n int) {
	rd.w = copy(rd.block, rd.block[rd.r:rd.w])
	rd.r = 0
	have := rd.w - messageHeader
	rd.skip.kept = min(have, rd.keep)
	rd.skip.left = n - have
	rd.skip.size = n
}

func (rd *reader) skipOn() (message, error) {
	for rd.skip.left > 0 {
		to := rd.block[len(rd.block)/2:]
		if rd.skip.kept < rd.keep {
			to = rd.block[messageHeader+rd.skip.kept : messageHeader+rd.keep]
		}
		n, err := rd.fill(to[:min(len(to), rd.skip.left)])
		if rd.skip.kept < rd.keep {
			rd.skip.kept += n
		}
		rd.skip.left -= n
		if err != nil && n == 0 {
			return message{}, err
		}
	}
	rd.r, rd.w = 0, 0
	return message{'d', rd.block[messageHeader : messageHeader+rd.skip.kept], int64(rd.skip.size)}, nil
}
