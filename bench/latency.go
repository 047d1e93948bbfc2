package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"
	"golang.org/x/sync/errgroup"
)

const (
	latencyRate  = 1000 // transactions a second
	latencyConns = 4
	latencyWarm  = 3 * time.Second
)

// latency measures, at a steady rate of single-row transactions, the time from the
// return of the INSERT's commit to the item's being visible in the work table. The
// id of a row is its number; when it was committed is kept here, so that one clock
// tells both times.
func (b *bench) latency(ctx context.Context) error {
	length := 10 * time.Second
	if b.o.full {
		length = 30 * time.Second
	}
	for run := range b.o.runs {
		if err := b.latencyRun(ctx, run, length); err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) latencyRun(ctx context.Context, run int, length time.Duration) error {
	w := workload{name: "lat", table: "orders_lat", publication: "pub_lat"}
	b.slots++
	slot := fmt.Sprintf("walbridge_lat%d", b.slots)
	if err := b.emptySlot(ctx, slot); err != nil {
		return err
	}
	br, m, err := b.tableBridge(ctx, "latency", slot, w)
	if err != nil {
		return err
	}
	defer br.stop()
	n := int((latencyWarm + length).Seconds()) * latencyRate
	cpu := cpuSeconds(br.pid())
	load, err := b.steadyLoad(ctx, n, br, "SELECT seq, (payload->'after'->>'id')::int FROM "+b.schema()+".log WHERE seq > $1 ORDER BY seq LIMIT 1000")
	if err != nil {
		return err
	}
	r := m.finish(br.child, result{Measure: "latency", Case: fmt.Sprintf("%d tx/s", latencyRate), Contender: "walbridge", Run: run})
	r.Figures = latencies(load.committed, load.seen, load.commits, int(latencyWarm.Seconds())*latencyRate)
	r.Figures["cores"] = (cpuSeconds(br.pid()) - cpu) / (latencyWarm + length).Seconds()
	r.Seconds = 0
	br.stop()
	if err := b.results.add(r); err != nil {
		return err
	}
	if err := b.exec(ctx, "DROP SCHEMA "+b.schema()+" CASCADE"); err != nil {
		return err
	}
	return b.dropSlot(ctx, slot)
}

// steady is what became of a steady load: by the row's number, when its commit returned,
// how long that took in ms, and when its item was seen.
type steady struct {
	committed []time.Time
	commits   []float64
	seen      []time.Time
}

// steadyLoad writes n rows at a steady rate, and returns when all their items were seen;
// watch asks for new ones, as watchLog does.
func (b *bench) steadyLoad(ctx context.Context, n int, br *bridge, watch string) (steady, error) {
	load := steady{committed: make([]time.Time, n), commits: make([]float64, n)}
	writers, writing := errgroup.WithContext(ctx)
	for c := range latencyConns {
		writers.Go(func() error { return b.writeSteadily(writing, c, load.committed, load.commits) })
	}
	seen, err := b.watchLog(writing, n, br, watch)
	load.seen = seen
	return load, errors.Join(writers.Wait(), err)
}

// writeSteadily inserts every latencyConns-th row at its time.
func (b *bench) writeSteadily(ctx context.Context, first int, committed []time.Time, commits []float64) error {
	conn, err := pgx.Connect(ctx, b.server.DSN("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(ctx)
	begun := time.Now()
	timer := time.NewTimer(0)
	defer timer.Stop()
	for i := first; i < len(committed); i += latencyConns {
		timer.Reset(time.Until(begun.Add(time.Duration(i) * time.Second / latencyRate)))
		select {
		case <-timer.C:
		case <-ctx.Done():
			return ctx.Err()
		}
		at := time.Now()
		_, err := conn.Exec(ctx, "INSERT INTO orders_lat VALUES ($1, $2, 'new', 12.5, 'order note, to be packed with care', clock_timestamp(), clock_timestamp())", i, i%50000)
		if err != nil {
			return err
		}
		committed[i] = time.Now()
		commits[i] = time.Since(at).Seconds() * 1000
	}
	return nil
}

// watchLog polls the log for n new rows, as fast as the server answers, and returns
// when each was first seen. The query takes a seq and returns that and the row's number
// of the next items.
func (b *bench) watchLog(ctx context.Context, n int, br *bridge, query string) ([]time.Time, error) {
	seen := make([]time.Time, n)
	last := int64(0)
	for got := 0; got < n; {
		rows, err := b.admin.Query(ctx, query, last)
		if err != nil {
			return nil, err
		}
		var id int
		now := time.Now()
		_, err = pgx.ForEachRow(rows, []any{&last, &id}, func() error {
			seen[id], got = now, got+1
			return nil
		})
		if err != nil {
			return nil, err
		}
		if err := br.running(); err != nil {
			return nil, err
		}
	}
	return seen, nil
}

// latencies are those of the rows from a number on.
func latencies(committed, seen []time.Time, commits []float64, from int) map[string]float64 {
	var ms []float64
	for i := from; i < len(seen); i++ {
		ms = append(ms, max(0, seen[i].Sub(committed[i]).Seconds()*1000))
	}
	return map[string]float64{
		"p50_ms": quantile(ms, 0.5), "p95_ms": quantile(ms, 0.95), "p99_ms": quantile(ms, 0.99), "max_ms": quantile(ms, 1),
		"commit_p50_ms": quantile(commits[from:], 0.5), "commit_p99_ms": quantile(commits[from:], 0.99),
	}
}
