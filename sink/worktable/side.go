package worktable

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/migrations"
)

// sideTimeout bounds one use of the side session.
const sideTimeout = 10 * time.Second

// side is the session beside the writer's, made at its first use and again after
// it was lost. Safe for all goroutines; one uses it at a time.
type side struct {
	cfg    Config
	log    hclog.Logger
	bridge func() string

	turn chan struct{} // holds one token: whoever has it owns the rest
	conn *pgx.Conn
	held *lock // the lock that the session holds

	mu        sync.Mutex // guards the fields below
	wanting   int        // who waits for the turn
	interrupt func()     // ends a wait for notifications; nil: there is none
	onMark    func()     // see sink.Source; nil: nobody wants to know
}

func newSide(cfg Config, log hclog.Logger, bridge func() string) *side {
	s := &side{cfg: cfg, log: log, bridge: bridge, turn: make(chan struct{}, 1)}
	s.turn <- struct{}{}
	return s
}

// do gives the session to use, within the time. An error that ended the session
// ends the lock on the name with it.
func (s *side) do(ctx context.Context, within time.Duration, use func(context.Context, *pgx.Conn) error) error {
	return s.doFor(ctx, nil, within, use)
}

// doFor is do for the holder of a lock: without effect when it was lost. A nil lock
// is none.
func (s *side) doFor(ctx context.Context, l *lock, within time.Duration, use func(context.Context, *pgx.Conn) error) error {
	ctx, cancel := context.WithTimeoutCause(ctx, within, fmt.Errorf("no answer of the side session within %s", within))
	defer cancel()
	if err := s.take(ctx); err != nil {
		return err
	}
	defer func() { s.turn <- struct{}{} }()
	if l != nil && s.held != l {
		return nil
	}
	stale := s.conn != nil
	err := s.once(ctx, use)
	if err != nil && stale && s.conn == nil && l == nil && ctx.Err() == nil {
		err = s.once(ctx, use) // the session had ended before, which only its use shows
	}
	if err != nil && ctx.Err() != nil {
		return fmt.Errorf("%w: %w", context.Cause(ctx), redacted(err))
	}
	return err
}

// take waits for the turn, before anybody who only listens.
func (s *side) take(ctx context.Context) error {
	s.mu.Lock()
	s.wanting++
	if s.interrupt != nil {
		s.interrupt()
	}
	s.mu.Unlock()
	defer func() {
		s.mu.Lock()
		s.wanting--
		s.mu.Unlock()
	}()
	select {
	case <-s.turn:
		return nil
	case <-ctx.Done():
		return context.Cause(ctx)
	}
}

// once uses the session, and forgets it when that has ended it. What use does can be
// done twice.
func (s *side) once(ctx context.Context, use func(context.Context, *pgx.Conn) error) error {
	if err := s.connect(ctx); err != nil {
		return err
	}
	err := use(ctx, s.conn)
	if s.conn.IsClosed() {
		s.drop()
	}
	return err
}

// connect makes the session when there is none. Its commits need not be waited for:
// a notification is nothing durable, and a partition is in the WAL before any row
// that needs it.
func (s *side) connect(ctx context.Context) error {
	if s.conn != nil {
		return nil
	}
	cfg, err := s.cfg.parse(appName(s.bridge(), "side"))
	if err != nil {
		return err
	}
	cfg.OnNotification = s.heard
	conn, err := pgx.ConnectConfig(ctx, cfg)
	if err != nil {
		return connectError(err)
	}
	_, err = conn.Exec(ctx, "SET synchronous_commit = off; SET lock_timeout = '1s'; SET statement_timeout = 0; SET idle_session_timeout = 0; LISTEN "+migrations.MarkChannel,
		pgx.QueryExecModeSimpleProtocol)
	if err != nil {
		closeConn(conn)
		return fmt.Errorf("prepare the side session: %w", err)
	}
	s.conn = conn
	return nil
}

// drop forgets a session that has ended.
func (s *side) drop() {
	if s.conn == nil {
		return
	}
	if s.held != nil {
		close(s.held.lost) // at once: another process may be about to take the name
		s.held = nil
	}
	closeConn(s.conn)
	s.conn = nil
}

// close ends the session; do may make another.
func (s *side) close() {
	_ = s.take(context.Background()) // it has no end
	held := s.held
	s.drop()
	s.turn <- struct{}{}
	if held != nil {
		held.beating.Wait()
	}
}

func closeConn(c *pgx.Conn) {
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	_ = c.Close(ctx) // the session ends either way
	_ = c.PgConn().Conn().Close()
	<-c.PgConn().CleanupDone()
}
