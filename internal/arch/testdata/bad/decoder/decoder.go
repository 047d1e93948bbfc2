// Package decoder breaks the rules of a pure package.
package decoder

import (
	"context"
	clock "time"
)

func now(ctx context.Context) clock.Time {
	go func() { <-ctx.Done() }()
	return clock.Now()
}
