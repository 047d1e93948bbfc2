package queue

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/migrations"
)

// keeper does for a work table without a bridge what a bridge would do: it makes
// partitions ahead, takes old ones away, and moves rows of inbox to the log. Of all
// workers of a schema one has the upkeep, by a lease. The lease saves work and fences
// nothing: every step is a function of the schema that anybody may call at any time.
type keeper struct {
	*Subscription
	id    string
	log   *slog.Logger
	wake  func()          // tells this process's worker that the log has grown
	asks  <-chan struct{} // somebody waits for the mover's position
	lease time.Duration
	every time.Duration // between two looks at partitions and old rows

	mine, moves, keeps bool
	leaseAt, keepAt    time.Time
	stepAt             time.Time    // when the next step is due
	pruned             int64        // rows of inbox up to this n are gone
	marks              int          // calls of the mover that are to store its position
	marked             [2]time.Time // the last two that did, the later one last
	waiting            bool         // inbox_waits has been logged
	held               string
}

const (
	upkeepLease  = 30 * time.Second
	upkeepEvery  = time.Minute
	upkeepWithin = 15 * time.Second // one step
)

func newKeeper(w *worker) *keeper {
	return &keeper{Subscription: w.Subscription, id: w.id, log: w.log, wake: w.grown, asks: w.markWake, lease: upkeepLease, every: upkeepEvery}
}

// keep runs until ctx ends. A role that has no right to the upkeep leaves it to
// others.
func (k *keeper) keep(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	var trouble pauses
	for {
		select {
		case <-ctx.Done():
			k.leave(context.WithoutCancel(ctx))
			return
		case <-k.asks:
			k.asked(timer)
			continue
		case <-timer.C:
		}
		pause, err := k.step(ctx)
		switch {
		case ctx.Err() != nil:
		case isCode(err, codeNoRight):
			k.log.Info("upkeep_denied", "err", err, "next", "a bridge or another worker has to do it")
			return
		case err != nil:
			k.log.Warn("upkeep_failed", "err", err, "next", "tried again")
			pause = trouble.after()
		default:
			trouble.reset()
		}
		k.stepAt = time.Now().Add(pause)
		timer.Reset(pause)
	}
}

// SQLSTATEs, by their names in the manual's appendix "PostgreSQL Error Codes".
const (
	codeNoRight        = "42501" // insufficient_privilege
	codeLockBusy       = "55P03" // lock_not_available
	codeCheckViolation = "23514" // without a constraint's name: a partition is missing
)

// step does what is due and returns the pause until the next.
func (k *keeper) step(ctx context.Context) (time.Duration, error) {
	ctx, cancel := context.WithTimeout(ctx, upkeepWithin)
	defer cancel()
	if !time.Now().Before(k.leaseAt) {
		if err := k.ask(ctx); err != nil {
			return 0, err
		}
	}
	if !k.mine {
		return time.Until(k.leaseAt), nil
	}
	if time.Now().After(k.keepAt) {
		if err := k.upkeep(ctx); err != nil {
			return 0, err
		}
		k.keepAt = time.Now().Add(k.every)
	}
	next := min(time.Until(k.leaseAt), time.Until(k.keepAt))
	if !k.moves {
		return next, nil
	}
	pause, err := k.move(ctx)
	return min(next, pause), err
}

// ask takes or renews the lease.
func (k *keeper) ask(ctx context.Context) error {
	err := k.call(ctx, func(v [][]byte) error {
		k.mine, k.moves, k.keeps = boolOf(v[0]), boolOf(v[1]), boolOf(v[2])
		return nil
	}, "SELECT mine, moves, keeps FROM "+k.cfg.table("lease_upkeep")+"($1, $2::interval)", k.id, k.lease)
	if err != nil {
		return err
	}
	k.leaseAt = time.Now().Add(k.lease / 3)
	return nil
}

// call runs one statement on a connection of the pool.
func (k *keeper) call(ctx context.Context, each func([][]byte) error, sql string, args ...any) error {
	return k.do(ctx, "upkeep", func(conn *pgconn.PgConn) error { return call(ctx, conn, each, sql, args...) })
}

