package replication

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/walbridge/walbridge/internal/fault"
)

// Source is one source server as one bridge uses it. It holds no connection: each
// call opens its own and closes it. Safe for use by several goroutines.
type Source struct {
	cfg    Config
	bridge string
	log    hclog.Logger
	limits limits
	// streamed is set by the first successful start of a stream. From then on what a
	// busy server or a rotated password refuses is worth another try; before, it is a
	// configuration to mend.
	streamed  atomic.Bool
	recurring recurring // errors that come again at the same place
}

// limits are the time-outs of a source. Tests shorten them.
type limits struct {
	connect      time.Duration // one connection attempt, log-in included
	command      time.Duration // one command that waits for nobody
	password     time.Duration // the password command
	slot         time.Duration // the creation of a slot, which waits for open transactions
	slotBlockers time.Duration // how long it waits before it says for whom, and how often
	senderTime   time.Duration // our own wal_sender_timeout
}

func defaultLimits() limits {
	return limits{
		connect:      15 * time.Second,
		command:      30 * time.Second,
		password:     30 * time.Second,
		slot:         time.Minute,
		slotBlockers: 3 * time.Second,
		senderTime:   20 * time.Second,
	}
}

// New returns the source of a bridge. cfg has its defaults filled in. It connects
// to nothing. Errors: *fault.ConfigError.
func New(cfg Config, bridge string, log hclog.Logger) (*Source, error) {
	if log == nil {
		return nil, errors.New("new source: no logger")
	}
	if problems := cfg.Validate(); len(problems) > 0 {
		return nil, fmt.Errorf("new source: %w", &fault.ConfigError{Problems: problems})
	}
	return &Source{cfg: cfg, bridge: bridge, log: log, limits: defaultLimits()}, nil
}

// Slot is the name of the replication slot.
func (s *Source) Slot() string { return s.cfg.Slot }

// Publication is the name of the publication.
func (s *Source) Publication() string { return s.cfg.Publication }

// Numbering is everything that decides how the changes of a transaction are
// numbered, in one line: a position inside a transaction is only good for the same
// numbering.
func (s *Source) Numbering() string { return pluginOptions(s.cfg.Publication) }

// applicationName is how our sessions are called in pg_stat_activity, and what a
// zombie of ours is known by. The server cuts it at 63 bytes.
func (s *Source) applicationName() string {
	name := prefix + s.bridge
	return name[:min(len(name), maxIdentifier)]
}
