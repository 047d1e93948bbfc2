package queue

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/walbridge/walbridge/migrations"
)

// Subscription is a named reader of the log. Its methods may be called from several
// goroutines; each Run, RunBatch or RunTx is a worker of its own.
type Subscription struct {
	pool *pgxpool.Pool
	cfg  Config
	asks asks
}

// asks bounds how often the waiters of a process ask for a source's position.
type asks struct {
	mu sync.Mutex
	at map[string]time.Time // by source; an unknown one is an error before it gets here
}

// due reports whether somebody has to ask, who then does.
func (a *asks) due(source string) bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	now := time.Now()
	if now.Sub(a.at[source]) < markPause {
		return false
	}
	if a.at == nil {
		a.at = map[string]time.Time{}
	}
	a.at[source] = now
	return true
}

// Subscribe makes the subscription unless it exists, and returns it. The pool stays
// the caller's; a running worker keeps one of its connections and takes others for
// moments (RunTx: one for each batch), so it needs at least 2.
//
// Errors: of Config.Validate; *migrations.Incompatible when the schema is older or
// much newer than this library; ErrConflict when the subscription exists with other
// streams; ErrFloor when From is below what the log holds.
func Subscribe(ctx context.Context, pool *pgxpool.Pool, cfg Config) (*Subscription, error) {
	cfg = cfg.WithDefaults()
	if err := cfg.Validate(); err != nil {
		return nil, err
	}
	if n := pool.Config().MaxConns; n < 2 {
		return nil, fmt.Errorf("subscribe: the pool has at most %d connection, a worker needs 2", n)
	}
	s := &Subscription{pool: pool, cfg: cfg}
	err := s.do(ctx, "subscribe "+cfg.Name, func(conn *pgconn.PgConn) error {
		if err := compatible(ctx, conn, &cfg); err != nil {
			return err
		}
		return call(ctx, conn, nil, "SELECT FROM "+cfg.table("subscribe")+"($1, $2::text[], $3, $4::json, $5)",
			cfg.Name, cfg.Streams, cfg.From.String(), cfg.settings(), toolVersion)
	})
	if err != nil {
		return nil, err
	}
	return s, nil
}

// toolVersion is what operation rows say.
const toolVersion = "queue"

// compatible refuses a schema that this library does not know.
func compatible(ctx context.Context, conn *pgconn.PgConn, cfg *Config) error {
	return call(ctx, conn, func(v [][]byte) error {
		return migrations.Compatible(int32Of(v[0]), int32Of(v[1]))
	}, "SELECT version, compatible_from FROM "+cfg.table("schema_version"))
}

// Name returns the subscription's name.
func (s *Subscription) Name() string { return s.cfg.Name }

// do runs f on a connection of the pool.
func (s *Subscription) do(ctx context.Context, what string, f func(*pgconn.PgConn) error) error {
	conn, err := s.pool.Acquire(ctx)
	if err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	defer conn.Release()
	if err := f(conn.Conn().PgConn()); err != nil {
		return fmt.Errorf("%s: %w", what, err)
	}
	return nil
}

// simple calls a function of the schema with the subscription's name and more.
func (s *Subscription) simple(ctx context.Context, function string, args ...any) error {
	return s.do(ctx, function+" "+s.cfg.Name, func(conn *pgconn.PgConn) error {
		return s.apply(ctx, conn, function, args...)
	})
}

func (s *Subscription) apply(ctx context.Context, conn *pgconn.PgConn, function string, args ...any) error {
	params := "$1"
	for i := range args {
		params += fmt.Sprintf(", $%d", i+2)
	}
	return call(ctx, conn, nil, "SELECT FROM "+s.cfg.table(function)+"("+params+")", append([]any{s.cfg.Name}, args...)...)
}

// Pause makes all workers finish what they have in hand and wait. What they have
// read and not begun stays in the log. It returns at once; workers notice with their
// next renewal.
func (s *Subscription) Pause(ctx context.Context) error {
	return s.simple(ctx, "pause", toolVersion)
}

