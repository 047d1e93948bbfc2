package replication

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
)

// CreateSlot makes the replication slot and returns the position it begins at: every
// transaction that commits after it is in the stream, every other is not. The
// publication must exist by then, committed. A second slot is there meanwhile (settle).
//
// The server waits, for each of the two, for the transactions that are open in the
// whole cluster and have written. After a minute of that it is cancelled, which leaves
// nothing behind, and the error, transient, names who is in the way.
//
// Errors: *fault.ConfigError (no free slot, wal_level, rights, failover asked of an
// old server), else transient.
func (s *Source) CreateSlot(ctx context.Context) (lsn.LSN, error) {
	return s.CreateSlotWith(ctx, nil)
}

// UseSnapshot is given the name of an exported snapshot, for SET TRANSACTION SNAPSHOT,
// which is there until it returns.
type UseSnapshot func(ctx context.Context, exported string) error

// CreateSlotWith is CreateSlot that calls use, if not nil, while a snapshot can be had
// of what was visible at the position that is returned. Its error gives up the slot and is
// returned.
func (s *Source) CreateSlotWith(ctx context.Context, use UseSnapshot) (lsn.LSN, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	conn, _, err := s.replication(ctx)
	if err != nil {
		return 0, fmt.Errorf("create slot %q: %w", s.cfg.Slot, err)
	}
	defer closeConn(conn)
	command, err := s.createSlotCommand(s.cfg.Slot, slotForm{major: majorOf(conn.ParameterStatus("server_version"))})
	if err != nil {
		return 0, err
	}
	at, _, err := s.madeSlot(ctx, conn, command)
	if err == nil {
		at, err = s.settle(ctx, conn, at, use)
		if err != nil {
			s.dropUnsettled(conn)
		}
	}
	if err != nil {
		return 0, Classify(fmt.Errorf("create slot %q: %w", s.cfg.Slot, err))
	}
	return at, nil
}

// createTemporary makes the slot on the session that streams from it, whose end
// drops it, and returns its consistent point.
func (s *Source) createTemporary(ctx context.Context, conn *pgconn.PgConn) (lsn.LSN, error) {
	command, err := s.createSlotCommand(s.cfg.Slot, slotForm{major: majorOf(conn.ParameterStatus("server_version")), temporary: true})
	if err != nil {
		return 0, err
	}
	at, _, err := s.madeSlot(ctx, conn, command)
	if err != nil {
		return 0, err
	}
	return s.settle(ctx, conn, at, nil)
}

// madeSlot runs the command that makes a slot and returns its consistent point, and the
// name of the snapshot that it exported, if any.
func (s *Source) madeSlot(ctx context.Context, conn *pgconn.PgConn, command string) (lsn.LSN, string, error) {
	row, err := s.awaitSlot(ctx, conn, command)
	if err != nil {
		return 0, "", err
	}
	at, err := lsn.Parse(string(row[1])) // slot_name, consistent_point, snapshot_name, output_plugin
	return at, string(row[2]), err
}

// slotForm is what a slot is to be like.
type slotForm struct {
	major             int // of the server's version
	temporary, export bool
}

// createSlotCommand spells the command for the version. 14 knows only the form
// without parentheses; pglogrepl's neither quotes the name nor knows FAILOVER.
func (s *Source) createSlotCommand(name string, form slotForm) (string, error) {
	major := form.major
	command := "CREATE_REPLICATION_SLOT " + quoteIdent(name)
	if form.temporary {
		command += " TEMPORARY"
	}
	command += " LOGICAL pgoutput "
	if s.cfg.Failover == FailoverOn && major < 17 {
		return "", fault.Config(fault.Problem{
			Check: "failover", Where: "source.failover",
			What: fmt.Sprintf("on, but version %d of the server has no failover slots (17 and later do)", major), Fix: "failover: auto",
		})
	}
	switch {
	case major < 15 && form.export:
		return command + "EXPORT_SNAPSHOT", nil
	case major < 15:
		return command + "NOEXPORT_SNAPSHOT", nil
	case form.export:
		return command + "(SNAPSHOT 'export')", nil
	case major >= 17 && s.cfg.Failover != FailoverOff && !form.temporary: // slot.c: a temporary slot cannot fail over
		return command + "(SNAPSHOT 'nothing', FAILOVER)", nil
	}
	return command + "(SNAPSHOT 'nothing')", nil
}

// slotAnswer is what the server says to the command.
type slotAnswer struct {
	row [][]byte
	err error
}

// awaitSlot runs the command, telling now and then for whom it waits, and cancels it
// when its time is up. It returns after the command has ended, one way or the other.
func (s *Source) awaitSlot(ctx context.Context, conn *pgconn.PgConn, command string) ([][]byte, error) {
	answer := make(chan slotAnswer, 1)
	go func() {
		row, err := oneRow(context.WithoutCancel(ctx), conn, command, 3)
		answer <- slotAnswer{row, err}
	}()
	limit := time.NewTimer(s.limits.slot)
	defer limit.Stop()
	look := time.NewTicker(s.limits.slotBlockers)
	defer look.Stop()
	var blockers string
	for {
		select {
		case a := <-answer:
			return a.row, a.err
		case <-look.C:
			if found := s.blockers(ctx, conn.PID()); found != "" {
				blockers = found
				s.log.Warn("creating the slot waits for open transactions", "slot", s.cfg.Slot, "blockers", blockers)
			}
		case <-limit.C:
			s.cancelSlot(conn, answer)
			return nil, blocked(s.limits.slot, blockers)
		case <-ctx.Done():
			s.cancelSlot(conn, answer)
			return nil, context.Cause(ctx)
		}
	}
}

