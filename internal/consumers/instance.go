package consumers

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
)

// Signal is a signal of a workflow instance.
type Signal struct {
	N          int64           `json:"n"`
	Name       string          `json:"name"`
	ID         string          `json:"id,omitempty"`
	Data       json.RawMessage `json:"data"`
	CreatedAt  time.Time       `json:"created_at"`
	ConsumedBy *int            `json:"consumed_by,omitempty"` // number of the step, from 0; nil: none yet
	ConsumedAt *time.Time      `json:"consumed_at,omitempty"`
}

// Timer is the end of a sleep, or the deadline of a wait, of a workflow instance.
type Timer struct {
	Step    int        `json:"step"` // number, from 0
	FiresAt time.Time  `json:"fires_at"`
	FiredAt *time.Time `json:"fired_at,omitempty"` // nil: it runs, or a signal came first
}

// maxSignals bounds the signals that are shown of an instance, the newest ones.
const maxSignals = 1000

// Signals returns the signals of a workflow instance, in the order of their sending.
func (b *Board) Signals(ctx context.Context, instance int64) ([]Signal, error) {
	rows, err := b.conn.Query(ctx, "SELECT * FROM (SELECT n, name, coalesce(id, ''), data::text, created_at, consumed_by, consumed_at FROM "+b.schema+
		".workflow_signal WHERE instance = $1 ORDER BY n DESC LIMIT $2) s ORDER BY n", instance, maxSignals)
	if err != nil {
		return nil, fmt.Errorf("read signals: %w", err)
	}
	all, err := pgx.CollectRows(rows, func(r pgx.CollectableRow) (s Signal, err error) {
		var data string
		err = r.Scan(&s.N, &s.Name, &s.ID, &data, &s.CreatedAt, &s.ConsumedBy, &s.ConsumedAt)
		s.Data = json.RawMessage(data)
		return s, err
	})
	if err != nil {
		return nil, fmt.Errorf("read signals: %w", err)
	}
	return all, nil
}

// Timers returns the timers of a workflow instance, in the order of its steps.
func (b *Board) Timers(ctx context.Context, instance int64) ([]Timer, error) {
	rows, err := b.conn.Query(ctx, "SELECT step, fires_at, fired_at FROM "+b.schema+".workflow_timer WHERE instance = $1 ORDER BY step", instance)
	if err != nil {
		return nil, fmt.Errorf("read timers: %w", err)
	}
	all, err := pgx.CollectRows(rows, pgx.RowToStructByPos[Timer])
	if err != nil {
		return nil, fmt.Errorf("read timers: %w", err)
	}
	return all, nil
}
