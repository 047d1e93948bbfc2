package worktable

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/secret"
)

// appPrefix begins the application_name of every session of ours: only such a
// session is ever ended by another.
const appPrefix = "walbridge"

// closeWithin bounds the polite end of a session.
const closeWithin = time.Second

// parse reads the connection string and pins what must not depend on the
// database's or role's defaults.
func (c Config) parse(app string) (*pgx.ConnConfig, error) {
	dsn := c.DSN
	if c.Resolve != nil {
		var err error
		if dsn, err = c.Resolve(dsn); err != nil {
			return nil, fault.Transient("sink_secret", fmt.Errorf("read the sink's connection string: %w", err))
		}
	}
	cfg, err := pgx.ParseConfig(dsn.Reveal())
	if err != nil {
		return nil, fault.Config(fault.Problem{
			Check: "sink-dsn", Where: "sink.worktable.dsn", What: secret.Redact(err.Error()), Fix: "give a connection string of PostgreSQL",
		})
	}
	cfg.RuntimeParams["application_name"] = app
	cfg.RuntimeParams["client_encoding"] = "UTF8"
	cfg.RuntimeParams["timezone"] = "UTC"
	cfg.RuntimeParams["datestyle"] = "ISO"
	cfg.RuntimeParams["standard_conforming_strings"] = "on"
	cfg.DefaultQueryExecMode = pgx.QueryExecModeExec
	return cfg, nil
}

// appName is the application_name of a bridge's session.
func appName(bridge, role string) string { return fmt.Sprintf("%s_%.40s/%s", appPrefix, bridge, role) }

// connectError gives an error of connecting its kind, without a secret in its text.
func connectError(err error) error {
	var pg *pgconn.PgError
	if errors.As(err, &pg) {
		return serverError("connect to the sink", err)
	}
	return fault.Transient("sink_connect", fmt.Errorf("connect to the sink: %w", redacted(err)))
}

// redacted keeps an error as it is when there is no secret in its text.
func redacted(err error) error {
	if text := secret.Redact(err.Error()); text != err.Error() {
		return errors.New(text)
	}
	return err
}

// conn is the writer's session. Its calls take no part in pgconn's cancelling: see
// dial.
type conn struct {
	pg          *pgconn.PgConn
	established atomic.Bool
}

var errNoCancel = errors.New("a session in doubt is not cancelled")

// dial connects. pgconn answers any trouble of a connection, an ended context too,
// by a cancel request on a second connection. One that meets a COMMIT waiting for a
// synchronous standby ends the wait: the transaction becomes visible, and counts
// as durable here, though no standby has it (syncrep.c, SyncRepWaitForLSN). So
// nothing is dialled any more once the session is there.
func dial(ctx context.Context, cfg *pgx.ConnConfig) (*conn, error) {
	c := &conn{}
	through := cfg.DialFunc
	own := cfg.Config.Copy()
	own.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		if c.established.Load() {
			return nil, errNoCancel
		}
		return through(ctx, network, addr)
	}
	pg, err := pgconn.ConnectConfig(ctx, own)
	if err != nil {
		return nil, connectError(err)
	}
	c.established.Store(true)
	c.pg = pg
	return c, nil
}

// exec runs statements, each with a snapshot of its own, and returns their results.
func (c *conn) exec(ctx context.Context, sql string) ([]*pgconn.Result, error) {
	return c.pg.Exec(ctx, sql).ReadAll()
}

func (c *conn) copyFrom(ctx context.Context, sql string, parts ...[]byte) error {
	_, err := c.pg.CopyFrom(ctx, newParts(parts), sql)
	return err
}

// close ends the session, politely when it is still whole, and waits until nothing
// of it is left in this process.
func (c *conn) close() {
	if !c.pg.IsClosed() {
		ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
		defer cancel()
		_ = c.pg.Close(ctx) // the session ends either way
	}
	_ = c.pg.Conn().Close()
	<-c.pg.CleanupDone()
}

// parts reads several pieces of memory one after the other.
type parts struct{ left [][]byte }

func newParts(left [][]byte) *parts { return &parts{left} }

// Read fills p from as many pieces as it takes: each Read of pgconn's becomes one
// message.
func (r *parts) Read(p []byte) (int, error) {
	n := 0
	for n < len(p) && len(r.left) > 0 {
		m := copy(p[n:], r.left[0])
		n += m
		if r.left[0] = r.left[0][m:]; len(r.left[0]) == 0 {
			r.left = r.left[1:]
		}
	}
	if n == 0 {
		return 0, io.EOF
	}
	return n, nil
}
