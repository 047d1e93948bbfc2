package snapshot

import (
	"context"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/jackc/pgx/v5/pgconn"
	"golang.org/x/time/rate"

	"github.com/walbridge/walbridge/decoder"
)

// Config says how tables are read.
type Config struct {
	// Bridge is the name of the bridge, which requests must name.
	Bridge string
	// Connect opens an SQL connection to the source. Required.
	Connect func(ctx context.Context) (*pgconn.PgConn, error)
	// Publication whose row filters and column lists apply.
	Publication string
	// Parallel is how many tables are read at a time. Defaults to 2.
	Parallel int
	// RowsPerSecond bounds the reading of all tables together. 0: no bound.
	RowsPerSecond int
	// ChunkBytes is about how much one chunk holds; with ChunkRows at most so many rows.
	// They default to 1 MiB and 10,000.
	ChunkBytes, ChunkRows int
	// MaxRow in bytes: a longer row is not read whole. Defaults to 32 MiB.
	MaxRow int64
	// Refuse says why a table must not be read on request, empty when it may. nil: every
	// table may.
	Refuse func(schema, name string) string
	Log    hclog.Logger
}

func (c Config) withDefaults() Config {
	setDefault(&c.Parallel, 2)
	setDefault(&c.ChunkBytes, 1<<20)
	setDefault(&c.ChunkRows, 10_000)
	setDefault(&c.MaxRow, 32<<20)
	if c.Log == nil {
		c.Log = hclog.NewNullLogger()
	}
	return c
}

func setDefault[T comparable](p *T, value T) {
	var zero T
	if *p == zero {
		*p = value
	}
}

// Session is what goes on of snapshots in one replication session. Change, Message,
// Commit, Dirty and Cursors are for the goroutine that follows the stream, Run for
// another; Status for any. A new session begins from what is durable.
type Session struct {
	cfg     Config
	limiter *rate.Limiter
	hasher  hasher
	// watching: some table is not done. It spares the stream the mutex when there is
	// nothing to note. Changed by the stream's goroutine alone.
	watching atomic.Bool
	streamed atomic.Int64 // changes of rows, while some table is not done

	mu      sync.Mutex // guards what follows
	state   State
	tables  map[*Table]*table
	pending map[string]*Chunk // by nonce: read, and not come by in the stream
	// deliveries are in the order of the stream.
	deliveries []delivery
	// counted is what streamed was when it was last looked at, and lastStreamed when that
	// had changed.
	counted      int64
	lastStreamed time.Time
	// lookup remembers which table a description is of; emptied when tables change.
	lookup map[*decoder.Relation]*lookedUp
	// changed is closed and made anew whenever a worker may have something to do.
	changed chan struct{}
	foreign int64 // messages of our prefixes that were not ours
	rate    rateMeter

	// Of the transaction that is being streamed. Of the stream's goroutine.
	mark, request string
	requestXid    uint32
	scratch       []byte
	// dirty: the state has changed since Cursors.
	dirty atomic.Bool
}

// table is what a session knows of an unfinished table.
type table struct {
	state *Table
	// oid is of the description whose changes are noted; 0: none are.
	oid     uint32
	touched touched
	// gen numbers the times that reading began or was given up: chunks of an earlier
	// one count for nothing.
	gen      int
	inflight int           // chunks of this generation that the stream has not come to
	waiting  int           // those that it has, and that are not durable
	busy     bool          // a worker has it
	gone     bool          // done or cancelled
	took     time.Duration // of the last chunk that became durable; 0: none has since
	rest     time.Duration // before the next chunk, beside a stream
	notFor   time.Time
	// fresh are rows of a frozen table that the stream has brought in this session; doubts
	// counts updates of others.
	fresh   map[keyHash]struct{}
	doubts  int64
	problem string // why it is not being read
	detail  string // what it waits for
}

type lookedUp struct {
	table *table // nil: the description is of no table of interest
	key   keyed
	whole bool // key is known
}

// NewSession returns a session that goes on from a state.
func NewSession(cfg Config, state State) *Session {
	cfg = cfg.withDefaults()
	s := &Session{
		cfg: cfg, hasher: newHasher(), state: state, limiter: rate.NewLimiter(rate.Inf, cfg.ChunkRows),
		tables: map[*Table]*table{}, pending: map[string]*Chunk{}, lookup: map[*decoder.Relation]*lookedUp{}, changed: make(chan struct{}),
	}
	if cfg.RowsPerSecond > 0 {
		s.limiter = rate.NewLimiter(rate.Limit(cfg.RowsPerSecond), min(cfg.ChunkRows, cfg.RowsPerSecond))
	}
	if len(s.state.Secret) == 0 {
		s.state.Secret = newSecret()
		s.dirty.Store(true)
	}
	s.refresh()
	return s
}

// refresh brings what is derived from the state up to date. The caller holds mu.
func (s *Session) refresh() {
	for key, t := range s.tables {
		if s.state.table(key.Schema, key.Name) != key {
			t.gone = true
			t.forget()
			delete(s.tables, key)
		}
	}
	for _, t := range s.state.Tables {
		if s.tables[t] == nil {
			s.tables[t] = &table{state: t}
		}
	}
	s.watching.Store(len(s.state.Tables) > 0)
	clear(s.lookup)
	s.wake()
}

// wake tells the workers to look again. The caller holds mu.
func (s *Session) wake() {
	close(s.changed)
	s.changed = make(chan struct{})
}

// forget gives up all chunks under way, and the notes. The caller holds the session's
// mu.
func (t *table) forget() {
	t.gen++
	t.oid, t.inflight, t.waiting, t.took = 0, 0, 0, 0
	t.touched.clear()
}

// find returns the unfinished table that a description is of. The caller holds mu.
func (s *Session) find(rel *decoder.Relation) *lookedUp {
	if l := s.lookup[rel]; l != nil {
		return l
	}
	if len(s.lookup) > maxLookup {
		clear(s.lookup)
	}
	l := &lookedUp{}
	if t := s.state.table(rel.Namespace, rel.Name); t != nil && t.Frozen != nil {
		l.table = s.tables[t]
	} else if t != nil && t.Key != nil {
		l.table = s.tables[t]
		l.key, l.whole = keyedBy(rel, t.Key)
		l.whole = l.whole && identifies(rel, l.key)
	}
	s.lookup[rel] = l
	return l
}

// maxLookup bounds the memory for descriptions, which come anew with each DDL.
const maxLookup = 4096
