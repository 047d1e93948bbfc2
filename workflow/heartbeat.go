package workflow

import (
	"context"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// heartbeat renews the leases until its context ends.
func (r *runner) heartbeat(ctx context.Context) {
	tick := time.NewTicker(r.e.cfg.Lease / 3)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
		}
		if err := r.renew(ctx); err != nil && ctx.Err() == nil {
			r.e.log.Warn("workflow leases were not renewed; trying again before they end", "error", err)
		}
	}
}

// holding names a lease.
type holding struct{ id, generation int64 }

// renew renews all leases in one statement.
func (r *runner) renew(ctx context.Context) error {
	held := map[holding]*lease{}
	var ids, generations []int64
	for _, l := range r.leases.list() {
		held[holding{l.id, l.generation}] = l
		ids, generations = append(ids, l.id), append(generations, l.generation)
	}
	if len(ids) == 0 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, r.e.cfg.Lease/3)
	defer cancel()
	asked := time.Now()
	rows, err := r.e.pool.Query(ctx, r.e.sql.renew, ids, generations, micros(r.e.cfg.Lease))
	if err != nil {
		return fmt.Errorf("renew leases: %w", err)
	}
	var id, generation int64
	var cancelled *string
	_, err = pgx.ForEachRow(rows, []any{&id, &generation, &cancelled}, func() error {
		key := holding{id, generation}
		if l := held[key]; l != nil {
			l.renewed(asked, r.e.cfg.Lease, cancelled)
			delete(held, key)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("renew leases: %w", err)
	}
	return r.dropLost(ctx, held)
}

// dropLost ends those of the leases that somebody else has taken over. The others
// were locked or given back at that moment.
func (r *runner) dropLost(ctx context.Context, left map[holding]*lease) error {
	if len(left) == 0 {
		return nil
	}
	byID := map[int64]*lease{}
	ids := make([]int64, 0, len(left))
	for _, l := range left {
		byID[l.id] = l
		ids = append(ids, l.id)
	}
	rows, err := r.e.pool.Query(ctx, r.e.sql.generations, ids)
	if err != nil {
		return fmt.Errorf("look for lost leases: %w", err)
	}
	var id, generation int64
	_, err = pgx.ForEachRow(rows, []any{&id, &generation}, func() error {
		if l := byID[id]; generation != l.generation {
			l.cancel(ErrLeaseLost)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("look for lost leases: %w", err)
	}
	return nil
}

// micros is a time span as the statements take it.
func micros(d time.Duration) int64 { return d.Microseconds() }
