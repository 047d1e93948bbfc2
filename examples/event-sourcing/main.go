// Command event-sourcing shows accounts whose state is their history: an append-only
// table of events owns the truth, and what an account is now is computed from it. The
// bridge makes the table the source of a stream, so that a projection follows it.
//
// A projection is built from zero by reading the table, then goes on live from the
// stream, without gap or overlap. The log may have forgotten the old events: it does
// not own them.
package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/walbridge/walbridge/examples/internal/play"
	"github.com/walbridge/walbridge/queue"
)

func main() { play.Main(setup(), story) }

func setup() play.Config {
	return play.Config{
		Tables: `
CREATE TABLE events (id uuid NOT NULL DEFAULT gen_random_uuid(), account text NOT NULL, version int NOT NULL, type text NOT NULL, data json NOT NULL, PRIMARY KEY (account, version));
CREATE TABLE balance (projection text, account text, version int NOT NULL, cents bigint NOT NULL, PRIMARY KEY (projection, account));`,
		Routes: `
- tables: [public.events]
  stream: accounts
  outbox: {key: account, type: type, payload: data, extra: ["version:header"]}`,
	}
}

// appendEvent adds the next event of an account. The primary key refuses the second of
// two writers who have seen the same version.
func appendEvent(ctx context.Context, pool *pgxpool.Pool, account string, cents int) error {
	_, err := pool.Exec(ctx, `INSERT INTO events (account, version, type, data)
		SELECT $1, coalesce(max(version), 0) + 1, CASE WHEN $2 < 0 THEN 'Withdrawn' ELSE 'Deposited' END, json_build_object('cents', $2::int)
		FROM events WHERE account = $1`, account, cents)
	return err
}

// errGap cannot happen: it would mean that an event was skipped.
var errGap = errors.New("an event is missing before this one")

// apply applies an event to the account of a projection, if it is its next one. One
// that it has already comes from the table and from the stream.
func apply(ctx context.Context, tx pgx.Tx, projection, account string, version, cents int) error {
	tag, err := tx.Exec(ctx, `INSERT INTO balance AS b VALUES ($1, $2, $3, $4)
		ON CONFLICT (projection, account) DO UPDATE SET version = excluded.version, cents = b.cents + excluded.cents
		WHERE excluded.version = b.version + 1`, projection, account, version, cents)
	if err != nil || tag.RowsAffected() == 1 && version == 1 {
		return err
	}
	var known int
	err = tx.QueryRow(ctx, "SELECT version FROM balance WHERE projection = $1 AND account = $2", projection, account).Scan(&known)
	if err == nil && (known < version || tag.RowsAffected() == 1 && known != version) {
		err = fmt.Errorf("%s, version %d: %w", account, version, errGap)
	}
	return err
}

// subscribe makes a projection's subscription, unless it exists.
func subscribe(ctx context.Context, pool *pgxpool.Pool, projection string) (*queue.Subscription, error) {
	return queue.Subscribe(ctx, pool, queue.Config{
		Name: projection, Streams: []string{"accounts"}, Lease: time.Second, Poll: 50 * time.Millisecond,
	})
}

// work follows the stream until ctx ends.
func work(ctx context.Context, pool *pgxpool.Pool, projection string) error {
	sub, err := subscribe(ctx, pool, projection)
	if err != nil {
		return err
	}
	return sub.RunTx(ctx, func(ctx context.Context, tx pgx.Tx, items []queue.Item) error {
		for _, it := range items {
			var e struct{ Cents int }
			var version int
			if err := it.Decode(&e); err != nil {
				return err
			}
			if _, err := fmt.Sscan(it.Header("version"), &version); err != nil {
				return queue.Dead(err)
			}
			if err := apply(ctx, tx, projection, it.Key, version, e.Cents); err != nil {
				return err
			}
		}
		return nil
	})
}

// rebuild empties a projection and fills it from the table, while events come in and
// workers run.
//
// No gap: the stream goes on behind what the log held at the beginning, and all of that
// is in the table for the read at the end, since every transaction that might have
// written it and was not yet visible has ended by then. No overlap: what came in between
// is both in the table and in the stream, and apply knows it by its version. The reset
// takes the lanes from the workers, so that they begin behind a full projection.
func rebuild(ctx context.Context, pool *pgxpool.Pool, sub *queue.Subscription) error {
	now, err := sub.Checkpoint(ctx)
	if err != nil {
		return err
	}
	if err := othersEnded(ctx, pool); err != nil {
		return err
	}
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		// Workers lock rows of the projection first and their lanes last: so does this.
		if _, err := tx.Exec(ctx, "LOCK TABLE balance IN SHARE ROW EXCLUSIVE MODE"); err != nil {
			return err
		}
		if err := sub.ResetTx(ctx, tx, queue.After(now.Head)); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "DELETE FROM balance WHERE projection = $1", sub.Name()); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, `INSERT INTO balance SELECT $1, account, max(version), sum((data ->> 'cents')::bigint) FROM events GROUP BY account`, sub.Name())
		return err
	})
}

// othersEnded waits for the transactions that run now and have written: a commit can
// reach the stream a moment before others see it.
func othersEnded(ctx context.Context, pool *pgxpool.Pool) error {
	var running []string
	err := pool.QueryRow(ctx, "SELECT coalesce(array_agg(x::text), '{}') FROM pg_snapshot_xip(pg_current_snapshot()) x").Scan(&running)
	tick := time.NewTicker(10 * time.Millisecond)
	defer tick.Stop()
	for left := true; err == nil && left; {
		err = pool.QueryRow(ctx, "SELECT EXISTS (SELECT FROM pg_snapshot_xip(pg_current_snapshot()) x WHERE x::text = ANY ($1))", running).Scan(&left)
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
	return err
}

// differs counts accounts for which a projection is not what their history says.
const differs = `SELECT count(*) FROM (SELECT * FROM balance WHERE projection = $1) b
	FULL JOIN (SELECT account, max(version) AS version, sum((data ->> 'cents')::bigint) AS cents FROM events GROUP BY 1) e USING (account)
	WHERE (b.version, b.cents) IS DISTINCT FROM (e.version, e.cents)`

func story(ctx context.Context, p *play.Play) error {
	sub, err := subscribe(ctx, p.Pool, "balance")
	if err != nil {
		return err
	}
	worker := func(ctx context.Context) error { return work(ctx, p.Pool, "balance") }
	return play.While(ctx, worker, func(ctx context.Context) error {
		for i := range 300 {
			if i == 150 {
				if err := rebuild(ctx, p.Pool, sub); err != nil {
					return err
				}
				p.Say("rebuilt from the table after 150 events")
			}
			if err := appendEvent(ctx, p.Pool, fmt.Sprint("account ", i%7), i); err != nil {
				return err
			}
		}
		if err := p.Await(ctx, p.Pool, "SELECT ("+differs+") = 0", "balance"); err != nil {
			return err
		}
		var cents int64
		err := p.Pool.QueryRow(ctx, "SELECT sum(cents)::int8 FROM balance").Scan(&cents)
		p.Say("after 300 events all balances are right: %d cents", cents)
		return err
	})
}
