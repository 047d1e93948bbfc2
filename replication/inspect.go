package replication

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/internal/lsn"
)

// Inspect looks at the server over one SQL connection and one replication
// connection. It changes nothing. That no replication connection can be had is part
// of what it finds (Server.ReplicationErr); any other error is returned, as Classify
// makes it.
func (s *Source) Inspect(ctx context.Context) (*Server, error) {
	srv := &Server{SlotName: s.cfg.Slot, Publication: s.cfg.Publication, ApplicationName: s.applicationName()}
	err := s.onSQL(ctx, "inspect the source", func(ctx context.Context, conn *pgconn.PgConn) error {
		return s.inspectSQL(ctx, conn, srv)
	})
	if err != nil {
		return nil, err
	}
	dsn, key := s.replicationDSN()
	cfg, err := s.parse(dsn)
	if err != nil {
		return nil, s.connectError(err, key)
	}
	srv.TLSVerified = verified(cfg)
	if err := s.identify(ctx, srv); err != nil {
		if ctx.Err() != nil {
			return nil, context.Cause(ctx)
		}
		srv.ReplicationErr = err
	}
	return srv, nil
}

// jsonServer is the answer of serverQuery.
type jsonServer struct {
	Version, Database, Encoding, WALLevel, SyncStandbyNames string

	VersionNum                                   int
	InRecovery, MessagesOpen                     bool
	Micros                                       int64
	MaxSlots, UsedSlots, MaxSenders, UsedSenders int
	WALKeepMB                                    int64
	IdleSlotMillis                               int64
	NextXid                                      uint64
	Role                                         Role
}

// serverQuery reads settings by pg_settings where their unit matters.
// pg_stat_get_wal_senders lists the senders of every role, as pg_stat_replication
// does but for its details.
const serverQuery = `
WITH setting AS (
  SELECT name, setting::bigint * CASE unit WHEN 'min' THEN 60000 WHEN 's' THEN 1000 ELSE 1 END AS value
  FROM pg_catalog.pg_settings
  WHERE name IN ('max_replication_slots', 'max_wal_senders', 'max_slot_wal_keep_size', 'idle_replication_slot_timeout')
)
SELECT pg_catalog.jsonb_build_object(
  'Version', pg_catalog.current_setting('server_version'),
  'VersionNum', pg_catalog.current_setting('server_version_num')::int,
  'Database', pg_catalog.current_database(),
  'Encoding', pg_catalog.current_setting('server_encoding'),
  'WALLevel', coalesce(pg_catalog.current_setting('effective_wal_level', true), pg_catalog.current_setting('wal_level')),
  'SyncStandbyNames', pg_catalog.current_setting('synchronous_standby_names'),
  'InRecovery', pg_catalog.pg_is_in_recovery(),
  'MessagesOpen', (SELECT bool_or(pg_catalog.has_function_privilege('public', oid, 'EXECUTE')) FROM pg_catalog.pg_proc
     WHERE proname = 'pg_logical_emit_message' AND pronamespace = 'pg_catalog'::regnamespace),
  'Micros', (extract(epoch FROM pg_catalog.clock_timestamp()) * 1000000)::bigint,
  'MaxSlots', (SELECT value FROM setting WHERE name = 'max_replication_slots'),
  'UsedSlots', (SELECT count(*) FROM pg_catalog.pg_replication_slots),
  'MaxSenders', (SELECT value FROM setting WHERE name = 'max_wal_senders'),
  'UsedSenders', (SELECT count(*) FROM pg_catalog.pg_stat_get_wal_senders()),
  'WALKeepMB', (SELECT value FROM setting WHERE name = 'max_slot_wal_keep_size'),
  'IdleSlotMillis', coalesce((SELECT value FROM setting WHERE name = 'idle_replication_slot_timeout'), 0),
  'NextXid', pg_catalog.pg_snapshot_xmax(pg_catalog.pg_current_snapshot())::text::numeric,
  'Role', (SELECT pg_catalog.jsonb_build_object(
     'Name', rolname, 'Superuser', rolsuper, 'Replication', rolreplication,
     'CreateInDB', pg_catalog.has_database_privilege(pg_catalog.current_database(), 'CREATE'))
     FROM pg_catalog.pg_roles WHERE rolname = current_user))`

