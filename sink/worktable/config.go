package worktable

import (
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/secret"
	"github.com/walbridge/walbridge/migrations"
)

// Config says where the work table is.
type Config struct {
	// DSN is the database, which may be the source's own. A direct connection: a
	// transaction pooler breaks the lock on the bridge's name. Required.
	DSN secret.DSN `yaml:"dsn"`
	// Schema is where the tables are. Defaults to walbridge.
	Schema string `yaml:"schema"`
	// Lanes is the number of lanes, as the schema was made with; the sink refuses
	// another. Defaults to 64.
	Lanes int `yaml:"lanes"`
	// Retention is how long the log keeps its items.
	Retention Retention `yaml:"retention"`
	// DedupeWindow is how long rows of inbox, and with them their idempotency keys,
	// are kept after workers have moved them to the log. Defaults to 7d.
	DedupeWindow time.Duration `yaml:"dedupe_window"`
	// WriteTimeout bounds a write and says how long a writer may stand still before
	// another ends it. It is sink.write_timeout of the file, beside this section.
	// Defaults to 30 s.
	WriteTimeout time.Duration `yaml:"-"`
	// Resolve turns the DSN into what to connect with, at each connection attempt: for
	// values that come from files. nil: as it stands.
	Resolve func(secret.DSN) (secret.DSN, error) `yaml:"-"`
}

const defaultWriteTimeout = 30 * time.Second

// WithDefaults fills in what is not given.
func (c Config) WithDefaults() Config {
	if c.Schema == "" {
		c.Schema = migrations.DefaultSchema
	}
	if c.Lanes == 0 {
		c.Lanes = migrations.DefaultLanes
	}
	c.Retention = c.Retention.withDefaults()
	if c.DedupeWindow == 0 {
		c.DedupeWindow = defaultDedupe
	}
	if c.WriteTimeout == 0 {
		c.WriteTimeout = defaultWriteTimeout
	}
	return c
}

// Validate returns all that is wrong with a Config that has its defaults, without
// connecting.
func (c Config) Validate() []fault.Problem {
	var all []fault.Problem
	bad := func(where, what, fix string) {
		all = append(all, fault.Problem{Check: "config", Where: where, What: what, Fix: fix})
	}
	if c.DSN == "" {
		bad("sink.worktable.dsn", "missing", "dsn: postgres://walbridge@host/database")
	} else if _, err := pgx.ParseConfig(c.DSN.Reveal()); err != nil && c.Resolve == nil {
		bad("sink.worktable.dsn", secret.Redact(err.Error()), "give a connection string of PostgreSQL")
	}
	if err := migrations.CheckSchema(c.Schema); err != nil {
		bad("sink.worktable.schema", err.Error(), "schema: "+migrations.DefaultSchema)
	}
	if err := migrations.CheckLanes(c.Lanes); err != nil {
		bad("sink.worktable.lanes", err.Error(), fmt.Sprintf("lanes: %d", migrations.DefaultLanes))
	}
	c.Retention.validate(bad)
	if c.DedupeWindow < time.Second {
		bad("sink.worktable.dedupe_window", c.DedupeWindow.String()+" is less than 1s", "dedupe_window: 7d")
	}
	if c.WriteTimeout < time.Second {
		bad("sink.write_timeout", c.WriteTimeout.String()+" is less than 1s", "write_timeout: "+defaultWriteTimeout.String())
	}
	return all
}

// tuning is what only tests change.
type tuning struct {
	partitionSize  int64         // seqs of a partition
	partitionAhead int           // partitions made before they are needed
	lockTimeout    time.Duration // of each wait for a lock
	trimEvery      int64         // writes between two trims of batch
	trimKeep       int64         // batch rows kept of a source
	trimMost       int64         // batch rows deleted at a time
	notifyPause    time.Duration // between two NOTIFYs
	retainAfter    time.Duration // from the first Open to the first look at old partitions
	retainEvery    time.Duration // between two looks
}

func defaultTuning() tuning {
	return tuning{
		partitionSize: 10_000_000, partitionAhead: 2, lockTimeout: time.Second,
		trimEvery: 1000, trimKeep: 1000, trimMost: 5000, notifyPause: 20 * time.Millisecond,
		retainAfter: 10 * time.Second, retainEvery: time.Minute,
	}
}
