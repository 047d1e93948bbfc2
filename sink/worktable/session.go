package worktable

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/secret"
)

// Connect opens a session for whoever looks at the work table or works on it beside
// the bridge, and compares the schema's version. purpose ends its application_name.
// The caller closes it.
//
// Errors: *fault.ConfigError, or transient.
func Connect(ctx context.Context, cfg Config, purpose string) (*pgx.Conn, error) {
	return connect(ctx, cfg, appPrefix+" "+purpose)
}

// Pool is Connect for libraries that want a pool. It has at most two connections.
func Pool(ctx context.Context, cfg Config, purpose string) (*pgxpool.Pool, error) {
	conn, err := Connect(ctx, cfg, purpose) // the version, and errors of connecting without a secret
	if err != nil {
		return nil, err
	}
	defer closeConn(conn)
	parsed, err := pgxpool.ParseConfig("")
	if err != nil {
		return nil, fault.Transient("sink_connect", fmt.Errorf("connect to the sink: %s", secret.Redact(err.Error())))
	}
	parsed.ConnConfig = conn.Config()
	parsed.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeDescribeExec
	parsed.MaxConns = 2
	pool, err := pgxpool.NewWithConfig(ctx, parsed)
	if err != nil {
		return nil, connectError(err)
	}
	return pool, nil
}
