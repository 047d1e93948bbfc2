package pipeline

import (
	"time"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/replication"
)

// horizons are moments of the source that the sink has gone beyond, the oldest first:
// by them rows are known to be relayed, and how long ago at least they were written. It
// is bounded: the newest are all kept, older ones at a distance.
type horizons struct {
	span time.Duration // how far back they are needed
	kept []horizonAt
}

type horizonAt struct {
	replication.Horizon
	at time.Time
}

const (
	// denseHorizons are kept whatever their distance.
	denseHorizons = 64
	// sparseHorizons are how many cover the span beyond those.
	sparseHorizons = 256
)

// add takes a horizon that is newer than all others. One of another place makes those
// before it worthless.
func (h *horizons) add(next horizonAt) {
	if n := len(h.kept); n > 0 && h.kept[n-1].Place != next.Place {
		h.kept = h.kept[:0]
	}
	h.kept = append(h.kept, next)
	i := len(h.kept) - 1 - denseHorizons // the one that leaves the dense ones
	if i > 0 && h.kept[i].at.Sub(h.kept[i-1].at) < h.span/sparseHorizons {
		h.kept = append(h.kept[:i], h.kept[i+1:]...)
	}
	for len(h.kept) > 1 && next.at.Sub(h.kept[1].at) >= h.span {
		h.kept = h.kept[1:]
	}
}

// newest returns the newest one, and old the newest of those that were taken before a
// time; zero where there is none.
func (h *horizons) newest(place replication.Place, before time.Time) (newest, old replication.Horizon) {
	for _, k := range h.kept {
		if k.Place != place {
			continue
		}
		newest = k.Horizon
		if !k.at.After(before) {
			old = k.Horizon
		}
	}
	return newest, old
}

// pending are horizons that the sink has not gone beyond yet. They live as long as a
// replication session: what a server had not flushed when it crashed would give the same
// LSNs and transaction ids to others.
type pending []horizonAt

// maxPending bounds the ones that wait for a sink that stands still.
const maxPending = 16

// add takes a further one, if there is room: the oldest are those that are confirmed next.
func (p *pending) add(next horizonAt) {
	if len(*p) < maxPending {
		*p = append(*p, next)
	}
}

// confirmed moves those that the sink has gone beyond.
func (p *pending) confirmed(at lsn.LSN, to *horizons) {
	n := 0
	for n < len(*p) && (*p)[n].LSN <= at {
		to.add((*p)[n])
		n++
	}
	*p = append((*p)[:0], (*p)[n:]...)
}
