package statusweb

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/walbridge/walbridge/internal/status"
)

// Limits of the listener. They are generous for people, scrapers and probes, and
// small against the bridge's memory.
const (
	maxConnections    = 64
	maxHeaderBytes    = 16 << 10
	readHeaderTimeout = 5 * time.Second
	readTimeout       = 10 * time.Second
	writeTimeout      = 30 * time.Second
	idleTimeout       = time.Minute
	stopWithin        = 2 * time.Second
)

// Config is what a Server shows and where.
type Config struct {
	// Listen is host:port; port 0 takes any free one.
	Listen string
	// Status returns the bridge at this moment. It is called for each request, by
	// several goroutines, and must return at once. Required.
	Status func() status.Status
	// Gatherer gives the metrics. nil: /metrics is not found.
	Gatherer prometheus.Gatherer
	// Alive returns why the process should be restarted, nil when it should not. It
	// must return at once. nil: it is alive as long as it answers.
	Alive func() error
	// Ready returns why the bridge is not ready, nil when it is. It must return at
	// once. nil: as Status says.
	Ready func() error
	// Pprof adds /debug/pprof.
	Pprof bool
	// Logger gets the server's own troubles. nil: none.
	Logger hclog.Logger
}

// Server is a listener and what it serves. Make one with Listen.
type Server struct {
	listener net.Listener
	http     *http.Server
}

// Listen opens the listener, so that its address is known before the first request
// is served. Run serves and closes it.
func Listen(ctx context.Context, c Config) (*Server, error) {
	if c.Logger == nil {
		c.Logger = hclog.NewNullLogger()
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, "tcp", c.Listen)
	if err != nil {
		return nil, fmt.Errorf("listen on %s: %w", c.Listen, err)
	}
	return &Server{
		listener: limit(l, maxConnections),
		http: &http.Server{
			Handler:           handler(c, isLoopback(l.Addr())),
			MaxHeaderBytes:    maxHeaderBytes,
			ReadHeaderTimeout: readHeaderTimeout,
			ReadTimeout:       readTimeout,
			WriteTimeout:      writeTimeout,
			IdleTimeout:       idleTimeout,
			ErrorLog:          c.Logger.StandardLogger(&hclog.StandardLoggerOptions{ForceLevel: hclog.Debug}),
		},
	}, nil
}

// Addr is where the server listens.
func (s *Server) Addr() net.Addr { return s.listener.Addr() }

// URL is the address of the page, for a browser on this machine.
func (s *Server) URL() string {
	host, port, err := net.SplitHostPort(s.Addr().String())
	if err != nil {
		return "http://" + s.Addr().String() + "/"
	}
	if ip := net.ParseIP(host); ip != nil && ip.IsUnspecified() {
		host = "localhost"
	}
	return "http://" + net.JoinHostPort(host, port) + "/"
}

// Run serves until ctx ends; requests under way then have two seconds. It returns
// nil on such an end.
func (s *Server) Run(ctx context.Context) error {
	served := make(chan error, 1)
	go func() { served <- s.http.Serve(s.listener) }()
	select {
	case err := <-served:
		return fmt.Errorf("serve the status page: %w", err)
	case <-ctx.Done():
	}
	stop, cancel := context.WithTimeout(context.WithoutCancel(ctx), stopWithin)
	defer cancel()
	if s.http.Shutdown(stop) != nil {
		_ = s.http.Close() // what is still under way is cut; nothing depends on it
	}
	if err := <-served; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve the status page: %w", err)
	}
	return nil
}

// Close closes a listener that Run was never called for.
func (s *Server) Close() error { return s.listener.Close() }

func isLoopback(a net.Addr) bool {
	tcp, ok := a.(*net.TCPAddr)
	return ok && tcp.IP.IsLoopback()
}
