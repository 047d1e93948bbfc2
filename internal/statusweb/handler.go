package statusweb

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/http/pprof"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/status"
)

// handler serves the routes of c. local: the listener is on a loopback address.
func handler(c Config, local bool) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/{$}", servePage(c))
	mux.HandleFunc("/favicon.svg", serveIcon)
	mux.HandleFunc("/status", serveStatus(c))
	mux.HandleFunc("/healthz", serveCheck(c.Alive, "alive"))
	mux.HandleFunc("/readyz", serveCheck(readiness(c), "ready"))
	if c.Gatherer != nil {
		mux.Handle("/metrics", promhttp.HandlerFor(c.Gatherer, promhttp.HandlerOpts{
			MaxRequestsInFlight: 4, Timeout: 10 * time.Second, EnableOpenMetrics: true,
		}))
	}
	if c.Pprof {
		addPprof(mux)
	}
	return guard(mux, local)
}

// guard refuses what no route wants and sets the headers that all answers carry.
func guard(next http.Handler, local bool) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		secure(w.Header())
		switch {
		case r.Method != http.MethodGet && r.Method != http.MethodHead:
			w.Header().Set("Allow", "GET, HEAD")
			http.Error(w, "only GET and HEAD: nothing can be changed here", http.StatusMethodNotAllowed)
		case local && !isLocalName(r.Host):
			http.Error(w, "this listener is on a loopback address and answers only to localhost; a proxy in front of it must pass that as the host",
				http.StatusMisdirectedRequest)
		default:
			next.ServeHTTP(w, r)
		}
	})
}

// secure sets headers that let a browser do nothing with an answer but show it.
func secure(h http.Header) {
	h.Set("Content-Security-Policy", "default-src 'none'; style-src "+styleHash+"; img-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cache-Control", "no-store")
}

// isLocalName reports whether a Host header names this machine as only it itself
// can: localhost, a name below it (RFC 6761 6.3), or a loopback address.
func isLocalName(host string) bool {
	if h, _, err := net.SplitHostPort(host); err == nil {
		host = h
	}
	host = strings.TrimSuffix(strings.ToLower(host), ".")
	if host == "localhost" || strings.HasSuffix(host, ".localhost") {
		return true
	}
	ip := net.ParseIP(strings.Trim(host, "[]"))
	return ip != nil && ip.IsLoopback()
}

func serveStatus(c Config) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		body, err := json.MarshalIndent(withLists(c.Status()), "", "  ")
		if err != nil {
			c.Logger.Error("write status as JSON; answering 500", "error", err)
			http.Error(w, "the status cannot be written as JSON", http.StatusInternalServerError)
			return
		}
		w.Header().Set("Content-Type", "application/json; charset=utf-8")
		_, _ = w.Write(append(body, '\n')) // the client has gone
	}
}

// withLists makes empty lists of absent ones: scripts need not tell null from [].
func withLists(s status.Status) status.Status {
	if s.Lags == nil {
		s.Lags = []status.LagSample{}
	}
	if s.Warnings == nil {
		s.Warnings = []fault.Problem{}
	}
	return s
}

// readiness returns c.Ready, or what the status says.
func readiness(c Config) func() error {
	if c.Ready != nil {
		return c.Ready
	}
	return func() error {
		s := c.Status()
		if s.Ready {
			return nil
		}
		return errors.New(whyNotReady(s))
	}
}

func whyNotReady(s status.Status) string {
	switch {
	case s.Halt != nil:
		return fmt.Sprintf("%s (%s): %s", s.State, s.Halt.Rule, s.Halt.What)
	case s.Detail != "":
		return s.State + ": " + s.Detail
	}
	return s.State
}

// serveCheck answers 200 with the word for yes, or 503 with the reason.
func serveCheck(check func() error, yes string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "text/plain; charset=utf-8")
		if check != nil {
			if err := check(); err != nil {
				w.WriteHeader(http.StatusServiceUnavailable)
				fmt.Fprintln(w, "not "+yes+": "+err.Error())
				return
			}
		}
		fmt.Fprintln(w, yes)
	}
}

// addPprof adds the profiles under their usual paths, but the command line, which
// may hold a connection string.
func addPprof(mux *http.ServeMux) {
	mux.HandleFunc("/debug/pprof/", pprof.Index)
	mux.HandleFunc("/debug/pprof/symbol", pprof.Symbol)
	mux.HandleFunc("/debug/pprof/profile", bounded(pprof.Profile))
	mux.HandleFunc("/debug/pprof/trace", bounded(pprof.Trace))
}

// bounded refuses profiles longer than five minutes: they cost the bridge time.
func bounded(next http.HandlerFunc) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		const most = 300
		if s := r.FormValue("seconds"); s != "" {
			if n, err := strconv.ParseFloat(s, 64); err != nil || !(n >= 0 && n <= most) {
				http.Error(w, fmt.Sprintf("seconds is a number from 0 to %d", most), http.StatusBadRequest)
				return
			}
		}
		next(w, r)
	}
}
