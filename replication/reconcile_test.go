package replication

import (
	"errors"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
)

// aServer and aProgress belong together: streaming may go on.
func aServer() *Server {
	return &Server{
		SlotName: "walbridge_shop", Publication: "walbridge_shop", ApplicationName: "walbridge_shop",
		Version: "17.2", VersionNum: 170002, Database: "shop", SystemID: 77, SQLSystemID: 77, Timeline: 1, WALEnd: 2000,
		WALLevel: "logical", Slots: Usage{10, 1}, Senders: Usage{10, 0}, MaxSlotWALKeep: -1, TLSVerified: true, Encoding: "UTF8",
		Slot:      &Slot{Name: "walbridge_shop", Plugin: "pgoutput", Type: "logical", Database: "shop", ConfirmedFlush: 900, RestartLSN: 800, WALStatus: "reserved"},
		Published: &Publication{Name: "walbridge_shop", Insert: true, Update: true, Delete: true, Truncate: true, ViaRoot: true},
	}
}

func aProgress() lsn.Progress {
	return lsn.Progress{SystemID: 77, Timeline: 1, Slot: "walbridge_shop", Phase: lsn.PhaseStreaming,
		Position: lsn.Position{End: 1000, LastTxEnd: 950}}
}

//arch:flat
func TestReconcile(t *testing.T) {
	type change func(*Server, *lsn.Progress)
	forked := func(at lsn.LSN) change {
		return func(s *Server, _ *lsn.Progress) { s.Timeline, s.History = 2, TimelineHistory{{1, at}} }
	}
	both := func(all ...change) change {
		return func(s *Server, p *lsn.Progress) {
			for _, c := range all {
				c(s, p)
			}
		}
	}
	fresh := func(phase lsn.Phase) change {
		return func(_ *Server, p *lsn.Progress) { p.Phase, p.Position = phase, lsn.Position{} }
	}
	slot := func(f func(*Slot)) change { return func(s *Server, _ *lsn.Progress) { f(s.Slot) } }
	noSlot := func(s *Server, _ *lsn.Progress) { s.Slot = nil }

	for _, c := range []struct {
		name   string
		change change
		rule   string // of the halt; empty: none
		want   Decision
	}{
		{name: "nothing has changed", change: both(), want: Decision{Action: Resume, Progress: aProgress()}},
		{name: "the slot regressed, as after a crash", change: slot(func(s *Slot) { s.ConfirmedFlush = 10 }), want: Decision{Action: Resume, Progress: aProgress()}},
		{name: "the slot is exactly at the position", change: slot(func(s *Slot) { s.ConfirmedFlush = 1000 }), want: Decision{Action: Resume, Progress: aProgress()}},
		{name: "WAL is extended and unreserved", change: slot(func(s *Slot) { s.WALStatus = "unreserved" }), want: Decision{Action: Resume, Progress: aProgress()}},

		{name: "slot gone", change: noSlot, rule: "slot-missing"},
		{name: "other plugin", change: slot(func(s *Slot) { s.Plugin = "test_decoding" }), rule: "slot-unusable"},
		{name: "physical", change: slot(func(s *Slot) { s.Plugin, s.Type, s.Database = "", "physical", "" }), rule: "slot-unusable"},
		{name: "other database", change: slot(func(s *Slot) { s.Database = "other" }), rule: "slot-unusable"},
		{name: "temporary", change: slot(func(s *Slot) { s.Temporary = true }), rule: "slot-unusable"},
		{name: "two-phase", change: slot(func(s *Slot) { s.TwoPhase = true }), rule: "slot-unusable"},
		{name: "lost", change: slot(func(s *Slot) { s.WALStatus = "lost" }), rule: "slot-lost"},
		{name: "invalidated", change: slot(func(s *Slot) { s.InvalidatedBy = "idle_timeout" }), rule: "slot-lost"},
		{name: "conflicting", change: slot(func(s *Slot) { s.Conflicting = true }), rule: "slot-lost"},
		{name: "ahead by one byte", change: slot(func(s *Slot) { s.ConfirmedFlush = 1001 }), rule: "slot-ahead"},
		{name: "another slot's position", change: func(_ *Server, p *lsn.Progress) { p.Slot = "walbridge_old" }, rule: "other-slot"},
		{name: "other cluster", change: func(s *Server, _ *lsn.Progress) { s.SystemID = 78 }, rule: "other-cluster"},
		{name: "other cluster without the slot", change: both(noSlot, func(s *Server, _ *lsn.Progress) { s.SystemID = 78 }), rule: "other-cluster"},
		{name: "old primary", change: func(_ *Server, p *lsn.Progress) { p.Timeline = 2 }, rule: "old-primary"},
		{name: "WAL ends before the position", change: func(s *Server, _ *lsn.Progress) { s.WALEnd = 999 }, rule: "server-lost-wal"},
		{name: "WAL ends at the position", change: func(s *Server, _ *lsn.Progress) { s.WALEnd = 1000 }, want: Decision{Action: Resume, Progress: aProgress()}},

		{name: "promoted behind everything", change: forked(1500), want: moved(2, lsn.Position{End: 1000, LastTxEnd: 950})},
		{name: "promoted between the last transaction and an idle mark", change: forked(960), want: moved(2, lsn.Position{End: 960, LastTxEnd: 950})},
		{name: "promoted at the last transaction's end", change: forked(950), want: moved(2, lsn.Position{End: 950, LastTxEnd: 950})},
		{name: "promoted without the last transaction", change: forked(949), rule: "diverged"},
		{name: "the timeline is in nobody's history", change: func(s *Server, p *lsn.Progress) { s.Timeline, p.Timeline, s.History = 4, 3, TimelineHistory{{1, 5000}} }, rule: "diverged"},
		{name: "ahead after the fork", change: both(forked(960), slot(func(s *Slot) { s.ConfirmedFlush = 961 })), rule: "slot-ahead"},
		{name: "inside a transaction that committed before the fork", change: both(forked(1200), inside(1100)), want: moved(2, lsn.Position{End: 1000, LastTxEnd: 950, Commit: 1100, Seq: 5})},
		{name: "inside a transaction whose commit record would begin at the fork", change: both(forked(1100), inside(1100)), rule: "diverged"},

		{name: "never seen, no slot", change: both(fresh(lsn.PhaseNone), noSlot), want: Decision{Action: FirstStart}},
		{name: "never seen, a slot is there", change: fresh(lsn.PhaseNone), rule: "foreign-slot"},
		{name: "unfinished first start, no slot", change: both(fresh(lsn.PhaseNew), noSlot), want: Decision{Action: FirstStart}},
		{name: "unfinished first start left its slot", change: fresh(lsn.PhaseNew), want: Decision{Action: FirstStart, DropOwnSlot: true}},
		{name: "unfinished first start, the slot is being read", change: both(fresh(lsn.PhaseNew), slot(func(s *Slot) { s.Active = true })), rule: "foreign-slot"},
		{name: "unfinished first start, a session of ours still makes the slot", change: both(fresh(lsn.PhaseNew), func(s *Server, _ *lsn.Progress) {
			s.ApplicationName, s.Slot.Active, s.Slot.ActiveApplication = "walbridge_shop", true, "walbridge_shop"
		}), want: Decision{Action: FirstStart, DropOwnSlot: true}},
		{name: "unfinished first start, another plugin's slot", change: both(fresh(lsn.PhaseNew), slot(func(s *Slot) { s.Plugin = "wal2json" })), rule: "foreign-slot"},
		{name: "unfinished first start on another cluster", change: both(fresh(lsn.PhaseNew), func(s *Server, _ *lsn.Progress) { s.SystemID = 78 }), rule: "foreign-slot"},
		{name: "unfinished first start of another slot", change: both(fresh(lsn.PhaseNew), func(_ *Server, p *lsn.Progress) { p.Slot = "walbridge_old" }), rule: "foreign-slot"},
	} {
		t.Run(c.name, func(t *testing.T) {
			srv, p := aServer(), aProgress()
			c.change(srv, &p)
			got, err := Reconcile(srv, p)
			if c.rule == "" {
				require.NoError(t, err)
				require.Equal(t, c.want, got)
				return
			}
			var halt *fault.Halt
			require.ErrorAs(t, err, &halt)
			require.Equal(t, c.rule, halt.Rule)
			requireWaysOut(t, halt)
		})
	}
}

