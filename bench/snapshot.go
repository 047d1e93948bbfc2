package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/sync/errgroup"

	"github.com/walbridge/walbridge/sink/discard"
	"github.com/walbridge/walbridge/snapshot"
)

// snapshotTables are one table with all rows, and two with half of them each.
const snapshotTables = `
CREATE TABLE IF NOT EXISTS snap_whole (LIKE orders_w1 INCLUDING ALL);
CREATE TABLE IF NOT EXISTS snap_half1 (LIKE orders_w1 INCLUDING ALL);
CREATE TABLE IF NOT EXISTS snap_half2 (LIKE orders_w1 INCLUDING ALL);
CREATE PUBLICATION pub_snap FOR TABLE snap_whole, snap_half1, snap_half2, orders_lat`

// snapshotRoutes: what is to be read is in the stored state, so that the time begins
// where it does for all other measurements, with the walsender.
const snapshotRoutes = `routes: [{tables: ["public.snap_*", public.orders_lat], snapshot: never, changes: {}}]`

// snapshotCase is a set of tables that are read at the same time.
type snapshotCase struct {
	name   string
	tables []string
}

func (b *bench) snapshotCases() []snapshotCase {
	n := b.snapshotRows()
	return []snapshotCase{
		{fmt.Sprintf("1 table of %d", n), []string{"snap_whole"}},
		{fmt.Sprintf("2 tables of %d", n/2), []string{"snap_half1", "snap_half2"}},
	}
}

// snapshotRows is a million in the short set and twenty in the full one.
func (b *bench) snapshotRows() int64 {
	if b.o.full {
		return int64(20_000_000 * b.o.scale)
	}
	return int64(5_000_000 * b.o.scale)
}

// snapshot measures the reading of rows that are there already: how fast, against COPY;
// what it does to the changes that are streamed meanwhile; and what a kill costs.
func (b *bench) snapshot(ctx context.Context) error {
	if err := b.exec(ctx, snapshotTables); err != nil {
		return err
	}
	for _, part := range []func(context.Context) error{b.snapshotRate, b.snapshotLatency, b.snapshotRestart} {
		if err := part(ctx); err != nil {
			return err
		}
	}
	return nil
}

// refill empties a table and puts so many rows into it, seen by every index scan.
func (b *bench) refill(ctx context.Context, table string, rows int64) error {
	fill := fmt.Sprintf(insertOrders, table, fmt.Sprintf("1, %d", rows))
	for _, sql := range []string{"TRUNCATE " + table, fill, "VACUUM (ANALYZE, FREEZE) " + table, "CHECKPOINT"} {
		if err := b.exec(ctx, sql); err != nil {
			return err
		}
	}
	return nil
}

// snapshotRate measures how fast tables are read with no destination, against COPY of
// the same tables to a client that drops them, over a connection for each.
func (b *bench) snapshotRate(ctx context.Context) error {
	n := b.snapshotRows()
	for table, rows := range map[string]int64{"snap_whole": n, "snap_half1": n / 2, "snap_half2": n / 2} {
		if err := b.refill(ctx, table, rows); err != nil {
			return err
		}
	}
	for _, c := range b.snapshotCases() {
		for run := range b.o.runs {
			if err := b.rateOfBridge(ctx, c, run); err != nil {
				return err
			}
			if err := b.rateOfCopy(ctx, c, run); err != nil {
				return err
			}
		}
	}
	return nil
}

// toRead is the state of a bridge that has these tables to read.
func toRead(tables []string) ([]byte, error) {
	var list []*snapshot.Table
	for _, name := range tables {
		list = append(list, &snapshot.Table{Schema: "public", Name: name, Estimate: -1})
	}
	state := snapshot.New(list)
	return state.Encode()
}

func (b *bench) rateOfBridge(ctx context.Context, c snapshotCase, run int) error {
	b.slots++
	slot := fmt.Sprintf("walbridge_snap%d", b.slots)
	state := filepath.Join(b.dir, slot+".state")
	defer os.Remove(state)
	br, m, err := b.discardBridge(ctx, slot, state, c.tables)
	if err != nil {
		return err
	}
	defer br.stop()
	backends := map[int]float64{}
	r := result{Measure: "snapshot", Case: c.name, Contender: "walbridge", Run: run}
	err = pollAt(ctx, askEvery, func() (bool, error) { // asking costs the server something
		done, err := readAll(state, &r.Rows)
		if err != nil || done {
			return done, err
		}
		return false, errors.Join(br.running(), b.lookAtReaders(ctx, backends))
	})
	if err != nil {
		return err
	}
	r = m.finish(br.child, r)
	r.Figures = map[string]float64{"reader_cpu_s": sum(backends)}
	br.stop()
	if err := b.checkRows(r); err != nil {
		return err
	}
	if err := b.results.add(r); err != nil {
		return err
	}
	return b.dropSlot(ctx, slot)
}

