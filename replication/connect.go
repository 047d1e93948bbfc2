package replication

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/internal/secret"
)

// DSN is the source database's connection string; it prints without its password.
func (s *Source) DSN() secret.DSN { return s.cfg.DSN }

// pinned are the session settings of a replication connection. Values reach us in
// their text form, which depends on the first group: without it a default of the
// role or the database decides how a date looks. The second group keeps time-outs
// meant for people from ending a session that lasts for months. The last two are
// ours to choose (both are USERSET): a dead session frees its slot soon, and large
// transactions spill to the server's disk later.
func pinned(senderTimeout time.Duration) map[string]string {
	return map[string]string{
		"client_encoding":    "UTF8",
		"datestyle":          "ISO",
		"intervalstyle":      "postgres",
		"extra_float_digits": "3",
		"bytea_output":       "hex",
		"timezone":           "UTC",
		"search_path":        "pg_catalog", // regclass and its like print names without what is in it

		"statement_timeout":                   "0",
		"lock_timeout":                        "0",
		"idle_in_transaction_session_timeout": "0",
		"idle_session_timeout":                "0",

		"wal_sender_timeout":        fmt.Sprintf("%dms", senderTimeout.Milliseconds()),
		"logical_decoding_work_mem": "128MB",
	}
}

// parse reads a connection string, with whatever it takes from files and the
// environment.
func (s *Source) parse(dsn secret.DSN) (*pgconn.Config, error) {
	if s.cfg.Resolve != nil {
		var err error
		if dsn, err = s.cfg.Resolve(dsn); err != nil {
			return nil, fmt.Errorf("resolve the connection string: %w", err)
		}
	}
	cfg, err := pgconn.ParseConfig(dsn.Reveal())
	if err != nil {
		return nil, errors.New(oneLine(secret.Redact(err.Error())))
	}
	return cfg, nil
}

// replicationDSN is the connection string of replication connections, and the key
// that it comes from.
func (s *Source) replicationDSN() (secret.DSN, string) {
	if s.cfg.ReplicationDSN == "" || s.cfg.ReplicationDSN == s.cfg.DSN {
		return s.cfg.DSN, "source.dsn"
	}
	return s.cfg.ReplicationDSN, "source.replication_dsn"
}

// config makes the settings of one connection attempt. Files, environment and the
// password command are read anew each time, since passwords rotate.
func (s *Source) config(ctx context.Context, dsn secret.DSN) (*pgconn.Config, error) {
	cfg, err := s.parse(dsn)
	if err != nil {
		return nil, err
	}
	if len(s.cfg.PasswordCommand) > 0 {
		if cfg.Password, err = password(ctx, s.cfg.PasswordCommand, s.limits.password); err != nil {
			return nil, err
		}
	}
	if cfg.ConnectTimeout == 0 || cfg.ConnectTimeout > s.limits.connect {
		cfg.ConnectTimeout = s.limits.connect
	}
	cfg.RuntimeParams["application_name"] = s.applicationName()
	cfg.OnNotice = func(_ *pgconn.PgConn, n *pgconn.Notice) {
		s.log.Debug("the source server says", "severity", n.Severity, "notice", oneLine(n.Message))
	}
	return cfg, nil
}

// sql opens an ordinary connection, which may go through a pooler: nothing but its
// name is set.
func (s *Source) sql(ctx context.Context) (*pgconn.PgConn, error) {
	cfg, err := s.config(ctx, s.cfg.DSN)
	if err != nil {
		return nil, s.connectError(err, "source.dsn")
	}
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, s.connectError(err, "source.dsn")
	}
	return conn, nil
}

