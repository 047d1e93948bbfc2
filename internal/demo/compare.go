package demo

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/jackc/pgx/v5"
)

// Summary is what the demonstration found.
type Summary struct {
	Orders, Events, Records int64 // committed by the application
	Read                    int64 // records of rows that were there already
	Delivered               int64 // items at the destination
	// What follows has to be 0, and Trouble empty.
	MissingEvents  int64 // outbox rows without an item
	MissingRecords int64 // row changes committed without an item
	ForeignEvents  int64 // items without an outbox row, of refused orders say
	Duplicates     int64 // items of an id that another has
	OutOfOrder     int64 // items whose id is not above the one before
	WrongRows      int64 // rows that their records do not end at, and records of no row
	DeadLetters    int64
	// Trouble says what went wrong on the way; the numbers were taken all the same.
	Trouble []string
	Lag     *float64 // seconds, when all had arrived
	Killed  kill
	// where names the destination.
	where destination
}

// OK reports whether everything arrived once and in order.
func (s Summary) OK() bool {
	return s.Delivered == s.Events+s.Records+s.Read && len(s.Trouble) == 0 &&
		s.MissingEvents+s.MissingRecords+s.ForeignEvents+s.Duplicates+s.OutOfOrder+s.WrongRows+s.DeadLetters == 0
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
	for _, what := range s.Trouble {
		fmt.Fprintf(&b, "  %s\n", what)
	}
	for _, line := range []struct {
		name  string
		value any
	}{
		{"orders committed", s.Orders}, {"events committed", s.Events}, {"row changes committed", s.Records},
		{"rows read that were there", s.Read}, {s.where.items, s.Delivered},
		{"events missing", s.MissingEvents}, {"row changes missing", s.MissingRecords}, {"events of refused orders", s.ForeignEvents},
		{"duplicates", s.Duplicates}, {"out of order", s.OutOfOrder}, {"rows that differ from their records", s.WrongRows},
		{"dead letters", s.DeadLetters}, {"lag at the end", lag},
	} {
		fmt.Fprintf(&b, "  %-36s %v\n", line.name, line.value)
	}
	s.Killed.write(&b, s.OK(), s.where)
	_, err := io.WriteString(w, b.String())
	return err
}

// write tells of the kill, and what became of the items when that is known.
func (k kill) write(b *strings.Builder, ok bool, where destination) {
	if k.at == 0 {
		return
	}
	fmt.Fprintf(b, "  kill -9 after %.0f s: the last confirmed position seen was %s", k.at.Seconds(), k.confirmed)
	if k.back > 0 {
		fmt.Fprintf(b, "; the bridge was ready again %.1f s\n  after its start", k.back.Seconds())
	}
	if ok {
		fmt.Fprintf(b, ", went on from the position in %s, lost nothing and repeated nothing", where.position)
	}
	b.WriteByte('\n')
}

// destination is where items are looked for, and how that is told.
type destination struct {
	schema   string // of the tables log and dead_letter
	order    string // within which items have to be in order; empty: all of them
	items    string
	position string
}

func inWorkTable() destination {
	return destination{schema: "walbridge", items: "items in the work table", position: "the work table"}
}

// in makes a question to the work table one to where the items are.
func (d destination) in(sql string) string {
	return strings.ReplaceAll(strings.ReplaceAll(sql, "walbridge.", d.schema+"."), "OVER (ORDER", "OVER ("+d.order+" ORDER")
}

// comparisons are the questions that the summary answers. The last record of a row
// has to be the row: of a customer who was never charged, the one that was read.
const (
	changesOf = ` FULL JOIN (SELECT DISTINCT ON (partition_key) partition_key AS key, payload -> 'after' AS last
		FROM walbridge.log WHERE kind = 'change' AND stream = 'public.%[1]s' ORDER BY partition_key, seq DESC) l ON l.key = 'public.%[1]s:[' || r.%[2]s || ']' `
	wrongOrders = `SELECT count(*) FROM orders r` + changesOf +
		`WHERE (r.customer, r.status, r.total) IS DISTINCT FROM ((last ->> 'customer')::bigint, last ->> 'status', (last ->> 'total')::numeric)`
	wrongCustomers = `SELECT count(*) FROM legacy_customers r` + changesOf +
		`WHERE (r.name, r.credit) IS DISTINCT FROM (last ->> 'name', (last ->> 'credit')::numeric)`
)

// compare compares source and destination as they are at one moment, the application
// being at rest.
func (a *application) compare(ctx context.Context) (s Summary, err error) {
	err = pgx.BeginTxFunc(ctx, a.pool, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		s, err = a.compareIn(ctx, tx)
		return err
	})
	return s, err
}

// compareIn is compare in a transaction of the caller's.
func (a *application) compareIn(ctx context.Context, tx pgx.Tx) (Summary, error) {
	s := Summary{Orders: a.orders.Load(), Events: a.events.Load(), Records: a.records.Load(), where: a.log}
	var delivered, customers int64
	for _, q := range []struct {
		to  *int64
		sql string
	}{
		{&s.Delivered, "SELECT count(*) FROM walbridge.log"},
		{&s.Read, "SELECT count(*) FROM walbridge.log WHERE kind = 'change' AND payload ->> 'op' = 'read'"},
		{&delivered, "SELECT count(DISTINCT idempotency_key) FROM walbridge.log WHERE kind = 'change' AND payload ->> 'op' <> 'read'"},
		{&s.MissingEvents, "SELECT count(*) FROM outbox o WHERE NOT EXISTS (SELECT FROM walbridge.log l WHERE l.kind = 'event' AND l.idempotency_key = o.id::text)"},
		{&s.ForeignEvents, "SELECT count(*) FROM walbridge.log l WHERE l.kind = 'event' AND NOT EXISTS (SELECT FROM outbox o WHERE o.id::text = l.idempotency_key)"},
		{&s.Duplicates, "SELECT count(*) - count(DISTINCT (kind, idempotency_key)) FROM walbridge.log"},
		{&s.OutOfOrder, `SELECT count(*) FROM (SELECT (commit_lsn, tx_seq, sub) <= lag((commit_lsn, tx_seq, sub)) OVER (ORDER BY seq) AS back FROM walbridge.log) x WHERE back`},
		{&s.WrongRows, fmt.Sprintf(wrongOrders, "orders", "id")},
		{&customers, fmt.Sprintf(wrongCustomers, "legacy_customers", "no")},
		{&s.DeadLetters, "SELECT count(*) FROM walbridge.dead_letter"},
	} {
		if err := tx.QueryRow(ctx, a.log.in(q.sql)).Scan(q.to); err != nil {
			return s, fmt.Errorf("compare source and destination: %w", err)
		}
	}
	s.MissingRecords = s.Records - delivered
	s.WrongRows += customers
	return s, nil
}

// arrived are the items at the destination, counted as they come.
type arrived struct {
	events, records int64
	seq             int64 // the newest counted
}

// count adds what has come since it was asked last: nothing ever appears below a seq
// that was visible.
func (c *arrived) count(ctx context.Context, a *application) error {
	var events, records int64
	err := a.pool.QueryRow(ctx, a.log.in(`SELECT count(*) FILTER (WHERE kind = 'event'), count(*) FILTER (WHERE kind = 'change'), coalesce(max(seq), $1)
		FROM walbridge.log WHERE seq > $1`), c.seq).Scan(&events, &records, &c.seq)
	if err != nil {
		return fmt.Errorf("count the items: %w", err)
	}
	c.events, c.records = c.events+events, c.records+records
	return nil
}