// Resume ends a pause. ErrExpired when the subscription has expired.
func (s *Subscription) Resume(ctx context.Context) error {
	return s.simple(ctx, "resume", toolVersion)
}

// Reset makes the subscription begin again at a place: everything behind it is
// delivered anew, everything parked is forgotten. Workers lose their lanes and take
// them anew; what they have in hand is not settled. ErrFloor when the log does not
// reach back so far.
func (s *Subscription) Reset(ctx context.Context, to Start) error {
	return s.simple(ctx, "reset", to.String(), toolVersion)
}

// ResetTx is Reset in the caller's transaction, which may empty the read model in
// it, so that no worker sees one without the other. The transaction must be READ
// COMMITTED, and LOCK the read model before: workers of RunTx lock its rows first and
// their lanes last, and the other order can end in a deadlock.
func (s *Subscription) ResetTx(ctx context.Context, tx pgx.Tx, to Start) error {
	if err := s.apply(ctx, tx.Conn().PgConn(), "reset", to.String(), toolVersion); err != nil {
		return fmt.Errorf("reset %s: %w", s.cfg.Name, err)
	}
	return nil
}

// Progress says how far a subscription is.
type Progress struct {
	// Seq: everything at or below is settled, or parked or dead.
	Seq int64
	// Head is the log's last seq.
	Head int64
	// Source, LSN and CommittedAt are of the newest write at or below Seq, the zero
	// values when there is none.
	Source      string
	LSN         LSN
	CommittedAt time.Time
	// Lag is how long ago the oldest item that is not settled was committed, 0 when
	// there is none. Parked items do not count.
	Lag time.Duration
	// LagItems is the number of items behind Seq, those that are settled ahead of it
	// with them, counted up to 10,000.
	LagItems int64
	// Parked and Dead are the numbers of parked items and of open dead letters.
	Parked, Dead int64
}

// Checkpoint says how far the subscription is: everything up to there has been
// handled, or is parked, or is a dead letter. It does not wait. It reads the tables, so
// the role needs SELECT on them.
func (s *Subscription) Checkpoint(ctx context.Context) (Progress, error) {
	var p Progress
	err := s.do(ctx, "checkpoint of "+s.cfg.Name, func(conn *pgconn.PgConn) error {
		return progress(ctx, conn, &s.cfg, &p)
	})
	return p, err
}

func progress(ctx context.Context, conn *pgconn.PgConn, cfg *Config, p *Progress) error {
	found := false
	err := call(ctx, conn, func(v [][]byte) error {
		found = true
		*p = Progress{
			Seq: int64Of(v[0]), Head: int64Of(v[1]), LagItems: int64Of(v[2]), Lag: time.Duration(int64Of(v[3])) * time.Millisecond,
			Source: string(v[4]), LSN: LSN(int64Of(v[5])), CommittedAt: timeOf(v[6]), Parked: int64Of(v[7]), Dead: int64Of(v[8]),
		}
		return nil
	}, strings.ReplaceAll(progressSQL, "walbridge.", migrations.Ident(cfg.Schema)+"."), cfg.Name)
	if err == nil && !found {
		err = ErrUnknown
	}
	return err
}

