package replication

import (
	"time"

	"github.com/walbridge/walbridge/internal/lsn"
)

// Server is what Inspect found, at one moment. It is a plain value: Check and
// Reconcile judge it without a connection.
type Server struct {
	// What the bridge is configured for: the slot, the publication, the name of its
	// sessions.
	SlotName        string
	Publication     string
	ApplicationName string

	Version    string // server_version, such as "15.18 (Debian …)"
	VersionNum int    // server_version_num, such as 150018
	Database   string
	Encoding   string // server_encoding
	// MessagesOpen: every role may write logical messages (EXECUTE on
	// pg_logical_emit_message is PUBLIC's, which is the default).
	MessagesOpen bool
	InRecovery   bool // a standby
	Time         time.Time

	// SystemID, Timeline and WALEnd are what IDENTIFY_SYSTEM says on the replication
	// connection: the cluster, its timeline, and the end of its flushed WAL. Zero when
	// ReplicationErr is set.
	SystemID uint64
	Timeline uint32
	WALEnd   lsn.LSN
	// History lists the timelines before this one, oldest first; empty on timeline 1.
	History TimelineHistory
	// SQLSystemID is the cluster that the SQL connection reached.
	SQLSystemID uint64
	// ReplicationErr is why no replication connection could be had, SQL being fine: a
	// pooler, missing rights, no free sender. nil: all is well.
	ReplicationErr error

	WALLevel string // wal_level; effective_wal_level where there is one (19)
	Slots    Usage  // max_replication_slots and how many exist
	Senders  Usage  // max_wal_senders and how many run, without our own of this inspection

	MaxSlotWALKeep   int64         // max_slot_wal_keep_size in bytes; -1: no limit
	IdleSlotTimeout  time.Duration // idle_replication_slot_timeout (18); 0: none
	SyncStandbyNames string        // synchronous_standby_names
	NextXid          uint64        // 64 bits wide: the epoch in the upper half
	PreparedTx       []PreparedTx  // of all databases; each pins the slot's restart LSN
	Role             Role
	Slot             *Slot        // nil: it does not exist
	OtherSlots       []Slot       // other slots that bear the prefix of bridges
	Published        *Publication // nil: it does not exist
	TLSVerified      bool         // every way to the servers checks certificate and name, or stays on this machine
}

// Major is the major version, such as 15.
func (s *Server) Major() int { return s.VersionNum / 10000 }

// Usage is a limited resource of the server.
type Usage struct{ Max, Used int }

// Free is how many are left.
func (u Usage) Free() int { return max(0, u.Max-u.Used) }

// Role is the role of the SQL connection and what it may do.
type Role struct {
	Name        string
	Superuser   bool
	Replication bool
	CreateInDB  bool // CREATE on the database: may make publications
}

// PreparedTx is a prepared transaction that nobody has ended yet.
type PreparedTx struct {
	GID      string
	Database string
	Age      time.Duration
}

// Slot is a row of pg_replication_slots. What a version's view lacks is zero.
type Slot struct {
	Name              string
	Plugin            string // empty: a physical slot
	Type              string // logical, physical
	Database          string // empty: a physical slot
	Temporary         bool
	Active            bool
	ActivePID         int32
	CatalogXminAge    int64
	RestartLSN        lsn.LSN // 0: none, the slot is lost or being made
	ConfirmedFlush    lsn.LSN // 0: none, the slot is being made
	WALStatus         string  // reserved, extended, unreserved, lost
	SafeWALSize       *int64  // until it may be invalidated; nil: no limit
	TwoPhase          bool
	Conflicting       bool      // 16
	InvalidatedBy     string    // invalidation_reason (17)
	Failover          bool      // 17
	Synced            bool      // 17
	InactiveSince     time.Time // 17; zero: active or unknown
	ActiveApplication string    // application_name of the active session, when visible
}

// Lost reports whether the slot can never be read again, and why.
func (s *Slot) Lost() (reason string, lost bool) {
	switch {
	case s.InvalidatedBy != "":
		return s.InvalidatedBy, true
	case s.WALStatus == "lost":
		return "wal_status is lost", true
	case s.Conflicting:
		return "it conflicts with recovery", true
	}
	return "", false
}

// Publication is the bridge's publication as the server has it.
type Publication struct {
	Name      string
	Owner     string
	Owned     bool // our role is the owner, or a member of it
	AllTables bool
	Schemas   []string // FOR TABLES IN SCHEMA (15)
	Insert    bool
	Update    bool
	Delete    bool
	Truncate  bool
	ViaRoot   bool             // publish_via_partition_root
	Tables    []PublishedTable // what is streamed (pg_publication_tables), and what is named
	// Explicit are the tables that were named in FOR TABLE, as schema.name: those
	// that ALTER PUBLICATION … DROP TABLE can take away.
	Explicit []string
}

// PublishedTable is one table of a publication.
type PublishedTable struct {
	Schema string
	Name   string
	// Columns is the column list; nil: all columns (also where a version has no lists).
	Columns []string
	// Filter is the row filter, empty without one; FilterColumns are the columns in it.
	Filter        string
	FilterColumns []string
}

// QualifiedName is schema.name, unquoted.
func (t *PublishedTable) QualifiedName() string { return t.Schema + "." + t.Name }

// Sample is what Watch sees, about once a second.
type Sample struct {
	WAL      lsn.LSN   // end of the server's WAL (pg_current_wal_flush_lsn: what can be sent)
	Time     time.Time // the server's clock
	Slot     *Slot     // nil: it does not exist
	Prepared int       // prepared transactions older than an hour, which pin the slot
}
