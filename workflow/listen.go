package workflow

import (
	"context"
	"fmt"
	"time"
)

// channel is the NOTIFY channel that says that there is work; the payload is the
// schema's name.
const channel = "walbridge_workflow"

// tellEvery is the shortest time between two notifications of an engine.
const tellEvery = 50 * time.Millisecond

// Wake tells the engines of all processes that there is work, so that they do not
// find it at their next poll only. It is for after the commit of StartTx and
// SignalTx, and nothing depends on it: call it or do not, and ignore its error.
// Within a transaction it would take a lock of the whole database at the commit
// (async.c, PreCommit_Notify), which is why StartTx does not notify.
func (e *Engine) Wake(ctx context.Context) error {
	e.poke()
	last, now := e.told.Load(), time.Now().UnixNano()
	if now-last < int64(tellEvery) || !e.told.CompareAndSwap(last, now) {
		return nil // those who were told look twice
	}
	if _, err := e.pool.Exec(ctx, "SELECT pg_notify($1, $2)", channel, e.cfg.Schema); err != nil {
		return fmt.Errorf("notify the workflow engines: %w", err)
	}
	return nil
}

// wakeAll is Wake after something that has succeeded already.
func (e *Engine) wakeAll(ctx context.Context) {
	if err := e.Wake(ctx); err != nil {
		e.log.Debug("workflow engines were not notified; they poll", "error", err)
	}
}

// listen wakes the engine at notifications until its context ends. Without it, as
// behind a pooler of transactions, the engine polls.
func (r *runner) listen(ctx context.Context) {
	for n := 1; ctx.Err() == nil; n++ {
		begun := time.Now()
		err := r.listenOnce(ctx)
		if ctx.Err() != nil {
			return
		}
		if time.Since(begun) > time.Minute {
			n = 1
		}
		r.e.log.Debug("workflow notifications are not heard; polling, and listening again soon", "error", err)
		pause(ctx, backoff(n, time.Second, time.Minute))
	}
}

// listenOnce listens on a connection that is taken out of the pool, so that the pool
// keeps all of its own.
func (r *runner) listenOnce(ctx context.Context) error {
	pooled, err := r.e.pool.Acquire(ctx)
	if err != nil {
		return err
	}
	conn := pooled.Hijack()
	defer func() {
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		_ = conn.Close(ctx) // it ends either way
	}()
	if _, err := conn.Exec(ctx, "LISTEN "+channel); err != nil {
		return err
	}
	for {
		n, err := conn.WaitForNotification(ctx)
		if err != nil {
			return err
		}
		if n.Payload == r.e.cfg.Schema {
			r.e.poke()
			time.AfterFunc(tellEvery+tellEvery/2, r.e.poke) // what came too soon after is not notified
		}
	}
}
