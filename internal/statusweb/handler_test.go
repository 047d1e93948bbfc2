package statusweb

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/status"
)

func configOf(f func() status.Status) Config {
	return Config{Status: f, Logger: hclog.NewNullLogger()}
}

// ask sends one request to a handler on a loopback listener.
func ask(t testing.TB, c Config, method, host, path string) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequest(method, path, nil)
	r.Host = host
	w := httptest.NewRecorder()
	handler(c, true).ServeHTTP(w, r)
	return w
}

func TestStatusIsTheWholeStatusAsJSON(t *testing.T) {
	w := ask(t, configOf(streaming), http.MethodGet, "localhost:8480", "/status")
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, "application/json; charset=utf-8", w.Header().Get("Content-Type"))
	var got status.Status
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &got))
	require.Equal(t, streaming(), got)
}

func TestStatusWithoutSamplesHasNullsAndEmptyLists(t *testing.T) {
	body := ask(t, configOf(starting), http.MethodGet, "localhost", "/status").Body.String()
	require.Contains(t, body, `"seconds": null`)
	require.Contains(t, body, `"lag_history": []`)
	require.Contains(t, body, `"warnings": []`)
	require.NotContains(t, body, `"slot": {`)
}

func TestAFigureThatIsNoNumberIsAnErrorOfStatusAndNotOfThePage(t *testing.T) {
	broken := func() status.Status {
		s := streaming()
		s.Rates.Changes, s.Lag.Seconds, s.Rates.Bytes = math.NaN(), ptr(math.NaN()), math.Inf(1)
		return s
	}
	require.Equal(t, http.StatusInternalServerError, ask(t, configOf(broken), http.MethodGet, "localhost", "/status").Code)
	require.Contains(t, ask(t, configOf(broken), http.MethodGet, "localhost", "/").Body.String(), noSample)
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	g := prometheus.NewGauge(prometheus.GaugeOpts{Name: "walbridge_test_bytes", Help: "A figure."})
	g.Set(42)
	registry.MustRegister(g)
	c := configOf(streaming)
	require.Equal(t, http.StatusNotFound, ask(t, c, http.MethodGet, "localhost", "/metrics").Code)
	c.Gatherer = registry
	w := ask(t, c, http.MethodGet, "localhost", "/metrics")
	require.Equal(t, http.StatusOK, w.Code)
	require.Contains(t, w.Body.String(), "walbridge_test_bytes 42")
}

func TestHealthAndReadiness(t *testing.T) {
	for name, c := range map[string]struct {
		config       Config
		path         string
		code         int
		body, reason string
	}{
		"alive":              {configOf(halted), "/healthz", 200, "alive\n", ""},
		"not alive":          {Config{Status: halted, Alive: func() error { return errors.New("the writer has not moved for 10 min") }}, "/healthz", 503, "not alive: the writer has not moved for 10 min\n", ""},
		"streaming is ready": {configOf(streaming), "/readyz", 200, "ready\n", ""},
		"starting is not":    {configOf(starting), "/readyz", 503, "not ready: starting: checking the source\n", ""},
		"halted is not": {
			configOf(halted), "/readyz", 503,
			"not ready: halted (slot-ahead): The slot is ahead of the destination: changes in between are gone from it.\n", "",
		},
		"backoff is not": {
			configOf(backingOff), "/readyz", 503,
			"not ready: backoff: connect to the work table: dial tcp 10.0.4.11:5432: connect: connection refused; next try in 12 s\n", "",
		},
		"as the function says": {Config{Status: streaming, Ready: func() error { return errors.New("public.orders is not published") }}, "/readyz", 503, "not ready: public.orders is not published\n", ""},
		"a bare state":         {configOf(func() status.Status { return status.Status{State: status.StateStopped} }), "/readyz", 503, "not ready: stopped\n", ""},
	} {
		t.Run(name, func(t *testing.T) {
			w := ask(t, c.config, http.MethodGet, "127.0.0.1:8480", c.path)
			require.Equal(t, c.code, w.Code)
			require.Equal(t, c.body, w.Body.String())
		})
	}
}

