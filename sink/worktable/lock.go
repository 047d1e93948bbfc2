package worktable

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pause"
	"github.com/walbridge/walbridge/migrations"
	"github.com/walbridge/walbridge/sink"
)

const (
	lockPoll    = 250 * time.Millisecond // between two tries
	tellEvery   = time.Second            // between two calls of waiting
	maxBeat     = time.Second            // between two signs of life
	minBeat     = 10 * time.Millisecond
	beatsMissed = 5 // beats in takeoverAfter
)

// lock is the ownership of a bridge's name: a session advisory lock of the side
// session. Nothing is written for it: the sign of life is that the session does
// something every few seconds, which pg_stat_activity shows to others.
type lock struct {
	side    *side
	key     int64
	lost    chan struct{} // closed by side when the session has ended
	stop    func()        // ends the signs of life
	beating sync.WaitGroup
}

// lockKey is the advisory lock of a name in a schema. Locks with one key of 64
// bits are apart from those with two of 32.
func lockKey(schema, name string) int64 {
	sum := sha256.Sum256([]byte("walbridge owner\x00" + schema + "\x00" + name))
	return int64(binary.BigEndian.Uint64(sum[:8]))
}

// Lock waits until this process owns the name. An owner whose lock session has
// done nothing for takeoverAfter loses it: the session is ended, when it is one of
// ours and of our role. Waiting holds no snapshot.
func (s *Sink) Lock(ctx context.Context, name string, takeoverAfter time.Duration, waiting func(owner string)) (sink.Lock, error) {
	s.name.Store(&name)
	told := time.Time{}
	for {
		l, owner, err := s.tryLock(ctx, lockKey(s.cfg.Schema, name), takeoverAfter)
		if err != nil {
			return nil, operationError(ctx, "lock the name "+name, err)
		}
		if l != nil {
			s.forget.Store(true)
			return l, nil
		}
		if now := time.Now(); waiting != nil && now.Sub(told) >= tellEvery {
			told = now
			waiting(owner)
		}
		if err := pause.For(ctx, min(lockPoll, takeoverAfter/beatsMissed+minBeat)); err != nil {
			return nil, fmt.Errorf("wait for the lock on the name %s: %w", name, err)
		}
	}
}

// tryLock returns the lock, or who holds it.
func (s *Sink) tryLock(ctx context.Context, key int64, takeoverAfter time.Duration) (l *lock, owner string, err error) {
	err = s.side.do(ctx, sideTimeout, func(ctx context.Context, c *pgx.Conn) error {
		if s.side.held != nil {
			return errors.New("this process holds a lock already")
		}
		var got bool
		if err := c.QueryRow(ctx, "SELECT pg_try_advisory_lock($1)", key).Scan(&got); err != nil {
			return err
		}
		if !got {
			owner, err = holder(ctx, c, key, takeoverAfter)
			return err
		}
		l = &lock{side: s.side, key: key, lost: make(chan struct{})}
		s.side.held = l
		return nil
	})
	if err != nil || l == nil {
		return nil, owner, err
	}
	l.start(takeoverAfter)
	return l, "", nil
}

// findHolder names the session that holds the lock, and ends it when it has shown
// no sign of life. state_change is when its last statement began or ended; what
// this role may not see is NULL, and then nothing is ended.
const findHolder = `
SELECT a.pid, coalesce(a.application_name, '?'), coalesce(host(a.client_addr), 'a local socket'),
       coalesce(extract(epoch FROM clock_timestamp() - a.state_change), -1)::float8,
       CASE WHEN a.usename = session_user AND starts_with(a.application_name, $3)
             AND a.state_change < clock_timestamp() - make_interval(secs => $4)
            THEN pg_terminate_backend(a.pid) ELSE false END
FROM pg_locks l JOIN pg_stat_activity a ON a.pid = l.pid
WHERE l.locktype = 'advisory' AND l.granted AND l.objsubid = 1 AND l.classid = $1::bigint::oid AND l.objid = $2::bigint::oid
  AND l.database = (SELECT oid FROM pg_database WHERE datname = current_database())`

// holder returns who has the lock, for people.
func holder(ctx context.Context, c *pgx.Conn, key int64, takeoverAfter time.Duration) (string, error) {
	var pid int32
	var app, from string
	var silent float64
	var ended bool
	err := c.QueryRow(ctx, findHolder, int64(uint64(key)>>32), int64(uint32(key)), appPrefix, takeoverAfter.Seconds()).
		Scan(&pid, &app, &from, &silent, &ended)
	if errors.Is(err, pgx.ErrNoRows) {
		return "nobody any more", nil
	}
	if err != nil {
		return "", err
	}
	who := fmt.Sprintf("%s, pid %d from %s", app, pid, from)
	switch {
	case ended:
		return who + ", silent and ended", nil
	case silent < 0:
		return who + ", whose signs of life this role may not see", nil
	}
	return fmt.Sprintf("%s, last sign of life %.0f s ago", who, silent), nil
}

// start begins the signs of life. A beat that gets no answer gives the lock up
// before another process may take it.
func (l *lock) start(takeoverAfter time.Duration) {
	every := max(min(takeoverAfter/beatsMissed, maxBeat), minBeat)
	stop := make(chan struct{})
	l.stop = sync.OnceFunc(func() { close(stop) })
	l.beating.Go(func() {
		next := time.Now().Add(every)
		for {
			select {
			case <-stop:
				return
			case <-l.lost:
				return
			default:
			}
			if time.Now().Before(next) {
				l.side.listen(l, next)
				continue
			}
			l.beat(takeoverAfter / 2)
			next = time.Now().Add(every)
		}
	})
}

// askWaiters says whether somebody waits for a source's position: who does has the
// lock, shared.
const askWaiters = `
SELECT CASE WHEN pg_try_advisory_lock($1, hashtext($2)) THEN NOT pg_advisory_unlock($1, hashtext($2)) ELSE true END`

// beat shows a sign of life, and looks for those who wait inside a transaction, where
// they cannot notify.
func (l *lock) beat(within time.Duration) {
	var waiting bool
	err := l.side.doFor(context.Background(), l, within, func(ctx context.Context, c *pgx.Conn) error {
		return c.QueryRow(ctx, askWaiters, migrations.LockWait, l.side.mark()).Scan(&waiting)
	})
	if err != nil {
		l.side.log.Debug("sign of life of the lock on the bridge's name", "error", err)
	}
	if waiting {
		l.side.marked()
	}
}

// Lost is closed when the session that holds the lock has ended.
func (l *lock) Lost() <-chan struct{} { return l.lost }

// Unlock lets go of the name.
func (l *lock) Unlock(ctx context.Context) error {
	l.stop()
	err := l.side.doFor(ctx, l, sideTimeout, func(ctx context.Context, c *pgx.Conn) error {
		l.side.held = nil
		_, err := c.Exec(ctx, "SELECT pg_advisory_unlock($1)", l.key)
		return err
	})
	l.beating.Wait()
	if err != nil {
		return fault.Transient("sink_lock", fmt.Errorf("unlock: %w", err))
	}
	return nil
}
