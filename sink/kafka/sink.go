package kafka

import (
	"context"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/kafka/recordbatch"
)

var _ sink.Sink = (*Sink)(nil)

// Sink writes to a Kafka cluster. See package sink for who may call what when. It is
// no sink.Locker: at most one process holds the source's slot, and the transactional
// id fences an older one.
type Sink struct {
	cfg   Config
	tune  tuning
	log   hclog.Logger
	table table
	name  atomic.Pointer[string] // the bridge, once it was opened

	// The rest belongs to the goroutine that opens, writes and closes.
	client     *client
	topics     *topics
	producer   producer
	compressor *recordbatch.Compressor
	src        sink.Source
	opened     bool
	fenced     bool
	n          uint64 // of the newest position record
	last       lsn.Progress
	committed  []extent                                 // of the last transaction that is known to be committed
	layout     layout                                   // in which committed was found well
	warned     bool                                     // of consumers that have to be set
	step       func(ctx context.Context, s stage) error // of tests; nil otherwise
}

// tuning is what only tests change.
type tuning struct {
	markersWithin time.Duration
}

// stage is a point of a write at which a test may hold or end it.
type stage string

const (
	stageBegin   stage = "begin"   // nothing is sent
	stageAdd     stage = "add"     // the transaction is open
	stageProduce stage = "produce" // records are stored; in a transaction the position too
	stageAck     stage = "ack"     // committed, or the position is stored
)

// New makes a sink that is not open. The configuration has its defaults and is valid.
// A nil log is silent.
func New(cfg Config, log hclog.Logger) *Sink {
	if log == nil {
		log = hclog.NewNullLogger()
	}
	return &Sink{cfg: cfg, log: log, tune: tuning{markersWithin: markersWithin}, producer: producer{id: none, epoch: none}}
}

// bridge is the name, empty before the first Open.
func (s *Sink) bridge() string {
	if name := s.name.Load(); name != nil {
		return *name
	}
	return ""
}

func (s *Sink) transactionTimeout() time.Duration { return s.cfg.WriteTimeout + afterWrite }

func (s *Sink) progressPartitions() int {
	if info := s.table.get(s.cfg.ProgressTopic); info != nil {
		return info.partitions
	}
	return 1
}

// NewBatch returns an empty batch. It is filled after the first Open, which tells the
// name that its records bear.
func (s *Sink) NewBatch() sink.Batch { return newBatch(&s.cfg, &s.table, s.bridge) }

// Close ends the connections. Open may begin anew, and then fences whoever came
// meanwhile.
func (s *Sink) Close(context.Context) error {
	s.opened, s.fenced = false, false
	s.producer.forget()
	s.committed = nil
	if s.client != nil {
		s.client.close()
		s.client = nil
	}
	return nil
}

// reach is where a test holds or ends a write.
func (s *Sink) reach(ctx context.Context, at stage) error {
	if s.step == nil {
		return nil
	}
	return s.step(ctx, at)
}
