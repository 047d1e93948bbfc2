package stdout

import (
	"bytes"
	"context"
	"io"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/mapper"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/sinktest"
)

// one returns a batch of the sink with one item of that key.
func one(s *Sink, key string) sink.Batch {
	b := s.NewBatch()
	appendOne(b, key)
	return b
}

func appendOne(b sink.Batch, key string) {
	b.Append([]mapper.Item{{ID: lsn.ID{Commit: 0x10}, Kind: mapper.KindEvent, Stream: "orders", Key: []byte(key), Payload: sinktest.JSON(`{}`)}})
}

func to(end lsn.LSN) lsn.Progress {
	return lsn.Progress{SystemID: 1, Timeline: 1, Slot: "s", Phase: lsn.PhaseStreaming, Position: lsn.Position{End: end}}
}

func opened(t *testing.T, cfg Config, out io.Writer) *Sink {
	s := New(cfg, Options{Out: out})
	_, err := s.Open(t.Context(), sink.Source{Name: "shop"})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, s.Close(context.Background())) })
	return s
}

func stateIn(t *testing.T) Config {
	return Config{State: filepath.Join(t.TempDir(), "walbridge.state")}
}

// A reader that goes away ends the sink for good, with one error by which the
// program can tell.
func TestOutputClosed(t *testing.T) {
	r, w, err := os.Pipe()
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, w.Close()) })
	s := opened(t, stateIn(t), w)
	require.NoError(t, s.Write(t.Context(), one(s, "a"), to(0x20)))
	require.NoError(t, r.Close())
	select {
	case <-s.OutputClosed():
		t.Fatal("closed before anybody wrote")
	default:
	}
	err = s.Write(t.Context(), one(s, "b"), to(0x30))
	require.ErrorIs(t, err, ErrOutputClosed)
	require.ErrorIs(t, err, syscall.EPIPE)
	require.Contains(t, err.Error(), "output closed")
	<-s.OutputClosed()
	_, err = s.Open(t.Context(), sink.Source{Name: "shop"})
	require.ErrorIs(t, err, ErrOutputClosed)
}

// failing takes some bytes and then fails, if it says so.
type failing struct {
	bytes.Buffer
	takes int
	err   error
}

func (f *failing) Write(text []byte) (int, error) {
	n, err := f.Buffer.Write(text[:min(f.takes, len(text))])
	f.takes -= n
	if err == nil && n < len(text) {
		err = f.err
	}
	return n, err
}

// A write that was taken in part is an error, the position stays, and what comes
// next begins on a line of its own.
func TestShortWrite(t *testing.T) {
	for _, failure := range []error{nil, syscall.ENOSPC} {
		out := &failing{takes: 10, err: failure}
		s := opened(t, stateIn(t), out)
		b := one(s, "a")
		err := s.Write(t.Context(), b, to(0x20))
		require.Error(t, err)
		require.Equal(t, "output", fault.Reason(err), "transient")
		require.NotErrorIs(t, err, ErrOutputClosed)
		p, err := s.Open(t.Context(), sink.Source{Name: "shop"})
		require.NoError(t, err)
		require.Equal(t, lsn.PhaseNone, p.Phase)
		out.takes = 1000
		require.NoError(t, s.Write(t.Context(), b, to(0x20)))
		lines := strings.Split(out.String(), "\n")
		require.Len(t, lines, 3, "the cut line, the whole one, and nothing behind it")
		require.True(t, strings.HasPrefix(lines[1], lines[0]))
		require.Len(t, lines[0], 10)
	}
}

// A file whose last line a kill has cut is continued on a new line; one that ends
// well is continued at once.
func TestContinuesAFile(t *testing.T) {
	for before, between := range map[string]string{"": "", "{}\n": "", `{"id":"00`: "\n"} {
		path := filepath.Join(t.TempDir(), "out")
		require.NoError(t, os.WriteFile(path, []byte(before), 0o600))
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
		require.NoError(t, err)
		s := opened(t, stateIn(t), f)
		require.NoError(t, s.Write(t.Context(), one(s, "a"), to(0x20)))
		require.NoError(t, s.Write(t.Context(), one(s, "b"), to(0x30)))
		require.NoError(t, f.Close())
		text, err := os.ReadFile(path)
		require.NoError(t, err)
		require.True(t, strings.HasPrefix(string(text), before+between+`{"id":`), "%q", text)
		require.Equal(t, 2, strings.Count(string(text), `{"id":"0000`))
		require.NotContains(t, string(text), "\n\n")
	}
}

