package logtail

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"time"
)

// From is where a reader begins. The zero value is at the last ten items.
type From struct {
	ago  time.Duration
	at   time.Time
	seq  int64
	last int
	kind fromKind
}

type fromKind int

const (
	fromLast fromKind = iota
	fromBeginning
	fromEnd
	fromSeq
	fromTime
	fromAgo
)

// lastItems is how many items are read of a log that nobody said more of.
const lastItems = 10

// Last is at the last n items, or fewer when there are not so many.
func Last(n int) From { return From{last: n} }

// ParseFrom reads a place: beginning, end, a seq (that item is the first), a time
// (2006-01-02T15:04:05Z), or how long ago: -10m, -36h, -7d. Of a time, the first item
// of a transaction that committed then or later is the first.
func ParseFrom(text string) (From, error) {
	switch text {
	case "beginning":
		return From{kind: fromBeginning}, nil
	case "end":
		return From{kind: fromEnd}, nil
	}
	if ago, ok := strings.CutPrefix(text, "-"); ok {
		d, err := duration(ago)
		return From{kind: fromAgo, ago: d}, err
	}
	if n, err := strconv.ParseInt(text, 10, 64); err == nil {
		return From{kind: fromSeq, seq: n}, nil
	}
	at, err := time.Parse(time.RFC3339, text)
	if err != nil {
		return From{}, fmt.Errorf("%q is no place in the log: beginning, end, a seq, -10m, -7d, or a time like 2006-01-02T15:04:05Z", text)
	}
	return From{kind: fromTime, at: at}, nil
}

func duration(text string) (time.Duration, error) {
	if days, ok := strings.CutSuffix(text, "d"); ok {
		if n, err := strconv.ParseUint(days, 10, 16); err == nil {
			return time.Duration(n) * 24 * time.Hour, nil
		}
	}
	d, err := time.ParseDuration(text)
	if err != nil || d < 0 {
		return 0, fmt.Errorf("%q is no length of time: 30s, 10m, 36h, 7d", text)
	}
	return d, nil
}

// Start returns the seq above which a reader from there begins.
func (l *Log) Start(ctx context.Context, f From) (after int64, err error) {
	switch f.kind {
	case fromBeginning:
		return 0, nil
	case fromSeq:
		return f.seq - 1, nil
	case fromEnd:
		return l.Head(ctx)
	case fromTime:
		return l.since(ctx, f.at)
	case fromAgo:
		var now time.Time
		if err := l.conn.QueryRow(ctx, "SELECT clock_timestamp()").Scan(&now); err != nil {
			return 0, fmt.Errorf("read the clock: %w", err)
		}
		return l.since(ctx, now.Add(-f.ago))
	}
	if f.last == 0 {
		f.last = lastItems
	}
	return l.beforeLast(ctx, f.last)
}

// beforeLast returns the seq before the last n items, found from the end.
func (l *Log) beforeLast(ctx context.Context, n int) (after int64, err error) {
	sql := l.sql(withStreams + "SELECT coalesce(min(g.seq) - 1, 0) FROM (SELECT g.seq" +
		from("g.seq", l.ofKey(4)+" ORDER BY g.seq DESC LIMIT $3") + "ORDER BY g.seq DESC LIMIT $3) g")
	if err := l.conn.QueryRow(ctx, sql, l.args(n)...).Scan(&after); err != nil {
		return 0, fmt.Errorf("look for the last items: %w", err)
	}
	return after, nil
}

// probed is how many items are looked at for the time of a place: some of them may
// be replayed ones, which are older than their neighbours.
const probed = 32

// since finds the first item of a time by halving: commit times rise with seq but
// for replayed items and the clocks of several sources.
func (l *Log) since(ctx context.Context, at time.Time) (int64, error) {
	head, err := l.Head(ctx)
	if err != nil {
		return 0, err
	}
	low, high := int64(0), head // nothing at or below low is wanted, something above high may not be
	for low < high {
		mid := low + (high-low)/2
		first, newest, err := l.probe(ctx, mid, head)
		switch {
		case err != nil:
			return 0, err
		case first == 0 || !newest.Before(at):
			high = mid
		default:
			low = max(first, mid+1)
		}
	}
	return l.exactly(ctx, low, head, at)
}

// probe looks at the items behind a place: the seq of the first, 0 when there is
// none, and the newest commit time of some.
func (l *Log) probe(ctx context.Context, after, head int64) (first int64, newest time.Time, err error) {
	var seq *int64
	var at *time.Time
	err = l.conn.QueryRow(ctx, l.sql(withStreams+"SELECT min(g.seq), max(g.committed_at) FROM (SELECT g.seq, g.committed_at"+
		from("g.seq, g.committed_at", "AND g.seq > $3 AND g.seq <= $4 ORDER BY g.seq LIMIT $5")+"ORDER BY g.seq LIMIT $5) g"),
		l.exact, l.prefix, after, head, probed).Scan(&seq, &at)
	if err != nil {
		return 0, newest, fmt.Errorf("look for a time in the log: %w", err)
	}
	if seq == nil || at == nil {
		return 0, newest, nil
	}
	return *seq, *at, nil
}

// exactly steps from a place that is at most some items early to the first item of
// a time.
func (l *Log) exactly(ctx context.Context, after, head int64, at time.Time) (int64, error) {
	var seq *int64
	err := l.conn.QueryRow(ctx, l.sql(withStreams+"SELECT min(g.seq) FILTER (WHERE g.committed_at >= $6) FROM (SELECT g.seq, g.committed_at"+
		from("g.seq, g.committed_at", "AND g.seq > $3 AND g.seq <= $4 ORDER BY g.seq LIMIT $5")+"ORDER BY g.seq LIMIT $5) g"),
		l.exact, l.prefix, after, head, probed, at).Scan(&seq)
	if err != nil {
		return 0, fmt.Errorf("look for a time in the log: %w", err)
	}
	if seq == nil {
		return head, nil
	}
	return *seq - 1, nil
}
