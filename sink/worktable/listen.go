package worktable

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/migrations"
)

// The side session also listens: somebody who waits for the bridge's position asks it
// by a notification to store where it is.

// listen waits in the session of a lock until a time, or until somebody wants the
// session. What the session hears meanwhile, and during its other uses, goes to heard.
func (s *side) listen(l *lock, until time.Time) {
	ctx, cancel := context.WithDeadline(context.Background(), until)
	defer cancel()
	select {
	case <-s.turn:
	case <-ctx.Done():
		return
	}
	defer func() { s.turn <- struct{}{} }()
	if s.held != l || !s.mayListen(cancel) {
		return
	}
	defer s.mayListen(nil)
	err := s.conn.PgConn().WaitForNotification(ctx)
	if err != nil && s.conn.IsClosed() {
		s.log.Debug("listening for those who wait for the position", "error", err)
		s.drop()
	}
}

// mayListen sets what ends a wait; false: somebody wants the session.
func (s *side) mayListen(interrupt func()) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if interrupt != nil && s.wanting > 0 {
		return false
	}
	s.interrupt = interrupt
	return true
}

// mark is the payload that means this bridge, and the name of the lock of those who
// wait for it.
func (s *side) mark() string { return migrations.Mark(s.cfg.Schema, s.bridge()) }

// heard is told of each notification, by whoever reads the session.
func (s *side) heard(_ *pgconn.PgConn, n *pgconn.Notification) {
	if n.Channel == migrations.MarkChannel && n.Payload == s.mark() {
		s.marked()
	}
}

// marked passes on that somebody waits for the position.
func (s *side) marked() {
	s.mu.Lock()
	told := s.onMark
	s.mu.Unlock()
	if told != nil {
		told()
	}
}

func (s *side) setOnMark(f func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.onMark = f
}
