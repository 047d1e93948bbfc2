package worktable

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// HasReaders reports whether there is a subscription, or a workflow under way. It asks
// over the side session, so an idle bridge needs no other to know that nobody reads.
// For any goroutine, after the first Lock or Open.
func (s *Sink) HasReaders(ctx context.Context) (bool, error) {
	var any bool
	err := s.side.do(ctx, sideTimeout, func(ctx context.Context, c *pgx.Conn) error {
		return c.QueryRow(ctx, fmt.Sprintf(`SELECT EXISTS (SELECT FROM %[1]s.subscription)
			OR EXISTS (SELECT FROM %[1]s.workflow_instance WHERE available_at IS NOT NULL)
			OR EXISTS (SELECT FROM %[1]s.workflow_instance WHERE status IN ('failed', 'halted'))`, s.sql.schema)).Scan(&any)
	})
	if err != nil {
		return false, fmt.Errorf("look for readers of the work table: %w", err)
	}
	return any, nil
}