func TestNothingCanBeChanged(t *testing.T) {
	c := configOf(streaming)
	c.Pprof = true
	for _, path := range []string{"/", "/status", "/metrics", "/healthz", "/readyz", "/debug/pprof/", "/debug/pprof/symbol", "/nowhere"} {
		for _, method := range []string{"POST", "PUT", "PATCH", "DELETE", "OPTIONS", "CONNECT", "TRACE", "PURGE"} {
			w := ask(t, c, method, "localhost", path)
			require.Equal(t, http.StatusMethodNotAllowed, w.Code, "%s %s", method, path)
			require.Equal(t, "GET, HEAD", w.Header().Get("Allow"))
		}
		require.NotEqual(t, http.StatusMethodNotAllowed, ask(t, c, http.MethodHead, "localhost", path).Code, path)
	}
}

func TestEveryAnswerHasTheSecurityHeaders(t *testing.T) {
	for _, c := range []struct{ method, host, path string }{
		{"GET", "localhost", "/"}, {"GET", "localhost", "/status"}, {"GET", "localhost", "/nowhere"}, {"GET", "localhost", "/healthz"},
		{"POST", "localhost", "/"}, {"GET", "evil.example", "/"}, {"GET", "localhost", "/favicon.svg"},
	} {
		h := ask(t, configOf(streaming), c.method, c.host, c.path).Header()
		require.Contains(t, h.Get("Content-Security-Policy"), "default-src 'none'", c)
		require.NotContains(t, h.Get("Content-Security-Policy"), "unsafe-inline")
		require.Contains(t, h.Get("Content-Security-Policy"), "frame-ancestors 'none'")
		require.Equal(t, "nosniff", h.Get("X-Content-Type-Options"))
		require.Equal(t, "DENY", h.Get("X-Frame-Options"))
		require.Equal(t, "no-referrer", h.Get("Referrer-Policy"))
		require.Equal(t, "same-origin", h.Get("Cross-Origin-Resource-Policy"))
		require.Equal(t, "no-store", h.Get("Cache-Control"))
		require.Empty(t, h.Get("Access-Control-Allow-Origin"))
		require.Empty(t, h.Get("Set-Cookie"))
	}
}

func TestHostOfAnotherNameIsRefusedOnLoopback(t *testing.T) {
	for host, local := range map[string]bool{
		"localhost": true, "localhost:8480": true, "LOCALHOST.:8480": true, "shop.localhost": true, "127.0.0.1": true, "127.8.9.1:80": true, "[::1]:8480": true, "[::1]": true,
		"evil.example": false, "evil.example:8480": false, "localhost.evil.example": false, "127.0.0.1.evil.example": false, "10.0.0.1": false, "": false,
		"[::2]": false, "xlocalhost": false, "localhost:1:2": false,
	} {
		want := http.StatusMisdirectedRequest
		if local {
			want = http.StatusOK
		}
		require.Equal(t, want, ask(t, configOf(streaming), http.MethodGet, host, "/status").Code, "host %q", host)
	}
	r := httptest.NewRequest(http.MethodGet, "/status", nil)
	r.Host = "bridge.example"
	w := httptest.NewRecorder()
	handler(configOf(streaming), false).ServeHTTP(w, r)
	require.Equal(t, http.StatusOK, w.Code, "on another address the name is the operator's affair")
}

func TestPprofOnlyWhenAskedFor(t *testing.T) {
	c := configOf(streaming)
	require.Equal(t, http.StatusNotFound, ask(t, c, http.MethodGet, "localhost", "/debug/pprof/").Code)
	c.Pprof = true
	require.Equal(t, http.StatusOK, ask(t, c, http.MethodGet, "localhost", "/debug/pprof/").Code)
	require.Equal(t, http.StatusOK, ask(t, c, http.MethodGet, "localhost", "/debug/pprof/goroutine?debug=1").Code)
	require.Equal(t, http.StatusNotFound, ask(t, c, http.MethodGet, "localhost", "/debug/pprof/cmdline").Code, "arguments may hold a connection string")
	for _, seconds := range []string{"301", "-1", "NaN", "1e9", "x"} {
		require.Equal(t, http.StatusBadRequest, ask(t, c, http.MethodGet, "localhost", "/debug/pprof/profile?seconds="+seconds).Code, seconds)
	}
}

func TestUnknownPathsAreNotFound(t *testing.T) {
	for _, path := range []string{"/x", "/status/", "/metrics/x", "/index.html", "/style.css"} {
		require.Equal(t, http.StatusNotFound, ask(t, configOf(streaming), http.MethodGet, "localhost", path).Code, path)
	}
}

