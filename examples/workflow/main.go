// Command workflow shows a process of one service that lasts longer than the program:
// it sleeps, waits for a signal, tries a call again that fails, and goes on after a
// restart. A new version of it is deployed while an instance of the old one runs.
//
// The rows of the workflow own how far the process is. It needs no bridge.
package main

import (
	"context"
	"errors"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/walbridge/walbridge/examples/internal/play"
	"github.com/walbridge/walbridge/workflow"
)

func main() { play.Main(setup(), story) }

func setup() play.Config {
	return play.Config{Tables: `
CREATE TABLE diary (at timestamptz NOT NULL DEFAULT clock_timestamp(), trial text NOT NULL, entry text NOT NULL);
CREATE TABLE mail (key text PRIMARY KEY, trial text NOT NULL); -- stands for the provider, which knows a key again`}
}

// Trial is the state: what the steps must know of each other.
type Trial struct {
	Address string
	Plan    string
}

// note makes a step that leaves a line in the application's own table.
func note(name string) workflow.Step {
	return workflow.Tx(name, func(ctx context.Context, run *workflow.Run[Trial], tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO diary (trial, entry) VALUES ($1, $2)", run.Instance(), name)
		return err
	})
}

// trials are all versions that may have instances. The second one asks for a plan.
func trials(pool *pgxpool.Pool, length time.Duration) (v1, v2 *workflow.Definition[Trial]) {
	send := workflow.Activity("remind", func(ctx context.Context, run *workflow.Run[Trial]) error {
		_, err := pool.Exec(ctx, "INSERT INTO mail VALUES ($1, $2) ON CONFLICT DO NOTHING", run.Key(), run.Instance())
		if err == nil && run.Attempt() == 1 {
			err = errors.New("the provider has taken it, but its answer is lost")
		}
		return err
	}).Retry(20, 100*time.Millisecond)
	choose := workflow.Tx("choose", func(ctx context.Context, run *workflow.Run[Trial], tx pgx.Tx) error {
		plan, _ := run.Signal("plan")
		run.State().Plan = string(plan)
		_, err := tx.Exec(ctx, "INSERT INTO diary (trial, entry) VALUES ($1, 'choose ' || $2)", run.Instance(), string(plan))
		return err
	})
	v1 = workflow.Define[Trial]("trial", 1, note("begin"), workflow.Sleep("trial", length), send, note("end"))
	v2 = workflow.Define[Trial]("trial", 2, note("begin"), workflow.Sleep("trial", length), send, workflow.Wait("plan", time.Hour), choose, note("end"))
	return v1, v2
}

func engine(pool *pgxpool.Pool, length time.Duration, versions int) (*workflow.Engine, []*workflow.Definition[Trial], error) {
	v1, v2 := trials(pool, length)
	cfg := workflow.Config{Lease: time.Second, Poll: 50 * time.Millisecond, FirstBackoff: 50 * time.Millisecond, MaxAttempts: 1000}
	if versions == 1 {
		eng, err := workflow.New(pool, cfg, v1)
		return eng, []*workflow.Definition[Trial]{v1}, err
	}
	eng, err := workflow.New(pool, cfg, v1, v2)
	return eng, []*workflow.Definition[Trial]{v1, v2}, err
}

// work runs an engine until ctx ends: of the first version, or of both.
func work(ctx context.Context, pool *pgxpool.Pool, length time.Duration, versions int) error {
	eng, _, err := engine(pool, length, versions)
	if err != nil {
		return err
	}
	return eng.Run(ctx)
}

const isCompleted = "SELECT count(*) = $1 FROM walbridge.workflow_instance WHERE status = 'completed'"

func story(ctx context.Context, p *play.Play) error {
	const length = 2 * time.Second
	eng, all, err := engine(p.Pool, length, 2)
	if err != nil {
		return err
	}
	if err := eng.Start(ctx, all[0], "anna", Trial{Address: "anna@example.com"}); err != nil {
		return err
	}
	old := func(ctx context.Context) error { return work(ctx, p.Pool, length, 1) }
	err = play.While(ctx, old, func(ctx context.Context) error {
		return p.Await(ctx, p.Pool, "SELECT count(*) = 1 FROM diary")
	})
	if err != nil {
		return err
	}
	p.Say("the program is stopped while the trial of anna sleeps; the next one has version 2 too")
	if err := eng.Start(ctx, all[1], "bert", Trial{Address: "bert@example.com"}); err != nil {
		return err
	}
	// before anything waits for it
	if err := eng.Signal(ctx, "trial", "bert", "plan", "yearly"); err != nil {
		return err
	}
	err = play.While(ctx, eng.Run, func(ctx context.Context) error { return p.Await(ctx, p.Pool, isCompleted, 2) })
	if err != nil {
		return err
	}
	for _, key := range []string{"anna", "bert"} {
		d, err := eng.Show(ctx, "trial", key)
		if err != nil {
			return err
		}
		p.Say("%s: version %d, %s, %s", key, d.Version, d.Status, d.State)
	}
	return nil
}
