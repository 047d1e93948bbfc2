package replication

import (
	"encoding/binary"
	"fmt"

	"github.com/walbridge/walbridge/internal/lsn"
)

// Frame is one CopyData payload of the stream: a message of the output plugin, or
// a keepalive. It and its Data are valid until the next call of Stream.Next.
type Frame struct {
	// Keepalive: the server had nothing to send, or asks for a sign of life. Data is nil.
	Keepalive bool
	// Start is the LSN of a message as the server's walsender stamps it; 0 when the
	// message is not the last write of a callback of the plugin (Relation, Type, and
	// Begin before an Origin: walsender.c, WalSndPrepareWrite).
	Start lsn.LSN
	// End of a message is the same LSN again (a logical walsender sends it twice); of a
	// keepalive it is the end of the last record that was decoded: all commits before it
	// have been sent.
	End lsn.LSN
	// SendTime is the server's clock when it sent the frame.
	SendTime lsn.Micros
	// Data is the plugin's message. It aliases the reader's block.
	Data []byte
	// Size is the length of the whole message when it was longer than
	// StreamConfig.MaxFrameBytes and Data holds only its beginning; else 0.
	Size int64
	// ReplyRequested: the server asks for a status update, which has been ordered by
	// then. With nothing in flight, make the idle mark durable at once: a publisher that
	// shuts down waits for it (walsender.c, WalSndDone).
	ReplyRequested bool
}

// The headers of the two kinds of frames (protocol.sgml, "Streaming Replication
// Protocol"), kind byte included.
const (
	xlogDataHeader  = 1 + 8 + 8 + 8
	keepaliveLength = 1 + 8 + 8 + 1
)

// parseFrame fills f from the payload of a CopyData message.
func parseFrame(f *Frame, m message) error {
	b := m.body
	if len(b) == 0 {
		return &ProtocolError{What: "empty CopyData"}
	}
	switch b[0] {
	case 'w':
		if len(b) < xlogDataHeader {
			return &ProtocolError{What: fmt.Sprintf("XLogData of %d bytes", len(b))}
		}
		*f = Frame{
			Start:    lsn.LSN(binary.BigEndian.Uint64(b[1:])),
			End:      lsn.LSN(binary.BigEndian.Uint64(b[9:])),
			SendTime: lsn.Micros(binary.BigEndian.Uint64(b[17:])),
			Data:     b[xlogDataHeader:],
		}
		if m.cut > 0 {
			f.Size = m.cut - xlogDataHeader
		}
		return nil
	case 'k':
		if len(b) != keepaliveLength {
			return &ProtocolError{What: fmt.Sprintf("keepalive of %d bytes", len(b))}
		}
		*f = Frame{
			Keepalive:      true,
			End:            lsn.LSN(binary.BigEndian.Uint64(b[1:])),
			SendTime:       lsn.Micros(binary.BigEndian.Uint64(b[9:])),
			ReplyRequested: b[17] == 1,
		}
		return nil
	}
	return &ProtocolError{What: fmt.Sprintf("CopyData of the unknown kind 0x%02X", b[0])}
}

// ProtocolError is a byte sequence that no server sends: a broken connection, a
// proxy that meddles, or a server newer than this program.
type ProtocolError struct {
	What string
}

// Error is one line.
func (e *ProtocolError) Error() string { return "replication stream: " + e.What }
