package replication

import (
	"fmt"
	"strconv"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
)

// This file has the words of each halt. A way out names only what an operator can
// run today, and says what it costs.

// positionFacts are what a halt of Reconcile shows of both sides.
func positionFacts(srv *Server, p lsn.Progress) []fault.Fact {
	facts := []fault.Fact{
		{Name: "stored position", Value: p.Position.String()},
		{Name: "last transaction stored", Value: p.Position.LastCommit().String()},
		{Name: "server's end of WAL", Value: srv.WALEnd.String()},
		{Name: "stored timeline", Value: fmt.Sprint(p.Timeline)},
		{Name: "server's timeline", Value: fmt.Sprint(srv.Timeline)},
		{Name: "slot", Value: srv.SlotName},
	}
	if srv.Slot != nil {
		facts = append(facts,
			fault.Fact{Name: "slot confirmed", Value: srv.Slot.ConfirmedFlush.String()},
			fault.Fact{Name: "slot restart", Value: srv.Slot.RestartLSN.String()})
	}
	return facts
}

// startOver is the way that always leads out: a new bridge beside what the old one
// has delivered.
func startOver(cost string) fault.Way {
	return fault.Way{
		Text: "start over under a new name: drop the slot and publication of this one, put a new `name` into the configuration, and begin with the rows that are there (snapshot: never reads none) and what commits from then on (the old name stays halted: its position remains at the destination); " + cost,
		Commands: []string{
			"walbridge teardown",
			"walbridge setup   # with the new name in the configuration",
			"walbridge run",
		},
	}
}

const notDelivered = "changes between the stored position and the new start are not delivered"

// rightServer is the way for a connection that reaches the wrong server.
func rightServer(text string) fault.Way {
	return fault.Way{Text: text, Commands: []string{"walbridge doctor", "walbridge run"}}
}

func dropSlot(name string) string {
	return "SELECT pg_drop_replication_slot(" + quoteLiteral(name) + ")"
}

func foreignSlot(srv *Server, p lsn.Progress) error {
	s := srv.Slot
	what := "the slot " + strconv.Quote(s.Name) + " exists, but the destination has no position for it"
	if p.Phase == lsn.PhaseNew {
		what = "the slot " + strconv.Quote(s.Name) + " is not the one that this bridge was about to make"
	}
	facts := []fault.Fact{
		{Name: "slot", Value: s.Name}, {Name: "plugin", Value: s.Plugin}, {Name: "database", Value: s.Database},
		{Name: "active", Value: strconv.FormatBool(s.Active)}, {Name: "slot confirmed", Value: s.ConfirmedFlush.String()},
	}
	if s.ActiveApplication != "" {
		facts = append(facts, fault.Fact{Name: "read by", Value: s.ActiveApplication})
	}
	return &fault.Halt{
		Rule: "foreign-slot", What: what, Facts: facts,
		Why: "another bridge may read it, or this destination has lost its position: taking it over would lose or repeat changes",
		Ways: []fault.Way{
			{Text: "it belongs to another bridge: give this one a `name` or a `source.slot` of its own", Commands: []string{"walbridge run"}},
			{Text: "the destination was emptied or is the wrong one: bring back the one that holds the position", Commands: []string{"walbridge run"}},
			{Text: "nobody needs what it still holds: drop it and begin with what commits from then on; changes since " + s.ConfirmedFlush.String() + " are not delivered", Commands: []string{dropSlot(s.Name), "walbridge run"}},
		},
	}
}

func otherSlot(srv *Server, p lsn.Progress) error {
	return &fault.Halt{
		Rule:  "other-slot",
		What:  fmt.Sprintf("the stored position belongs to the slot %q, the configuration names %q", p.Slot, srv.SlotName),
		Why:   "a position says nothing about another slot, which may have passed it or may never have kept what follows it",
		Facts: positionFacts(srv, p),
		Ways: []fault.Way{
			{Text: "put the old slot back into the configuration: source.slot: " + p.Slot, Commands: []string{"walbridge run"}},
			startOver("take the old slot's name for the teardown; " + notDelivered),
		},
	}
}

func otherCluster(srv *Server, p lsn.Progress) error {
	return &fault.Halt{
		Rule: "other-cluster",
		What: fmt.Sprintf("the server is another cluster (system identifier %d) than the one the position was stored for (%d)", srv.SystemID, p.SystemID),
		Why:  "positions of one cluster mean nothing in another: changes would be skipped silently",
		Facts: append(positionFacts(srv, p),
			fault.Fact{Name: "stored system identifier", Value: strconv.FormatUint(p.SystemID, 10)},
			fault.Fact{Name: "server's system identifier", Value: strconv.FormatUint(srv.SystemID, 10)}),
		Ways: []fault.Way{
			rightServer("the connection reaches the wrong server: correct source.dsn (and source.replication_dsn)"),
			startOver("the server was replaced (dump and restore, upgrade, another provider): " + notDelivered),
		},
	}
}

func slotMissing(srv *Server, p lsn.Progress) error {
	return &fault.Halt{
		Rule:  "slot-missing",
		What:  fmt.Sprintf("the slot %q is gone", srv.SlotName),
		Why:   "a new slot begins now, not at the stored position: what was committed in between would be missing",
		Facts: positionFacts(srv, p),
		Ways: []fault.Way{
			rightServer("the connection reaches a server that never had it, such as a restored copy or a standby that was promoted without it: correct source.dsn"),
			startOver(notDelivered),
		},
	}
}

