package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"time"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/sink/discard"
)

// drain measures how fast a slot is read to its end with no destination:
// walbridge decodes, maps and encodes every row; pg_recvlogical writes what it gets
// to /dev/null. Both over TCP and over a unix socket.
func (b *bench) drain(ctx context.Context) error {
	workloads, err := b.workloads(ctx)
	if err != nil {
		return err
	}
	for _, w := range workloads {
		for run := range b.o.runs {
			for _, transport := range []string{"tcp", "unix"} {
				if err := b.drainBridge(ctx, w, transport, run); err != nil {
					return err
				}
				if err := b.drainPeer(ctx, w, transport, run); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (b *bench) dsn(transport string) string {
	if transport == "unix" {
		return b.server.SocketDSN("postgres")
	}
	return b.server.DSN("postgres")
}

func (b *bench) drainBridge(ctx context.Context, w workload, transport string, run int) error {
	slot, err := b.copySlot(ctx, w)
	if err != nil {
		return err
	}
	state := filepath.Join(b.dir, slot+".state")
	defer os.Remove(state)
	keeper, err := discard.New(discard.Config{State: state}, discard.Options{})
	if err != nil {
		return err
	}
	if err := b.adopt(ctx, keeper, slot); err != nil {
		return err
	}
	br, err := b.runBridge(ctx, "drain", fmt.Sprintf(`name: %s
source: {dsn: %q, slot: %s, publication: %s}
%s
sink: {discard: {form: worktable, state: %q}}
`, slot, b.dsn(transport), slot, w.publication, w.routes(), state))
	if err != nil {
		return err
	}
	defer br.stop()
	m, err := b.senderOf(ctx, slot, br.child)
	if err != nil {
		return err
	}
	end, err := lsn.Parse(w.end)
	if err != nil {
		return err
	}
	err = pollAt(ctx, askEvery, func() (bool, error) {
		at, err := lsn.Parse(br.confirmed())
		return err == nil && at >= end, br.running()
	})
	if err != nil {
		return err
	}
	r := m.finish(br.child, result{Measure: "drain", Case: w.name + " " + transport, Contender: "walbridge", Run: run, Rows: w.rows})
	br.stop()
	if err := b.results.add(r); err != nil {
		return err
	}
	return b.dropSlot(ctx, slot)
}

// drainPeer runs PostgreSQL's own client, which exits at the end position.
func (b *bench) drainPeer(ctx context.Context, w workload, transport string, run int) error {
	client, err := b.recvlogical()
	if err != nil {
		return errNoClient
	}
	slot, err := b.copySlot(ctx, w)
	if err != nil {
		return err
	}
	c, err := b.spawn(ctx, client, "-d", b.dsn(transport), "--slot", slot, "--start", "-f", "/dev/null", "--no-loop", "--endpos", w.end,
		"-o", "proto_version=1", "-o", "publication_names="+w.publication)
	if err != nil {
		return err
	}
	m, err := b.senderOf(ctx, slot, c)
	if err != nil {
		return err
	}
	r := result{Measure: "drain", Case: w.name + " " + transport, Contender: "pg_recvlogical", Run: run, Rows: w.rows}
	tick := time.NewTicker(pollEvery)
	defer tick.Stop()
	for alive := true; alive; {
		select {
		case <-c.exited:
			alive = false
			r.Seconds = time.Since(m.started).Seconds()
		case <-tick.C: // the figures are gone with the process
			r.ClientCPU, r.SenderCPU, r.PeakMiB = cpuSeconds(c.pid()), cpuSeconds(m.sender), peakMiB(c.pid())
		}
	}
	if err := b.results.add(r); err != nil {
		return err
	}
	return b.dropSlot(ctx, slot)
}

// routes is the routes section that takes the workload's table.
func (w workload) routes() string {
	if w.outbox {
		return "routes: [{tables: [public.outbox], outbox: {}}]"
	}
	return fmt.Sprintf("routes: [{tables: [public.%s], changes: {}, snapshot: never}]", w.table)
}
