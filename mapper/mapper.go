package mapper

import (
	"errors"
	"sync/atomic"

	"github.com/walbridge/walbridge/decoder"
	"github.com/walbridge/walbridge/internal/catalog"
	"github.com/walbridge/walbridge/internal/fault"
)

// Env is what a mapper must know beside its configuration.
type Env struct {
	Bridge   string // the bridge's name; begins the ids of records. Required
	Database string // the source's database, as records name it
	// Raw: the destination's values are bytes, so that payloads of the formats text and
	// bytes are written as they are, without quotes and base64.
	Raw     bool
	Version string // of this program, as records of Debezium's envelope name it
	// Types are those of the source's catalog. nil: built-in types alone are known.
	Types catalog.Types
	// Tables are those of the source's catalog: a partition is also matched by its
	// root's name. Those made later are asked for: see Unknown.
	Tables []catalog.Table
	// PrimaryKeys are the columns of primary keys by schema.table. They key the records
	// of tables with REPLICA IDENTITY FULL, where the stream marks every column as part
	// of the key; for a table not in here the IdentityColumns of Tables serve, and
	// without those its records are keyed by the table, in commit order. Tables of
	// other identities need no entry.
	PrimaryKeys map[string][]string
}

// Mapper maps changes to items. It is for one goroutine, that which encodes the
// items as well; Match, MatchTable, Counts and Explain may be called by others.
type Mapper struct {
	cfg      Config
	env      Env
	routes   []route
	tables   tables
	messages map[string]*messagePlan // by prefix
	codecs   codecs

	relations map[uint32]*relation // by OID; the latest description of each
	latest    *relation            // that of the last change
	learned   int                  // how often SetTypes and SetTable were called

	enc     encoder
	streams interner
	reading bool // the change is a row that a snapshot read
	// What the items of the last Map point to.
	arena   []byte
	items   []Item
	event   eventPayload
	records [2]recordPayload
	tx      txText
	// What records of Debezium's envelope have in common.
	debeziumHead, debeziumDatabase []byte

	counts counts
}

// Counts are numbers of changes that gave no item, since the mapper was made.
type Counts struct {
	SkippedUpdates   uint64 // updates of outbox rows
	IgnoredDeletes   uint64 // deletes of outbox rows
	IgnoredTruncates uint64 // of outboxes, and by truncate: ignore
	Unrouted         uint64 // of tables and logical messages that no route takes
}

type counts struct {
	updates, deletes, truncates, unrouted atomic.Uint64
}

// New makes a mapper. The error is a *fault.ConfigError with all that is wrong.
func New(cfg Config, env Env) (*Mapper, error) {
	cfg = cfg.WithDefaults()
	if problems := cfg.Validate(); len(problems) > 0 {
		return nil, &fault.ConfigError{Problems: problems}
	}
	if env.Bridge == "" {
		return nil, fault.Config(fault.Problem{Check: "name", Where: "name", What: "the bridge has no name", Fix: "set name"})
	}
	m := &Mapper{cfg: cfg, env: env, tables: newTables(env), relations: make(map[uint32]*relation), items: make([]Item, 0, 3)}
	m.routes = make([]route, len(cfg.Routes))
	for i := range cfg.Routes {
		if err := m.routes[i].set(i, &cfg.Routes[i]); err != nil {
			return nil, err
		}
	}
	m.codecs.set(env.Types)
	m.planMessages(&cfg)
	m.debeziumHead = appendString([]byte(`"version":`), []byte(env.Version))
	m.debeziumHead = appendString(append(m.debeziumHead, `,"connector":"postgresql","name":`...), []byte(env.Bridge))
	m.debeziumDatabase = appendString([]byte(`","db":`), []byte(env.Database))
	return m, nil
}

// Initial reports whether the rows that are in a table at the first start are to be
// read, and which: a condition in SQL, empty for all. It is safe for concurrent use.
func (m *Mapper) Initial(t *catalog.Table) (where string, ok bool) {
	i, ok := m.MatchTable(t)
	if !ok || m.cfg.Routes[i].Snapshot != wordInitial {
		return "", false
	}
	return m.cfg.Routes[i].Where, true
}

