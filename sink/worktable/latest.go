package worktable

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/migrations"
)

// Latest is what the work table says of a bridge, whether it runs or not.
type Latest struct {
	Progress    lsn.Progress // with PhaseNone for a bridge never seen
	Epoch       int64        // how often it was opened
	Batches     int64        // writes so far
	LastSeq     int64        // the newest item of any bridge that the log may hold; 0: none
	WrittenAt   time.Time    // of the newest batch; zero: none
	OpenedAt    time.Time    // zero: never
	DeadLetters int64        // open ones of the bridge
}

// ReadLatest reads it over a connection of its own. It locks nothing.
func ReadLatest(ctx context.Context, cfg Config, name string) (Latest, error) {
	conn, err := connect(ctx, cfg, appName(name, "status"))
	if err != nil {
		return Latest{}, err
	}
	defer closeConn(conn)
	l, err := readLatestOf(ctx, conn, statements{migrations.Ident(cfg.Schema)}, name)
	if err != nil {
		return Latest{}, operationError(ctx, "read the progress of "+name, err)
	}
	return l, nil
}

// connect opens a session and compares the schema's version.
func connect(ctx context.Context, cfg Config, app string) (*pgx.Conn, error) {
	parsed, err := cfg.parse(app)
	if err != nil {
		return nil, err
	}
	conn, err := pgx.ConnectConfig(ctx, parsed)
	if err != nil {
		return nil, connectError(err)
	}
	row, err := textRow(ctx, conn, statements{migrations.Ident(cfg.Schema)}.version())
	switch {
	case hasCode(err, codeUndefinedTable):
		err = fault.Config(noSchema(cfg))
	case err == nil:
		err = checkVersion(cfg, row)
	}
	if err != nil {
		closeConn(conn)
		return nil, operationError(ctx, "read the version of the work table", err)
	}
	return conn, nil
}

// textRow returns the values of the first row, as texts.
func textRow(ctx context.Context, conn *pgx.Conn, sql string) ([][]byte, error) {
	r, err := conn.PgConn().Exec(ctx, sql).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(r) == 0 || len(r[0].Rows) == 0 {
		return nil, pgx.ErrNoRows
	}
	return r[0].Rows[0], nil
}

func readLatestOf(ctx context.Context, conn *pgx.Conn, q statements, name string) (Latest, error) {
	var l Latest
	row, err := textRow(ctx, conn, q.source(name))
	if errors.Is(err, pgx.ErrNoRows) {
		return l, nil
	}
	if err != nil {
		return l, err
	}
	source, err := parseSource(row)
	if err != nil {
		return l, fmt.Errorf("read the source row: %w", err)
	}
	results, err := conn.PgConn().Exec(ctx, q.latest(name)).ReadAll()
	if err != nil {
		return l, err
	}
	l.Epoch = source.before
	if l.Progress, l.Batches, err = readLatest(source.progress, results); err != nil {
		return l, err
	}
	var written, opened *time.Time
	err = conn.QueryRow(ctx, fmt.Sprintf(`SELECT
		(SELECT written_at FROM %s.batch WHERE source = $1 ORDER BY n DESC LIMIT 1), (SELECT opened_at FROM %[1]s.source WHERE name = $1),
		(SELECT count(*) FROM %[1]s.dead_letter WHERE resolution IS NULL AND subscription IS NULL AND source = $1),
		(SELECT CASE WHEN is_called THEN last_value ELSE 0 END FROM %[1]s.log_seq)`, q.schema), name).
		Scan(&written, &opened, &l.DeadLetters, &l.LastSeq)
	if written != nil {
		l.WrittenAt = *written
	}
	if opened != nil {
		l.OpenedAt = *opened
	}
	return l, err
}