func blocked(after time.Duration, blockers string) error {
	if blockers == "" {
		blockers = "unknown"
	}
	return fault.Transient(ReasonBlocked, fmt.Errorf(
		"not done within %v: it waits for transactions that are open in this server, in any database; end them, or wait for them: %s", after, blockers))
}

// cancelSlot asks the server to give up, and closes the connection when it does
// not, so that the goroutine that waits for the answer ends in any case.
func (s *Source) cancelSlot(conn *pgconn.PgConn, answer <-chan slotAnswer) {
	ctx, cancel := context.WithTimeout(context.Background(), closeWithin)
	defer cancel()
	_ = conn.CancelRequest(ctx)
	select {
	case <-answer:
	case <-ctx.Done():
		_ = conn.Conn().Close()
		<-answer
	}
}

// blockers names who holds up a backend, in one line; empty when nobody is found.
// A prepared transaction blocks as pid 0.
func (s *Source) blockers(ctx context.Context, pid uint32) string {
	ctx, cancel := context.WithTimeout(ctx, s.limits.connect)
	defer cancel()
	conn, err := s.sql(ctx)
	if err != nil {
		return ""
	}
	defer closeConn(conn)
	return holders(ctx, conn, fmt.Sprintf("SELECT DISTINCT pid FROM pg_catalog.unnest(pg_catalog.pg_blocking_pids(%d)) pid", pid))
}

// holders names the sessions of a query of pids, in one line.
func holders(ctx context.Context, conn *pgconn.PgConn, pids string) string {
	type row struct {
		PID                        int
		Role, Database, App, State string
		Seconds                    float64
		Prepared                   string
	}
	rows, err := rowsOf[row](ctx, conn, fmt.Sprintf(`
SELECT pg_catalog.jsonb_build_object('PID', b.pid, 'Role', coalesce(a.usename, ''), 'Database', coalesce(a.datname, ''),
  'App', coalesce(a.application_name, ''), 'State', coalesce(a.state, ''),
  'Seconds', coalesce(extract(epoch FROM pg_catalog.clock_timestamp() - a.xact_start), 0),
  'Prepared', CASE WHEN b.pid = 0 THEN (SELECT coalesce(pg_catalog.string_agg(gid, ', '), '') FROM pg_catalog.pg_prepared_xacts) ELSE '' END)
FROM (%s) b
LEFT JOIN pg_catalog.pg_stat_activity a ON a.pid = b.pid`, pids))
	if err != nil {
		return ""
	}
	var names []string
	for _, r := range rows {
		if r.PID == 0 {
			names = append(names, "prepared transactions "+r.Prepared)
			continue
		}
		names = append(names, fmt.Sprintf("pid %d (%s@%s, %q, %s, open for %v)", r.PID, r.Role, r.Database, r.App, r.State,
			time.Duration(r.Seconds*float64(time.Second)).Round(time.Second)))
	}
	return strings.Join(names, "; ")
}

// DropSlot drops the slot; one that does not exist is no error. An active slot is
// refused by the server: transient, ReasonSlotActive.
func (s *Source) DropSlot(ctx context.Context) error {
	return s.onSQL(ctx, "drop slot "+s.cfg.Slot, func(ctx context.Context, conn *pgconn.PgConn) error {
		err := run(ctx, conn, dropSlot(s.cfg.Slot))
		var pg *pgconn.PgError
		if errors.As(err, &pg) && pg.Code == "42704" {
			return nil
		}
		return err
	})
}

// Ours reports whether the session that holds the slot bears the application name of
// this bridge, or one that our role may not see.
func (s *Source) Ours(slot *Slot) bool {
	return slot.ActiveApplication == "" || slot.ActiveApplication == s.applicationName()
}

// TerminateZombie ends the walsender that holds the slot, when its session bears our
// application name: what a process that died or was cut off has left behind. Only
// the owner of the bridge's name may call it. It reports whether one was ended;
// another's session is left alone, with an error that names it.
func (s *Source) TerminateZombie(ctx context.Context) (bool, error) {
	ended := false
	err := s.onSQL(ctx, "end the session that holds slot "+s.cfg.Slot, func(ctx context.Context, conn *pgconn.PgConn) error {
		rows, err := rowsOf[jsonSlot](ctx, conn, "SELECT "+slotColumns+" FROM "+slotFrom+" WHERE s.active AND s.slot_name = "+quoteLiteral(s.cfg.Slot))
		if err != nil || len(rows) == 0 {
			return err
		}
		if holder := rows[0]; holder.ActiveApplication != s.applicationName() {
			return fault.Transient(ReasonSlotActive, fmt.Errorf("pid %d is %q, not a session of this bridge", holder.ActivePID, holder.ActiveApplication))
		}
		// once more in the statement itself: the pid may be another's by now
		ended, err = rowOf[bool](ctx, conn, fmt.Sprintf(`
SELECT pg_catalog.to_jsonb(coalesce(pg_catalog.bool_or(pg_catalog.pg_terminate_backend(s.active_pid)), false)) FROM %s
WHERE s.slot_name = %s AND s.active_pid = %d AND a.application_name = %s`,
			slotFrom, quoteLiteral(s.cfg.Slot), rows[0].ActivePID, quoteLiteral(s.applicationName())))
		return err
	})
	return ended, err
}
