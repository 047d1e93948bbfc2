package main

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"

	"github.com/walbridge/walbridge/queue"
)

// project measures RunTx with one upsert for each item, against the same upserts in
// batches of the same size over as many connections, without reading anything.
func (b *bench) project(ctx context.Context) error {
	q, err := b.makeBacklog(ctx, int64(1_000_000*b.o.scale), never)
	if err != nil {
		return err
	}
	name := fmt.Sprintf("%d upserts", q.items)
	for run := range b.o.runs {
		r := result{Measure: "RunTx", Case: name, Contender: "walbridge", Run: run, Rows: q.items}
		if err := b.projected(ctx, q, &r); err != nil {
			return err
		}
		if err := b.results.add(r); err != nil {
			return err
		}
		r = result{Measure: "RunTx", Case: name, Contender: "batches", Run: run, Rows: q.items}
		if err := b.upserted(ctx, q, &r); err != nil {
			return err
		}
		if err := b.results.add(r); err != nil {
			return err
		}
	}
	return b.dropBacklog(ctx, q)
}

const (
	upsertBatch   = 1000
	upsertWorkers = 2 // what RunTx has of a pool of four
)

func (q backlog) upsert() string {
	return "INSERT INTO " + q.schema + ".total VALUES ($1, 1) ON CONFLICT (key) DO UPDATE SET n = total.n + 1"
}

func (q backlog) emptyModel() string {
	return fmt.Sprintf("DROP TABLE IF EXISTS %[1]s.total; CREATE TABLE %[1]s.total (key text PRIMARY KEY, n bigint NOT NULL)", q.schema)
}

func (b *bench) projected(ctx context.Context, q backlog, r *result) error {
	if err := b.exec(ctx, q.emptyModel()); err != nil {
		return err
	}
	sub, err := b.subscribed(ctx, q)
	if err != nil {
		return err
	}
	work, cancel := context.WithCancel(ctx)
	defer cancel()
	var n atomic.Int64
	upsert := q.upsert()
	begun, cpu := time.Now(), ownCPU()
	err = sub.RunTx(work, func(ctx context.Context, tx pgx.Tx, items []queue.Item) error {
		batch := &pgx.Batch{}
		for _, it := range items {
			batch.Queue(upsert, it.Key)
		}
		if err := tx.SendBatch(ctx, batch).Close(); err != nil {
			return err
		}
		if n.Add(int64(len(items))) == q.items {
			cancel()
		}
		return nil
	})
	r.Seconds, r.ClientCPU = time.Since(begun).Seconds(), ownCPU()-cpu
	if err != nil {
		return err
	}
	return q.modelIsWhole(ctx)
}

func (q backlog) modelIsWhole(ctx context.Context) error {
	var n int64
	err := q.pool.QueryRow(ctx, "SELECT coalesce(sum(n), 0)::bigint FROM "+q.schema+".total").Scan(&n)
	if err == nil && n != q.items {
		err = fmt.Errorf("the model counts %d items of %d", n, q.items)
	}
	return err
}

// upserted does the upserts in the order of the log; a worker has every second key.
func (b *bench) upserted(ctx context.Context, q backlog, r *result) error {
	if err := b.exec(ctx, q.emptyModel()); err != nil {
		return err
	}
	begun, cpu := time.Now(), ownCPU()
	work, wctx := errgroup.WithContext(ctx)
	for worker := range int64(upsertWorkers) {
		work.Go(func() error {
			conn, err := q.pool.Acquire(wctx)
			if err != nil {
				return err
			}
			defer conn.Release()
			for at := worker; at < q.items; at += upsertBatch * upsertWorkers {
				batch := &pgx.Batch{}
				batch.Queue("BEGIN")
				for i := at; i < min(at+upsertBatch*upsertWorkers, q.items); i += upsertWorkers {
					batch.Queue(q.upsert(), fmt.Sprint("k", i%keysOf))
				}
				batch.Queue("COMMIT")
				if err := conn.SendBatch(wctx, batch).Close(); err != nil {
					return err
				}
			}
			return nil
		})
	}
	err := work.Wait()
	r.Seconds, r.ClientCPU = time.Since(begun).Seconds(), ownCPU()-cpu
	if err != nil {
		return err
	}
	return q.modelIsWhole(ctx)
}
