package pipeline

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/mapper"
)

// pace is a stream of which only the pace matters.
type pace struct {
	frames
	behind bool
}

func (p pace) Behind() bool { return p.behind }

// In catch-up the writer leaves whole transactions to the chain for a while; else
// it may have them at once.
func TestWholeTransactionsWaitOnlyInCatchUp(t *testing.T) {
	now := time.Now()
	for behind, want := range map[bool]time.Time{true: now.Add(behindWait), false: {}} {
		h := newHandoff(countSink{}, 1<<20)
		m, err := newMetrics(nil, "shop", nil)
		require.NoError(t, err)
		p, err := h.get(t.Context())
		require.NoError(t, err)
		p.since = now
		p.batch.Append(make([]mapper.Item, 1))
		c := &chain{
			cfg: Config{Bridge: "shop"}.WithDefaults(), frames: pace{behind: behind}, handoff: h, decoder: decoder.New(decoder.Config{}),
			tally: newTally(m, &totals{}), now: func() time.Time { return now }, cur: p,
		}
		c.offer()
		require.Nil(t, c.cur)
		require.True(t, p.open)
		require.Equal(t, want, p.due, "behind: %v", behind)
	}
}
