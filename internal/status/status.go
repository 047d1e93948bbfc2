// Package status is what a running bridge says of itself, as one value: the
// status page, /status, `walbridge status` and the terminal views show it. JSON
// names are a promise to scripts.
package status

import (
	"time"

	"github.com/walbridge/walbridge/internal/fault"
)

// The states of a bridge.
const (
	StateStarting  = "starting"
	StateWaiting   = "waiting" // another process owns the name
	StateStreaming = "streaming"
	StateBackoff   = "backoff"
	StateHalted    = "halted"
	StateStopped   = "stopped"
)

// Status is a bridge at one moment. LSNs are in PostgreSQL's text form.
type Status struct {
	Bridge    string    `json:"bridge"`
	Version   string    `json:"version"`
	State     string    `json:"state"`
	Since     time.Time `json:"since"` // of the state
	StartedAt time.Time `json:"started_at"`
	At        time.Time `json:"at"`
	// Detail says more of the state: whom it waits for, what the last error was and
	// when the next try comes.
	Detail string `json:"detail,omitempty"`
	// Ready: it streams, with every table that a route spells out, or it waits for another process of its name to go, which must
	// not hold up a rollout.
	Ready  bool        `json:"ready"`
	Halt   *Halt       `json:"halt,omitempty"`
	Source Source      `json:"source"`
	Sink   Sink        `json:"sink"`
	LSN    Positions   `json:"positions"`
	Lag    Lag         `json:"lag"`
	Slot   *Slot       `json:"slot,omitempty"`
	Totals Totals      `json:"totals"`
	Rates  Rates       `json:"rates"` // of the last seconds
	Lags   []LagSample `json:"lag_history"`
	// Tables are counts of tables by how routes and publication fit; nil: not known.
	Tables *Tables `json:"tables,omitempty"`
	// Snapshot is the reading of rows that are older than the stream; nil: it is not
	// known, or there is nothing to say of it.
	Snapshot *Snapshot `json:"snapshot,omitempty"`
	// Consumers are those who read the work table; nil: the destination is none, or
	// they are not known.
	Consumers *Consumers `json:"consumers,omitempty"`
	// Warnings are the findings of the preflight that do not stop the bridge, and what the
	// last look at the tables has found.
	Warnings []fault.Problem `json:"warnings"`
}

// Halt is a fault.Halt for JSON.
type Halt struct {
	Rule  string       `json:"rule"`
	What  string       `json:"what"`
	Why   string       `json:"why"`
	Facts []fault.Fact `json:"facts"`
	Ways  []fault.Way  `json:"ways"`
	Error string       `json:"error,omitempty"`
}

// Source names the server that is read.
type Source struct {
	DSN           string `json:"dsn"` // redacted
	ServerVersion string `json:"server_version"`
	SystemID      string `json:"system_id"`
	Timeline      uint32 `json:"timeline"`
	Slot          string `json:"slot"`
	Publication   string `json:"publication"`
}

// Sink names the destination.
type Sink struct {
	Kind   string `json:"kind"`   // worktable, stdout, discard
	Target string `json:"target"` // redacted
}

// Positions are the server's end of WAL and the bridge's four positions; none of
// the four passes the one before it.
type Positions struct {
	Server    string `json:"server"`
	Received  string `json:"received"`
	Written   string `json:"written"`
	Confirmed string `json:"confirmed"`
	Reported  string `json:"reported"`
}

// Lag is how far the bridge is behind. Absent (nil): no sample yet, which is not 0.
type Lag struct {
	ReceivedBytes  *int64   `json:"received_bytes"`
	ConfirmedBytes *int64   `json:"confirmed_bytes"`
	ReportedBytes  *int64   `json:"reported_bytes"`
	Seconds        *float64 `json:"seconds"` // of the confirmed position
}

// LagSample is one point of the lag chart.
type LagSample struct {
	At      time.Time `json:"at"`
	Seconds float64   `json:"seconds"`
	Bytes   int64     `json:"bytes"`
}

// Slot is the health of the replication slot, as the server tells it.
type Slot struct {
	Active         bool   `json:"active"`
	WALStatus      string `json:"wal_status"`
	RetainedBytes  int64  `json:"retained_bytes"`
	SafeBytes      *int64 `json:"safe_bytes"` // until it may be invalidated; nil: no limit
	ConfirmedFlush string `json:"confirmed_flush"`
	Restart        string `json:"restart"`
	XminAge        int64  `json:"catalog_xmin_age"`
}

// Snapshot is how far the reading of existing rows is.
type Snapshot struct {
	Paused bool `json:"paused"`
	// Tables are those that are not done, in the order in which they are read.
	Tables []SnapshotTable `json:"tables"`
	// DoneTables and DoneRows were finished since there was nothing to read.
	DoneTables int   `json:"done_tables"`
	DoneRows   int64 `json:"done_rows"`
	// RowsPerSecond were delivered during the last seconds.
	RowsPerSecond float64 `json:"rows_per_second"`
	// Request is the number of the last request that was taken.
	Request uint64 `json:"request"`
	// Foreign counts messages of the bridge's prefixes that it had not written.
	Foreign int64 `json:"foreign"`
}

// SnapshotTable is how far one table is.
type SnapshotTable struct {
	Table    string `json:"table"`
	Run      uint32 `json:"run"`     // number of the reading, which is in the ids of its rows
	Reading  bool   `json:"reading"` // now; others wait for their turn
	Rows     int64  `json:"rows"`
	Estimate int64  `json:"estimate"` // of all rows, by the catalog; -1: not known
	Detail   string `json:"detail,omitempty"`
	Problem  string `json:"problem,omitempty"`
}

// Ratio is how much of the table is read, 0 to 1; false: not known.
func (t SnapshotTable) Ratio() (float64, bool) {
	if t.Estimate <= 0 {
		return 0, false
	}
	return min(1, float64(t.Rows)/float64(t.Estimate)), true
}

// Tables are counts of tables.
type Tables struct {
	Published   int `json:"published"`   // a route takes them, and they are streamed
	Unpublished int `json:"unpublished"` // a route takes them, and the publication lacks them
	Unrouted    int `json:"unrouted"`    // they are streamed, and no route takes them
	NoIdentity  int `json:"no_identity"` // a route takes them, and UPDATE and DELETE fail, or would
	Vanished    int `json:"vanished"`    // a route names them, and they are not there
}

// Totals count since the process started.
type Totals struct {
	Transactions int64 `json:"transactions"`
	Changes      int64 `json:"changes"`
	Events       int64 `json:"events"`
	Records      int64 `json:"records"`
	DeadLetters  int64 `json:"dead_letters"`
	Skipped      int64 `json:"skipped"` // changes that no route took
	Batches      int64 `json:"batches"`
	Bytes        int64 `json:"bytes"` // of messages read from the server
	Reconnects   int64 `json:"reconnects"`
}

// Rates are per second, over the last seconds.
type Rates struct {
	Changes float64 `json:"changes"`
	Items   float64 `json:"items"`
	Bytes   float64 `json:"bytes"`
}
