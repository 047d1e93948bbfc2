package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/embeddedpg"
)

// bench is one run of the program: a server, the workloads, the results.
type bench struct {
	o       options
	dir     string
	server  *embeddedpg.Server
	admin   *pgx.Conn
	made    map[string]workload
	kafka   *cluster // nil but for the measurements with Kafka
	results *results
	slots   int
	schemas int
}

// settings are those of a modest production server: everything is synchronous.
func settings() map[string]string {
	return map[string]string{
		"wal_level": "logical", "fsync": "on", "synchronous_commit": "on", "shared_buffers": "512MB", "max_wal_size": "8GB",
		"max_replication_slots": "40", "max_wal_senders": "20", "autovacuum": "off", "checkpoint_timeout": "30min", "logical_decoding_work_mem": "64MB",
		"max_connections": "1200",
	}
}

func newBench(ctx context.Context, o options) (_ *bench, err error) {
	b := &bench{o: o, made: map[string]workload{}}
	defer func() {
		if err != nil {
			b.close()
		}
	}()
	if b.dir, err = os.MkdirTemp("", "walbridge-bench-"); err != nil {
		return nil, err
	}
	if err := os.Chmod(b.dir, 0o755); err != nil { // the server may run as another user
		return nil, err
	}
	if b.o.binary == "" {
		b.o.binary = filepath.Join(b.dir, "walbridge")
		build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-ldflags=-s -w", "-o", b.o.binary, "./cmd/walbridge")
		build.Env = append(os.Environ(), "CGO_ENABLED=0") // as it is shipped
		build.Stderr = os.Stderr
		if err := build.Run(); err != nil {
			return nil, fmt.Errorf("build walbridge (run bench from the top of the tree): %w", err)
		}
	}
	install, err := embeddedpg.Find(15)
	if err != nil {
		if install, err = embeddedpg.Find(0); err != nil {
			return nil, err
		}
	}
	if b.server, err = embeddedpg.Start(ctx, embeddedpg.Config{Install: install, Dir: filepath.Join(b.dir, "pg"), Settings: settings()}); err != nil {
		return nil, err
	}
	if b.admin, err = pgx.Connect(ctx, b.server.DSN("postgres")); err != nil {
		return nil, err
	}
	if o.kafka {
		if b.kafka, err = newCluster(); err != nil {
			return nil, err
		}
	}
	if b.results, err = newResults(o.out, describe(o, install.Version, settings())); err != nil {
		return nil, err
	}
	return b, b.exec(ctx, tables)
}

func (b *bench) close() {
	ctx := context.Background()
	if b.kafka != nil {
		_ = b.kafka.close()
	}
	if b.admin != nil {
		_ = b.admin.Close(ctx)
	}
	if b.server != nil {
		_ = b.server.Stop(ctx, embeddedpg.Immediate)
	}
	_ = os.RemoveAll(b.dir)
}

func (b *bench) exec(ctx context.Context, sql string) error {
	if _, err := b.admin.Exec(ctx, sql, pgx.QueryExecModeSimpleProtocol); err != nil {
		first, _, _ := strings.Cut(sql, "\n")
		return fmt.Errorf("%s: %w", first, err)
	}
	return nil
}

// copySlot gives a run a slot of its own over a workload's WAL.
func (b *bench) copySlot(ctx context.Context, w workload) (string, error) {
	b.slots++
	slot := fmt.Sprintf("walbridge_run%d", b.slots)
	return slot, b.exec(ctx, fmt.Sprintf("SELECT pg_copy_logical_replication_slot('%s', '%s')", w.master, slot))
}

// emptySlot empties the table of the latency measurements and makes a slot after
// that.
func (b *bench) emptySlot(ctx context.Context, slot string) error {
	if err := b.exec(ctx, "TRUNCATE orders_lat"); err != nil {
		return err
	}
	return b.exec(ctx, "SELECT pg_create_logical_replication_slot('"+slot+"', 'pgoutput')")
}

func (b *bench) dropSlot(ctx context.Context, slot string) error {
	return poll(ctx, func() (bool, error) {
		_, err := b.admin.Exec(ctx, "SELECT pg_drop_replication_slot($1)", slot)
		if err != nil && strings.Contains(err.Error(), "is active") {
			return false, nil
		}
		return true, err
	})
}

// recvlogical is PostgreSQL's own client, from the same installation as the server.
func (b *bench) recvlogical() (string, error) {
	path := filepath.Join(b.server.Install().BinDir, "pg_recvlogical")
	if _, err := os.Stat(path); err == nil {
		return path, nil
	}
	return exec.LookPath("pg_recvlogical")
}
