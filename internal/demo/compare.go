package demo

import (
	"context"
	"fmt"
	"io"
	"strings"
)

// Summary is what the demonstration found. Each number but the first ones has to
// be 0.
type Summary struct {
	Orders, Events, Records int64 // committed by the application
	Delivered               int64 // items in the work table
	MissingEvents           int64 // outbox rows without an item
	ForeignEvents           int64 // items without an outbox row, of refused orders say
	Duplicates              int64 // items of an id that another has
	OutOfOrder              int64 // items whose id is not above the one before
	WrongRows               int64 // rows that the records do not end at
	DeadLetters             int64
	Lag                     *float64 // seconds, when all had arrived
	Killed                  kill
}

// OK reports whether everything arrived once and in order.
func (s Summary) OK() bool {
	return s.Delivered == s.Events+s.Records &&
		s.MissingEvents+s.ForeignEvents+s.Duplicates+s.OutOfOrder+s.WrongRows+s.DeadLetters == 0
}

// Write shows the summary.
func (s Summary) Write(w io.Writer) error {
	verdict := "everything arrived exactly once and in order"
	if !s.OK() {
		verdict = "SOMETHING IS OFF"
	}
	lag := "no sample"
	if s.Lag != nil {
		lag = fmt.Sprintf("%.1f s", *s.Lag)
	}
	var b strings.Builder
	fmt.Fprintf(&b, "\n%s\n", verdict)
	for _, line := range []struct {
		name  string
		value any
	}{
		{"orders committed", s.Orders}, {"events committed", s.Events}, {"row changes committed", s.Records}, {"items in the work table", s.Delivered},
		{"events missing", s.MissingEvents}, {"events of refused orders", s.ForeignEvents}, {"duplicates", s.Duplicates}, {"out of order", s.OutOfOrder},
		{"rows that differ from their records", s.WrongRows}, {"dead letters", s.DeadLetters}, {"lag at the end", lag},
	} {
		fmt.Fprintf(&b, "  %-36s %v\n", line.name, line.value)
	}
	if s.Killed.at > 0 {
		fmt.Fprintf(&b, "  kill -9 after %.0f s: the last confirmed position seen was %s; the bridge was ready again %.1f s\n"+
			"  after its start, went on from the position in the work table, lost nothing and repeated nothing\n", s.Killed.at.Seconds(), s.Killed.confirmed, s.Killed.back.Seconds())
	}
	_, err := io.WriteString(w, b.String())
	return err
}

// compare reads source and work table in one transaction, the application and the
// bridge being at rest.
func (a *application) compare(ctx context.Context) (Summary, error) {
	s := Summary{Orders: a.orders.Load(), Events: a.events.Load(), Records: a.records.Load()}
	for _, q := range []struct {
		to  *int64
		sql string
	}{
		{&s.Delivered, "SELECT count(*) FROM walbridge.log"},
		{&s.MissingEvents, "SELECT count(*) FROM outbox o WHERE NOT EXISTS (SELECT FROM walbridge.log l WHERE l.kind = 'event' AND l.idempotency_key = o.id::text)"},
		{&s.ForeignEvents, "SELECT count(*) FROM walbridge.log l WHERE l.kind = 'event' AND NOT EXISTS (SELECT FROM outbox o WHERE o.id::text = l.idempotency_key)"},
		{&s.Duplicates, "SELECT count(*) - count(DISTINCT (kind, idempotency_key)) FROM walbridge.log"},
		{&s.OutOfOrder, `SELECT count(*) FROM (SELECT (commit_lsn, tx_seq, sub) <= lag((commit_lsn, tx_seq, sub)) OVER (ORDER BY seq) AS back FROM walbridge.log) x WHERE back`},
		{&s.WrongRows, `SELECT count(*) FROM orders o WHERE o.status IS DISTINCT FROM
			(SELECT l.payload -> 'after' ->> 'status' FROM walbridge.log l WHERE l.kind = 'change' AND l.partition_key = 'public.orders:[' || o.id || ']' ORDER BY seq DESC LIMIT 1)`},
		{&s.DeadLetters, "SELECT count(*) FROM walbridge.dead_letter"},
	} {
		if err := a.pool.QueryRow(ctx, q.sql).Scan(q.to); err != nil {
			return s, fmt.Errorf("compare source and work table: %w", err)
		}
	}
	return s, nil
}
