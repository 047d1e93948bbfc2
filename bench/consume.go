package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/queue"
)

// consume measures one worker of a subscription that handles items (doing nothing) and
// settles them, at several backlogs, with many parked items, and while a transaction
// that has read these tables stays open, against two workers that claim rows of a
// table and delete them. A backlog counts from its first item until all of it is settled
// and the lanes are given back, and how long the first item takes is a figure of its own;
// bursts are what a worker that is there already gets.
func (b *bench) consume(ctx context.Context) error {
	if err := b.bursts(ctx); err != nil {
		return err
	}
	sizes := []int64{int64(1_000_000 * b.o.scale)}
	if b.o.full {
		sizes = append(sizes, 10_000_000)
	}
	for _, n := range sizes {
		if err := b.consumeOf(ctx, n, n == sizes[0]); err != nil {
			return err
		}
	}
	return nil
}

// consumeOf measures one backlog; troubled: in the other conditions as well.
func (b *bench) consumeOf(ctx context.Context, n int64, troubled bool) error {
	q, err := b.makeBacklog(ctx, n, never)
	if err != nil {
		return err
	}
	conditions := []condition{{name: fmt.Sprintf("backlog of %d", n)}}
	if troubled {
		conditions = append(conditions, condition{name: fmt.Sprintf("backlog of %d, 100000 parked", n), parked: 100_000},
			condition{name: fmt.Sprintf("backlog of %d, a transaction open", n), open: true})
	}
	for run := range b.o.runs {
		for _, c := range conditions {
			if err := b.under(ctx, q, c, run); err != nil {
				return fmt.Errorf("%s: %w", c.name, err)
			}
		}
	}
	return b.dropBacklog(ctx, q)
}

// condition is what goes on while a backlog is consumed.
type condition struct {
	name   string
	parked int64 // items that wait for a time that does not come
	open   bool  // a REPEATABLE READ transaction that has read the tables
}

func (b *bench) under(ctx context.Context, q backlog, c condition, run int) error {
	if err := b.fillClaims(ctx, q); err != nil {
		return err
	}
	sub, err := b.subscribed(ctx, q)
	if err != nil {
		return err
	}
	if c.parked > 0 {
		if err := b.exec(ctx, fmt.Sprintf(parkMany, q.schema, c.parked)); err != nil {
			return err
		}
	}
	if c.open {
		conn, err := pgx.Connect(ctx, b.server.DSN("postgres"))
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		if _, err := conn.Exec(ctx, fmt.Sprintf(openSQL, q.schema), pgx.QueryExecModeSimpleProtocol); err != nil {
			return err
		}
	}
	r := result{Measure: "consume", Case: c.name, Contender: "walbridge", Run: run, Rows: q.items}
	if err := consumeAll(ctx, q, sub, &r); err != nil {
		return err
	}
	if err := b.results.add(r); err != nil {
		return err
	}
	r = result{Measure: "consume", Case: c.name, Contender: "skip_locked", Run: run, Rows: min(q.items, mostClaims)}
	if err := b.claimAll(ctx, q, &r); err != nil {
		return err
	}
	return b.results.add(r)
}

const (
	parkMany = `INSERT INTO %[1]s.parked (subscription, seq, lane, partition_key, reason, available_at, bytes, stream, kind, idempotency_key, source, commit_lsn, tx_seq, sub, tx_end, committed_at, created_at)
SELECT 'bench', -i, %[1]s.lane('p' || i), 'p' || i, 'retry', now() + '1 day', 100, 'orders', 'event', 'p' || i, 'shop', '0/1', 1, 0, true, now(), now() FROM generate_series(1, %[2]d) i;
ANALYZE %[1]s.parked`
	openSQL = `BEGIN ISOLATION LEVEL REPEATABLE READ;
SELECT (SELECT count(*) FROM %[1]s.log), (SELECT count(*) FROM %[1]s.lane), (SELECT count(*) FROM %[1]s.checkpoint), (SELECT count(*) FROM %[1]s.claim)`
)

// subscribed makes the subscription anew.
func (b *bench) subscribed(ctx context.Context, q backlog) (*queue.Subscription, error) {
	if err := b.exec(ctx, fmt.Sprintf("SELECT %[1]s.drop_subscription(name) FROM %[1]s.subscription", q.schema)); err != nil {
		return nil, err
	}
	return queue.Subscribe(ctx, q.pool, queue.Config{Name: "bench", Streams: []string{"orders"}, Schema: q.schema, MaxParked: 10_000_000, MaxParkedBytes: 1 << 40})
}

// consumeAll runs a worker until all items are handled, and checks that they are settled.
func consumeAll(ctx context.Context, q backlog, sub *queue.Subscription, r *result) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var n, first atomic.Int64
	begun, cpu := time.Now(), ownCPU()
	err := sub.Run(ctx, func(context.Context, queue.Item) error {
		switch n.Add(1) {
		case 1:
			first.Store(int64(time.Since(begun)))
		case q.items:
			cancel()
		}
		return nil
	})
	start := time.Duration(first.Load())
	r.Seconds, r.ClientCPU = (time.Since(begun) - start).Seconds(), ownCPU()-cpu
	r.Figures = map[string]float64{"start_ms": start.Seconds() * 1000}
	if err != nil {
		return err
	}
	return q.settled(context.WithoutCancel(ctx))
}

// settled returns an error unless every item of the subscription is settled.
func (q backlog) settled(ctx context.Context) error {
	var pending int64
	err := q.pool.QueryRow(ctx, fmt.Sprintf(`SELECT count(*) FROM %[1]s.log g JOIN (SELECT DISTINCT ON (lane) lane, seq, settled FROM %[1]s.checkpoint ORDER BY lane, n DESC) c
		ON c.lane = g.lane AND g.seq > c.seq AND NOT c.settled @> g.seq`, q.schema)).Scan(&pending)
	if err == nil && pending > 0 {
		err = fmt.Errorf("%d items are not settled", pending)
	}
	return err
}

// bursts measures a worker that waits: batches of 10,000 items, each from its commit
// until the last item is handled.
func (b *bench) bursts(ctx context.Context) error {
	const size, times = 10_000, 10
	for run := range b.o.runs {
		q, err := b.makeBacklog(ctx, 0, never)
		if err != nil {
			return err
		}
		sub, err := b.subscribed(ctx, q)
		if err != nil {
			return err
		}
		r := result{Measure: "consume", Case: fmt.Sprintf("bursts of %d", size), Contender: "walbridge", Run: run, Rows: size * times}
		work, stop := context.WithCancel(ctx)
		var n atomic.Int64
		done := make(chan error, 1)
		go func() { done <- sub.Run(work, func(context.Context, queue.Item) error { n.Add(1); return nil }) }()
		cpu := ownCPU()
		for i := int64(1); i <= times && err == nil; i++ {
			if err = q.append(ctx, b.admin, size, never); err != nil {
				break
			}
			begun := time.Now()
			err = poll(ctx, func() (bool, error) { return n.Load() == i*size, nil })
			r.Seconds += time.Since(begun).Seconds()
		}
		r.ClientCPU = ownCPU() - cpu
		stop()
		if ended := <-done; err == nil {
			err = ended
		}
		if err != nil {
			return err
		}
		if err := b.results.add(r); err != nil {
			return err
		}
		if err := b.dropBacklog(ctx, q); err != nil {
			return err
		}
	}
	return nil
}

// ownCPU is this process's processor time: the worker runs in it, and nothing else does.
func ownCPU() float64 {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u)
	return time.Duration(u.Utime.Nano() + u.Stime.Nano()).Seconds()
}
