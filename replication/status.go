package replication

import (
	"encoding/binary"
	"time"

	"github.com/walbridge/walbridge/internal/lsn"
)

// statusLength is a standby status update as it goes over the wire, the CopyData
// header included.
const statusLength = messageHeader + 1 + 8 + 8 + 8 + 8 + 1

// encodeStatus writes a standby status update (protocol.sgml, "Standby status
// update"). write is what has been received: a value behind what the server has
// sent makes it send keepalives without end (walsender.c, WalSndWaitForWal). flush
// and apply are what is durable; zero goes out as zero, which the server ignores.
func encodeStatus(b *[statusLength]byte, write, flush lsn.LSN, now lsn.Micros, reply bool) {
	b[0] = 'd'
	binary.BigEndian.PutUint32(b[1:], statusLength-1)
	b[5] = 'r'
	binary.BigEndian.PutUint64(b[6:], uint64(write))
	binary.BigEndian.PutUint64(b[14:], uint64(flush))
	binary.BigEndian.PutUint64(b[22:], uint64(flush))
	binary.BigEndian.PutUint64(b[30:], uint64(now))
	b[38] = 0
	if reply {
		b[38] = 1
	}
}

// Spacing of status updates that are not due by the timer.
const (
	// wakeSpacing is for a position that has moved: the server need not know within
	// less.
	wakeSpacing = time.Second
	// replySpacing is for a server that asks: one that shuts down asks again after each
	// answer that does not satisfy it (walsender.c, WalSndDone).
	replySpacing = 100 * time.Millisecond
)