// Outbox reports whether the rows of a table are events, each to be delivered once. It
// is safe for concurrent use.
func (m *Mapper) Outbox(t *catalog.Table) bool {
	i, ok := m.MatchTable(t)
	return ok && m.cfg.Routes[i].Outbox != nil
}

// Reads says why the rows of a table must not be read by a snapshot, empty when they
// may. It is for the mapper's goroutine, since it looks the root of a partition up when
// the table does not say it.
func (m *Mapper) Reads(t *catalog.Table) string {
	root := t.Root
	if root == "" {
		root = m.tables.named(t.QualifiedName()).root
	}
	switch i, _ := m.match(t.Schema, t.Name, root); {
	case i < 0:
		return "no route takes it"
	case m.routes[i].changes == nil:
		return "it is an outbox that is streamed: an event that was published would be published again"
	}
	return ""
}

// Counts returns the counts so far. It is safe for concurrent use.
func (m *Mapper) Counts() Counts {
	return Counts{
		SkippedUpdates: m.counts.updates.Load(), IgnoredDeletes: m.counts.deletes.Load(),
		IgnoredTruncates: m.counts.truncates.Load(), Unrouted: m.counts.unrouted.Load(),
	}
}

// Map returns the items of a change: none, one, or the two of a change of key, or up to
// three with the envelope debezium, where a delete is two. The
// items and all they hold are valid until the next call; the change must stay as
// it is while they are used.
//
// What cannot be mapped is an item of KindDeadLetter. The error is a *fault.Halt:
// the change is one that the route halts for, or the table lacks a column that the
// route names.
func (m *Mapper) Map(c *decoder.Change) ([]Item, error) {
	m.reset()
	m.reading = c.Read != nil
	if c.Relation == nil {
		return m.mapMessage(c)
	}
	r := m.relation(c.Relation)
	switch {
	case r.halt != nil:
		return nil, r.halt
	case r.event != nil:
		return m.mapEvent(c, r)
	case r.record != nil:
		return m.mapRecord(c, r)
	}
	m.counts.unrouted.Add(1)
	return nil, nil
}

// reset makes the memory of the items before ready for new ones.
func (m *Mapper) reset() {
	m.items = m.items[:0]
	m.arena = m.arena[:0]
	if cap(m.arena) > maxKeptScratch {
		m.arena = nil
	}
}

// kept returns what was appended to the arena since start. It stays valid until
// reset, also when the arena moves meanwhile.
func (m *Mapper) kept(start int) []byte { return m.arena[start:len(m.arena):len(m.arena)] }

// item returns the next item, with what all items of the change have in common.
func (m *Mapper) item(c *decoder.Change, kind Kind, sub uint16) *Item {
	m.items = append(m.items, Item{ID: c.ID, Kind: kind})
	it := &m.items[len(m.items)-1]
	it.ID.Sub = sub
	if c.Tx != nil {
		it.CommittedAt, it.Time, it.Xid = c.Tx.CommitTime, c.Tx.CommitTime, c.Tx.Xid
	}
	if c.Read != nil {
		it.CommittedAt, it.Time = c.Read.At, c.Read.At
	}
	return it
}

// recordID returns "<bridge>:<ID>".
func (m *Mapper) recordID(it *Item) []byte {
	start := len(m.arena)
	m.arena = append(m.arena, m.env.Bridge...)
	m.arena = append(m.arena, ':')
	m.arena = it.ID.Append(m.arena)
	return m.kept(start)
}

// set compiles a validated route.
func (r *route) set(index int, cfg *Route) error {
	var err1, err2, err3 error
	r.index, r.outbox, r.inbox, r.changes, r.columns = index, cfg.Outbox, cfg.Inbox != nil, cfg.Changes, cfg.Columns
	r.tables, err1 = parsePatterns(cfg.Tables)
	r.exclude, err2 = parsePatterns(cfg.Exclude)
	if !r.inbox {
		r.stream, err3 = parseTemplate(cfg.Stream)
	}
	if r.outbox != nil {
		for _, s := range r.outbox.Extra {
			e, err := parseExtra(s)
			if err != nil {
				return err
			}
			r.extras = append(r.extras, e)
		}
	}
	if r.columns != nil && len(r.columns.Mask) > 0 {
		r.mask = newMask(r.columns.MaskKey.Reveal())
	}
	return errors.Join(err1, err2, err3)
}
