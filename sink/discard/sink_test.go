package discard

import (
	"errors"
	"path/filepath"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/jsonline"
	"github.com/walbridge/walbridge/sink/sinktest"
	"github.com/walbridge/walbridge/sink/statefile"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// hooks run at the steps of one instance, once.
type hooks struct {
	mu sync.Mutex
	at map[string]func() error
}

func (h *hooks) set(step string, do func() error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.at[step] = do
}

func (h *hooks) step(step statefile.Step) error {
	h.mu.Lock()
	do := h.at[string(step)]
	delete(h.at, string(step))
	h.mu.Unlock()
	if do == nil {
		return nil
	}
	return do()
}

// harness: the sink keeps no items, so only what concerns positions, owners and
// batches is checked.
func harness() sinktest.Harness {
	steps := []string{string(statefile.StepWrite), string(statefile.StepSync), string(statefile.StepRename), string(statefile.StepSettle)}
	return sinktest.Harness{Promises: sinktest.Promises{Exclusive: true}, CrashStages: steps, New: newDestination}
}

func newDestination(t testing.TB) sinktest.Destination {
	state := filepath.Join(t.TempDir(), "walbridge.state")
	of := map[sink.Sink]*hooks{}
	return sinktest.Destination{
		Sink: func(t testing.TB) sink.Sink {
			h := &hooks{at: map[string]func() error{}}
			s, err := New(Config{State: state}, Options{At: h.step})
			require.NoError(t, err)
			of[s] = h
			return s
		},
		Crash: func(_ testing.TB, s sink.Sink, stage string) {
			of[s].set(stage, func() error { return errors.New("killed") })
		},
	}
}

func TestConformance(t *testing.T) { sinktest.Run(t, harness()) }

// What was written is counted, in the form that was asked for; what failed is not.
func TestCounts(t *testing.T) {
	items := []mapper.Item{{ID: lsn.ID{Commit: 1}, Kind: mapper.KindEvent, Stream: "s", Payload: sinktest.JSON(`{}`)}}
	made := 0
	worktable := func() sink.Batch { made++; return &jsonline.Batch{} }
	s, err := New(Config{Form: FormWorktable}, Options{Worktable: worktable})
	require.NoError(t, err)
	_, err = s.Open(t.Context(), sink.Source{Name: "shop"})
	require.NoError(t, err)
	b := s.NewBatch()
	require.Equal(t, 1, made)
	b.Append(items)
	to := lsn.Progress{Phase: lsn.PhaseStreaming, Position: lsn.Position{End: 10}}
	require.NoError(t, s.Write(t.Context(), b, to))
	require.Error(t, s.Write(t.Context(), b, to))
	require.Equal(t, int64(1), s.Items())
	require.Equal(t, int64(b.Bytes()), s.Bytes())
	require.NoError(t, s.Close(t.Context()))
}

func TestConfig(t *testing.T) {
	require.Equal(t, Config{Form: "json", State: "walbridge.state"}, Config{}.WithDefaults())
	own := Config{Form: "worktable", State: "s"}
	require.Equal(t, own, own.WithDefaults())
	require.Empty(t, own.Validate())
	require.Empty(t, Config{}.Validate())
	bad := Config{Form: "row"}.Validate()
	require.Len(t, bad, 1)
	require.Equal(t, "sink.discard.form", bad[0].Where)
	_, err := New(own, Options{})
	require.ErrorContains(t, err, "encoder")
}
