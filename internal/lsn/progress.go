package lsn

import (
	"fmt"
	"time"
)

// Position is how far a stream has been made durable.
type Position struct {
	// End: every transaction whose end LSN is at or below it is durable, whole. It is
	// the end of the last whole transaction, or of a later idle mark. It is what the
	// server may be told as flushed (protocol rule R2: an end LSN, never a commit LSN).
	End LSN
	// LastTxEnd is the end LSN of the last whole transaction that left a trace;
	// idle marks do not count. It is compared with the fork of a new timeline.
	LastTxEnd LSN
	// Commit, Seq and Sub are set while a transaction larger than a batch is under
	// way: the id of the last item of it that is durable. Commit 0: no transaction is
	// under way.
	Commit LSN
	Seq    uint32
	Sub    uint16
}

// Inside reports whether the position lies inside a transaction.
func (p Position) Inside() bool { return p.Commit != 0 }

// LastCommit is the newest commit the position knows of: what is compared with
// the fork of a timeline.
func (p Position) LastCommit() LSN { return max(p.LastTxEnd, p.Commit) }

// Before reports whether p is strictly behind o.
func (p Position) Before(o Position) bool {
	if p.End != o.End {
		return p.End < o.End
	}
	return ID{p.Commit, p.Seq, p.Sub}.Compare(ID{o.Commit, o.Seq, o.Sub}) < 0
}

// String shows the position for people.
func (p Position) String() string {
	if !p.Inside() {
		return p.End.String()
	}
	return fmt.Sprintf("%s, inside the transaction committed at %s, change %d", p.End, p.Commit, p.Seq)
}

// Phase is the part of its life that a bridge is in, as its sink has stored it.
type Phase string

// The phases. A source that the sink has never seen has PhaseNone.
const (
	PhaseNone      Phase = ""
	PhaseNew       Phase = "new"       // the slot is about to be made: one found then is ours and was never read
	PhaseStreaming Phase = "streaming" // the position counts
)

// Progress is the durable record of a bridge, stored by its sink in one step
// with the items it speaks of.
type Progress struct {
	SystemID uint64 // of the source cluster: pg_control_system().system_identifier
	Timeline uint32 // of the source at the position
	Slot     string
	Position Position
	// Xid (64 bits wide, epoch in the upper half) and CommitTime belong to the last
	// transaction that the position knows of; zero when there is none.
	Xid        uint64
	CommitTime time.Time
	Phase      Phase
	// ConfigHash covers all that decides the numbering of changes: publications,
	// plugin options, messages, origin.
	ConfigHash string
	// Cursors is the state of snapshots, at most 64 KiB, opaque to sinks.
	Cursors []byte
}