func (k *keeper) leave(ctx context.Context) {
	if !k.mine {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, lastWords)
	defer cancel()
	if err := k.call(ctx, nil, "SELECT "+k.cfg.table("leave_upkeep")+"($1)", k.id); err != nil {
		k.log.Warn("upkeep_leave_failed", "err", err, "next", "another worker has it when its lease has run out")
	}
}

// upkeep makes partitions ahead, and takes away what retention no longer wants.
func (k *keeper) upkeep(ctx context.Context) error {
	if k.moves {
		if err := k.prune(ctx); err != nil {
			return err
		}
	}
	if !k.keeps && !k.moves {
		return nil
	}
	if err := k.partitions(ctx); err != nil || !k.keeps {
		return err
	}
	if err := k.retain(ctx); err != nil {
		return err
	}
	return k.do(ctx, "drop partitions", func(conn *pgconn.PgConn) error { return k.drop(ctx, conn) })
}

func (k *keeper) partitions(ctx context.Context) error {
	return k.call(ctx, nil, "SELECT "+k.cfg.table("keep_partitions")+"()")
}

// retain decides what goes, and says for whom the log is kept beyond its limits.
func (k *keeper) retain(ctx context.Context) error {
	held := ""
	err := k.call(ctx, func(v [][]byte) error {
		kind, what, name := string(v[0]), string(v[1]), string(v[2])
		if what == "expired" {
			k.log.Error("subscription_expired", "expired", name, "kind", kind, "from_seq", int64Of(v[3]),
				"next", "its workers stop; reset it, or drop it")
			return nil
		}
		held += fmt.Sprintf("%s (%s from seq %d) ", name, kind, int64Of(v[3]))
		return nil
	}, "SELECT kind, what, subscription, seq FROM "+k.cfg.table("retain")+"($1)", toolVersion)
	if err == nil && held != k.held {
		k.held = held
		if held != "" {
			k.log.Warn("retention_exceeded", "held_by", held, "next", "the log is kept until they have read it, or are dropped")
		}
	}
	return err
}

// drop takes away the partitions that retain gave up, without stopping anybody where
// the role has the owner's rights.
func (k *keeper) drop(ctx context.Context, conn *pgconn.PgConn) error {
	var statements []string
	owned := true
	err := call(ctx, conn, func(v [][]byte) error {
		if owned = owned && boolOf(v[1]); owned {
			statements = append(statements, string(v[0]))
		}
		return nil
	}, "SELECT statement, pg_has_role(owner, 'USAGE') FROM "+k.cfg.table("detachments")+"()")
	if err != nil {
		return err
	}
	if len(statements) > 0 {
		if err := detach(ctx, conn, statements); err != nil {
			k.log.Info("detach_interrupted", "err", err, "next", "it is completed when whoever uses the log has ended")
		}
	}
	for again := true; again; {
		again = false
		err := call(ctx, conn, func(v [][]byte) error {
			result := string(v[1])
			again = again || result == "detached"
			k.log.Info("partition", "name", string(v[0]), "result", result)
			return nil
		}, "SELECT name, result FROM "+k.cfg.table("drop_partitions")+"($1::boolean)", !owned)
		if err != nil {
			return err
		}
	}
	return nil
}

// detach sends statements that run in no transaction block. The connection is the
// caller's, and so are its settings.
func detach(ctx context.Context, conn *pgconn.PgConn, statements []string) (err error) {
	before := ""
	read := func(v [][]byte) error { before = string(v[0]); return nil }
	if err := call(ctx, conn, read, "SELECT current_setting('lock_timeout')"); err != nil {
		return err
	}
	const set = "SELECT set_config('lock_timeout', $1, false)"
	if err := call(ctx, conn, nil, set, "1s"); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, call(ctx, conn, nil, set, before)) }()
	for _, statement := range statements {
		if err := call(ctx, conn, nil, statement); err != nil {
			return err
		}
	}
	return nil
}

// tell notifies the workers: in the transaction that appends it would take a lock of
// the whole database at the commit (async.c, PreCommit_Notify).
func (k *keeper) tell(ctx context.Context) error {
	k.wake()
	return k.call(ctx, nil, "SELECT pg_notify($1, $2)", migrations.Channel, k.cfg.Schema)
}
