package pause

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestFor(t *testing.T) {
	began := time.Now()
	require.NoError(t, For(t.Context(), 5*time.Millisecond))
	require.GreaterOrEqual(t, time.Since(began), 5*time.Millisecond)

	stopped := errors.New("stopped")
	ctx, cancel := context.WithCancelCause(t.Context())
	ended := make(chan error)
	go func() { ended <- For(ctx, time.Hour) }()
	cancel(stopped)
	require.ErrorIs(t, <-ended, stopped)
}