// replication opens a replication connection and returns the socket below it. Only
// the simple protocol works on it.
func (s *Source) replication(ctx context.Context) (*pgconn.PgConn, *socket, error) {
	dsn, key := s.replicationDSN()
	cfg, err := s.config(ctx, dsn)
	if err != nil {
		return nil, nil, s.connectError(err, key)
	}
	maps.Copy(cfg.RuntimeParams, pinned(s.limits.senderTime))
	cfg.RuntimeParams["replication"] = "database"
	var sock *socket // of the last attempt: a DSN may name several hosts
	dial := cfg.DialFunc
	cfg.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
		c, err := dial(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		sock = &socket{Conn: c}
		setUserTimeout(c, s.limits.senderTime)
		return sock, nil
	}
	conn, err := pgconn.ConnectConfig(ctx, cfg)
	if err != nil {
		return nil, nil, s.connectError(err, key)
	}
	return conn, sock, s.pinLate(ctx, conn)
}

// pinLate sets what older servers would refuse in the startup packet.
func (s *Source) pinLate(ctx context.Context, conn *pgconn.PgConn) error {
	if majorOf(conn.ParameterStatus("server_version")) < 17 {
		return nil
	}
	if err := run(ctx, conn, "SET transaction_timeout = 0"); err != nil {
		closeConn(conn)
		return Classify(fmt.Errorf("set up the replication connection: %w", err))
	}
	return nil
}

// majorOf reads the major version of a server_version such as "18beta1 (Debian)";
// 0 when it cannot.
func majorOf(version string) int {
	n := 0
	for _, r := range version {
		if r < '0' || r > '9' {
			break
		}
		n = n*10 + int(r-'0')
	}
	return n
}

// closeWithin bounds the polite end of a connection.
const closeWithin = 2 * time.Second

// closeConn ends a connection whose fate is of no further interest.
func closeConn(conn *pgconn.PgConn) {
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	_ = conn.Close(ctx)
}

// run runs one statement that has no result.
func run(ctx context.Context, conn *pgconn.PgConn, sql string) error {
	_, err := conn.Exec(ctx, sql).ReadAll()
	return err
}

// verified reports whether each way that the DSN allows checks the
// server's certificate and name, or never leaves this machine.
func verified(cfg *pgconn.Config) bool {
	safe := func(host string, ok bool) bool { return ok || onThisMachine(host) }
	if !safe(cfg.Host, cfg.TLSConfig != nil && !cfg.TLSConfig.InsecureSkipVerify) {
		return false
	}
	for _, f := range cfg.Fallbacks {
		if !safe(f.Host, f.TLSConfig != nil && !f.TLSConfig.InsecureSkipVerify) {
			return false
		}
	}
	return true
}

func onThisMachine(host string) bool {
	if strings.HasPrefix(host, "/") || strings.HasPrefix(host, "@") || host == "localhost" {
		return true
	}
	ip := net.ParseIP(host)
	return ip != nil && ip.IsLoopback()
}

// quoteIdent quotes a name for SQL and for replication commands.
func quoteIdent(name string) string { return `"` + strings.ReplaceAll(name, `"`, `""`) + `"` }

// quoteQualified quotes a table's name.
func quoteQualified(schema, name string) string { return quoteIdent(schema) + "." + quoteIdent(name) }

// quoteLiteral quotes a string for SQL whatever standard_conforming_strings says.
func quoteLiteral(s string) string {
	q := "'" + strings.ReplaceAll(s, "'", "''") + "'"
	if strings.Contains(q, `\`) {
		return " E" + strings.ReplaceAll(q, `\`, `\\`)
	}
	return q
}

// quoteOption quotes a string for a replication command, whose strings know no
// backslash (repl_scanner.l).
func quoteOption(s string) string { return "'" + strings.ReplaceAll(s, "'", "''") + "'" }

// pluginOptions are the options of pgoutput. Protocol 1, text, no streaming, no
// two-phase is the profile that all of 14 to 18 share: whole transactions in
// commit order, and the server does the buffering.
func pluginOptions(publication string) string {
	return "proto_version '1', publication_names " + quoteOption(quoteIdent(publication)) + ", messages 'true'"
}