// gate is an output that stands still until it is opened.
type gate struct {
	bytes.Buffer
	reached, open chan struct{}
}

func (g *gate) Write(text []byte) (int, error) {
	close(g.reached)
	<-g.open
	return g.Buffer.Write(text)
}

// A batch may be used again although a write of it that was given up goes on.
func TestResetWhileAWriteGoesOn(t *testing.T) {
	for _, format := range []string{FormatJSON, FormatPretty} {
		cfg := stateIn(t)
		cfg.Format = format
		out := &gate{reached: make(chan struct{}), open: make(chan struct{})}
		s := opened(t, cfg, out)
		b := one(s, "first")
		ctx, cancel := context.WithCancel(t.Context())
		wrote := make(chan error, 1)
		go func() { wrote <- s.Write(ctx, b, to(0x20)) }()
		<-out.reached
		cancel()
		require.ErrorIs(t, <-wrote, context.Canceled)
		b.Reset()
		appendOne(b, "other")
		close(out.open)
		p, err := s.Open(t.Context(), sink.Source{Name: "shop"})
		require.NoError(t, err)
		require.Equal(t, to(0x20), p, "it went on to its end")
		require.Contains(t, out.String(), "first")
		require.NotContains(t, out.String(), "other")
	}
}

// Without a state file nothing is kept: every Open begins anew, there is nothing to
// own, and within one life positions rise all the same.
func TestWithoutState(t *testing.T) {
	var out bytes.Buffer
	a, b := opened(t, Config{}, &out), opened(t, Config{}, &out)
	require.NoError(t, a.Write(t.Context(), one(a, "a"), to(0x20)))
	require.Error(t, a.Write(t.Context(), one(a, "a"), to(0x20)))
	p, err := a.Open(t.Context(), sink.Source{Name: "shop"})
	require.NoError(t, err)
	require.Equal(t, lsn.Progress{}, p)
	require.NoError(t, a.Write(t.Context(), one(a, "a"), to(0x20)))
	require.NoError(t, b.Write(t.Context(), one(b, "b"), to(0x20)))
	lock, err := a.Lock(t.Context(), "shop", time.Second, func(string) { t.Error("nobody to wait for") })
	require.NoError(t, err)
	require.NoError(t, lock.Unlock(t.Context()))
}

// Whoever gives the lock up writes no more.
func TestUnlockedIsFenced(t *testing.T) {
	cfg := stateIn(t)
	s := New(cfg, Options{Out: io.Discard})
	lock, err := s.Lock(t.Context(), "shop", time.Second, nil)
	require.NoError(t, err)
	_, err = s.Open(t.Context(), sink.Source{Name: "shop"})
	require.NoError(t, err)
	require.NoError(t, s.Write(t.Context(), one(s, "a"), to(0x20)))
	require.NoError(t, lock.Unlock(t.Context()))
	require.ErrorIs(t, s.Write(t.Context(), one(s, "a"), to(0x30)), fault.ErrFenced)
	next := opened(t, cfg, io.Discard)
	require.NoError(t, next.Write(t.Context(), one(next, "a"), to(0x30)))
	require.NoError(t, s.Close(t.Context()))
}

func TestConfig(t *testing.T) {
	require.Equal(t, Config{State: "walbridge.state", Format: "json"}, Config{}.WithDefaults())
	own := Config{State: "s", Format: "pretty"}
	require.Equal(t, own, own.WithDefaults())
	require.Empty(t, own.Validate())
	require.Empty(t, Config{}.Validate())
	bad := Config{Format: "xml"}.Validate()
	require.Len(t, bad, 1)
	require.Equal(t, "sink.stdout.format", bad[0].Where)
}
