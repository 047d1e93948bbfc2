package replication

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
)

// Reasons of transient errors (fault.Reason), for labels and for callers that act
// on one.
const (
	ReasonNetwork    = "network"
	ReasonProtocol   = "protocol"    // bytes that no server sends
	ReasonSilent     = "silent"      // ErrSilent
	ReasonEnded      = "ended"       // ErrEnded
	ReasonSlotActive = "slot_active" // another session holds the slot, perhaps a zombie of ours
	ReasonSlotState  = "slot_state"  // look at the slot again: Reconcile knows more
	ReasonTerminated = "terminated"  // an administrator, a shutdown, or an invalidated slot
	ReasonStarting   = "starting"    // the server starts, stops or recovers
	ReasonBusy       = "busy"        // no free connection or walsender
	ReasonLogin      = "login"       // refused after it had worked: a password that rotates
	ReasonBlocked    = "blocked"     // slot creation waits for open transactions
	ReasonStandby    = "standby"     // the server is in recovery
	ReasonServer     = "server"      // any other error of the server
)

// Classify says what kind of trouble an error of the source server is: transient
// with a reason, a *fault.Halt, or a *fault.ConfigError. What is classified already
// stays; errors of a context too. nil stays nil.
//
// It goes by SQLSTATE and by the name of the server's routine, which unlike the
// message is in no language.
func Classify(err error) error {
	var pg *pgconn.PgError
	switch {
	case err == nil || classified(err):
		return err
	case errors.As(err, &pg):
		return classifyServer(pg, err)
	case errors.As(err, new(*ProtocolError)):
		return fault.Transient(ReasonProtocol, err)
	case errors.Is(err, ErrSilent):
		return fault.Transient(ReasonSilent, err)
	case errors.Is(err, ErrEnded):
		return fault.Transient(ReasonEnded, err)
	}
	return fault.Transient(ReasonNetwork, err)
}

func classified(err error) bool {
	return fault.Reason(err) != "other" || errors.As(err, new(*fault.Halt)) || errors.As(err, new(*fault.ConfigError)) ||
		errors.Is(err, context.Canceled) || errors.Is(err, ErrShutdown) || errors.Is(err, ErrInterrupted)
}

// classifyServer judges an ErrorResponse (appendix "PostgreSQL Error Codes").
func classifyServer(pg *pgconn.PgError, err error) error {
	switch pg.Code {
	case "55006": // object_in_use
		return fault.Transient(ReasonSlotActive, err)
	case "57P01", "57P02": // admin_shutdown, crash_shutdown
		return fault.Transient(ReasonTerminated, err)
	case "57P03": // cannot_connect_now
		return fault.Transient(ReasonStarting, err)
	case "53300": // too_many_connections
		return fault.Transient(ReasonBusy, err)
	case "53400": // configuration_limit_exceeded: slot.c, "all replication slots are in use"
		return noFreeSlot(err)
	case "55000": // object_not_in_prerequisite_state
		if pg.Routine == "CheckLogicalDecodingRequirements" {
			return walLevelTooLow(err)
		}
		return fault.Transient(ReasonSlotState, err) // lost, of another database, not logical: Reconcile says which
	case "58P01": // undefined_file
		if pg.Routine == "WalSndSegmentOpen" { // "requested WAL segment … has already been removed"
			return walRemoved(err)
		}
	case "42704": // undefined_object
		if pg.Routine == "get_publication_oid" || strings.Contains(pg.Message, "publication") {
			return publicationUndecodable(pg, err)
		}
		return fault.Transient(ReasonSlotState, err) // the slot: Reconcile knows the positions
	case "08P01":
		if strings.Contains(pg.Message, "startup parameter") || strings.Contains(pg.Message, "replication") {
			return pooler(err)
		}
	case "42710": // duplicate_object
		if pg.Routine == "ReplicationSlotCreate" {
			return fault.Transient(ReasonSlotState, err) // somebody has made it since we looked: Reconcile says whose it is
		}
	case "3D000":
		return configErr("database", err, "the database of the connection string does not exist", "correct source.dsn")
	case "42501":
		return noRights(err)
	}
	switch pg.Code[:min(2, len(pg.Code))] {
	case "28":
		return configErr("login", err, "the server refuses the login", "correct user, password or pg_hba.conf; a line for `replication` in pg_hba.conf does not count for logical replication, one for the database does")
	case "0A", "22", "42":
		if pg.Where == "" { // in a callback of the plugin it is the data, not the configuration
			return configErr("server", err, "the server refuses what the configuration asks for", "correct the configuration or the server's version")
		}
	}
	return fault.Transient(ReasonServer, err)
}

