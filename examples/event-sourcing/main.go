// Command event-sourcing shows accounts whose state is their history: an append-only
// table of events owns the truth, and what an account is now is computed from it. The
// bridge makes the table the source of a stream: it reads the history that is there,
// then what is appended comes live, and a projection takes both.
//
// The table's key is (account, version). It refuses the second of two writers, and it is
// the order in which the table is read: an account's events come one after the other, as
// they were appended. A bigserial would serve for that too, but a reading by it ends only
// when it has caught up with the writers, and the order in which numbers are given out is
// not that of commits, so it would promise an order over accounts that is none.
//
// The log may forget old events: it does not own them. A projection is built from zero by
// reading the table once more.
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

// setup has 140 events from before the bridge. order: table keeps the events of an account
// in the order of their commits, since by the key each event would be in a lane of its own.
func setup() play.Config {
	return play.Config{
		Tables: `
CREATE TABLE events (account text, version int, type text NOT NULL, data json NOT NULL, PRIMARY KEY (account, version));
CREATE TABLE balance (projection text, account text, version int NOT NULL, cents bigint NOT NULL, PRIMARY KEY (projection, account));
CREATE TABLE ahead (projection text, account text, version int, cents bigint NOT NULL, PRIMARY KEY (projection, account, version));
INSERT INTO events SELECT 'account ' || a, v, 'Deposited', json_build_object('cents', a) FROM generate_series(0, 6) a, generate_series(1, 20) v;`,
		Routes: `
- tables: [public.events]
  stream: accounts
  snapshot: initial
  changes: {envelope: row, order: table}`,
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

// event is a row of the table.
type event struct {
	Account string
	Version int
	Data    struct{ Cents int64 }
}

// errGap cannot happen: it would mean that an event was skipped.
var errGap = errors.New("an event is missing before this one")

// batch is what one transaction of a projection does.
type batch struct {
	tx         pgx.Tx
	projection string
	versions   map[string]int // of accounts that it has come to
}

// apply applies an event to the account of a projection, if it is its next one. What it
// has is passed over: an event may be read and come live. A live one may be ahead of the
// history that is being read, and waits for it. One that is read never is, since all
// before it were read or came live.
func (b batch) apply(ctx context.Context, e event, read bool) error {
	version, err := b.version(ctx, e.Account)
	switch {
	case err != nil || e.Version <= version:
		return err
	case e.Version > version+1 && read:
		return queue.Dead(fmt.Errorf("%s has version %d, now comes %d: %w", e.Account, version, e.Version, errGap))
	case e.Version > version+1:
		_, err = b.tx.Exec(ctx, "INSERT INTO ahead VALUES ($1, $2, $3, $4) ON CONFLICT DO NOTHING", b.projection, e.Account, e.Version, e.Data.Cents)
		return err
	}
	return b.follow(ctx, e)
}

// version is the one up to which the projection has an account; 0: it has none of it.
func (b batch) version(ctx context.Context, account string) (int, error) {
	if v, ok := b.versions[account]; ok {
		return v, nil
	}
	var v int
	err := b.tx.QueryRow(ctx, "SELECT coalesce(max(version), 0) FROM balance WHERE projection = $1 AND account = $2", b.projection, account).Scan(&v)
	if err == nil {
		b.versions[account] = v
	}
	return v, err
}

// follow applies an event and those that have waited for it.
func (b batch) follow(ctx context.Context, e event) error {
	for {
		_, err := b.tx.Exec(ctx, `INSERT INTO balance AS b VALUES ($1, $2, $3, $4)
			ON CONFLICT (projection, account) DO UPDATE SET version = excluded.version, cents = b.cents + excluded.cents`,
			b.projection, e.Account, e.Version, e.Data.Cents)
		if err != nil {
			return err
		}
		b.versions[e.Account] = e.Version
		e.Version++
		err = b.tx.QueryRow(ctx, "DELETE FROM ahead WHERE projection = $1 AND account = $2 AND version = $3 RETURNING cents", b.projection, e.Account, e.Version).Scan(&e.Data.Cents)
		if errors.Is(err, pgx.ErrNoRows) {
			return nil
		}
		if err != nil {
			return err
		}
	}
}

// subscribe makes a projection's subscription, unless it exists.
func subscribe(ctx context.Context, pool *pgxpool.Pool, projection string) (*queue.Subscription, error) {
	return queue.Subscribe(ctx, pool, queue.Config{
		Name: projection, Streams: []string{"accounts"}, Lease: time.Second, Poll: 50 * time.Millisecond,
	})
}

// work follows the stream until ctx ends. Projection and checkpoint are one transaction.
func work(ctx context.Context, pool *pgxpool.Pool, projection string) error {
	sub, err := subscribe(ctx, pool, projection)
	if err != nil {
		return err
	}
	return sub.RunTx(ctx, func(ctx context.Context, tx pgx.Tx, items []queue.Item) error {
		b := batch{tx, projection, map[string]int{}}
		for _, it := range items {
			var e event
			if err := it.Decode(&e); err != nil {
				return err
			}
			if err := b.apply(ctx, e, it.Type == "read"); err != nil {
				return err
			}
		}
		return nil
	})
}

// rebuild empties a projection and has the bridge read the table for it, while events come
// in and workers run. A reading that is under way is given up first: its beginning would
// be missing.
//
// No gap: the reading begins when the reset is done. What the log held before that is in
// the table and visible to it, since it waits for older transactions to end; what the log
// gets after, the stream brings. No overlap: apply knows what it has. Other projections
// see the reading as well, and have it all.
func rebuild(ctx context.Context, p *play.Play, sub *queue.Subscription) error {
	if err := p.Walbridge(ctx, "snapshot", "cancel", "--tables", "public.events"); err != nil {
		return err
	}
	if err := empty(ctx, p.Sink, sub); err != nil {
		return err
	}
	return p.Walbridge(ctx, "snapshot", "--tables", "public.events")
}

// empty takes the lanes from the workers and empties the projection, in one transaction.
// Workers write to balance before they take from ahead, and lock their lanes last: so
// does this.
func empty(ctx context.Context, pool *pgxpool.Pool, sub *queue.Subscription) error {
	return pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, "LOCK TABLE balance IN SHARE ROW EXCLUSIVE MODE"); err != nil {
			return err
		}
		if err := sub.ResetTx(ctx, tx, queue.End()); err != nil {
			return err
		}
		if _, err := tx.Exec(ctx, "DELETE FROM balance WHERE projection = $1", sub.Name()); err != nil {
			return err
		}
		_, err := tx.Exec(ctx, "DELETE FROM ahead WHERE projection = $1", sub.Name())
		return err
	})
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
		if err := p.Await(ctx, p.Pool, "SELECT ("+differs+") = 0", "balance"); err != nil {
			return err
		}
		p.Say("140 events from before the bridge are in all balances")
		for i := range 300 {
			if i == 150 {
				if err := rebuild(ctx, p, sub); err != nil {
					return err
				}
				p.Say("rebuilt from the table after 150 more")
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
		p.Say("after 300 more all balances are right: %d cents", cents)
		return err
	})
}