// discardBridge starts a bridge without a destination that has these tables to read.
func (b *bench) discardBridge(ctx context.Context, slot, state string, tables []string) (*bridge, measured, error) {
	if err := b.exec(ctx, "SELECT pg_create_logical_replication_slot('"+slot+"', 'pgoutput')"); err != nil {
		return nil, measured{}, err
	}
	keeper, err := discard.New(discard.Config{State: state}, discard.Options{})
	if err != nil {
		return nil, measured{}, err
	}
	todo, err := toRead(tables)
	if err != nil {
		return nil, measured{}, err
	}
	if err := b.adoptWith(ctx, keeper, slot, todo); err != nil {
		return nil, measured{}, err
	}
	return b.started(ctx, slot, fmt.Sprintf("discard: {form: worktable, state: %q}", state))
}

// started starts a bridge whose position is stored, and waits until the slot is active.
func (b *bench) started(ctx context.Context, slot, sink string) (*bridge, measured, error) {
	br, err := b.runBridge(ctx, "snapshot", fmt.Sprintf(`name: %s
source: {dsn: %q, slot: %s, publication: pub_snap}
%s
sink: {%s}
`, slot, b.dsn("tcp"), slot, snapshotRoutes, sink))
	if err != nil {
		return nil, measured{}, err
	}
	m, err := b.senderOf(ctx, slot, br.child)
	if err != nil {
		br.stop()
	}
	return br, m, err
}

// readAll reports whether a state file says that every table was read, and how many
// rows were.
func readAll(path string, rows *int64) (bool, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return false, err
	}
	var file struct {
		Cursors []byte `json:"cursors"`
	}
	if err := json.Unmarshal(text, &file); err != nil {
		return false, err
	}
	state, err := snapshot.Decode(file.Cursors)
	*rows = state.DoneRows
	return len(state.Tables) == 0 && state.DoneTables > 0, err
}

func (b *bench) checkRows(r result) error {
	if n := b.snapshotRows(); r.Rows != n {
		return fmt.Errorf("%d rows were read by %s, not %d", r.Rows, r.Contender, n)
	}
	return nil
}

// lookAtReaders takes the processor time of the server's processes that a bridge reads
// by, besides the walsender: it is gone with them.
func (b *bench) lookAtReaders(ctx context.Context, seen map[int]float64) error {
	rows, err := b.admin.Query(ctx, "SELECT pid FROM pg_stat_activity WHERE application_name LIKE 'walbridge%' AND backend_type = 'client backend'")
	if err != nil {
		return err
	}
	defer rows.Close()
	for rows.Next() {
		var pid int
		if err := rows.Scan(&pid); err != nil {
			return err
		}
		seen[pid] = max(seen[pid], cpuSeconds(pid))
	}
	return rows.Err()
}

func sum(of map[int]float64) float64 {
	total := 0.0
	for _, v := range of {
		total += v
	}
	return total
}

// rateOfCopy reads the tables at the same time, in COPY's text form.
func (b *bench) rateOfCopy(ctx context.Context, c snapshotCase, run int) error {
	conns := make([]*pgconn.PgConn, len(c.tables))
	for i := range conns {
		conn, err := pgconn.Connect(ctx, b.dsn("tcp"))
		if err != nil {
			return err
		}
		defer conn.Close(ctx)
		conns[i] = conn
	}
	r := result{Measure: "snapshot", Case: c.name, Contender: "copy", Run: run}
	rows := make([]int64, len(conns))
	own, begun := cpuSelf(), time.Now()
	all, ctx := errgroup.WithContext(ctx)
	for i, conn := range conns {
		all.Go(func() error {
			tag, err := conn.CopyTo(ctx, io.Discard, "COPY public."+c.tables[i]+" TO STDOUT")
			rows[i] = tag.RowsAffected()
			return err
		})
	}
	if err := all.Wait(); err != nil {
		return err
	}
	r.Seconds, r.ClientCPU = time.Since(begun).Seconds(), cpuSelf()-own
	server := 0.0
	for i, conn := range conns {
		r.Rows += rows[i]
		server += cpuSeconds(int(conn.PID()))
	}
	r.Figures = map[string]float64{"reader_cpu_s": server}
	if err := b.checkRows(r); err != nil {
		return err
	}
	return b.results.add(r)
}
