package worktable

import (
	"context"
	"crypto/rand"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/migrations"
	"github.com/walbridge/walbridge/sink"
)

var (
	_ sink.Sink   = (*Sink)(nil)
	_ sink.Locker = (*Sink)(nil)
)

// Sink writes to the work table. See package sink for who may call what when; Lock
// may be called while a Write is under way.
type Sink struct {
	cfg  Config
	tune tuning
	log  hclog.Logger
	id   string // tells this instance's epoch from another's of the same name
	sql  statements

	name   atomic.Pointer[string] // the bridge, once it was locked or opened
	side   *side
	forget atomic.Bool // Lock has made the ownership new: an epoch of old means nothing
	top    atomic.Int64

	// The rest belongs to the goroutine that opens, writes and closes.
	conn    *conn
	src     sink.Source
	fenced  bool
	epoch   int64 // 0: none yet, or given up
	n       int64 // of the latest batch row
	last    lsn.Progress
	sync    string // the synchronous_commit of a write
	streams *streamIDs
	upkeep  *upkeep
	step    func(ctx context.Context, s stage) error // of tests; nil otherwise
}

// stage is a point of a write at which a test may end it.
type stage string

const (
	stageBegin  stage = "begin"  // nothing is sent
	stageCopy   stage = "copy"   // the log is locked
	stageCommit stage = "commit" // rows are sent
	stageAck    stage = "ack"    // committed
)

// statements are the texts that depend on the schema's name.
type statements struct{ schema string }

// New makes a sink that is not open. The configuration has its defaults and is
// valid. A nil log is silent.
func New(cfg Config, log hclog.Logger) *Sink {
	if log == nil {
		log = hclog.NewNullLogger()
	}
	s := &Sink{
		cfg: cfg, tune: defaultTuning(), log: log, id: rand.Text(),
		sql: statements{migrations.Ident(cfg.Schema)}, streams: newStreamIDs(migrations.Ident(cfg.Schema)),
	}
	s.side = newSide(cfg, log, s.bridge)
	return s
}

// bridge is the name, empty before the first Lock or Open.
func (s *Sink) bridge() string {
	if name := s.name.Load(); name != nil {
		return *name
	}
	return ""
}

// NewBatch returns an empty batch. It is filled after the first Lock or Open, which
// tell the name that its rows bear.
func (s *Sink) NewBatch() sink.Batch { return newBatch(s.cfg.Lanes, s.bridge) }

// Close ends both sessions, and with the side session the lock on the name. Open
// may begin anew.
func (s *Sink) Close(context.Context) error {
	s.abandon()
	s.epoch, s.fenced = 0, false
	s.upkeep.stop()
	s.upkeep = nil
	s.side.close()
	return nil
}

// abandon throws the writer's session away.
func (s *Sink) abandon() {
	if s.conn != nil {
		s.conn.close()
		s.conn = nil
	}
}

// reach is where a test ends a write.
func (s *Sink) reach(ctx context.Context, at stage) error {
	if s.step == nil {
		return nil
	}
	return s.step(ctx, at)
}
