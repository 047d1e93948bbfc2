package embeddedpg

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"time"

	"github.com/jackc/pgx/v5"
)

// StandbyConfig describes a physical standby.
type StandbyConfig struct {
	// Dir holds everything of the standby, as in Config.
	Dir string
	// Slot is the physical slot on the primary that keeps WAL for the standby, and
	// the standby's application_name. It is made when missing. Defaults to
	// "standby".
	Slot string
	// Settings win over the primary's own settings and over those that make the
	// standby, such as primary_conninfo (to put a proxy between the two).
	Settings map[string]string
}

// Standby makes a copy of the running server and starts it as a hot standby that
// streams from it. From PostgreSQL 17 on it also synchronises failover slots. The
// primary's address is fixed at that time: it must be restarted, not started
// anew.
func (s *Server) Standby(ctx context.Context, cfg StandbyConfig) (*Server, error) {
	if cfg.Slot == "" {
		cfg.Slot = "standby"
	}
	sb, err := s.standby(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("make a standby: %w", err)
	}
	return sb, nil
}

func (s *Server) standby(ctx context.Context, cfg StandbyConfig) (*Server, error) {
	c := s.cfg
	c.Dir, c.Port, c.Settings = cfg.Dir, 0, s.standbySettings(cfg)
	sb, err := newServer(c)
	if err != nil {
		return nil, err
	}
	err = sb.begin(ctx, func(ctx context.Context) error {
		label, err := s.backup(ctx, cfg.Slot, sb.copyData)
		if err != nil {
			return err
		}
		if err := sb.write("backup_label", label); err != nil {
			return err
		}
		return sb.write("standby.signal", "")
	})
	if err != nil {
		return nil, err
	}
	return sb, nil
}

func (s *Server) standbySettings(cfg StandbyConfig) map[string]string {
	all := map[string]string{}
	maps.Copy(all, s.cfg.Settings)
	all["primary_conninfo"] = fmt.Sprintf("host=127.0.0.1 port=%d user=%s dbname=postgres application_name=%s",
		s.Port(), superuser, cfg.Slot)
	all["primary_slot_name"] = cfg.Slot
	all["hot_standby_feedback"] = "on"
	if s.install.Major >= 17 {
		// Needs the three settings above, with a dbname (manual, section 47.2.3).
		all["sync_replication_slots"] = "on"
	}
	maps.Copy(all, cfg.Settings)
	return all
}

// backup copies the data folder by the low-level API (manual, section 26.3.4):
// fetched builds lack pg_basebackup. It returns the backup label.
func (s *Server) backup(ctx context.Context, slot string, copyFrom func(src string, skip func(string) bool) error) (string, error) {
	conn, err := pgx.Connect(ctx, s.DSN(superuser))
	if err != nil {
		return "", fmt.Errorf("connect to the primary: %w", err)
	}
	// When the session ends before the backup does, the server ends the backup.
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, `SELECT pg_create_physical_replication_slot($1, true)
		WHERE NOT EXISTS (SELECT FROM pg_replication_slots WHERE slot_name = $1)`, slot)
	if err != nil {
		return "", fmt.Errorf("make slot %s: %w", slot, err)
	}
	start, stop := "SELECT pg_backup_start('walbridge', true)", "SELECT labelfile FROM pg_backup_stop(false)"
	if s.install.Major < 15 {
		start, stop = "SELECT pg_start_backup('walbridge', true, false)", "SELECT labelfile FROM pg_stop_backup(false, false)"
	}
	if _, err := conn.Exec(ctx, start); err != nil {
		return "", fmt.Errorf("begin the backup: %w", err)
	}
	if err := copyFrom(s.data(), notInBackup); err != nil {
		return "", err
	}
	var label string
	if err := conn.QueryRow(ctx, stop).Scan(&label); err != nil {
		return "", fmt.Errorf("end the backup: %w", err)
	}
	return label, nil
}

// promoteTimeout is how long pg_promote may wait; ctx is the real bound.
const promoteTimeout = 10 * time.Minute

// Promote makes a standby a primary of its own, on a new timeline, and returns
// when it accepts writes.
func (s *Server) Promote(ctx context.Context) error {
	conn, err := pgx.Connect(ctx, s.DSN(superuser))
	if err != nil {
		return fmt.Errorf("promote: connect: %w", err)
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var done bool
	if err := conn.QueryRow(ctx, "SELECT pg_promote(true, $1)", int(promoteTimeout.Seconds())).Scan(&done); err != nil {
		return fmt.Errorf("promote: %w", err)
	}
	if !done {
		return errors.New("promote: the server was not promoted in time")
	}
	return nil
}

// Clone copies the data of a server that does not run into dir and returns the
// Config to start the copy with. The copy has the same system identifier, as a
// restored backup has; a copy of a killed server recovers as that would.
func (s *Server) Clone(dir string) (Config, error) {
	s.life.Lock() // so that it is not started meanwhile
	defer s.life.Unlock()
	if s.Running() {
		return Config{}, fmt.Errorf("clone %s: the server is running", s.dir)
	}
	c := s.cfg
	c.Dir, c.Port = dir, 0
	copied, err := newServer(c)
	if err != nil {
		return Config{}, fmt.Errorf("clone %s: %w", s.dir, err)
	}
	if err := copied.copyData(s.data(), ofProcess); err != nil {
		copied.discard()
		return Config{}, fmt.Errorf("clone %s: %w", s.dir, err)
	}
	c.Dir = copied.dir
	return c, nil
}

// ofProcess says which files belong to a running postmaster.
func ofProcess(path string) bool {
	base := filepath.Base(path)
	return base == "postmaster.pid" || base == "postmaster.opts"
}

// notInBackup says what a backup leaves out (src/backend/backup/basebackup.c,
// excludeDirContents and excludeFiles): what a start makes anew, the primary's
// slots, and its WAL, which the standby streams.
func notInBackup(path string) bool {
	switch filepath.Base(filepath.Dir(path)) {
	case "pg_replslot", "pg_dynshmem", "pg_notify", "pg_serial", "pg_snapshots", "pg_stat_tmp", "pg_subtrans":
		return true
	case "pg_wal":
		return filepath.Base(path) != "archive_status"
	case "archive_status":
		return true
	}
	base := filepath.Base(path)
	return ofProcess(path) || base == "pg_internal.init" || base == "pgsql_tmp" || base == "current_logfiles"
}

// copyData fills the server's data folder with a copy of src.
func (s *Server) copyData(src string, skip func(path string) bool) error {
	if _, err := os.Stat(s.data()); err == nil {
		return fmt.Errorf("copy to %s: it exists", s.data())
	}
	return copyTree(src, s.data(), skip, s.user.own)
}
