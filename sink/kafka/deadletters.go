package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"github.com/walbridge/walbridge/internal/lsn"
)

// The resolutions of a dead letter: headerResolution of its tombstone.
const (
	Replayed  = "replayed"
	Discarded = "discarded"
)

// removed is the resolution of a letter whose tombstone somebody else has written.
const removed = "removed"

// The headers of a tombstone that closes a dead letter.
const (
	headerResolution = "wb-resolution"
	headerNote       = "wb-note"
)

// ErrNoLetter is for an id that is no dead letter's, or that of one which was closed
// and compacted away.
var ErrNoLetter = errors.New("there is no such dead letter")

// Letter is a dead letter of a bridge.
type Letter struct {
	ID       lsn.ID
	Source   string // the bridge
	Stream   string // where the item was to go; of what could not be mapped what is known of it
	Key      []byte // of the item; nil for none
	EventID  string
	Type     string
	Reason   string
	Error    string
	Headers  []Header // of the item; not of what could not be mapped
	Unmapped bool     // Value is the change, which could not be mapped
	// Value is the item's, or the change as mapper.DecodeRaw takes it. nil in a list, and
	// for one that was too large to be kept.
	Value       []byte
	ValueBytes  int
	Replayable  bool
	CommittedAt time.Time
	DiedAt      time.Time
	Resolution  string    // Replayed, Discarded, or removed; empty while it is open
	ResolvedAt  time.Time // zero while it is open
}

// Header is one of a record.
type Header struct{ Name, Value string }

// Letters are the dead letters of one bridge, the records of its dead-letter topic. It
// reads them and closes them by tombstones. It neither fences the bridge nor waits for
// it. For one goroutine.
type Letters struct {
	s     *Sink
	topic string
}

// OpenLetters connects. The configuration has its defaults and is valid.
func OpenLetters(ctx context.Context, cfg Config, name string) (*Letters, error) {
	topic := cfg.deadLetterTopic(name)
	cfg.DeadLetterTopic, cfg.TransactionalID = topic, cfg.lettersTransactionalID(name)
	s := New(cfg, nil)
	s.src.Name = name
	s.name.Store(&name)
	if err := s.connect(ctx); err != nil {
		return nil, err
	}
	return &Letters{s: s, topic: topic}, nil
}

// lettersTransactionalID is that of replays: the bridge's own would fence it.
func (c Config) lettersTransactionalID(name string) string { return c.transactionalID(name) + "-dlq" }

// Close ends the connections.
func (l *Letters) Close() { l.s.client.close() }

// Filter chooses dead letters. What is empty chooses all.
type Filter struct {
	Stream, Key, Reason string
	// Resolved chooses those that were replayed or discarded too, as long as compaction
	// has left them.
	Resolved bool
	// After is the last letter of the page before; the zero value begins.
	After lsn.ID
	// Limit is the size of a page; 0: all.
	Limit int
}

func (f Filter) chooses(l *Letter) bool {
	return (f.Resolved || l.Resolution == "") && (f.Stream == "" || f.Stream == l.Stream) && (f.Key == "" || f.Key == string(l.Key)) &&
		(f.Reason == "" || f.Reason == l.Reason) && (f.After == lsn.ID{} || f.After.Compare(l.ID) < 0)
}

// List returns dead letters in the order of their ids, without their values.
func (l *Letters) List(ctx context.Context, f Filter) ([]Letter, error) {
	all, err := l.read(ctx, func(lsn.ID) bool { return false })
	if err != nil {
		return nil, err
	}
	all = slices.DeleteFunc(all, func(one Letter) bool { return !f.chooses(&one) })
	slices.SortFunc(all, func(a, b Letter) int { return a.ID.Compare(b.ID) })
	if f.Limit > 0 && len(all) > f.Limit {
		all = all[:f.Limit]
	}
	return all, nil
}

// Show returns one dead letter with its value, open or not. Errors: ErrNoLetter;
// those of List.
func (l *Letters) Show(ctx context.Context, id lsn.ID) (Letter, error) {
	all, err := l.read(ctx, func(of lsn.ID) bool { return of == id })
	if err != nil {
		return Letter{}, err
	}
	i := slices.IndexFunc(all, func(one Letter) bool { return one.ID == id })
	if i < 0 {
		return Letter{}, ErrNoLetter
	}
	return all[i], nil
}

