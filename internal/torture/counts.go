package torture

import "sync/atomic"

// Counts is what a workload did. Transactions of kind Nothing count as the others.
type Counts struct {
	Committed  int64 `json:"committed"`
	RolledBack int64 `json:"rolled_back"` // asked for
	Failed     int64 `json:"failed"`      // by a deadlock, a broken key, a server that went away
	Unknown    int64 `json:"unknown"`     // the connection was lost in COMMIT
	Rows       int64 `json:"rows"`        // changed, by committed transactions, in tables of the source
	Reconnects int64 `json:"reconnects"`
}

// tally is Counts while the writers run.
type tally struct {
	committed, rolledBack, failed, unknown, rows, reconnects atomic.Int64
}

func (t *tally) counts() Counts {
	return Counts{
		Committed: t.committed.Load(), RolledBack: t.rolledBack.Load(), Failed: t.failed.Load(),
		Unknown: t.unknown.Load(), Rows: t.rows.Load(), Reconnects: t.reconnects.Load(),
	}
}
