package workflow

import (
	"context"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/stretchr/testify/require"
)

// An instance that was taken over while a step was in its function belongs to the new
// owner, who still has it: what the step did is rolled back, though its lease runs by
// this process's clock.
func TestNewOwnerFencesTheStepInHand(t *testing.T) {
	db := shared(t)
	db.Exec(t, "CREATE TABLE fenced_effect (call int)")
	calls := 0 // one engine, one instance: never at once
	inside, goOn := make(chan struct{}), make(chan struct{})
	w := Define[order]("fenced", 1, Tx("one", func(ctx context.Context, _ *Run[order], tx pgx.Tx) error {
		calls++
		if _, err := tx.Exec(ctx, "INSERT INTO fenced_effect VALUES ($1)", calls); err != nil {
			return err
		}
		if calls == 1 {
			close(inside)
			<-goOn
		}
		return nil
	}))
	cfg := quick(t)
	cfg.Lease = time.Minute // no heartbeat tells of the loss meanwhile
	e := engine(t, db, cfg, w)
	runs(t, e)
	require.NoError(t, e.Start(t.Context(), w, "a", order{}))
	<-inside
	db.Exec(t, `UPDATE walbridge.workflow_instance SET lease_generation = lease_generation + 1, owner = 'another',
		available_at = clock_timestamp() + interval '1 s' WHERE key = 'a'`)
	close(goOn)
	comesTo(t, e, "fenced", "a", Completed)
	require.Equal(t, [][]string{{"2"}}, db.Query(t, "SELECT call::text FROM fenced_effect"))
}
