package main

import (
	"bytes"
	"context"
	"fmt"
	"time"

	"github.com/walbridge/walbridge/internal/migrate"
	"github.com/walbridge/walbridge/internal/secret"
	"github.com/walbridge/walbridge/sink/worktable"
)

// worktable measures a slot read into a work table in the same server, counted in
// the table, against COPY of the same rows into a table of the same shape by one
// connection while nothing else happens.
func (b *bench) worktable(ctx context.Context) error {
	workloads, err := b.workloads(ctx)
	if err != nil {
		return err
	}
	for _, w := range workloads {
		if w.name != "w2" && w.name != "w4" && !b.o.full {
			continue
		}
		for run := range b.o.runs {
			if err := b.intoTable(ctx, w, run); err != nil {
				return err
			}
			if err := b.plainCopy(ctx, w, run); err != nil {
				return err
			}
			if err := b.exec(ctx, "DROP SCHEMA "+b.schema()+" CASCADE"); err != nil {
				return err
			}
		}
	}
	return nil
}

func (b *bench) schema() string { return fmt.Sprintf("bench%d", b.schemas) }

// makeTable makes a work table in a schema of its own and gives a slot's bridge its
// position there.
func (b *bench) makeTable(ctx context.Context, slot string) error {
	return b.makeTableWith(ctx, slot, nil)
}

// makeTableWith is makeTable for a bridge that has tables to read.
func (b *bench) makeTableWith(ctx context.Context, slot string, todo []byte) error {
	b.schemas++
	dsn := secret.DSN(b.server.DSN("postgres"))
	if _, err := migrate.Up(ctx, migrate.Config{DSN: dsn, Schema: b.schema()}); err != nil {
		return err
	}
	return b.adoptWith(ctx, worktable.New(worktable.Config{DSN: dsn, Schema: b.schema()}.WithDefaults(), nil), slot, todo)
}

// tableBridge starts a bridge from a slot into a work table of its own, and waits
// until the slot is active.
func (b *bench) tableBridge(ctx context.Context, name, slot string, w workload) (*bridge, measured, error) {
	if err := b.makeTable(ctx, slot); err != nil {
		return nil, measured{}, err
	}
	br, err := b.runBridge(ctx, name, b.tableConfig(slot, w))
	if err != nil {
		return nil, measured{}, err
	}
	m, err := b.senderOf(ctx, slot, br.child)
	if err != nil {
		br.stop()
	}
	return br, m, err
}

func (b *bench) tableConfig(slot string, w workload) string {
	return fmt.Sprintf(`name: %s
source: {dsn: %q, slot: %s, publication: %s}
%s
sink: {worktable: {dsn: %q, schema: %s}}
`, slot, b.server.DSN("postgres"), slot, w.publication, w.routes(), b.server.SocketDSN("postgres"), b.schema())
}

func (b *bench) intoTable(ctx context.Context, w workload, run int) error {
	slot, err := b.copySlot(ctx, w)
	if err != nil {
		return err
	}
	br, m, err := b.tableBridge(ctx, "table", slot, w)
	if err != nil {
		return err
	}
	defer br.stop()
	if err := b.awaitRows(ctx, w.rows, br); err != nil {
		return err
	}
	r := m.finish(br.child, result{Measure: "worktable", Case: w.name, Contender: "walbridge", Run: run, Rows: w.rows})
	br.stop()
	var n int64
	if err := b.admin.QueryRow(ctx, "SELECT count(*) FROM "+b.schema()+".log").Scan(&n); err != nil {
		return err
	}
	if n != w.rows {
		return fmt.Errorf("the log has %d rows, not %d", n, w.rows)
	}
	if err := b.results.add(r); err != nil {
		return err
	}
	return b.dropSlot(ctx, slot)
}

// awaitRows waits until that many rows are visible in the log: seq numbers them
// without a gap here, since no write fails.
func (b *bench) awaitRows(ctx context.Context, rows int64, br *bridge) error {
	return poll(ctx, func() (bool, error) {
		var last int64
		err := b.admin.QueryRow(ctx, "SELECT coalesce((SELECT seq FROM "+b.schema()+".log ORDER BY seq DESC LIMIT 1), 0)").Scan(&last)
		if err != nil {
			return false, err
		}
		return last >= rows, br.running()
	})
}

// plainCopy loads the rows of the log that the bridge has just filled into its
// twin, in one COPY of one transaction, from memory.
func (b *bench) plainCopy(ctx context.Context, w workload, run int) error {
	twin := b.schema() + ".twin"
	if err := b.exec(ctx, fmt.Sprintf("CREATE TABLE %[1]s (LIKE %[2]s.log INCLUDING ALL)", twin, b.schema())); err != nil {
		return err
	}
	var rows bytes.Buffer
	conn := b.admin.PgConn()
	if _, err := conn.CopyTo(ctx, &rows, fmt.Sprintf("COPY (SELECT * FROM %s.log ORDER BY seq) TO STDOUT (FORMAT binary)", b.schema())); err != nil {
		return err
	}
	begun := time.Now()
	tag, err := conn.CopyFrom(ctx, &rows, "COPY "+twin+" FROM STDIN (FORMAT binary)")
	if err != nil {
		return err
	}
	return b.results.add(result{Measure: "worktable", Case: w.name, Contender: "copy", Run: run, Rows: tag.RowsAffected(), Seconds: time.Since(begun).Seconds()})
}
