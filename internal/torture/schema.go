package torture

import (
	"context"
	_ "embed"
	"fmt"

	"github.com/jackc/pgx/v5"
)

// SchemaName holds the tables that the bridge under test is to read: its route is
// SchemaName.*, but for OutboxTable.
const SchemaName = "load"

// OutboxTable is the outbox of the workload, with the default columns.
const OutboxTable = SchemaName + ".outbox"

//go:embed schema.sql
var schemaSQL string

// Install makes the tables of the workload in an empty database.
func Install(ctx context.Context, dsn string) error {
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return fmt.Errorf("connect to install the workload: %w", err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, schemaSQL); err != nil {
		return fmt.Errorf("install the workload: %w", err)
	}
	return nil
}
