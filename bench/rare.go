package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/jackc/pgx/v5"
)

const (
	rareEvery   = 10_000
	rareFetches = 2000
	writeBatch  = 2000
)

// rare measures the fetches of a subscription to a stream that is one in 10,000 items,
// while the log is written as fast as it goes: behind the writer, as a worker that is
// up to date does, and from anywhere, as one that catches up.
func (b *bench) rare(ctx context.Context) error {
	sizes := []int64{int64(1_000_000 * b.o.scale)}
	if b.o.full {
		sizes = append(sizes, 10_000_000)
	}
	for _, n := range sizes {
		q, err := b.makeBacklog(ctx, n, rareEvery)
		if err != nil {
			return err
		}
		if err := b.exec(ctx, "SELECT "+q.schema+".subscribe('rare', '{rare}')"); err != nil {
			return err
		}
		for run := range b.o.runs {
			r := result{Measure: "fetch of a rare stream", Case: fmt.Sprintf("1 in %d of %d", rareEvery, n), Contender: "walbridge", Run: run}
			if r.Figures, err = b.rareRun(ctx, q); err != nil {
				return err
			}
			if err := b.results.add(r); err != nil {
				return err
			}
		}
		if err := b.dropBacklog(ctx, q); err != nil {
			return err
		}
	}
	return nil
}

// rareRun fetches while another session appends.
func (b *bench) rareRun(ctx context.Context, q backlog) (map[string]float64, error) {
	writer, err := pgx.Connect(ctx, b.server.SocketDSN("postgres"))
	if err != nil {
		return nil, err
	}
	defer writer.Close(ctx)
	stop, done := make(chan struct{}), make(chan error, 1)
	written := int64(0)
	begun := time.Now()
	go func() {
		for {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			if err := q.append(ctx, writer, writeBatch, rareEvery); err != nil {
				done <- err
				return
			}
			written += writeBatch
		}
	}()
	f := rareReader{q: q, conn: b.admin}
	tail, behind, err := f.measure(ctx)
	close(stop)
	if werr := <-done; err == nil {
		err = werr
	}
	if err == nil && f.items == 0 {
		err = fmt.Errorf("no item of the rare stream came")
	}
	return map[string]float64{
		"tail_p50_ms": quantile(tail, 0.5), "tail_p99_ms": quantile(tail, 0.99), "behind_p50_ms": quantile(behind, 0.5), "behind_p99_ms": quantile(behind, 0.99),
		"written_per_s": float64(written) / time.Since(begun).Seconds(),
	}, err
}

type rareReader struct {
	q     backlog
	conn  *pgx.Conn
	after int64
	items int
}

// measure returns how long fetches took, in ms.
func (f *rareReader) measure(ctx context.Context) (tail, behind []float64, err error) {
	if err := f.conn.QueryRow(ctx, "SELECT last_value FROM "+f.q.schema+".log_seq").Scan(&f.after); err != nil {
		return nil, nil, err
	}
	for range rareFetches {
		ms, at, err := f.fetch(ctx, f.after)
		if err != nil {
			return nil, nil, err
		}
		f.after, tail = at, append(tail, ms)
		if ms, _, err = f.fetch(ctx, rand.Int64N(f.q.items)); err != nil {
			return nil, nil, err
		}
		behind = append(behind, ms)
	}
	return tail, behind, nil
}

// fetch is one fetch for all lanes; it returns up to where it looked.
func (f *rareReader) fetch(ctx context.Context, after int64) (ms float64, at int64, err error) {
	begun := time.Now()
	rows, err := f.conn.Query(ctx, fmt.Sprintf("SELECT seq, kind FROM %[1]s.fetch('rare', ARRAY(SELECT generate_series(0, %[1]s.lanes() - 1))::smallint[], array_fill($1::bigint, ARRAY[%[1]s.lanes()]), 100)", f.q.schema), after)
	if err != nil {
		return 0, 0, err
	}
	var kind *string
	_, err = pgx.ForEachRow(rows, []any{&at, &kind}, func() error {
		if kind != nil {
			f.items++
		}
		return nil
	})
	return time.Since(begun).Seconds() * 1000, at, err
}
