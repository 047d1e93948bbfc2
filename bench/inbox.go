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

// inbox measures applications that put work into the inbox, in many sessions at once,
// each in transactions of 5 ms: while nobody takes it away, while a worker moves it to
// the log and handles it, and the same insert into a plain table of the same columns.
func (b *bench) inbox(ctx context.Context) error {
	sessions, length := 200, 5*time.Second
	if b.o.full {
		sessions, length = 1000, 15*time.Second
	}
	for run := range b.o.runs {
		for _, c := range []string{"walbridge", "without a worker", "plain table"} {
			r := result{Measure: "inbox", Case: fmt.Sprintf("%d sessions", sessions), Contender: c, Run: run}
			if err := b.inboxRun(ctx, sessions, length, &r); err != nil {
				return err
			}
			if err := b.results.add(r); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *bench) inboxRun(ctx context.Context, sessions int, length time.Duration, r *result) error {
	q, err := b.makeBacklog(ctx, 0, never)
	if err != nil {
		return err
	}
	table := q.schema + ".inbox"
	// No bridge opens this schema: workers move the inbox.
	if err := b.exec(ctx, fmt.Sprintf("DELETE FROM %[1]s.source; CREATE TABLE %[1]s.plain (LIKE %[1]s.inbox INCLUDING ALL)", q.schema)); err != nil {
		return err
	}
	if r.Contender == "plain table" {
		table = q.schema + ".plain"
	}
	var handled atomic.Int64
	work, stop := context.WithCancel(ctx)
	defer stop()
	done := make(chan error, 1)
	if r.Contender == "walbridge" {
		sub, err := queue.Subscribe(ctx, q.pool, queue.Config{Name: "bench", Streams: []string{"inbox"}, Schema: q.schema})
		if err != nil {
			return err
		}
		go func() { done <- sub.Run(work, func(context.Context, queue.Item) error { handled.Add(1); return nil }) }()
	} else {
		done <- nil
	}
	if err := b.insertAll(ctx, table, sessions, length, r); err != nil {
		return err
	}
	if r.Contender == "walbridge" {
		r.Figures = map[string]float64{"handled_meanwhile": float64(handled.Load())}
		if err := poll(ctx, func() (bool, error) { return handled.Load() == r.Rows, nil }); err != nil {
			return err
		}
	}
	stop()
	if err := <-done; err != nil {
		return err
	}
	return b.dropBacklog(ctx, q)
}

// insertAll inserts in all sessions for so long, and counts what was committed.
func (b *bench) insertAll(ctx context.Context, table string, sessions int, length time.Duration, r *result) error {
	conns := make([]*pgx.Conn, sessions)
	for i := range conns {
		conn, err := pgx.Connect(ctx, b.server.SocketDSN("postgres"))
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		conns[i] = conn
	}
	var n atomic.Int64
	begun := time.Now()
	work, ctx := errgroup.WithContext(ctx)
	for i, conn := range conns {
		sql := fmt.Sprintf(`BEGIN; INSERT INTO %s (partition_key, payload) VALUES ('order:%d', '{"type":"Paid","order":%d}'); SELECT pg_sleep(0.005); COMMIT`, table, i, i)
		work.Go(func() error {
			for time.Since(begun) < length {
				if _, err := conn.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
					return err
				}
				n.Add(1)
			}
			return nil
		})
	}
	err := work.Wait()
	r.Rows, r.Seconds = n.Load(), time.Since(begun).Seconds()
	return err
}