// hostile fills every text of a status with what a browser would run.
func hostile(i int) (status.Status, string) {
	bad := []string{
		`<script>alert(1)</script>`, `"><img src=x onerror=alert(1)>`, `' onmouseover='alert(1)`, `</style><script>alert(1)</script>`,
		`javascript:alert(1)`, "</title><script>alert(1)</script>", "{{.Bridge}}", "\x00\xff<b>",
	}[i]
	s := halted()
	s.Bridge, s.Version, s.Detail = bad, bad, bad
	s.Source = status.Source{DSN: bad, ServerVersion: bad, SystemID: bad, Slot: bad, Publication: bad, Timeline: 1}
	s.Sink = status.Sink{Kind: bad, Target: bad}
	s.LSN = status.Positions{Server: bad, Received: bad, Written: bad, Confirmed: bad, Reported: bad}
	s.Slot = &status.Slot{WALStatus: bad, ConfirmedFlush: bad, Restart: bad}
	s.Halt = &status.Halt{Rule: bad, What: bad, Why: bad, Error: bad, Facts: []fault.Fact{{Name: bad, Value: bad}}, Ways: []fault.Way{{Text: bad, Commands: []string{bad}}}}
	s.Consumers = &status.Consumers{
		Subscriptions: []status.Subscription{{Name: bad, Streams: []string{bad}, State: bad}}, Workflows: []status.Workflow{{Name: bad}},
	}
	s.Warnings = []fault.Problem{{Check: bad, Where: bad, What: bad, Why: bad, Fix: bad}}
	return s, bad
}

func TestWhatComesFromOutsideIsEscaped(t *testing.T) {
	plain := ask(t, configOf(halted), http.MethodGet, "localhost", "/").Body.String()
	for i := range 8 {
		s, bad := hostile(i)
		for _, state := range []string{status.StateHalted, bad} {
			s.State = state
			body := ask(t, configOf(func() status.Status { return s }), http.MethodGet, "localhost", "/").Body.String()
			require.NotContains(t, body, "<script", bad)
			require.NotContains(t, body, "<img", bad)
			require.NotContains(t, body, "<b>", bad)
			require.NotContains(t, body, ` onmouseover='`, bad)
			require.NotContains(t, body, "href=\"javascript:", bad)
			require.Equal(t, strings.Count(plain, "</style>"), strings.Count(body, "</style>"))
			require.Equal(t, strings.Count(plain, "</title>"), strings.Count(body, "</title>"))
		}
		body := ask(t, configOf(func() status.Status { return s }), http.MethodGet, "localhost", "/status").Body.String()
		require.NotContains(t, body, "<", "JSON that a browser took for HTML would still be harmless")
	}
}

func TestLongListsOfThePageAreCut(t *testing.T) {
	s := streaming()
	for i := range 500 {
		s.Warnings = append(s.Warnings, fault.Problem{Where: fmt.Sprintf("public.t%d", i), What: "has no key"})
	}
	body := ask(t, configOf(func() status.Status { return s }), http.MethodGet, "localhost", "/").Body.String()
	require.Equal(t, maxShown-1, strings.Count(body, "has no key"))
	require.Contains(t, body, "and 451 more")
	for i := range 60 {
		s.Consumers.Subscriptions = append(s.Consumers.Subscriptions, status.Subscription{Name: fmt.Sprintf("reader%d", i)})
		s.Consumers.Workflows = append(s.Consumers.Workflows, status.Workflow{Name: fmt.Sprintf("process%d", i)})
	}
	body = ask(t, configOf(func() status.Status { return s }), http.MethodGet, "localhost", "/").Body.String()
	require.Equal(t, maxShown-2, strings.Count(body, "<h3>reader"))
	require.Equal(t, maxShown-1, strings.Count(body, "<h3>process"))
	require.Contains(t, body, "and 12 more subscriptions")
	require.Contains(t, body, "and 11 more workflows")
}

func TestIconHasTheColourOfTheState(t *testing.T) {
	seen := map[string]bool{}
	for _, tone := range []string{"good", "busy", "bad", "idle"} {
		w := ask(t, configOf(streaming), http.MethodGet, "localhost", "/favicon.svg?tone="+tone)
		require.Equal(t, "image/svg+xml", w.Header().Get("Content-Type"))
		require.False(t, seen[w.Body.String()])
		seen[w.Body.String()] = true
	}
	unknown := ask(t, configOf(streaming), http.MethodGet, "localhost", "/favicon.svg?tone=%22/%3E%3Cscript%3E").Body.String()
	require.True(t, seen[unknown], "an unknown tone is drawn as idle")
}
