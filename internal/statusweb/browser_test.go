package statusweb

import (
	"bytes"
	"context"
	"fmt"
	"image"
	_ "image/png" // for image.DecodeConfig
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"

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

// browser starts a headless chromium. Without one the test fails under CI and is
// skipped, saying so, elsewhere.
func browser(t *testing.T, more ...chromedp.ExecAllocatorOption) context.Context {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("chromium is needed: %v", err)
		}
		t.Skipf("chromium is not installed: %v", err)
	}
	options := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.UserDataDir(t.TempDir()), chromedp.Env("HOME="+t.TempDir()),
	)
	allocator, cancelAllocator := chromedp.NewExecAllocator(context.Background(), append(options, more...)...)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		closing, cancelClosing := context.WithTimeout(ctx, 10*time.Second)
		defer cancelClosing()
		require.NoError(t, chromedp.Cancel(closing)) // closes the browser and waits for it
		cancel()
		cancelAllocator()
	})
	require.NoError(t, chromedp.Do(ctx, chromedp.EmulateViewport(1120, 800)))
	return ctx
}

// eval runs a script of the test in the page; the page itself has none. It gives
// up after ten seconds.
func eval[T any](ctx context.Context, script string) (T, error) {
	bounded, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	return chromedp.Run(bounded, chromedp.Evaluate[T](script))
}

// open loads a page.
func open(t *testing.T, ctx context.Context, url string) {
	t.Helper()
	bounded, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	require.NoError(t, chromedp.Do(bounded, chromedp.Navigate(url)))
}

// text returns what an element shows, and nothing while the page is loading.
func text(ctx context.Context, selector string) string {
	got, err := eval[string](ctx, fmt.Sprintf(`document.querySelector(%q)?.innerText ?? ""`, selector))
	if err != nil {
		return ""
	}
	return got
}

// eventually asks until cond is true: the page loads itself anew meanwhile.
func eventually(t *testing.T, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); time.Now().Before(deadline); {
		if cond() {
			return
		}
	}
	t.Fatalf("not seen within 30 s: %s", what)
}

func TestPageInABrowser(t *testing.T) {
	bridge := &moving{}
	s := serve(t, Config{Status: bridge.status})
	ctx := browser(t)
	open(t, ctx, s.URL())
	require.Equal(t, "streaming", text(ctx, "#state"))
	first := text(ctx, "#received .lsn")
	require.NotEmpty(t, first)
	eventually(t, "the received position moves by itself", func() bool {
		now := text(ctx, "#received .lsn")
		return now != "" && now != first
	})
	bridge.halt()
	eventually(t, "the halt appears by itself", func() bool { return text(ctx, "#halt-title") != "" })
	require.Equal(t, "halted", text(ctx, "#state"))
	require.Equal(t, "walbridge recover --slot-ahead --resnapshot", text(ctx, "#halt .ways li:first-child .command"))
}

func TestPageFitsASmallScreenAndRunsNoScript(t *testing.T) {
	current, _ := hostile(0)
	s := serve(t, Config{Status: func() status.Status { return current }})
	ctx := browser(t)
	require.NoError(t, chromedp.Do(ctx, chromedp.EmulateViewport(360, 740)))
	open(t, ctx, s.URL()+"?refresh=off")
	for script, want := range map[string]any{
		`document.documentElement.scrollWidth <= 360`:                                    true, // nothing reaches over the right edge
		`document.scripts.length`:                                                        float64(0),
		`getComputedStyle(document.querySelector(".card")).borderTopStyle`:               "solid", // the policy lets the page's own style through
		`getComputedStyle(document.querySelector(".command")).userSelect`:                "all",
		`Array.from(document.querySelectorAll("section:not([aria-labelledby])")).length`: float64(0),
	} {
		got, err := eval[any](ctx, script)
		require.NoError(t, err, script)
		require.Equal(t, want, got, script)
	}
}

func TestPicturesOfThePage(t *testing.T) {
	dir := t.TempDir()
	if *update {
		dir = filepath.Join("..", "..", "docs", "img")
		require.NoError(t, os.MkdirAll(dir, 0o755))
	}
	dark := chromedp.Flag("blink-settings", "preferredColorScheme=0")
	for name, p := range map[string]struct {
		status func() status.Status
		width  int64
		more   []chromedp.ExecAllocatorOption
	}{
		"status-streaming.png":      {streaming, 1120, nil},
		"status-streaming-dark.png": {streaming, 1120, []chromedp.ExecAllocatorOption{dark}},
		"status-halted.png":         {halted, 1120, nil},
		"status-phone.png":          {backingOff, 390, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := serve(t, Config{Status: p.status})
			ctx := browser(t, p.more...)
			require.NoError(t, chromedp.Do(ctx, chromedp.EmulateViewport(p.width, 800)))
			open(t, ctx, s.URL()+"?refresh=off")
			picture, err := chromedp.Run(ctx, chromedp.FullScreenshot(100))
			require.NoError(t, err)
			_, format, err := image.DecodeConfig(bytes.NewReader(picture))
			require.NoError(t, err)
			require.Equal(t, "png", format)
			require.NoError(t, os.WriteFile(filepath.Join(dir, name), picture, 0o644))
		})
	}
}