func (s *Source) inspectSQL(ctx context.Context, conn *pgconn.PgConn, srv *Server) error {
	j, err := rowOf[jsonServer](ctx, conn, serverQuery)
	if err != nil {
		return fmt.Errorf("read the server's settings: %w", err)
	}
	srv.Version, srv.VersionNum, srv.Database, srv.Encoding = j.Version, j.VersionNum, j.Database, j.Encoding
	srv.MessagesOpen = j.MessagesOpen
	srv.WALLevel, srv.SyncStandbyNames, srv.InRecovery = j.WALLevel, j.SyncStandbyNames, j.InRecovery
	srv.Time = time.UnixMicro(j.Micros).UTC()
	srv.Slots, srv.Senders = Usage{j.MaxSlots, j.UsedSlots}, Usage{j.MaxSenders, j.UsedSenders}
	srv.MaxSlotWALKeep = j.WALKeepMB
	if j.WALKeepMB > 0 {
		srv.MaxSlotWALKeep = j.WALKeepMB << 20
	}
	srv.IdleSlotTimeout = time.Duration(j.IdleSlotMillis) * time.Millisecond
	srv.NextXid, srv.Role = j.NextXid, j.Role
	if srv.SQLSystemID, err = systemID(ctx, conn); err != nil {
		return fmt.Errorf("read the system identifier: %w", err)
	}
	if srv.PreparedTx, err = preparedTx(ctx, conn); err != nil {
		return fmt.Errorf("read prepared transactions: %w", err)
	}
	if err := s.inspectSlots(ctx, conn, srv); err != nil {
		return fmt.Errorf("read replication slots: %w", err)
	}
	if srv.Published, err = s.publication(ctx, conn); err != nil {
		return fmt.Errorf("read the publication: %w", err)
	}
	return nil
}

// systemID is 0 where the function is revoked, as some managed services do.
func systemID(ctx context.Context, conn *pgconn.PgConn) (uint64, error) {
	id, err := rowOf[int64](ctx, conn, "SELECT pg_catalog.to_jsonb(system_identifier) FROM pg_catalog.pg_control_system()")
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "42501" {
		return 0, nil
	}
	return uint64(id), err
}

func preparedTx(ctx context.Context, conn *pgconn.PgConn) ([]PreparedTx, error) {
	type row struct {
		GID, Database string
		Seconds       float64
	}
	rows, err := rowsOf[row](ctx, conn, `
SELECT pg_catalog.jsonb_build_object('GID', gid, 'Database', database,
  'Seconds', extract(epoch FROM pg_catalog.clock_timestamp() - prepared))
FROM pg_catalog.pg_prepared_xacts ORDER BY prepared`)
	var all []PreparedTx
	for _, r := range rows {
		all = append(all, PreparedTx{r.GID, r.Database, time.Duration(r.Seconds * float64(time.Second))})
	}
	return all, err
}

// jsonSlot is a row of pg_replication_slots by its column names: what a version
// lacks stays zero.
type jsonSlot struct {
	Name              string  `json:"slot_name"`
	Plugin            string  `json:"plugin"`
	Type              string  `json:"slot_type"`
	Database          string  `json:"database"`
	Temporary         bool    `json:"temporary"`
	Active            bool    `json:"active"`
	ActivePID         int32   `json:"active_pid"`
	RestartLSN        jsonLSN `json:"restart_lsn"`
	ConfirmedFlush    jsonLSN `json:"confirmed_flush_lsn"`
	WALStatus         string  `json:"wal_status"`
	SafeWALSize       *int64  `json:"safe_wal_size"`
	TwoPhase          bool    `json:"two_phase"`
	Conflicting       bool    `json:"conflicting"`
	InvalidatedBy     string  `json:"invalidation_reason"`
	Failover          bool    `json:"failover"`
	Synced            bool    `json:"synced"`
	InactiveSince     string  `json:"inactive_since"`
	CatalogXminAge    int64   `json:"catalog_xmin_age"`
	ActiveApplication string  `json:"active_application"`
}

// slotColumns makes the JSON of jsonSlot from pg_replication_slots s and
// pg_stat_activity a; application_name is visible to every role.
const slotColumns = `pg_catalog.to_jsonb(s) || pg_catalog.jsonb_build_object(
  'catalog_xmin_age', coalesce(pg_catalog.age(s.catalog_xmin), 0), 'active_application', coalesce(a.application_name, ''))`