func slotLost(srv *Server, p lsn.Progress, reason string) error {
	return &fault.Halt{
		Rule:  "slot-lost",
		What:  fmt.Sprintf("the server has invalidated the slot %q (%s)", srv.SlotName, reason),
		Why:   "the WAL behind the stored position is gone from the server; the slot can never be read again and only takes up a place",
		Facts: positionFacts(srv, p),
		Ways: []fault.Way{
			startOver(notDelivered + ". Raise max_slot_wal_keep_size (and idle_replication_slot_timeout) first, to what the longest outage needs"),
		},
	}
}

func slotUnusable(srv *Server, p lsn.Progress, why string) error {
	return &fault.Halt{
		Rule:  "slot-unusable",
		What:  fmt.Sprintf("the slot %q is not the one this bridge has made: %s", srv.SlotName, why),
		Why:   "the slot was dropped and made again by somebody else: what was committed in between may be missing from it",
		Facts: positionFacts(srv, p),
		Ways: []fault.Way{
			rightServer("the connection reaches the wrong server or database: correct source.dsn"),
			startOver("give it a `source.slot` that nobody else uses; " + notDelivered),
		},
	}
}

func oldPrimary(srv *Server, p lsn.Progress) error {
	return &fault.Halt{
		Rule:  "old-primary",
		What:  fmt.Sprintf("the server is on timeline %d, the stored position on timeline %d: it is a primary from before a failover, or a copy from then", srv.Timeline, p.Timeline),
		Why:   "it goes its own way since then: its changes are not those that follow the position",
		Facts: positionFacts(srv, p),
		Ways: []fault.Way{
			rightServer("point source.dsn at the primary of today; several hosts with target_session_attrs=read-write follow a failover"),
		},
	}
}

func diverged(srv *Server, p lsn.Progress, fork lsn.LSN, known bool) error {
	facts, what := positionFacts(srv, p), ""
	if known {
		facts = append(facts, fault.Fact{Name: "timeline forked at", Value: fork.String()})
		what = fmt.Sprintf("transactions up to %s were delivered, but the server left their timeline %d at %s: it was promoted without them", p.Position.LastCommit(), p.Timeline, fork)
	} else {
		what = fmt.Sprintf("the server's history does not know timeline %d of the stored position", p.Timeline)
	}
	return &fault.Halt{
		Rule:  "diverged",
		What:  what,
		Why:   "the destination holds changes that the source has lost, and the source has new ones at the same positions, which would be skipped",
		Facts: facts,
		Ways: []fault.Way{
			rightServer("the old primary is the one that counts: point source.dsn at it"),
			startOver("compare by hand what was delivered after the fork; the first changes of the new timeline, up to the new start, are not delivered"),
		},
	}
}

func serverLostWAL(srv *Server, p lsn.Progress) error {
	return &fault.Halt{
		Rule:  "server-lost-wal",
		What:  fmt.Sprintf("the server's WAL ends at %s, before the stored position %s: it is an older copy, or was restored", srv.WALEnd, p.Position.End),
		Why:   "the server would skip everything up to the stored position, although it will be something else",
		Facts: positionFacts(srv, p),
		Ways: []fault.Way{
			rightServer("the connection reaches a copy: correct source.dsn"),
			startOver("the server was restored to an earlier time: the destination holds changes that the source no longer has; " + notDelivered),
		},
	}
}

func slotAhead(srv *Server, p lsn.Progress) error {
	return &fault.Halt{
		Rule:  "slot-ahead",
		What:  fmt.Sprintf("the slot was moved to %s, beyond the stored position %s", srv.Slot.ConfirmedFlush, p.Position.End),
		Why:   "the changes in between may be lost: somebody else has read or advanced the slot, or the destination was set back",
		Facts: positionFacts(srv, p),
		Ways: []fault.Way{
			{Text: "the destination was restored from a backup, or a failover of it lost commits: bring back the newer one", Commands: []string{"walbridge run"}},
			startOver(notDelivered + ". Find out first who moves the slot: a second bridge with another destination, pg_replication_slot_advance, pg_logical_slot_get_changes"),
		},
	}
}

func walRemoved(err error) error {
	return &fault.Halt{
		Rule: "slot-lost", What: "the server has removed WAL that the slot still needs",
		Why:  "what was in it can never be streamed",
		Ways: []fault.Way{startOver(notDelivered)}, Err: err,
	}
}

// publicationUndecodable is the error of 14 to 17; 18 sends a notice instead.
func publicationUndecodable(pg *pgconn.PgError, err error) error {
	h := &fault.Halt{
		Rule: "publication-missing",
		What: "the publication did not exist when the changes were written that come next",
		Why:  "the server decodes them with the catalog of that time, and cannot; creating the publication now does not change that",
		Ways: publicationWays(), Err: err,
	}
	if at, ok := pluginLSN(pg); ok {
		h.Facts = []fault.Fact{{Name: "at", Value: at.String()}}
	}
	return h
}

func publicationWays() []fault.Way {
	return []fault.Way{
		{Text: "another publication existed all the time: name it in source.publication", Commands: []string{"walbridge run"}},
		startOver("`setup` makes the publication before the slot, as it must be; " + notDelivered),
	}
}
