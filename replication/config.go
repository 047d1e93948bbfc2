package replication

import (
	"fmt"
	"regexp"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgconn"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/secret"
)

// The values of Config.Failover.
const (
	FailoverAuto = "auto"
	FailoverOn   = "on"
	FailoverOff  = "off"
)

// The values of Config.OnNewTable.
const (
	NewTableAlert   = "alert"
	NewTablePublish = "publish"
)

// minCoverageInterval keeps the source from being asked all the time.
const minCoverageInterval = time.Second

// prefix begins the names of slots, publications and sessions of bridges.
const prefix = "walbridge_"

// Config says which server is read and under which names.
type Config struct {
	// DSN is the source database, a URL or keyword/value pairs; libpq's environment
	// variables, .pgpass and pg_service.conf count too. Its role needs REPLICATION
	// unless ReplicationDSN is given. Required.
	DSN secret.DSN `yaml:"dsn"`
	// ReplicationDSN is used for the replication connection instead of DSN, when SQL
	// goes through a pooler and replication must not. Defaults to DSN.
	ReplicationDSN secret.DSN `yaml:"replication_dsn"`
	// Slot is the replication slot, 1 to 63 of a-z, 0-9 and _. One slot serves one
	// bridge. Defaults to walbridge_<name>.
	Slot string `yaml:"slot"`
	// Publication is the one publication that is streamed. Any name of up to 63 bytes;
	// it is quoted everywhere. Defaults to walbridge_<name>.
	Publication string `yaml:"publication"`
	// Failover says whether the slot is made to survive a failover to a standby: auto
	// (where the server can, 17 and later), on (refuse older servers) or off. Defaults
	// to auto.
	Failover string `yaml:"failover"`
	// OnNewTable says what becomes of a table that a route takes and the publication
	// lacks, once the bridge runs: alert (a warning with the statement) or publish (the
	// bridge adds it, for which its role must own the publication and the table). Set
	// publish where the application makes tables by itself. Defaults to alert.
	OnNewTable string `yaml:"on_new_table"`
	// CoverageInterval is how often a running bridge compares its routes with the
	// publication and the catalog; at least 1s. It also does when the stream brings a table
	// that it does not know. Defaults to 30s.
	CoverageInterval time.Duration `yaml:"coverage_interval"`
	// PasswordCommand is a program and its arguments, run without a shell at each
	// connection attempt; what it prints is the password, and wins over the DSN's. For
	// cloud tokens. It has 30 s. Defaults to none.
	PasswordCommand []string `yaml:"password_command"`
	// Resolve turns a DSN into what to connect with, at each connection attempt: for
	// values that come from files. nil: as it stands.
	Resolve func(secret.DSN) (secret.DSN, error) `yaml:"-"`
}

// WithDefaults returns a copy in which each empty value is its default for the
// bridge of that name.
func (c Config) WithDefaults(bridge string) Config {
	if c.Slot == "" {
		c.Slot = prefix + bridge
	}
	if c.Publication == "" {
		c.Publication = prefix + bridge
	}
	if c.Failover == "" {
		c.Failover = FailoverAuto
	}
	if c.OnNewTable == "" {
		c.OnNewTable = NewTableAlert
	}
	if c.CoverageInterval == 0 {
		c.CoverageInterval = 30 * time.Second
	}
	if c.ReplicationDSN == "" {
		c.ReplicationDSN = c.DSN
	}
	return c
}

// slotName is what ReplicationSlotValidateName accepts (slot.c).
var slotName = regexp.MustCompile(`^[a-z0-9_]{1,63}$`)

// maxIdentifier is NAMEDATALEN - 1: a longer name is cut by the server, silently.
const maxIdentifier = 63

// Validate returns all that is wrong with the configuration, defaults filled in.
// It connects to nothing.
func (c Config) Validate() []fault.Problem {
	var all []fault.Problem
	bad := func(key, what, fix string) {
		all = append(all, fault.Problem{Check: "config", Where: "source." + key, What: what, Fix: fix})
	}
	if c.DSN == "" {
		bad("dsn", "missing", "dsn: postgres://user@host/database?sslmode=verify-full")
	}
	for _, d := range []struct {
		key string
		dsn secret.DSN
	}{{"dsn", c.DSN}, {"replication_dsn", c.ReplicationDSN}} {
		if d.dsn == "" || d.key == "replication_dsn" && d.dsn == c.DSN || c.Resolve != nil {
			continue
		}
		if _, err := pgconn.ParseConfig(d.dsn.Reveal()); err != nil {
			bad(d.key, oneLine(secret.Redact(err.Error())), "postgres://user@host:5432/database?sslmode=verify-full is the form")
		}
	}
	if !slotName.MatchString(c.Slot) {
		bad("slot", fmt.Sprintf("%q is not 1 to 63 of a-z, 0-9 and _", c.Slot), "give the slot a name of its own, such as walbridge_shop")
	}
	if c.Publication == "" || len(c.Publication) > maxIdentifier || strings.ContainsRune(c.Publication, 0) {
		bad("publication", fmt.Sprintf("%q is not a name of 1 to %d bytes", c.Publication, maxIdentifier), "give the publication a name of its own, such as walbridge_shop")
	}
	if strings.Contains(c.Publication, ",") {
		bad("publication", fmt.Sprintf("%q looks like several names; a bridge streams one publication", c.Publication), "add the tables to one publication: `walbridge setup`")
	}
	if c.Failover != FailoverAuto && c.Failover != FailoverOn && c.Failover != FailoverOff {
		bad("failover", fmt.Sprintf("%q is none of auto, on, off", c.Failover), "failover: auto")
	}
	if c.OnNewTable != NewTableAlert && c.OnNewTable != NewTablePublish {
		bad("on_new_table", fmt.Sprintf("%q is neither alert nor publish", c.OnNewTable), "alert is the default")
	}
	if c.CoverageInterval < minCoverageInterval {
		bad("coverage_interval", fmt.Sprintf("%v is less than %v", c.CoverageInterval, minCoverageInterval), "30s is the default")
	}
	if len(c.PasswordCommand) > 0 && c.PasswordCommand[0] == "" {
		bad("password_command", "its first element, the program, is empty", "password_command: [/usr/bin/token, --db, shop]")
	}
	return all
}

// oneLine makes an error text fit into one line of a log.
func oneLine(s string) string { return strings.Join(strings.Fields(s), " ") }