const slotFrom = `pg_catalog.pg_replication_slots s LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = s.active_pid`

func (j *jsonSlot) slot() Slot {
	since, _ := time.Parse(time.RFC3339Nano, j.InactiveSince) // zero: unknown
	return Slot{
		Name: j.Name, Plugin: j.Plugin, Type: j.Type, Database: j.Database, Temporary: j.Temporary,
		Active: j.Active, ActivePID: j.ActivePID, ActiveApplication: j.ActiveApplication,
		RestartLSN: lsn.LSN(j.RestartLSN), ConfirmedFlush: lsn.LSN(j.ConfirmedFlush), CatalogXminAge: j.CatalogXminAge,
		WALStatus: j.WALStatus, SafeWALSize: j.SafeWALSize, TwoPhase: j.TwoPhase, Conflicting: j.Conflicting,
		InvalidatedBy: j.InvalidatedBy, Failover: j.Failover, Synced: j.Synced, InactiveSince: since,
	}
}

func (s *Source) inspectSlots(ctx context.Context, conn *pgconn.PgConn, srv *Server) error {
	rows, err := rowsOf[jsonSlot](ctx, conn, "SELECT "+slotColumns+" FROM "+slotFrom+
		" WHERE s.slot_name = "+quoteLiteral(s.cfg.Slot)+" OR pg_catalog.starts_with(s.slot_name, "+quoteLiteral(prefix)+") ORDER BY s.slot_name")
	for _, r := range rows {
		slot := r.slot()
		if slot.Name == s.cfg.Slot {
			srv.Slot = &slot
			continue
		}
		srv.OtherSlots = append(srv.OtherSlots, slot)
	}
	return err
}

// identify asks the server over a replication connection who it is.
func (s *Source) identify(ctx context.Context, srv *Server) error {
	ctx, cancel := context.WithTimeoutCause(ctx, s.limits.command, fmt.Errorf("not done within %v", s.limits.command))
	defer cancel()
	conn, _, err := s.replication(ctx)
	if err != nil {
		return err
	}
	defer closeConn(conn)
	row, err := oneRow(ctx, conn, "IDENTIFY_SYSTEM", 4)
	if err != nil {
		return Classify(fmt.Errorf("identify the source: %w", err))
	}
	if err := srv.identified(row); err != nil {
		return fmt.Errorf("identify the source: %w", err)
	}
	if srv.Timeline <= 1 {
		return nil
	}
	srv.History, err = s.history(ctx, conn, srv.Timeline)
	return err
}

// history reads a timeline's history. A server that has lost the file has none to
// show: that matters only to a position on an older timeline, for which it is a halt.
func (s *Source) history(ctx context.Context, conn *pgconn.PgConn, tli uint32) (TimelineHistory, error) {
	row, err := oneRow(ctx, conn, fmt.Sprintf("TIMELINE_HISTORY %d", tli), 2)
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "58P01" {
		s.log.Warn("the source server has no history of its timeline", "timeline", tli, "error", oneLine(pg.Message))
		return nil, nil
	}
	if err != nil {
		return nil, Classify(fmt.Errorf("read the history of timeline %d: %w", tli, err))
	}
	return ParseTimelineHistory(string(row[1]))
}

// identified takes the row of IDENTIFY_SYSTEM: systemid, timeline, xlogpos, dbname.
func (srv *Server) identified(row [][]byte) (err error) {
	if srv.SystemID, err = strconv.ParseUint(string(row[0]), 10, 64); err != nil {
		return err
	}
	tli, err := strconv.ParseUint(string(row[1]), 10, 32)
	if err != nil {
		return err
	}
	srv.Timeline = uint32(tli)
	srv.WALEnd, err = lsn.Parse(string(row[2]))
	return err
}

// oneRow runs a replication command that answers with one row of that many columns,
// or more in a later version.
func oneRow(ctx context.Context, conn *pgconn.PgConn, command string, columns int) ([][]byte, error) {
	results, err := conn.Exec(ctx, command).ReadAll()
	if err != nil {
		return nil, err
	}
	if len(results) != 1 || len(results[0].Rows) != 1 || len(results[0].Rows[0]) < columns {
		return nil, fmt.Errorf("unexpected answer to %s", command)
	}
	return results[0].Rows[0], nil
}
