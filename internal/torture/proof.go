package torture

import (
	"context"
	"fmt"
)

// Proof checks that the work table holds exactly what the source committed.
type Proof struct {
	SourceDSN, SinkDSN  string
	Schema              string // of the work table; defaults to walbridge
	Bridge, Publication string
	// DeadLetters allows them.
	DeadLetters bool
}

// Proven says what a proof went over.
type Proven struct {
	Items  int64 `json:"items"`
	Rows   int   `json:"rows"`
	Events int   `json:"events"`
}

// Run checks the whole log and compares it with the source, which must be at rest
// and delivered to the end. The first thing that is wrong is a *Finding.
func (p Proof) Run(ctx context.Context) (Proven, error) {
	log := &LogReader{DSN: p.SinkDSN, Schema: p.Schema}
	lanes, err := log.Lanes(ctx)
	if err != nil {
		return Proven{}, err
	}
	c := NewChecker(Rules{Lanes: lanes})
	if err := log.Read(ctx, c.Add); err != nil {
		return Proven{}, err
	}
	done := Proven{Items: c.Items, Rows: c.Rows(p.Bridge), Events: c.Events(p.Bridge)}
	for _, step := range []func() error{
		c.End,
		func() error { return c.Compare(ctx, p.SourceDSN, p.Bridge, p.Publication) },
		func() error { return log.CheckBatches(ctx, p.Bridge) },
		func() error {
			if p.DeadLetters {
				return nil
			}
			return log.CheckDeadLetters(ctx, p.Bridge)
		},
	} {
		if err := step(); err != nil {
			return done, fmt.Errorf("after %d items: %w", done.Items, err)
		}
	}
	return done, nil
}
