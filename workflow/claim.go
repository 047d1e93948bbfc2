package workflow

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// instance is what an engine knows of an instance that it owns.
type instance struct {
	id, generation           int64
	uid                      string
	name                     string
	version                  int
	key                      string
	list                     string // the steps as stored
	state                    string
	undoing                  bool
	step                     int
	attempts, failures, lost int
	cancel                   *string // an operator's reason; nil: none
	reason                   string
	signals                  map[string][]byte // consumed ones
	def                      *definition
	lease                    *lease
	begun                    bool // an earlier attempt of the step may have had an effect
	doubts                   int  // transactions of unknown result since the last that was known
}

// taker locks the rows that are to be taken, and returns their ids.
type taker func(ctx context.Context, tx pgx.Tx) ([]int64, error)

// take takes instances over, in the order that fences need: the rows are locked with
// FOR UPDATE, which waits out or skips every transaction that holds a fence; a
// second statement raises the generation; a third reads what the last owner has
// committed.
func (r *runner) take(ctx context.Context, lock taker) ([]*instance, error) {
	ctx, cancel := context.WithTimeout(ctx, r.e.cfg.Lease)
	defer cancel()
	var taken []*instance
	asked := time.Now()
	err := pgx.BeginTxFunc(ctx, r.e.pool, readCommitted(r.e.cfg.Lease), func(tx pgx.Tx) error {
		ids, err := lock(ctx, tx)
		if err != nil || len(ids) == 0 {
			return err
		}
		if taken, err = r.own(ctx, tx, ids); err != nil {
			return err
		}
		return r.readSignals(ctx, tx, taken, ids)
	})
	if err != nil {
		return nil, fmt.Errorf("take workflow instances: %w", err)
	}
	for _, in := range taken {
		in.def = r.e.defs[ident{in.name, in.version}]
		in.begun = in.attempts > 1
		in.lease = newLease(r.hard, in.id, in.generation, asked, r.e.cfg.Lease)
		r.leases.add(in.lease)
	}
	return taken, nil
}

// own raises the generation of locked rows.
func (r *runner) own(ctx context.Context, tx pgx.Tx, ids []int64) ([]*instance, error) {
	rows, err := tx.Query(ctx, r.e.sql.take, ids, r.e.name, micros(r.e.cfg.Lease))
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, func(row pgx.CollectableRow) (*instance, error) {
		in := &instance{signals: map[string][]byte{}}
		err := row.Scan(&in.id, &in.generation, &in.uid, &in.name, &in.version, &in.key, &in.list, &in.state,
			&in.undoing, &in.step, &in.attempts, &in.failures, &in.lost, &in.cancel, &in.reason)
		return in, err
	})
}

// readSignals reads the signals that earlier waits have consumed.
func (r *runner) readSignals(ctx context.Context, tx pgx.Tx, taken []*instance, ids []int64) error {
	byID := map[int64]*instance{}
	for _, in := range taken {
		byID[in.id] = in
	}
	rows, err := tx.Query(ctx, r.e.sql.consumed, ids)
	if err != nil {
		return err
	}
	var id int64
	var name, data string
	_, err = pgx.ForEachRow(rows, []any{&id, &name, &data}, func() error {
		byID[id].signals[name] = []byte(data)
		return nil
	})
	return err
}

// sweepEvery is the shortest time between two looks at all that is due; lookBack is
// how far behind the last complete look the others begin. Between them lies what
// was due long ago and is done: entries of the index which cannot be removed while
// some transaction, anywhere in the server, is older. A transaction that starts a
// workflow and commits more than lookBack later is found by the next sweep.
const (
	sweepEvery = 5 * time.Second
	lookBack   = 30 * time.Second
)

// due finds what is due.
type due struct {
	e     *Engine
	low   time.Time // nothing older was left, by the database's clock
	swept time.Time // by ours
	took  time.Duration
	turn  int
}

// sweeping reports whether the next look begins at the oldest. A sweep that takes
// long is rare, so that sweeping never takes more than a twentieth of the time.
func (d *due) sweeping() bool {
	return d.low.IsZero() || time.Since(d.swept) >= max(sweepEvery, 20*d.took)
}

// take takes up to n due instances of this engine's workflows.
func (d *due) take(ctx context.Context, r *runner, n int) ([]*instance, error) {
	sweep, begun := d.sweeping(), time.Now()
	low := d.low
	if sweep {
		low = time.Time{}
	}
	var now time.Time
	taken, err := r.take(ctx, func(ctx context.Context, tx pgx.Tx) (ids []int64, err error) {
		if err := tx.QueryRow(ctx, d.e.sql.clock).Scan(&now); err != nil {
			return nil, err
		}
		names, versions := d.idents()
		rows, err := tx.Query(ctx, d.e.sql.lockDue, names, versions, low, now, n)
		if err != nil {
			return nil, err
		}
		return pgx.CollectRows(rows, pgx.RowTo[int64])
	})
	if err != nil {
		return nil, err
	}
	if sweep {
		d.swept, d.took = time.Now(), time.Since(begun)
	}
	if len(taken) < n && (sweep || !d.low.IsZero()) {
		d.low = now.Add(-lookBack)
	}
	return taken, nil
}

// idents lists the workflows, each time beginning with another one, so that one
// with much to do does not starve the others.
func (d *due) idents() (names []string, versions []int32) {
	d.turn++
	for i := range d.e.order {
		def := d.e.order[(i+d.turn)%len(d.e.order)]
		names, versions = append(names, def.name), append(versions, int32(def.version))
	}
	return names, versions
}

// retake takes an instance anew whose owner, this engine, does not know how a
// transaction of its own has ended. While that one is still under way the row is
// locked; when it has committed and given the instance back, or somebody else has
// it, there is nothing to take: nil.
func (r *runner) retake(in *instance) *instance {
	for n := in.doubts + 1; in.lease.ctx.Err() == nil; n++ {
		pause(in.lease.ctx, r.e.claimBackoff(n))
		held := true
		taken, err := r.take(in.lease.ctx, func(ctx context.Context, tx pgx.Tx) (ids []int64, err error) {
			ids, err = r.ids(ctx, tx, r.e.sql.lockOne, in)
			if err == nil && len(ids) == 0 {
				ids, err = r.ids(ctx, tx, r.e.sql.held, in)
				held = err != nil || len(ids) > 0
				ids = nil
			}
			return ids, err
		})
		switch {
		case err == nil && len(taken) == 1:
			taken[0].doubts = n
			return taken[0]
		case err == nil && !held:
			return nil
		}
	}
	return nil
}

func (r *runner) ids(ctx context.Context, tx pgx.Tx, sql string, in *instance) ([]int64, error) {
	rows, err := tx.Query(ctx, sql, in.id, in.generation)
	if err != nil {
		return nil, err
	}
	return pgx.CollectRows(rows, pgx.RowTo[int64])
}

// readCommitted begins a transaction in the isolation that take-over and fences
// rely on, whatever the database's default. The server ends it when this process
// stops in the middle, so that its locks do not outlive the lease by much.
func readCommitted(idle time.Duration) pgx.TxOptions {
	return pgx.TxOptions{BeginQuery: fmt.Sprintf(
		"BEGIN ISOLATION LEVEL READ COMMITTED READ WRITE; SET LOCAL idle_in_transaction_session_timeout = %d", max(1, idle.Milliseconds()))}
}
