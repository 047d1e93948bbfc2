package queue

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"
)

// worker is one Run, RunBatch or RunTx.
//
//	control   leases lanes, renews, gives up, listens         one goroutine, one connection
//	watch     ends handlers when the lease is over            one goroutine, no connection
//	read      log and parked items into memory                one goroutine
//	settle    what is finished into the database              one goroutine
//	keep      the upkeep of a table without a bridge          one goroutine
//	handle    the caller's handlers                           Config.Concurrency goroutines
//
// They share the state of the lanes under mu and wake each other by channels of
// capacity one. The database is never called with mu held.
type worker struct {
	*Subscription
	id       string
	log      *slog.Logger
	metrics  *metrics
	clock    *leaseClock
	inTx     bool // RunTx: each batch settles itself
	handlers int  // of RunTx
	ordered  bool // batches
	readWake chan struct{}
	markWake chan struct{} // somebody waits for the position of what moves inbox
	setWake  chan struct{}
	ended    chan struct{}   // closed with err
	asked    context.Context // the caller's: when it has ended nothing is started
	taking   context.Context // ends when nothing more is started
	stopTake context.CancelFunc

	mu        sync.Mutex
	cond      *sync.Cond    // handlers wait for items
	lanes     map[int]*lane // guarded by mu
	order     []*lane       // guarded by mu: by number
	next      int           // guarded by mu: the lane whose turn it is
	strays    int           // guarded by mu: handlers that run for lanes that are gone
	giveBack  []*lane       // guarded by mu: gone, to be released
	stopping  bool          // guarded by mu: nothing more is started
	err       error         // guarded by mu: why the worker ends
	wakes     uint64        // guarded by mu: how often the log was said to have grown
	full      bool          // guarded by mu: max_parked is reached
	suspect   bool          // guarded by mu: a fence failed, control must find out whose
	kicked    bool          // guarded by mu: control has something to do
	interrupt func()        // guarded by mu: ends control's wait
	lastWrite time.Time     // guarded by mu: when the last settlement began
}

func newWorker(s *Subscription, m *metrics) *worker {
	host, _ := os.Hostname()
	w := &worker{
		Subscription: s, id: fmt.Sprintf("%.40s-%d-%s", host, os.Getpid(), rand.Text()[:8]),
		clock: newLeaseClock(time.Now, s.cfg.Lease), metrics: m, lanes: map[int]*lane{},
		readWake: make(chan struct{}, 1), setWake: make(chan struct{}, 1), markWake: make(chan struct{}, 1), ended: make(chan struct{}),
	}
	w.log = s.cfg.Logger.With("subscription", s.cfg.Name, "worker", w.id)
	w.cond = sync.NewCond(&w.mu)
	w.taking, w.stopTake = context.WithCancel(context.Background())
	return w
}

// wake is a send that never waits: one wake-up in the channel is enough.
func wake(c chan<- struct{}) {
	select {
	case c <- struct{}{}:
	default:
	}
}

// work runs a worker until ctx ends, in two steps: nothing more is started, then,
// when StopWithin has passed, the handlers' contexts end. handle is one handler's
// loop and returns when nothing more is to be started.
func (w *worker) work(ctx context.Context, handlers int, handle func()) error {
	w.asked = ctx
	live, end := context.WithCancel(context.WithoutCancel(ctx))
	var background, busy sync.WaitGroup
	for _, f := range []func(context.Context){w.control, w.watch, w.read, w.settleLoop, newKeeper(w).keep} {
		background.Go(func() { f(live) })
	}
	for range handlers {
		busy.Go(handle)
	}
	select {
	case <-ctx.Done():
	case <-w.ended:
	}
	w.stop()
	hurry := time.AfterFunc(max(w.cfg.StopWithin, 0), func() { w.cancelAll(ErrStopped) })
	busy.Wait()
	hurry.Stop()
	end()
	background.Wait()
	w.leave(context.WithoutCancel(ctx))
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.err
}