// read reads the topic from its beginning: what a compacted topic holds is what is
// open, and what was closed lately. whole says whose values are kept.
func (l *Letters) read(ctx context.Context, whole func(lsn.ID) bool) ([]Letter, error) {
	l.s.client.watch(l.topic)
	if l.s.table.get(l.topic) == nil {
		l.s.client.renew() // what was missing a moment ago may be there
	}
	gone, err := l.s.topics.find(ctx, []string{l.topic})
	if err != nil || len(gone) > 0 {
		return nil, operation("look at the dead letters", err) // no topic: no dead letter was ever written
	}
	at := map[lsn.ID]int{}
	var all []Letter
	for id := range int32(l.s.table.get(l.topic).partitions) {
		found, err := l.readPartition(ctx, partition{l.topic, id}, whole)
		if err != nil {
			return nil, operation("read the dead letters", err)
		}
		for _, one := range found {
			i, known := at[one.ID]
			switch {
			case known && one.Resolution != "":
				all[i].Resolution, all[i].ResolvedAt = one.Resolution, one.ResolvedAt
			case known:
				all[i] = one
			case one.Resolution == "":
				at[one.ID] = len(all)
				all = append(all, one)
			}
		}
	}
	return all, nil
}

// endsWithin is how long a reader waits for the end of a transaction that holds dead
// letters, or their tombstones: the coordinator answers before the markers are there.
const endsWithin = 2 * time.Second

func (l *Letters) readPartition(ctx context.Context, at partition, whole func(lsn.ID) bool) ([]Letter, error) {
	wait, begun := newTries(5*time.Millisecond, 100*time.Millisecond), time.Now()
	for {
		first, end, err := l.s.client.listOffsets(ctx, at, kafka.ReadUncommitted, kafka.FirstOffsetOf(int(at.id)), kafka.LastOffsetOf(int(at.id)))
		if err != nil {
			return nil, err
		}
		found, err := scan(ctx, l.s.client, at, func(key []byte, r *protocol.Record) (Letter, bool, error) { return decodeLetter(key, r, whole) }, first, end)
		if err != nil || found.open < 0 || time.Since(begun) > endsWithin || wait.wait(ctx) != nil {
			return found.values, err
		}
	}
}

// decodeLetter reads a record of the dead-letter topic; false for one that is not ours.
func decodeLetter(key []byte, r *protocol.Record, whole func(lsn.ID) bool) (l Letter, ours bool, err error) {
	if l.ID, err = lsn.ParseID(string(key)); err != nil {
		return l, false, nil
	}
	l.DiedAt, l.Unmapped = r.Time.UTC(), true
	for _, h := range r.Headers {
		l.header(h)
	}
	value, err := protocol.ReadAll(r.Value)
	if err != nil {
		return l, false, err
	}
	if len(value) == 0 && l.Reason == "" { // a tombstone
		if l.ResolvedAt = l.DiedAt; l.Resolution == "" {
			l.Resolution = removed
		}
		return l, true, nil
	}
	if l.ValueBytes == 0 {
		l.ValueBytes = len(value)
	}
	if whole(l.ID) {
		l.Value = value
	}
	return l, true, nil
}

// header takes a header of a dead letter. An item's own tell that it was mapped: each
// has an id or a type.
func (l *Letter) header(h protocol.Header) {
	value := string(h.Value)
	switch h.Key {
	case headerReason:
		l.Reason = value
	case headerError:
		l.Error = value
	case headerStream:
		l.Stream = value
	case headerReplayable:
		l.Replayable = value == "true"
	case headerKey:
		l.Key = h.Value
	case headerSize:
		_, _ = fmt.Sscan(value, &l.ValueBytes) // nothing depends on it
	case headerResolution:
		l.Resolution = value
	case headerNote:
	default:
		l.item(h.Key, value)
	}
}

// item takes a header that the item has, too.
func (l *Letter) item(name, value string) {
	l.Headers = append(l.Headers, Header{name, value})
	switch name {
	case headerSource:
		l.Source = value
	case headerCommitted:
		l.CommittedAt, _ = time.Parse(timeLayout, value) // written by us
	case "id":
		l.EventID, l.Unmapped = value, false
	case "type":
		l.Type, l.Unmapped = value, false
	}
}
