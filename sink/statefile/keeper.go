package statefile

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/sink"
)

// Keeper is the part of a sink that keeps the position and the ownership: Open,
// Close and Lock are the sink's own, and Check and Store make up its Write. Open,
// Check, Store and Close are called by one goroutine at a time, Lock and a lock's
// Unlock by any.
//
// Without a path nothing outlives it: Open always answers PhaseNone, and there is
// nothing to own.
type Keeper struct {
	file File
	name string
	open bool
	// stored is what the file holds, while open.
	stored lsn.Progress

	mu   sync.Mutex // guards lock and own
	lock *Lock
	own  bool // Open took the lock, so Close gives it up
}

// NewKeeper returns a keeper of the file, which need not be there yet.
func NewKeeper(f File) *Keeper { return &Keeper{file: f} }

// Open takes the lock, unless Lock has, and returns what the file holds.
func (k *Keeper) Open(ctx context.Context, name string) (lsn.Progress, error) {
	k.open = false
	if err := ctx.Err(); err != nil {
		return lsn.Progress{}, fmt.Errorf("open the state file: %w", err)
	}
	k.name, k.stored = name, lsn.Progress{}
	if k.file.Path != "" {
		if err := k.take(); err != nil {
			return lsn.Progress{}, err
		}
		var err error
		if k.stored, err = k.file.Load(name); err != nil {
			return lsn.Progress{}, err
		}
	}
	k.open = true
	return k.stored, nil
}

// take makes sure that this keeper holds the lock.
func (k *Keeper) take() error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.lock != nil && k.lock.Held() == nil {
		return nil
	}
	k.drop()
	l, err := Acquire(k.file.Path)
	if err != nil {
		return k.refusal(err)
	}
	k.lock, k.own = l, true
	return nil
}

// refusal is transient for a lock that another holds, and for the configuration to
// mend otherwise.
func (k *Keeper) refusal(err error) error {
	if errors.Is(err, ErrOwned) {
		return fault.Transient("state_file_owned", err)
	}
	return k.file.unusable(err)
}

func (k *Keeper) drop() {
	if k.lock != nil {
		_ = k.lock.Release() // a descriptor that does not close is of no use to anyone
	}
	k.lock, k.own = nil, false
}

// Check refuses a write that must not begin: without an Open, without the lock, or
// to a position that does not lie after the stored one.
func (k *Keeper) Check(to lsn.Progress) error {
	if !k.open {
		return errors.New("not open: Open comes before Write, and after each error of it")
	}
	if err := k.owner(); err != nil {
		return fmt.Errorf("%w: %w", fault.ErrFenced, err)
	}
	at := k.stored
	if at.Phase != lsn.PhaseNone && !at.Position.Before(to.Position) && to.Timeline <= at.Timeline {
		return fmt.Errorf("position %s on timeline %d does not lie after the stored %s on timeline %d",
			to.Position, to.Timeline, at.Position, at.Timeline)
	}
	return nil
}

func (k *Keeper) owner() error {
	if k.file.Path == "" {
		return nil
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.lock == nil {
		return errors.New("the lock of the state file was given up")
	}
	return k.lock.Held()
}

// Store puts the position into the file. After an error the keeper has to be
// opened again.
func (k *Keeper) Store(to lsn.Progress) error {
	if err := k.store(to); err != nil {
		k.open = false
		return err
	}
	k.stored = to
	return nil
}

// store asks for the lock once more: an output may have taken long.
func (k *Keeper) store(to lsn.Progress) error {
	if k.file.Path == "" {
		return nil
	}
	if err := k.owner(); err != nil {
		return fmt.Errorf("%w: %w", fault.ErrFenced, err)
	}
	return k.file.Store(k.name, to)
}

// Durable reports whether positions outlive the keeper.
func (k *Keeper) Durable() bool { return k.file.Path != "" }

// Close gives up what Open took.
func (k *Keeper) Close() {
	k.open = false
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.own {
		k.drop()
	}
}

// poll is how often Lock tries a lock that is held: the kernel tells nobody when it
// is free, and a wait in flock cannot be cancelled.
const poll = 200 * time.Millisecond

// Lock waits for the lock of the file, as long as ctx does; waiting is told once a
// second which process holds it. There is no takeover: whoever holds the lock is
// alive, so takeoverAfter plays no part.
func (k *Keeper) Lock(ctx context.Context, _ string, _ time.Duration, waiting func(owner string)) (sink.Lock, error) {
	if k.file.Path == "" {
		return free{}, nil
	}
	if l := k.keep(); l != nil {
		return l, nil
	}
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for tries := 0; ; tries++ {
		l, err := Acquire(k.file.Path)
		switch {
		case err == nil:
			return k.hold(l), nil
		case !errors.Is(err, ErrOwned):
			return nil, k.refusal(err)
		case waiting != nil && tries%int(time.Second/poll) == 0:
			waiting(err.Error())
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("wait for the lock of the state file: %w", context.Cause(ctx))
		}
	}
}

// keep makes a lock that Open took one that Unlock gives up; nil: there is none.
func (k *Keeper) keep() sink.Lock {
	k.mu.Lock()
	defer k.mu.Unlock()
	if !k.own {
		return nil
	}
	k.own = false
	return held{k, k.lock}
}

func (k *Keeper) hold(l *Lock) sink.Lock {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.lock, k.own = l, false
	return held{k, l}
}

// held is a lock that Lock has given. The kernel takes none away, so that it is
// never lost.
type held struct {
	k *Keeper
	l *Lock
}

func (h held) Lost() <-chan struct{} { return nil }

func (h held) Unlock(context.Context) error {
	h.k.mu.Lock()
	defer h.k.mu.Unlock()
	if h.k.lock == h.l {
		h.k.lock = nil
	}
	return h.l.Release()
}

// free is the lock of a keeper that has nothing to own.
type free struct{}

func (free) Lost() <-chan struct{}        { return nil }
func (free) Unlock(context.Context) error { return nil }