// fail ends the worker with an error; the first one counts.
func (w *worker) fail(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil && !w.stopping {
		w.err = err
		w.log.Error("worker_ends", "err", err)
		close(w.ended)
	}
}

// stop lets nothing more start.
func (w *worker) stop() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.stopping = true
	w.stopTake()
	for _, l := range w.order {
		l.draining = true
	}
	w.cond.Broadcast()
}

func (w *worker) cancelAll(cause error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range w.order {
		l.cancel(cause)
	}
}

// lastWords bounds the writes of a worker that ends.
const lastWords = 5 * time.Second

// leave settles what is finished and gives the lanes back, so that others go on at
// once. What fails here costs nothing but time: the lease runs out.
func (w *worker) leave(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, lastWords)
	defer cancel()
	w.settleAll(ctx)
	w.mu.Lock()
	all := slices.Concat(w.order, w.giveBack)
	for _, l := range w.order {
		w.drop(l, ErrStopped)
	}
	w.giveBack = nil
	w.mu.Unlock()
	if err := w.release(ctx, all, true); err != nil {
		w.log.Warn("leave_failed", "err", err, "next", "the lanes are free when their lease has run out")
	}
}

// drop forgets a lane: nothing of it is settled any more. Called with mu held.
func (w *worker) drop(l *lane, cause error) {
	if l.gone {
		return
	}
	l.gone, l.draining = true, true
	l.cancel(cause)
	w.strays += l.running
	delete(w.lanes, l.no)
	w.order = slices.DeleteFunc(slices.Clone(w.order), func(o *lane) bool { return o == l })
}

// dropUnknown gives up lanes of which nobody knows what the database has: they are
// released and taken anew, which waits for the transaction in doubt to end.
func (w *worker) dropUnknown(lanes []*lane) {
	w.mu.Lock()
	defer w.mu.Unlock()
	for _, l := range lanes {
		if !l.gone {
			w.drop(l, ErrLost)
			w.giveBack = append(w.giveBack, l)
		}
	}
	w.kick()
}

// kick makes control look now. Called with mu held.
func (w *worker) kick() {
	w.kicked = true
	if w.interrupt != nil {
		w.interrupt()
	}
}

// strayEnded notes that a handler of a lane that is gone has returned. Called with
// mu held.
func (w *worker) strayEnded() {
	if w.strays--; w.strays == 0 {
		w.kick()
	}
}

// watch ends everything when the lease is over.
func (w *worker) watch(ctx context.Context) {
	timer := time.NewTimer(0)
	defer timer.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-timer.C:
		}
		w.mu.Lock()
		left := w.clock.left()
		if left <= 0 && len(w.order) > 0 {
			w.log.Warn("lease_over", "lanes", len(w.order), "next", "their handlers are stopped, nothing of them is settled")
			w.metrics.lost(len(w.order))
			for _, l := range w.order {
				w.drop(l, ErrLost)
			}
		}
		w.mu.Unlock()
		timer.Reset(min(max(left, 10*time.Millisecond), w.cfg.Lease/20))
	}
}

// pauses are the waits between attempts of something that fails, doubling.
type pauses struct{ next time.Duration }

// wait waits, or returns false when ctx has ended.
func (p *pauses) wait(ctx context.Context) bool {
	timer := time.NewTimer(p.after())
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}

// after returns the next pause.
func (p *pauses) after() time.Duration {
	p.next = min(max(2*p.next, 50*time.Millisecond), 2*time.Second)
	return p.next
}

func (p *pauses) reset() { p.next = 0 }

// trouble logs an error that is tried again, or ends the worker.
func (w *worker) trouble(ctx context.Context, what string, err error) {
	switch {
	case ctx.Err() != nil || errors.Is(err, context.Canceled):
	case hopeless(err):
		w.fail(fmt.Errorf("%s: %w", what, err))
	default:
		w.log.Warn(what+"_failed", "err", err, "next", "tried again")
	}
}
