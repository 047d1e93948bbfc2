package main

import (
	"context"
	"fmt"
	"time"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/internal/pause"
)

// start measures the time from starting the program to the first item in the work
// table, with a position stored and one transaction waiting.
func (b *bench) start(ctx context.Context) error {
	w := workload{name: "lat", table: "orders_lat", publication: "pub_lat"}
	for run := range b.o.runs {
		b.slots++
		slot := fmt.Sprintf("walbridge_start%d", b.slots)
		if err := b.emptySlot(ctx, slot); err != nil {
			return err
		}
		if err := b.makeTable(ctx, slot); err != nil {
			return err
		}
		if err := b.exec(ctx, "INSERT INTO orders_lat (id) VALUES (1)"); err != nil {
			return err
		}
		begun := time.Now()
		br, err := b.runBridge(ctx, "start", b.tableConfig(slot, w))
		if err != nil {
			return err
		}
		err = b.awaitRows(ctx, 1, br)
		took := time.Since(begun)
		br.stop()
		if err != nil {
			return err
		}
		if err := b.results.add(result{Measure: "start", Case: "to the first item", Contender: "walbridge", Run: run, Figures: map[string]float64{"ms": took.Seconds() * 1000}}); err != nil {
			return err
		}
		if err := b.exec(ctx, "DROP SCHEMA "+b.schema()+" CASCADE"); err != nil {
			return err
		}
		if err := b.dropSlot(ctx, slot); err != nil {
			return err
		}
	}
	return nil
}

// idle measures a bridge to which nothing happens.
func (b *bench) idle(ctx context.Context) error {
	length := 15 * time.Second
	if b.o.full {
		length = 60 * time.Second
	}
	w := workload{name: "lat", table: "orders_lat", publication: "pub_lat"}
	b.slots++
	slot := fmt.Sprintf("walbridge_idle%d", b.slots)
	if err := b.exec(ctx, "SELECT pg_create_logical_replication_slot('"+slot+"', 'pgoutput')"); err != nil {
		return err
	}
	br, _, err := b.tableBridge(ctx, "idle", slot, w)
	if err != nil {
		return err
	}
	defer br.stop()
	before := cpuSeconds(br.pid())
	if err := pause.For(ctx, length); err != nil {
		return err
	}
	var connections float64
	if err := b.admin.QueryRow(ctx, "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'walbridge%'").Scan(&connections); err != nil {
		return err
	}
	r := result{Measure: "idle", Case: length.String(), Contender: "walbridge", PeakMiB: peakMiB(br.pid()), Figures: map[string]float64{
		"rss_mib": rssMiB(br.pid()), "rss_file_mib": statusMiB(br.pid(), "RssFile:"), "core_percent": (cpuSeconds(br.pid()) - before) / length.Seconds() * 100, "connections": connections,
	}}
	br.stop()
	if err := b.results.add(r); err != nil {
		return err
	}
	return b.dropSlot(ctx, slot)
}

// memory measures the peak of one transaction of five million rows (a tenth of it in
// the short set), read into a work table.
func (b *bench) memory(ctx context.Context) error {
	rows := int64(500_000)
	if b.o.full {
		rows = 5_000_000
	}
	w := workload{name: "big", rows: rows, table: "orders_big", publication: "pub_big", master: "master_big"}
	if err := b.exec(ctx, "SELECT pg_create_logical_replication_slot('master_big', 'pgoutput')"); err != nil {
		return err
	}
	if err := b.exec(ctx, fmt.Sprintf(insertOrders, "orders_big", fmt.Sprintf("1, %d", rows))); err != nil {
		return err
	}
	if err := b.admin.QueryRow(ctx, "SELECT pg_current_wal_insert_lsn()::text").Scan(&w.end); err != nil {
		return err
	}
	if _, err := lsn.Parse(w.end); err != nil {
		return err
	}
	slot, err := b.copySlot(ctx, w)
	if err != nil {
		return err
	}
	br, m, err := b.tableBridge(ctx, "memory", slot, w)
	if err != nil {
		return err
	}
	defer br.stop()
	if err := b.awaitRows(ctx, rows, br); err != nil {
		return err
	}
	r := m.finish(br.child, result{Measure: "memory", Case: fmt.Sprintf("one transaction of %d rows", rows), Contender: "walbridge", Rows: rows})
	br.stop()
	if err := b.results.add(r); err != nil {
		return err
	}
	return b.dropSlot(ctx, slot)
}
