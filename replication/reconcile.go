package replication

import (
	"fmt"
	"strconv"
	"strings"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
)

// Action is what a Decision asks for.
type Action int

// The actions.
const (
	// FirstStart: nothing was ever streamed. Store PhaseNew, make the slot, store its
	// consistent point as the position with PhaseStreaming, then stream.
	FirstStart Action = iota + 1
	// Resume: the position belongs to this server. Store Progress when Moved, then
	// stream from its position.
	Resume
)

// Decision is what Reconcile found, no halt being needed.
type Decision struct {
	Action Action
	// DropOwnSlot, with FirstStart: the slot that exists was made by an unfinished first
	// start and never read; drop it before making a new one. Where it is active, a session
	// that a dead process left behind is still making it, and has to be ended first.
	DropOwnSlot bool
	// Progress, with Resume: what was stored, moved to the server's timeline.
	Progress lsn.Progress
	// Moved: Progress differs from what was stored.
	Moved bool
}

// Timeline is one entry of a timeline history file.
type Timeline struct {
	ID  uint32
	End lsn.LSN // where the next timeline begins
}

// TimelineHistory lists the ancestors of a timeline, oldest first.
type TimelineHistory []Timeline

// ParseTimelineHistory reads a timeline history file (timeline.c,
// readTimeLineHistory): a timeline, an LSN and a reason a line, # for comments.
func ParseTimelineHistory(content string) (TimelineHistory, error) {
	var h TimelineHistory
	for line := range strings.Lines(content) {
		f := strings.Fields(line)
		if len(f) == 0 || strings.HasPrefix(f[0], "#") {
			continue
		}
		if len(f) < 2 {
			return nil, fmt.Errorf("parse timeline history: line %q", strings.TrimSpace(line))
		}
		id, err := strconv.ParseUint(f[0], 10, 32)
		if err != nil {
			return nil, fmt.Errorf("parse timeline history: %w", err)
		}
		end, err := lsn.Parse(f[1])
		if err != nil {
			return nil, fmt.Errorf("parse timeline history: %w", err)
		}
		h = append(h, Timeline{uint32(id), end})
	}
	return h, nil
}

// End is where the server's history left a timeline; false: it never was on it.
func (h TimelineHistory) End(id uint32) (lsn.LSN, bool) {
	for _, t := range h {
		if t.ID == id {
			return t.End, true
		}
	}
	return 0, false
}

// Reconcile proves that the position which the sink has stored belongs to this
// server, or says why not. It is pure, and asked before each START_REPLICATION: a
// position from elsewhere makes the server skip changes without a word.
//
// Errors: *fault.Halt with one of the rules below; transient while the server is in
// recovery or no replication connection can be had; *fault.ConfigError for the
// latter before the first stream.
//
//	foreign-slot     a slot of our name exists that this bridge did not make
//	other-slot       the position belongs to a slot of another name
//	slot-missing     the slot is gone
//	slot-unusable    it is physical, temporary, of another plugin or database, two-phase
//	slot-lost        it was invalidated
//	other-cluster    the position is of another cluster
//	old-primary      the server is on an older timeline than the position
//	diverged         the server's history lacks what was delivered last
//	server-lost-wal  the server's WAL ends before the position
//	slot-ahead       the slot was moved beyond the position: changes may be lost
func Reconcile(srv *Server, p lsn.Progress) (Decision, error) {
	if srv.ReplicationErr != nil {
		return Decision{}, srv.ReplicationErr
	}
	if srv.InRecovery {
		return Decision{}, standbyError(srv, p)
	}
	if p.Phase == lsn.PhaseNone || p.Phase == lsn.PhaseNew {
		return reconcileNew(srv, p)
	}
	if err := checkSlot(srv, p); err != nil {
		return Decision{}, err
	}
	moved, err := checkServer(srv, p)
	if err != nil {
		return Decision{}, err
	}
	if srv.Slot.ConfirmedFlush > moved.Position.End { // R1, the master invariant
		return Decision{}, slotAhead(srv, moved)
	}
	return Decision{
		Action: Resume, Progress: moved,
		Moved: moved.Timeline != p.Timeline || moved.Position != p.Position,
	}, nil
}

// reconcileNew decides a start without a position. A slot that is there is ours
// only when this bridge has stored that it was about to make it; it was never read
// then, so its position means nothing. A session of ours that is still at it is that of
// a process that died: nobody else has the bridge's name now.
func reconcileNew(srv *Server, p lsn.Progress) (Decision, error) {
	first := Decision{Action: FirstStart}
	if srv.Slot == nil {
		return first, nil
	}
	ours := p.Phase == lsn.PhaseNew && p.Slot == srv.SlotName && p.SystemID == srv.SystemID &&
		unusable(srv) == "" && (!srv.Slot.Active || srv.Slot.ActiveApplication == srv.ApplicationName)
	if !ours {
		return Decision{}, foreignSlot(srv, p)
	}
	first.DropOwnSlot = true
	return first, nil
}

// checkSlot finds out whether the slot can be read at all.
func checkSlot(srv *Server, p lsn.Progress) error {
	switch {
	case p.Slot != srv.SlotName:
		return otherSlot(srv, p)
	case srv.SystemID != p.SystemID:
		return otherCluster(srv, p) // first, for a slot that is missing there explains nothing
	case srv.Slot == nil:
		return slotMissing(srv, p)
	}
	if reason, lost := srv.Slot.Lost(); lost {
		return slotLost(srv, p, reason)
	}
	if why := unusable(srv); why != "" {
		return slotUnusable(srv, p, why)
	}
	return nil
}

// unusable says why the slot cannot serve a bridge, empty when it can.
func unusable(srv *Server) string {
	s := srv.Slot
	switch {
	case s.Plugin != "pgoutput":
		return "its plugin is " + strconv.Quote(s.Plugin) + ", not pgoutput"
	case s.Database != srv.Database:
		return "it belongs to the database " + strconv.Quote(s.Database)
	case s.Temporary:
		return "it is temporary"
	case s.TwoPhase:
		return "it was made with two_phase, so that prepared transactions arrive in another form"
	}
	return ""
}

// checkServer proves that the position lies in the server's history (rule R4) and
// returns the progress on the server's timeline.
func checkServer(srv *Server, p lsn.Progress) (lsn.Progress, error) {
	switch {
	case srv.Timeline < p.Timeline:
		return p, oldPrimary(srv, p)
	case srv.Timeline > p.Timeline:
		fork, known := srv.History.End(p.Timeline)
		if !known || beyond(p.Position, fork) {
			return p, diverged(srv, p, fork, known)
		}
		p.Position.End = min(p.Position.End, fork) // an idle mark past the fork is harmless
		p.Timeline = srv.Timeline
	}
	if srv.WALEnd < p.Position.End {
		return p, serverLostWAL(srv, p)
	}
	return p, nil
}

// beyond reports whether something was delivered that the new timeline lacks. A
// whole transaction is on it when its end is; one under way, of which only the
// start of the commit record is known, when that lies before the fork.
func beyond(p lsn.Position, fork lsn.LSN) bool {
	return p.LastTxEnd > fork || p.Inside() && p.Commit >= fork
}

// standbyError: without a position it is a mistake in the configuration; with one it
// may be the middle of a failover.
func standbyError(srv *Server, p lsn.Progress) error {
	problem := onStandby(srv)
	if p.Phase == lsn.PhaseNone || p.Phase == lsn.PhaseNew {
		return fault.Config(problem)
	}
	return fault.Transient(ReasonStandby, fmt.Errorf("%s", problem))
}
