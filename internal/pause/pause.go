// Package pause waits for a time that a context may cut short.
package pause

import (
	"context"
	"time"
)

// For returns nil when d is over, or why ctx has ended (context.Cause) when it ends
// before.
func For(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}
