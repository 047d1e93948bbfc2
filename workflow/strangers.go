package workflow

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// haltUnknown marks instances that an engine may take up again which has their
// workflow, version and steps; others wait for Resume.
const haltUnknown = "unknown"

// strangers takes up halted instances of this engine's own workflows, and halts
// those that nobody has taken for long and this engine cannot.
func (r *runner) strangers(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, r.e.cfg.Lease)
	defer cancel()
	var names, lists []string
	var versions []int32
	for _, d := range r.e.order {
		names, versions, lists = append(names, d.name), append(versions, int32(d.version)), append(lists, d.list())
	}
	tag, err := r.e.pool.Exec(ctx, r.e.sql.known, names, versions, lists)
	if err != nil {
		return fmt.Errorf("take up halted workflows: %w", err)
	}
	if tag.RowsAffected() > 0 {
		r.e.log.Info("halted workflow instances go on: this program has their steps", "instances", tag.RowsAffected())
		r.e.poke()
	}
	found, err := r.unknown(ctx)
	if err != nil {
		return fmt.Errorf("look for unknown workflows: %w", err)
	}
	for _, id := range found {
		if err := r.haltStrangers(ctx, id); err != nil {
			return fmt.Errorf("halt workflow %s version %d: %w", id.name, id.version, err)
		}
	}
	return nil
}

// unknown lists workflows with something to do that this engine does not have.
func (r *runner) unknown(ctx context.Context) ([]ident, error) {
	rows, err := r.e.pool.Query(ctx, r.e.sql.strangers)
	if err != nil {
		return nil, err
	}
	var id ident
	var found []ident
	_, err = pgx.ForEachRow(rows, []any{&id.name, &id.version}, func() error {
		if r.e.defs[id] == nil {
			found = append(found, id)
		}
		return nil
	})
	return found, err
}

// haltStrangers halts the instances of one, some at a time.
func (r *runner) haltStrangers(ctx context.Context, id ident) error {
	return pgx.BeginTxFunc(ctx, r.e.pool, readCommitted(r.e.cfg.Lease), func(tx pgx.Tx) error {
		rows, err := tx.Query(ctx, r.e.sql.lockStrangers, id.name, id.version, micros(r.e.cfg.HaltAfter))
		if err != nil {
			return err
		}
		ids, err := pgx.CollectRows(rows, pgx.RowTo[int64])
		if err != nil || len(ids) == 0 {
			return err
		}
		reason := fmt.Sprintf("no engine has taken it for %v, and the one at %s has no workflow %s of version %d", r.e.cfg.HaltAfter, r.e.name, id.name, id.version)
		if _, err := tx.Exec(ctx, r.e.sql.halt, ids, haltUnknown, reason); err != nil {
			return err
		}
		r.e.metrics.instances.WithLabelValues(id.name, string(Halted)).Add(float64(len(ids)))
		r.e.log.Error("workflow instances halted: no engine has their workflow and version", "workflow", id.name, "version", id.version, "instances", len(ids))
		return nil
	})
}
