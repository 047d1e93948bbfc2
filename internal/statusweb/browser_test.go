package statusweb

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/browsertest"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/status"
)

// moving is a bridge whose positions move with each look at it, until it halts.
type moving struct {
	mu     sync.Mutex // guards looks and halted
	looks  int
	halted bool
}

func (m *moving) status() status.Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.halted {
		return halted()
	}
	m.looks++
	s := streaming()
	s.LSN = positions(0x2A_7F01B6C0, 40<<10, 3<<20, 1<<20, 0)
	s.LSN.Received = positions(0x2A_7F01B6C0 + 0x1000*lsn.LSN(m.looks)).Server
	return s
}

func (m *moving) halt() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.halted = true
}

func TestPageInABrowser(t *testing.T) {
	bridge := &moving{}
	s := serve(t, Config{Status: bridge.status})
	p := browsertest.New(t)
	p.Open(s.URL())
	require.Equal(t, "streaming", p.Text("#state"))
	first := p.Text("#received .lsn")
	require.NotEmpty(t, first)
	p.Eventually("the received position moves by itself", func() bool {
		now := p.Text("#received .lsn")
		return now != "" && now != first
	})
	bridge.halt()
	p.Eventually("the halt appears by itself", func() bool { return p.Text("#halt-title") != "" })
	require.Equal(t, "halted", p.Text("#state"))
	require.Equal(t, "walbridge recover --slot-ahead --resnapshot", p.Text("#halt .ways li:first-child .command"))
}

func TestPageFitsASmallScreenAndRunsNoScript(t *testing.T) {
	current, _ := hostile(0)
	s := serve(t, Config{Status: func() status.Status { return current }})
	p := browsertest.New(t)
	p.Size(360, 740)
	p.Open(s.URL() + "?refresh=off")
	for script, want := range map[string]any{
		`document.documentElement.scrollWidth <= 360`:                                    true, // nothing reaches over the right edge
		`document.scripts.length`:                                                        float64(0),
		`getComputedStyle(document.querySelector(".card")).borderTopStyle`:               "solid", // the policy lets the page's own style through
		`getComputedStyle(document.querySelector(".command")).userSelect`:                "all",
		`Array.from(document.querySelectorAll("section:not([aria-labelledby])")).length`: float64(0),
	} {
		got, err := browsertest.Eval[any](p, script)
		require.NoError(t, err, script)
		require.Equal(t, want, got, script)
	}
}