// progressSQL looks for the first item of each lane that is not settled; a lane that
// has none is as far as the log, whatever its checkpoint says, which is written once a
// minute when nothing happens.
const progressSQL = `
WITH ids AS MATERIALIZED (
	SELECT coalesce(array_agg(t.id), '{}') AS ids FROM walbridge.stream t, walbridge.subscription s
	WHERE s.name = $1 AND EXISTS (SELECT FROM unnest(s.streams) p
		WHERE p = t.name OR right(p, 1) = '*' AND starts_with(t.name, left(p, -1)))),
lanes AS MATERIALIZED (
	SELECT l.lane, c.seq, c.settled FROM walbridge.lane l CROSS JOIN LATERAL (
		SELECT k.seq, k.settled FROM walbridge.checkpoint k WHERE k.subscription = $1 AND k.lane = l.lane ORDER BY k.n DESC LIMIT 1) c
	WHERE l.subscription = $1),
head AS MATERIALIZED (SELECT coalesce(max(b.last_seq), 0) AS seq FROM walbridge.progress b),
behind AS MATERIALIZED (
	SELECT l.seq, g.committed_at FROM ids, lanes l CROSS JOIN LATERAL (
		SELECT g.committed_at FROM walbridge.log g
		WHERE g.stream_id = ANY (ids.ids) AND g.lane = l.lane AND g.seq > l.seq AND NOT l.settled @> g.seq ORDER BY g.seq LIMIT 1) g),
at AS MATERIALIZED (SELECT coalesce((SELECT min(seq) FROM behind), (SELECT greatest(head.seq, max(l.seq)) FROM lanes l)) AS seq FROM head)
SELECT at.seq, greatest(head.seq, at.seq),
	(SELECT count(*) FROM (SELECT FROM walbridge.log g, ids WHERE g.stream_id = ANY (ids.ids) AND g.seq > at.seq LIMIT 10000) c),
	(SELECT coalesce(extract(epoch FROM clock_timestamp() - min(committed_at)) * 1000, 0)::bigint FROM behind),
	w.source, w.end_lsn, w.commit_ts,
	(SELECT count(*) FROM walbridge.parked p WHERE p.subscription = $1),
	(SELECT count(*) FROM walbridge.dead_letter d WHERE d.subscription = $1 AND d.resolution IS NULL)
FROM at, head LEFT JOIN LATERAL (
	SELECT b.source, b.end_lsn, b.commit_ts FROM walbridge.source s CROSS JOIN LATERAL (
		SELECT * FROM walbridge.batch b WHERE b.source = s.name AND b.last_seq <= (SELECT seq FROM at) ORDER BY b.n DESC LIMIT 1) b
	ORDER BY b.written_at DESC LIMIT 1) w ON true
WHERE EXISTS (SELECT FROM walbridge.subscription WHERE name = $1)`

// Lag returns how far the subscription is behind: items, counted up to 10,000, and
// the age of the oldest that is not settled.
func (s *Subscription) Lag(ctx context.Context) (items int64, age time.Duration, err error) {
	p, err := s.Checkpoint(ctx)
	return p.LagItems, p.Lag, err
}

// waitPause is the time between two looks of WaitFor.
const waitPause = 20 * time.Millisecond

// WaitFor waits until the subscription has handled all that a source committed up
// to an LSN: read your own writes through change data capture, with the LSN that
// pg_current_wal_lsn() gave after the commit. Parked and dead items do not hold it
// up. It asks the database every 20 ms and holds no connection in between. Where
// nothing of that source is on its way, the bridge, or the worker that moves rows of
// inbox, is asked to store how far it is, up to ten times a second however many wait
// on this subscription.
//
// The error is ErrTimeout when within has passed, the context's when that ended.
func (s *Subscription) WaitFor(ctx context.Context, source string, lsn LSN, within time.Duration) error {
	deadline := time.Now().Add(within)
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for %s: %w", s.cfg.Name, ctx.Err())
		case <-timer.C:
		}
		there := false
		err := s.do(ctx, "wait for "+s.cfg.Name, func(conn *pgconn.PgConn) error {
			return call(ctx, conn, func(v [][]byte) error { there = boolOf(v[0]); return nil },
				"SELECT "+s.cfg.table("wait_for")+"($1, $2, $3::pg_lsn, '0'::interval, $4)", s.cfg.Name, source, lsn.String(), s.asks.due(source))
		})
		if there || err != nil {
			return err
		}
		if time.Now().After(deadline) {
			return fmt.Errorf("wait %v for %s to reach %v of %s: %w", within, s.cfg.Name, lsn, source, ErrTimeout)
		}
		timer.Reset(waitPause)
	}
}
