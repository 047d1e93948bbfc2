// Package browsertest shows pages to a real browser, headless chromium, in tests.
//
// It runs scripts of the tests in a page, never of the page's own; what it shows
// are pages of servers on this machine.
package browsertest

import (
	"bytes"
	"context"
	"fmt"
	"image"
	_ "image/png" // for image.DecodeConfig
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/chromedp/chromedp"
	"github.com/stretchr/testify/require"
)

const (
	loadWithin   = 30 * time.Second
	scriptWithin = 10 * time.Second
)

// Page is a browser with one page. It is for one goroutine.
type Page struct {
	t   testing.TB
	ctx context.Context
}

// Option changes how the browser is started.
type Option = chromedp.ExecAllocatorOption

// Dark is the setting of who prefers dark pages.
func Dark() Option { return chromedp.Flag("blink-settings", "preferredColorScheme=0") }

// New starts a browser, which ends with the test. Without chromium the test fails
// under CI and is skipped, saying so, elsewhere.
func New(t testing.TB, options ...Option) *Page {
	t.Helper()
	path, err := exec.LookPath("chromium")
	if err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("chromium is needed: %v", err)
		}
		t.Skipf("chromium is not installed: %v", err)
	}
	all := append(chromedp.DefaultExecAllocatorOptions[:],
		chromedp.ExecPath(path), chromedp.NoSandbox, chromedp.DisableGPU, chromedp.NoFirstRun,
		chromedp.Flag("disable-background-networking", true), chromedp.Flag("disable-component-update", true), chromedp.Flag("disable-sync", true),
		chromedp.UserDataDir(t.TempDir()), chromedp.Env("HOME="+t.TempDir()),
	)
	allocator, cancelAllocator := chromedp.NewExecAllocator(context.Background(), append(all, options...)...)
	ctx, cancel := chromedp.NewContext(allocator)
	t.Cleanup(func() {
		closing, cancelClosing := context.WithTimeout(ctx, scriptWithin)
		defer cancelClosing()
		require.NoError(t, chromedp.Cancel(closing)) // closes the browser and waits for it
		cancel()
		cancelAllocator()
	})
	p := &Page{t: t, ctx: ctx}
	p.Size(1120, 800)
	return p
}

// Size sets the size of the window, in pixels.
func (p *Page) Size(width, height int64) {
	p.t.Helper()
	require.NoError(p.t, chromedp.Do(p.ctx, chromedp.EmulateViewport(width, height)))
}

// Open loads a page.
func (p *Page) Open(url string) {
	p.t.Helper()
	bounded, cancel := context.WithTimeout(p.ctx, loadWithin)
	defer cancel()
	require.NoError(p.t, chromedp.Do(bounded, chromedp.Navigate(url)))
}

// Eval runs a script in the page. It gives up after ten seconds.
func Eval[T any](p *Page, script string) (T, error) {
	bounded, cancel := context.WithTimeout(p.ctx, scriptWithin)
	defer cancel()
	return chromedp.Run(bounded, chromedp.Evaluate[T](script))
}

// Text returns what an element shows, and nothing without one or while the page is
// loading.
func (p *Page) Text(selector string) string {
	got, err := Eval[string](p, fmt.Sprintf(`document.querySelector(%q)?.innerText ?? ""`, selector))
	if err != nil {
		return ""
	}
	return got
}

// Eventually asks until cond is true, for half a minute: a page may load itself
// anew meanwhile. Each question to the browser takes its time, so that it is no
// busy loop.
func (p *Page) Eventually(what string, cond func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(loadWithin); time.Now().Before(deadline); {
		if cond() {
			return
		}
	}
	p.t.Fatalf("not seen within %v: %s", loadWithin, what)
}

// Picture returns the whole page as a PNG.
func (p *Page) Picture() []byte {
	p.t.Helper()
	picture, err := chromedp.Run(p.ctx, chromedp.FullScreenshot(100))
	require.NoError(p.t, err)
	_, format, err := image.DecodeConfig(bytes.NewReader(picture))
	require.NoError(p.t, err)
	require.Equal(p.t, "png", format)
	return picture
}
