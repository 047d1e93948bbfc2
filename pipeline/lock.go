package pipeline

import (
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v5"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/pause"
	"github.com/walbridge/walbridge/internal/status"
	"github.com/walbridge/walbridge/sink"
)

// keeper holds the lock of the bridge's name, and takes it again when its session
// was lost (the sink's server was restarted, say). Finding another owner then ends
// the bridge as fenced: the fence in the sink is what protects the data, the lock
// only settles who works.
type keeper struct {
	cancel context.CancelFunc
	done   sync.WaitGroup

	mu   sync.Mutex
	lock sink.Lock
}

// lock blocks until this process owns the name.
func (p *Pipeline) lock(ctx context.Context, locker sink.Locker, fenced context.CancelCauseFunc) (*keeper, error) {
	var lock sink.Lock
	err := p.retry(ctx, func(ctx context.Context) (err error) {
		lock, err = locker.Lock(ctx, p.cfg.Bridge, p.cfg.TakeoverAfter, func(owner string) {
			p.setState(status.StateWaiting, owner)
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	p.metrics.takeovers.Inc()
	p.setState(status.StateStarting, "")
	keeping, cancel := context.WithCancel(ctx)
	k := &keeper{cancel: cancel, lock: lock}
	k.done.Go(func() { k.keep(keeping, locker, p, fenced) })
	return k, nil
}

func (k *keeper) keep(ctx context.Context, locker sink.Locker, p *Pipeline, fenced context.CancelCauseFunc) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-k.held().Lost():
		}
		p.log.Warn("the lock on the bridge's name was lost with its session; taking it again", "bridge", p.cfg.Bridge)
		lock, err := k.again(ctx, locker, p, fenced)
		if err != nil {
			return
		}
		k.mu.Lock()
		k.lock = lock
		k.mu.Unlock()
	}
}

func (k *keeper) again(ctx context.Context, locker sink.Locker, p *Pipeline, fenced context.CancelCauseFunc) (sink.Lock, error) {
	return backoff.Retry(ctx, func() (sink.Lock, error) {
		return locker.Lock(ctx, p.cfg.Bridge, p.cfg.TakeoverAfter, func(string) { fenced(fault.ErrFenced) })
	}, backoff.WithBackOff(newBackoff()), backoff.WithMaxElapsedTime(0))
}

func (k *keeper) held() sink.Lock {
	k.mu.Lock()
	defer k.mu.Unlock()
	return k.lock
}

// release lets go of the name.
func (k *keeper) release() {
	k.cancel()
	k.done.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), 2*time.Second)
	defer cancel()
	_ = k.held().Unlock(ctx) // the session ends either way, and the lock with it
}

// slotEvery is how often a process without a lock looks whether the slot is free.
const slotEvery = time.Second

// awaitSlot waits while a session of this bridge holds the slot: for a sink that has no
// lock the slot settles who works, and the fence in the sink protects the data. Without
// the wait a second process would fence the one that works, and that one it, in turns.
// What a dead process has left behind the server ends after its wal_sender_timeout.
func (p *Pipeline) awaitSlot(ctx context.Context) error {
	for {
		srv, err := p.stages.Source.Inspect(ctx)
		if err != nil {
			return fmt.Errorf("look at the source: %w", err)
		}
		if srv.Slot == nil || !srv.Slot.Active || !p.stages.Source.Ours(srv.Slot) {
			p.metrics.takeovers.Inc()
			p.setState(status.StateStarting, "")
			return nil
		}
		p.setState(status.StateWaiting, fmt.Sprintf("process %d of the source's server serves the owner of slot %s", srv.Slot.ActivePID, srv.SlotName))
		if err := pause.For(ctx, slotEvery); err != nil {
			return err
		}
	}
}

// lockedBackoff is a backoff for several goroutines.
type lockedBackoff struct {
	mu sync.Mutex
	b  backoff.BackOff
}

func newLockedBackoff() *lockedBackoff { return &lockedBackoff{b: newBackoff()} }

// NextBackOff returns how long to wait.
func (l *lockedBackoff) NextBackOff() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.NextBackOff()
}

// Reset starts over, after something became durable.
func (l *lockedBackoff) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.b.Reset()
}
