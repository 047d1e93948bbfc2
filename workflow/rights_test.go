package workflow

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// documentedGrants is the block of the manual.
func documentedGrants(t *testing.T) string {
	t.Helper()
	text, err := os.ReadFile("../docs/worktable.md")
	require.NoError(t, err)
	_, block, found := strings.Cut(string(text), "<!-- engine grants -->\n```sql\n")
	require.True(t, found)
	block, _, found = strings.Cut(block, "```")
	require.True(t, found)
	return block
}

// The documented rights are enough for all that an engine and its operators do, and are
// no more than that.
func TestDocumentedRightsAreEnough(t *testing.T) {
	db := shared(t)
	db.Exec(t, "DO $$ BEGIN CREATE ROLE engine LOGIN; EXCEPTION WHEN duplicate_object THEN NULL; END $$; CREATE TABLE rights_effect (key text); GRANT INSERT ON rights_effect TO engine")
	db.Exec(t, documentedGrants(t))
	pool, err := pgxpool.New(t.Context(), db.DSNAs("engine", ""))
	require.NoError(t, err)
	t.Cleanup(pool.Close)
	writes := func(ctx context.Context, run *Run[order], tx pgx.Tx) error {
		_, err := tx.Exec(ctx, "INSERT INTO rights_effect VALUES ($1)", run.Key())
		return err
	}
	w := Define[order]("flow", 1, Tx("write", writes).Undo(writes), Activity("act", nothing), Sleep("nap", 20*time.Millisecond), Wait("go", time.Hour))
	broken := Define[order]("broken", 1, Tx("write", writes).Undo(func(context.Context, *Run[order], pgx.Tx) error { return Fail(context.Canceled) }), Wait("go", time.Hour))
	e, err := New(pool, quick(t), w, broken)
	require.NoError(t, err)
	runs(t, e)
	ctx := t.Context()
	for _, key := range []string{"done", "undone"} {
		require.NoError(t, e.Start(ctx, w, key, order{}))
		comesTo(t, e, "flow", key, Waiting)
	}
	require.NoError(t, e.Signal(ctx, "flow", "done", "go", nil))
	comesTo(t, e, "flow", "done", Completed)
	require.NoError(t, e.Cancel(ctx, "flow", "undone", "not wanted"))
	comesTo(t, e, "flow", "undone", Compensated)
	require.NoError(t, e.Start(ctx, broken, "stuck", order{}))
	comesTo(t, e, "broken", "stuck", Waiting)
	require.NoError(t, e.Cancel(ctx, "broken", "stuck", "not wanted"))
	comesTo(t, e, "broken", "stuck", Failed)
	require.NoError(t, e.Resume(ctx, "broken", "stuck"))
	pgtest.Eventually(t, within, func() bool {
		n, err := e.Prune(ctx, 0)
		require.NoError(t, err)
		return n == 0 && db.One(t, "SELECT count(*) FROM walbridge.workflow_instance") == "1"
	}, "what has finished is pruned")
	_, err = e.List(ctx, Filter{})
	require.NoError(t, err)
	for _, sql := range []string{"SELECT FROM walbridge.log", "SELECT FROM walbridge.operation", "DELETE FROM walbridge.workflow_signal", "SELECT walbridge.reset('x')", "UPDATE walbridge.schema_version SET version = 1"} {
		_, err := pool.Exec(ctx, sql)
		var pg *pgconn.PgError
		require.ErrorAs(t, err, &pg, sql)
		require.Equal(t, "42501", pg.Code, sql)
	}
}
