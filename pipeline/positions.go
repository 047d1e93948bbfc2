package pipeline

import (
	"sync/atomic"

	"github.com/walbridge/walbridge/internal/lsn"
)

// positions are the two of the four that the pipeline owns. All four start at the
// sink's own position and never move back while a session lasts:
//
//	reported <= confirmed <= written <= received
//
// received (end of the last frame read) and reported (what the server was last
// told) belong to the stream.
type positions struct {
	// written: end of the last parcel handed to the sink. Moved by: writer, before it
	// calls Write.
	written atomic.Uint64
	// confirmed: end of the last parcel that the sink has made durable, with all before
	// it. Moved by: writer, only after that. Read by: the stream, as the only thing
	// that flows back.
	confirmed atomic.Uint64
}

// reset starts both at the sink's position.
func (p *positions) reset(at lsn.LSN) {
	p.written.Store(uint64(at))
	p.confirmed.Store(uint64(at))
}

// Written returns the written position.
func (p *positions) Written() lsn.LSN { return lsn.LSN(p.written.Load()) }

// Confirmed returns the confirmed position.
func (p *positions) Confirmed() lsn.LSN { return lsn.LSN(p.confirmed.Load()) }