// configErr makes a ConfigError of one problem from a server's error. The server's
// text is the last part of what is wrong.
func configErr(check string, err error, what, fix string) error {
	return fault.Config(fault.Problem{Check: check, Where: "source", What: what + ": " + serverText(err), Fix: fix})
}

// serverText is what the server said, in one line and without our own wrapping.
func serverText(err error) string {
	var pg *pgconn.PgError
	if !errors.As(err, &pg) {
		return oneLine(err.Error())
	}
	text := pg.Message
	if pg.Detail != "" {
		text += "; " + pg.Detail
	}
	return oneLine(text) + " (SQLSTATE " + pg.Code + ")"
}

func noFreeSlot(err error) error {
	return configErr("free-slot", err, "no free replication slot",
		"raise max_replication_slots (needs a restart), or drop a slot that nobody reads: SELECT slot_name, active, wal_status FROM pg_replication_slots; SELECT pg_drop_replication_slot('…')")
}

func noFreeSender(err error) error {
	return configErr("free-sender", err, "no free walsender",
		"raise max_wal_senders (needs a restart), or end a session that nobody needs: SELECT pid, application_name FROM pg_stat_replication")
}

func walLevelTooLow(err error) error {
	return configErr("wal-level", err, "wal_level is not logical", "ALTER SYSTEM SET wal_level = 'logical', then restart the server (managed services have a parameter of their own for it, such as rds.logical_replication or cloudsql.logical_decoding)")
}

func noRights(err error) error {
	return configErr("rights", err, "the role lacks a right", "`walbridge setup --print` shows the GRANTs that each role needs")
}

func pooler(err error) error {
	return configErr("pooler", err, "the connection goes through a pooler that does not pass replication on", "point source.replication_dsn at the server itself")
}

// connectError judges why no connection could be had. Before a stream has run, what
// only the configuration can cure is a ConfigError; afterwards it is worth another
// try, since it did work: a password rotates, senders are busy.
func (s *Source) connectError(err error, key string) error {
	var pg *pgconn.PgError
	isServer := errors.As(err, &pg)
	wrapped := fmt.Errorf("connect to %s: %w", key, plain{err})
	switch {
	case classified(err):
		return err
	case isServer && s.streamed.Load() && strings.HasPrefix(pg.Code, "28"):
		return fault.Transient(ReasonLogin, wrapped)
	case isServer && !s.streamed.Load() && pg.Code == "53300" && pg.Routine == "InitProcess" && key != "":
		return s.noConnection(pg, wrapped)
	case isServer:
		return Classify(wrapped)
	case untrusted(err) && !s.streamed.Load():
		return fault.Config(fault.Problem{Check: "tls", Where: key, What: oneLine(wrapped.Error()),
			Fix: "give sslrootcert=, or use the host name that the server's certificate bears"})
	}
	return fault.Transient(ReasonNetwork, wrapped)
}

// noConnection tells the two errors of InitProcess (proc.c) apart, which share
// SQLSTATE and routine: a walsender that finds no place names the parameter.
func (s *Source) noConnection(pg *pgconn.PgError, err error) error {
	if strings.Contains(pg.Message, "max_wal_senders") {
		return noFreeSender(err)
	}
	return Classify(err)
}

func untrusted(err error) bool {
	return errors.As(err, new(*tls.CertificateVerificationError)) || errors.As(err, new(x509.UnknownAuthorityError)) ||
		errors.As(err, new(x509.HostnameError))
}

// plain prints an error in one line.
type plain struct{ err error }

func (p plain) Error() string { return oneLine(p.err.Error()) }
func (p plain) Unwrap() error { return p.err }

// associated finds the LSN in the context of an error of an output plugin's
// callback (logical.c, output_plugin_error_callback), which ends with it in every
// language.
var associated = regexp.MustCompile(`([0-9A-Fa-f]{1,8}/[0-9A-Fa-f]{1,8})\s*$`)

// pluginLSN is the LSN at which the output plugin failed; false: the error is of no
// callback.
func pluginLSN(pg *pgconn.PgError) (lsn.LSN, bool) {
	for line := range strings.Lines(pg.Where) {
		m := associated.FindStringSubmatch(strings.TrimRight(line, "\r\n"))
		if m == nil {
			continue
		}
		if at, err := lsn.Parse(m[1]); err == nil {
			return at, true
		}
	}
	return 0, false
}
