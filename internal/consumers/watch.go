package consumers

import (
	"context"
	"errors"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/internal/status"
)

// WatchConfig is what a Watcher needs.
type WatchConfig struct {
	Connect func(context.Context) (*pgx.Conn, error)
	// Any says whether there is anything to look at. While there is not, no session is
	// kept.
	Any    func(context.Context) (bool, error)
	Schema string
	Bridge string      // the label of the metrics
	Active func() bool // false: nothing is read, and nothing known
	Log    hclog.Logger
}

const (
	watchEvery  = 5 * time.Second
	watchBudget = time.Second     // of one look; a statement may take half of it more
	watchWithin = 4 * time.Second // after which a look is given up, with its session
	watchRetry  = time.Minute     // after an error
	staleAfter  = 30 * time.Second
)

// Watcher keeps looking at the consumers of a work table. While there are any it has a
// session of its own that does nothing else, so that it is in nobody's way. What it does not know is
// absent: after an error, of missing rights too, until a look succeeds.
type Watcher struct {
	cfg    WatchConfig
	latest atomic.Pointer[seen]
	said   bool // an error was logged, and no look has succeeded since
}

// seen is a look, with the time of it on this machine's clock.
type seen struct {
	status.Consumers
	read time.Time
}

// NewWatcher makes a watcher. Run starts it.
func NewWatcher(cfg WatchConfig) *Watcher { return &Watcher{cfg: cfg} }

// Latest returns what was last seen, nil when that is nothing or too old. Safe for
// any goroutine. The value is shared: it must not be changed.
func (w *Watcher) Latest() *status.Consumers {
	s := w.latest.Load()
	if s == nil || time.Since(s.read) > staleAfter || !w.cfg.Active() {
		return nil
	}
	return &s.Consumers
}

// Run looks until ctx ends.
func (w *Watcher) Run(ctx context.Context) {
	next := time.NewTimer(0)
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
		}
		if !w.cfg.Active() {
			next.Reset(watchEvery)
			continue
		}
		err := w.round(ctx)
		if ctx.Err() != nil {
			return
		}
		if err != nil {
			w.tell(err)
			next.Reset(watchRetry)
			continue
		}
		next.Reset(watchEvery)
	}
}

// tell logs the first of a row of errors, and how to cure it where that is known.
func (w *Watcher) tell(err error) {
	if w.said {
		w.cfg.Log.Debug("subscriptions cannot be looked at; they stay absent", "error", err)
		return
	}
	w.said = true
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "42501" { // insufficient_privilege
		w.cfg.Log.Info("subscriptions are not shown: the role lacks rights, which walbridge doctor names", "error", err)
		return
	}
	w.cfg.Log.Info("subscriptions cannot be looked at; trying again, and they stay absent until then", "error", err)
}

// round looks whether there is anybody, and while there is, at them.
func (w *Watcher) round(ctx context.Context) error {
	any, err := w.cfg.Any(ctx)
	if err != nil {
		return err
	}
	if any {
		return w.session(ctx)
	}
	now := time.Now()
	w.latest.Store(&seen{status.Consumers{At: now}, now})
	w.said = false
	return nil
}

// session looks again and again over one connection, until it fails, nobody is there
// any more, or the bridge is no longer the one that is active.
func (w *Watcher) session(ctx context.Context) error {
	conn, err := w.connect(ctx)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	board, err := New(ctx, conn, w.cfg.Schema, "watch")
	if err != nil {
		return err
	}
	tick := time.NewTicker(watchEvery)
	defer tick.Stop()
	for w.cfg.Active() {
		any, err := w.look(ctx, board)
		if err != nil || !any {
			return err
		}
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
		}
	}
	return nil
}

func (w *Watcher) connect(ctx context.Context) (*pgx.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, watchWithin)
	defer cancel()
	conn, err := w.cfg.Connect(ctx)
	if err != nil {
		return nil, err
	}
	_, err = conn.Exec(ctx, "SET statement_timeout = '500ms'; SET lock_timeout = '100ms'; SET idle_session_timeout = 0; SET default_transaction_read_only = on",
		pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		closeConn(conn)
		return nil, err
	}
	return conn, nil
}

// look reports whether there was anybody.
func (w *Watcher) look(ctx context.Context, board *Board) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, watchWithin)
	defer cancel()
	all, err := board.All(ctx, watchBudget)
	if err != nil {
		return false, err
	}
	w.latest.Store(&seen{all, time.Now()})
	w.said = false
	return len(all.Subscriptions)+len(all.Workflows) > 0, nil
}

// closeConn ends a session, politely for a moment.
func closeConn(conn *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	_ = conn.Close(ctx) // it ends either way
}
