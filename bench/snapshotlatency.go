package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/snapshot"
)

// snapshotLoad is the least number of rows to be read beside a load.
const snapshotLoad = 1_000_000

// snapshotLatency measures the latency of latency.go while a large table is read into
// the same work table, and while none is; and meanwhile how steadily the slot moves and
// how much WAL it holds back.
func (b *bench) snapshotLatency(ctx context.Context) error {
	length := 10 * time.Second
	if b.o.full {
		length = 30 * time.Second
	}
	rows := max(b.snapshotRows(), snapshotLoad)
	if rows > b.snapshotRows() {
		if err := b.refill(ctx, "snap_whole", rows); err != nil {
			return err
		}
	}
	for run := range b.o.runs {
		for _, tables := range [][]string{nil, {"snap_whole"}} {
			r := result{Measure: "snapshot latency", Case: fmt.Sprintf("%d tx/s, no table to read", latencyRate), Contender: "walbridge", Run: run}
			if tables != nil {
				r.Case = fmt.Sprintf("%d tx/s, 1 table of %d", latencyRate, rows)
			}
			if err := b.besideLoad(ctx, tables, length, r); err != nil {
				return err
			}
		}
	}
	return nil
}

// besideLoad is one run. Latencies are those of the transactions that committed while
// the tables were being read, after the time to warm up.
func (b *bench) besideLoad(ctx context.Context, tables []string, length time.Duration, r result) error {
	b.slots++
	slot := fmt.Sprintf("walbridge_beside%d", b.slots)
	if err := b.emptySlot(ctx, slot); err != nil {
		return err
	}
	br, m, err := b.snapshotBridge(ctx, slot, tables)
	if err != nil {
		return err
	}
	defer br.stop()
	n := int((latencyWarm + length).Seconds()) * latencyRate
	cpu := cpuSeconds(br.pid())
	w := &slotWatch{slot: slot, reading: tables != nil}
	load, err := b.watchedLoad(ctx, n, br, w)
	if err != nil {
		return err
	}
	from, to := int(latencyWarm.Seconds())*latencyRate, load.before(w.ended)
	if to <= from {
		return errors.New("the table is read before the load has warmed up: it is too small")
	}
	r.PeakMiB = peakMiB(br.pid())
	r.Figures = latencies(load.committed, load.seen[:to], load.commits[:to], from)
	r.Figures["cores"] = (cpuSeconds(br.pid()) - cpu) / (latencyWarm + length).Seconds()
	r.Figures["slot_still_max_s"], r.Figures["retained_max_mib"] = w.still.Seconds(), w.retained/(1<<20)
	if tables != nil {
		r.Figures["read_per_s"] = float64(w.rows) / w.over(m.started)
	}
	br.stop()
	if err := b.results.add(r); err != nil {
		return err
	}
	if err := b.exec(ctx, "DROP SCHEMA "+b.schema()+" CASCADE"); err != nil {
		return err
	}
	return b.dropSlot(ctx, slot)
}

// watchedLoad is a steady load during which the slot is watched.
func (b *bench) watchedLoad(ctx context.Context, n int, br *bridge, w *slotWatch) (steady, error) {
	watching, stop := context.WithCancel(ctx)
	defer stop()
	watched := make(chan error, 1)
	go func() { watched <- b.watchSlot(watching, w) }()
	// by the index of streams: rows that are read lie between the load's
	load, err := b.steadyLoad(ctx, n, br, fmt.Sprintf(`SELECT seq, (payload->'after'->>'id')::int FROM %[1]s.log
		WHERE stream_id = (SELECT id FROM %[1]s.stream WHERE name = 'public.orders_lat') AND seq > $1 ORDER BY seq LIMIT 1000`, b.schema()))
	stop()
	return load, errors.Join(err, <-watched)
}

// snapshotBridge starts a bridge that has these tables to read into a work table.
func (b *bench) snapshotBridge(ctx context.Context, slot string, tables []string) (*bridge, measured, error) {
	var todo []byte
	var err error
	if tables != nil {
		if todo, err = toRead(tables); err != nil {
			return nil, measured{}, err
		}
	}
	if err := b.makeTableWith(ctx, slot, todo); err != nil {
		return nil, measured{}, err
	}
	return b.snapshotBridgeAgain(ctx, slot)
}

// snapshotBridgeAgain starts it on a work table that is there.
func (b *bench) snapshotBridgeAgain(ctx context.Context, slot string) (*bridge, measured, error) {
	return b.started(ctx, slot, fmt.Sprintf("worktable: {dsn: %q, schema: %s}", b.server.SocketDSN("postgres"), b.schema()))
}

// before is the number of rows that were committed before a time; all if it is none.
func (l steady) before(at time.Time) int {
	n := 0
	for n < len(l.committed) && (at.IsZero() || l.committed[n].Before(at)) {
		n++
	}
	return n
}

// watchEvery is how often a slot is looked at beside a load.
const watchEvery = 50 * time.Millisecond

// slotWatch is what a slot did during a run.
type slotWatch struct {
	slot     string
	reading  bool          // there are tables to read
	still    time.Duration // the longest that its confirmed position stood still
	retained float64       // the most WAL that it held back, in bytes
	rows     int64         // that were read
	last     time.Time     // of rows
	ended    time.Time     // when all tables were read; zero: they were not
}

// over is the time for which tables were read.
func (w *slotWatch) over(begun time.Time) float64 { return w.last.Sub(begun).Seconds() }

// watchSlot looks until the context ends or all tables are read.
func (b *bench) watchSlot(ctx context.Context, w *slotWatch) error {
	conn, err := pgx.Connect(ctx, b.server.DSN("postgres"))
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	moved, at := time.Now(), ""
	err = pollAt(ctx, watchEvery, func() (bool, error) {
		var confirmed string
		var retained float64
		err := conn.QueryRow(ctx, "SELECT confirmed_flush_lsn::text, (pg_current_wal_lsn() - restart_lsn)::float8 FROM pg_replication_slots WHERE slot_name = $1", w.slot).Scan(&confirmed, &retained)
		if err != nil {
			return false, err
		}
		now := time.Now()
		w.still, w.retained = max(w.still, now.Sub(moved)), max(w.retained, retained)
		if confirmed != at {
			at, moved = confirmed, now
		}
		return b.watchReading(ctx, conn, w)
	})
	if ctx.Err() != nil {
		return nil // the load is over
	}
	return err
}

// watchReading takes what the work table has stored of the reading; true: it is over.
func (b *bench) watchReading(ctx context.Context, conn *pgx.Conn, w *slotWatch) (bool, error) {
	if !w.reading {
		return false, nil
	}
	state, err := b.storedState(ctx, conn)
	if err != nil {
		return false, err
	}
	w.rows, w.last = state.DoneRows, time.Now()
	for _, t := range state.Tables {
		w.rows += t.Rows
	}
	if len(state.Tables) == 0 {
		w.ended = w.last
	}
	return len(state.Tables) == 0, nil
}

// storedState is what a work table has of snapshots.
func (b *bench) storedState(ctx context.Context, conn *pgx.Conn) (snapshot.State, error) {
	var stored []byte
	if err := conn.QueryRow(ctx, "SELECT cursors FROM "+b.schema()+".source").Scan(&stored); err != nil {
		return snapshot.State{}, err
	}
	return snapshot.Decode(stored)
}
