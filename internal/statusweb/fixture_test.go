package statusweb

import (
	"math"
	"time"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/status"
)

// noon is when every fixed status was taken.
var noon = time.Date(2025, 11, 24, 12, 0, 0, 0, time.UTC)

func ptr[T any](v T) *T { return &v }

// starting is a bridge that knows its names and nothing else yet.
func starting() status.Status {
	return status.Status{
		Bridge: "shop", Version: "0.1.0", State: status.StateStarting, Since: noon.Add(-2 * time.Second), StartedAt: noon.Add(-2 * time.Second), At: noon,
		Detail: "checking the source",
		Source: status.Source{DSN: "postgres://walbridge@db.internal:5432/shop?sslmode=verify-full", Slot: "walbridge_shop", Publication: "walbridge_shop"},
		Sink:   status.Sink{Kind: "worktable", Target: "postgres://walbridge@db.internal:5432/shop, schema walbridge"},
	}
}

// streaming is a busy bridge half a second behind.
func streaming() status.Status {
	s := starting()
	s.State, s.Detail, s.Ready = status.StateStreaming, "", true
	s.StartedAt, s.Since = noon.Add(-27*time.Hour-4*time.Minute), noon.Add(-3*time.Hour-12*time.Minute)
	s.Source.ServerVersion, s.Source.SystemID, s.Source.Timeline = "17.6", "7436891250133742211", 3
	s.LSN = positions(0x2A_7F01B6C0, 40<<10, 3<<20+400<<10, 1<<20, 0)
	s.Lag = status.Lag{ReceivedBytes: ptr[int64](40 << 10), ConfirmedBytes: ptr[int64](4<<20 + 440<<10), ReportedBytes: ptr[int64](4<<20 + 440<<10), Seconds: ptr(0.412)}
	s.Slot = &status.Slot{Active: true, WALStatus: "reserved", RetainedBytes: 83 << 20, SafeBytes: ptr[int64](60 << 30), ConfirmedFlush: s.LSN.Reported, Restart: "2A/79A00028", XminAge: 1204}
	s.Totals = status.Totals{Transactions: 4_812_330, Changes: 19_204_118, Events: 4_790_002, Records: 14_398_771, DeadLetters: 3, Skipped: 15_345, Batches: 96_204, Bytes: 7_411_204_118, Reconnects: 2}
	s.Rates = status.Rates{Changes: 3_204.4, Items: 3_198.9, Bytes: 1_290_441}
	s.Lags = lags(300, func(i int) float64 {
		return 0.35 + 0.2*math.Sin(float64(i)/11) + 1.4*math.Exp(-math.Pow(float64(i-120)/9, 2))
	})
	s.Consumers = &status.Consumers{
		At: noon,
		Subscriptions: []status.Subscription{
			{Name: "billing", Streams: []string{"payments"}, State: status.SubscriptionPaused, Lanes: 64, SettledSeq: 812, Lag: status.Backlog{Items: 10_000, More: true, Seconds: ptr(93_600.0)}},
			{Name: "search", Streams: []string{"orders", "customers.*"}, State: status.SubscriptionActive, Lanes: 64, LanesOwned: 64, Workers: 3, SettledSeq: 14_398_770, Lag: status.Backlog{Items: 1, Seconds: ptr(0.031)}, Parked: 12, Dead: 2},
		},
		Workflows: []status.Workflow{{Name: "checkout", Running: 4, Waiting: 1_204, Failed: 1}},
	}
	s.Snapshot = &status.Snapshot{DoneTables: 2, DoneRows: 40_112, RowsPerSecond: 21_400, Tables: []status.SnapshotTable{
		{Table: "legacy.orders", Run: 3, Reading: true, Rows: 1_200_000, Estimate: 4_800_000},
		{Table: "legacy.parts", Run: 4, Estimate: -1},
		{Table: "legacy.audit", Run: 5, Problem: "the role may not read legacy.audit: GRANT SELECT ON \"legacy\".\"audit\""},
	}}
	s.Warnings = []fault.Problem{{
		Check: "identity-toast", Warning: true, Where: "legacy.orders", What: "has columns that may be stored out of line, and its replica identity is not FULL",
		Why: "after a change of a key, unchanged long values lie under the old key", Fix: "ALTER TABLE legacy.orders REPLICA IDENTITY FULL;",
	}}
	return s
}

// positions lays the four positions behind the server's end of WAL.
func positions(server lsn.LSN, gaps ...lsn.LSN) status.Positions {
	at := [5]lsn.LSN{server}
	for i, g := range gaps {
		at[i+1] = at[i] - g
	}
	return status.Positions{Server: at[0].String(), Received: at[1].String(), Written: at[2].String(), Confirmed: at[3].String(), Reported: at[4].String()}
}

// lags are samples of the last n seconds.
func lags(n int, at func(i int) float64) []status.LagSample {
	all := make([]status.LagSample, n)
	for i := range all {
		all[i] = status.LagSample{At: noon.Add(time.Duration(i-n+1) * time.Second), Seconds: at(i)}
	}
	return all
}

// backingOff is a bridge whose destination has gone.
func backingOff() status.Status {
	s := streaming()
	s.State, s.Ready, s.Since = status.StateBackoff, false, noon.Add(-94*time.Second)
	s.Detail = "connect to the work table: dial tcp 10.0.4.11:5432: connect: connection refused; next try in 12 s"
	s.LSN = positions(0x2A_9F01B6C0, 490<<20, 4<<20, 8<<20, 0)
	s.Lag = status.Lag{ReceivedBytes: ptr[int64](490 << 20), ConfirmedBytes: ptr[int64](502 << 20), ReportedBytes: ptr[int64](502 << 20), Seconds: ptr(94.2)}
	s.Slot.WALStatus, s.Slot.RetainedBytes, s.Slot.SafeBytes = "extended", 2<<30, ptr[int64](300<<20)
	s.Rates, s.Consumers = status.Rates{}, nil
	s.Lags = append(lags(300, func(i int) float64 { return max(0.3, float64(i-206)) })[:150], lags(300, func(i int) float64 { return max(0.3, float64(i-206)) })[190:]...)
	s.Warnings = nil
	return s
}

// halted is a bridge whose slot was advanced by hand.
func halted() status.Status {
	s := streaming()
	s.State, s.Ready, s.Since = status.StateHalted, false, noon.Add(-7*time.Minute)
	s.Halt = &status.Halt{
		Rule: "slot-ahead", What: "The slot is ahead of the destination: changes in between are gone from it.",
		Why:   "Going on would leave a gap that nobody sees.",
		Facts: []fault.Fact{{Name: "destination has stored", Value: "2A/7EB4B6C0"}, {Name: "slot confirmed", Value: "2A/7F01B6C0"}, {Name: "bytes missing", Value: "4.81 MiB"}},
		Ways: []fault.Way{
			{Text: "Read the affected tables again; consumers see each row once more.", Commands: []string{"walbridge recover --slot-ahead --resnapshot"}},
			{Text: "Accept the gap and go on from the slot's position.", Commands: []string{"walbridge recover --slot-ahead --accept-gap", "systemctl restart walbridge"}},
		},
		Error: "replication slot \"walbridge_shop\" was advanced",
	}
	s.Lag, s.Lags, s.Rates = status.Lag{}, nil, status.Rates{}
	s.Consumers = nil
	s.Warnings = nil
	return s
}
