// Command aggregate shows a decision that leaves work behind: the transaction that
// changes an account also inserts a row into the inbox, and the bridge makes an item
// of it. A decision that is refused or rolled back leaves nothing.
//
// The account owns the truth. The item is only what follows from it.
package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/walbridge/walbridge/examples/internal/play"
)

func main() { play.Main(setup(), story) }

func setup() play.Config {
	return play.Config{
		Tables: `
CREATE TABLE account (id text PRIMARY KEY, credit int NOT NULL, used int NOT NULL DEFAULT 0 CHECK (used <= credit), version int NOT NULL DEFAULT 0);
INSERT INTO account (id, credit) SELECT 'a' || i, 100 FROM generate_series(1, 5) i;
ALTER DATABASE postgres SET search_path = public, walbridge; -- so that inbox is found`,
		Routes: "- tables: [walbridge.inbox]\n  inbox: {}",
	}
}

// What became of a decision that did not commit.
var (
	errRefused = errors.New("refused: beyond the credit")
	errAgain   = errors.New("refused: this work is there already")
)

// charge is a decision of the aggregate: all of it, or nothing. The lock of the
// account's row comes first, so that the work of an account has the order of its
// versions.
func charge(ctx context.Context, pool *pgxpool.Pool, account string, amount int) error {
	err := pgx.BeginFunc(ctx, pool, func(tx pgx.Tx) error {
		var version int
		if err := tx.QueryRow(ctx, "SELECT version + 1 FROM account WHERE id = $1 FOR UPDATE", account).Scan(&version); err != nil {
			return err
		}
		if err := sendReceipt(ctx, tx, account, version); err != nil {
			return err
		}
		// The invariant is the table's CHECK, which refuses after the work was inserted.
		_, err := tx.Exec(ctx, "UPDATE account SET used = used + $2, version = $3 WHERE id = $1", account, amount, version)
		return err
	})
	return meaning(err)
}

// sendReceipt leaves work for a version of an account, once.
func sendReceipt(ctx context.Context, tx pgx.Tx, account string, version int) error {
	_, err := tx.Exec(ctx, `INSERT INTO inbox (partition_key, payload, idempotency_key)
		VALUES ('account:' || $1, json_build_object('type', 'send_receipt', 'version', $2::int), $3)`,
		account, version, fmt.Sprintf("send_receipt:%s:%d", account, version))
	return err
}

// meaning turns the database's refusals into the application's words.
func meaning(err error) error {
	var refused *pgconn.PgError
	switch {
	case !errors.As(err, &refused):
		return err
	case refused.Code == "23514":
		return errRefused
	case refused.Code == "23505":
		return errAgain
	}
	return err
}

func story(ctx context.Context, p *play.Play) error {
	// A new connection, so that it has the search_path of the database.
	p.Pool.Reset()
	for _, amount := range []int{60, 30, 70, 10} {
		err := charge(ctx, p.Pool, "a1", amount)
		if err != nil && !errors.Is(err, errRefused) {
			return err
		}
		p.Say("charge a1 with %d: %v", amount, orCommitted(err))
	}
	err := meaning(pgx.BeginFunc(ctx, p.Pool, func(tx pgx.Tx) error { return sendReceipt(ctx, tx, "a1", 1) }))
	p.Say("the receipt of version 1 again: %v", err)
	if err := p.Await(ctx, p.Sink, "SELECT count(*) >= 3 FROM walbridge.log"); err != nil {
		return err
	}
	rows, err := p.Sink.Query(ctx, "SELECT type, payload ->> 'version' FROM walbridge.log ORDER BY seq")
	if err != nil {
		return err
	}
	var typ, version string
	_, err = pgx.ForEachRow(rows, []any{&typ, &version}, func() error {
		p.Say("in the log: %s of version %s", typ, version)
		return nil
	})
	return err
}

func orCommitted(err error) string {
	if err == nil {
		return "committed"
	}
	return err.Error()
}
