package status

import "time"

// The states of a subscription: those of the table, and full.
const (
	SubscriptionActive  = "active"
	SubscriptionPaused  = "paused"
	SubscriptionExpired = "expired" // the log no longer waits for it; only a reset leads out
	SubscriptionFull    = "full"    // active, but so much is parked that its workers read no further
)

// Consumers are those who read the work table, at one moment.
type Consumers struct {
	At            time.Time      `json:"at"`
	Subscriptions []Subscription `json:"subscriptions"`
	Workflows     []Workflow     `json:"workflows"`
}

// Subscription is how far a reader of the log is.
type Subscription struct {
	Name       string   `json:"name"`
	Streams    []string `json:"streams"`
	State      string   `json:"state"`
	Lanes      int      `json:"lanes"`
	LanesOwned int      `json:"lanes_owned"` // by a worker whose lease has not run out
	Workers    int      `json:"workers"`     // that were heard of within their lease
	SettledSeq int64    `json:"settled_seq"` // everything up to it is settled, parked or dead
	Lag        Backlog  `json:"lag"`
	Parked     int64    `json:"parked"`
	Dead       int64    `json:"dead"` // open dead letters
	// HoldsSeconds says for how long the log has been kept beyond its retention since
	// this subscription has not settled it; nil: it is not.
	HoldsSeconds *float64 `json:"holds_log_seconds,omitempty"`
}

// Backlog is what is in the log and not settled. Parked items do not count.
type Backlog struct {
	Items int64 `json:"items"`
	// More: there may be more items: counting ended at a bound, or, with 0 items and no
	// seconds, nobody could count in time.
	More bool `json:"more"`
	// Seconds since the commit of the oldest of the items, 0 when there is none; nil:
	// not known.
	Seconds *float64 `json:"seconds"`
}

// Workflow counts the instances of a workflow that have not finished.
type Workflow struct {
	Name         string `json:"name"`
	Running      int64  `json:"running"`
	Waiting      int64  `json:"waiting"` // for a signal or a time
	Compensating int64  `json:"compensating"`
	Failed       int64  `json:"failed"` // a compensation has failed for good
	Halted       int64  `json:"halted"` // no program can go on with it
}
