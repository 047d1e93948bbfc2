package sinktest

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/walbridge/walbridge/sink"
)

// memoryLock is the ownership of a name. free is closed when it is given up or
// lost, lost only then.
type memoryLock struct {
	m          *Memory
	name       string
	owner      string
	free, lost chan struct{}
	release    func() // closes free, once
}

// Lock waits until the name is free. A sign of life is never missed in memory, so
// takeoverAfter plays no part: DropLock takes an owner's lock away.
func (s *MemorySink) Lock(ctx context.Context, name string, _ time.Duration, waiting func(owner string)) (sink.Lock, error) {
	for {
		l, held := s.m.tryLock(name)
		if held == nil {
			return l, nil
		}
		if waiting != nil {
			waiting(held.owner)
		}
		again := time.NewTimer(time.Second)
		select {
		case <-held.free:
		case <-again.C:
		case <-ctx.Done():
			again.Stop()
			return nil, fmt.Errorf("wait for the lock of %s: %w", name, context.Cause(ctx))
		}
		again.Stop()
	}
}

// tryLock returns the lock, or who holds it.
func (m *Memory) tryLock(name string) (got, held *memoryLock) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if held = m.locks[name]; held != nil {
		return nil, held
	}
	l := &memoryLock{m: m, name: name, free: make(chan struct{}), lost: make(chan struct{})}
	l.owner = fmt.Sprintf("owner %p", l)
	l.release = sync.OnceFunc(func() { close(l.free) })
	m.locks[name] = l
	return l, nil
}

// DropLock takes the lock of a name away from its owner, whose Lost is closed, as
// the end of its session would. Without an owner it does nothing.
func (m *Memory) DropLock(name string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if l := m.locks[name]; l != nil {
		delete(m.locks, name)
		close(l.lost)
		l.release()
	}
}

// Lost is closed by DropLock.
func (l *memoryLock) Lost() <-chan struct{} { return l.lost }

// Unlock gives the name free, unless the lock was lost.
func (l *memoryLock) Unlock(context.Context) error {
	l.m.mu.Lock()
	defer l.m.mu.Unlock()
	if l.m.locks[l.name] == l {
		delete(l.m.locks, l.name)
	}
	l.release()
	return nil
}