func inside(commit lsn.LSN) func(*Server, *lsn.Progress) {
	return func(_ *Server, p *lsn.Progress) { p.Position.Commit, p.Position.Seq = commit, 5 }
}

func moved(tli uint32, to lsn.Position) Decision {
	p := aProgress()
	p.Timeline, p.Position = tli, to
	return Decision{Action: Resume, Progress: p, Moved: true}
}

// requireWaysOut checks that a halt says all it must, and names only commands that
// exist.
func requireWaysOut(t *testing.T, h *fault.Halt) {
	t.Helper()
	require.NotEmpty(t, h.What)
	require.NotEmpty(t, h.Why)
	require.NotEmpty(t, h.Ways)
	commands := map[string]bool{"demo": true, "init": true, "doctor": true, "peek": true, "explain": true, "setup": true, "run": true,
		"status": true, "dlq": true, "migrate": true, "config": true, "teardown": true, "version": true}
	for _, w := range h.Ways {
		require.NotEmpty(t, w.Text)
		for _, c := range w.Commands {
			if name, ok := strings.CutPrefix(c, "walbridge "); ok {
				require.True(t, commands[strings.Fields(name)[0]], c)
				continue
			}
			require.True(t, strings.HasPrefix(c, "SELECT "), c)
		}
	}
	require.NotContains(t, h.Error(), "\n")
}

func TestReconcileWithoutAReplicationConnection(t *testing.T) {
	srv := aServer()
	srv.ReplicationErr = errors.New("no sender")
	_, err := Reconcile(srv, aProgress())
	require.ErrorIs(t, err, srv.ReplicationErr)
}

func TestReconcileOnAStandby(t *testing.T) {
	srv := aServer()
	srv.InRecovery = true
	_, err := Reconcile(srv, lsn.Progress{})
	require.ErrorAs(t, err, new(*fault.ConfigError))
	_, err = Reconcile(srv, aProgress())
	require.Equal(t, ReasonStandby, fault.Reason(err), "it may be the middle of a failover")
}

func TestParseTimelineHistory(t *testing.T) {
	h, err := ParseTimelineHistory("1\t0/3420EF8\tno recovery target specified\n\n# a comment\n2\t1/0\tbefore 2026-01-01\n")
	require.NoError(t, err)
	require.Equal(t, TimelineHistory{{1, 0x3420EF8}, {2, 1 << 32}}, h)
	end, known := h.End(2)
	require.True(t, known)
	require.Equal(t, lsn.LSN(1<<32), end)
	_, known = h.End(3)
	require.False(t, known)
	for _, bad := range []string{"1", "x 0/1", "1 z/1", "99999999999 0/1"} {
		_, err := ParseTimelineHistory(bad)
		require.Error(t, err, bad)
	}
}
