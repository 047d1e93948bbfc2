package worktable

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// A writer that waits for a lock gives up after tune.lockTimeout and tries again.
// While it waits, a watch asks through the side session who is in its way, and ends
// that session when it is a writer of ours that has stood still for longer than a
// write may take: a stopped process inside COPY holds the log for ever, and neither
// a timeout of the server nor pg_cancel_backend ends it. Never one that waits for a
// synchronous standby: ending it would make its commit visible though no standby
// has it.

// blocker is a session in the way.
type blocker struct {
	pid       int32
	app, role string
	age       float64 // of its transaction, in seconds
	wait      string
	ended     bool
}

func (b blocker) String() string {
	if b.pid == 0 {
		return "a prepared transaction (see pg_prepared_xacts)"
	}
	s := fmt.Sprintf("pid %d (application %q, role %q, in a transaction for %.0f s", b.pid, b.app, b.role, b.age)
	if b.wait != "" {
		s += ", waiting for " + b.wait
	}
	s += ")"
	if b.ended {
		s += ", ended: a writer that stands still"
	}
	return s
}

// names lists what is in the way, for people.
func names(all []blocker) string {
	if len(all) == 0 {
		return "unknown"
	}
	texts := make([]string, len(all))
	for i, b := range all {
		texts[i] = b.String()
	}
	return strings.Join(texts, "; ")
}

// blocked adds to an error what was in the way, when something was seen.
func blocked(err error, all []blocker) error {
	if len(all) == 0 {
		return err
	}
	return fmt.Errorf("%w; was blocked by %s", err, names(all))
}

// endBlockers lists who blocks a backend, and ends those that may be ended, in one
// statement, so that what was judged is what is ended. CASE evaluates its result
// only where the condition holds (manual, "Conditional Expressions").
const endBlockers = `
SELECT w.pid, coalesce(a.application_name, ''), coalesce(a.usename, ''),
       coalesce(extract(epoch FROM clock_timestamp() - a.xact_start), 0)::float8, coalesce(a.wait_event, ''),
       CASE WHEN a.usename = session_user AND starts_with(a.application_name, $2)
             AND a.xact_start < clock_timestamp() - make_interval(secs => $3) AND a.wait_event IS DISTINCT FROM 'SyncRep'
            THEN pg_terminate_backend(w.pid) ELSE false END
FROM unnest(pg_blocking_pids($1)) AS w (pid) LEFT JOIN pg_stat_activity a ON a.pid = w.pid`

// watch looks after a statement that may wait for a lock.
type watch struct {
	s   *Sink
	pid int32

	mu       sync.Mutex // guards what follows, and is held while looking
	timer    *time.Timer
	stopped  bool
	blockers []blocker
}

// watch begins to look, at two thirds of each lock timeout.
func (s *Sink) watch() *watch {
	w := &watch{s: s, pid: int32(s.conn.pg.PID())}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.timer = time.AfterFunc(w.pause(), w.look)
	return w
}

func (w *watch) pause() time.Duration { return w.s.tune.lockTimeout * 2 / 3 }

// look runs in a goroutine of the timer's.
func (w *watch) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.stopped {
		return
	}
	var found []blocker
	err := w.s.side.do(context.Background(), 2*time.Second, func(ctx context.Context, c *pgx.Conn) error {
		rows, err := c.Query(ctx, endBlockers, w.pid, appPrefix, w.s.cfg.WriteTimeout.Seconds())
		if err != nil {
			return err
		}
		found, err = pgx.CollectRows(rows, func(r pgx.CollectableRow) (b blocker, err error) {
			err = r.Scan(&b.pid, &b.app, &b.role, &b.age, &b.wait, &b.ended)
			return b, err
		})
		return err
	})
	if err != nil {
		w.s.log.Debug("asking who blocks the writer", "error", err)
	}
	if len(found) > 0 {
		w.blockers = found
	}
	w.timer.Reset(w.pause())
}

// stop ends the looking and returns who was in the way last.
func (w *watch) stop() []blocker {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopped = true
	w.timer.Stop()
	return w.blockers
}

// waiting says what the writer waits for; it tries again.
func (s *Sink) waiting(what string, blockers []blocker) {
	s.log.Warn("waiting for a lock in the sink; trying again", "lock", what, "held_by", names(blockers))
}
