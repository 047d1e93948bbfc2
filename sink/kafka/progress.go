package kafka

import (
	"context"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/sink/kafka/recordbatch"
)

// firstWindow is how many offsets are read from the end of a progress partition
// first: mostly the newest record is among them.
const firstWindow = 500

// stored is a bridge's position as the progress topic holds it.
type stored struct {
	seen     bool   // a record of the bridge, or its tombstone, was found
	n        uint64 // of the newest record; 0: none
	of       int    // partitions of the topic when it was written
	progress lsn.Progress
	open     int64 // offset of a record of ours in a transaction that has not ended; -1: none
}

// progressPartition is where a bridge's position goes.
func progressPartition(topic, name string, partitions int) partition {
	return partition{topic, int32(recordbatch.Partition([]byte(name), partitions))}
}

// readProgress finds the newest committed position. Before "none" is believed, all of
// the partition was read, and all others too: the topic may have had fewer once.
func (c *client) readProgress(ctx context.Context, topic, name string, partitions int) (stored, error) {
	own := progressPartition(topic, name, partitions)
	s, err := c.readPartition(ctx, own, name)
	if err != nil || s.seen && (s.n == 0 || s.of == partitions) {
		return s, err
	}
	for id := range int32(partitions) {
		if id == own.id {
			continue
		}
		other, err := c.readPartition(ctx, partition{topic, id}, name)
		if err != nil {
			return stored{}, err
		}
		if other.n > s.n {
			other.open = s.open
			s = other
		}
	}
	return s, nil
}

// readPartition reads from the end backwards, in growing windows.
func (c *client) readPartition(ctx context.Context, at partition, name string) (stored, error) {
	first, end, err := c.listOffsets(ctx, at, kafka.ReadUncommitted, kafka.FirstOffsetOf(int(at.id)), kafka.LastOffsetOf(int(at.id)))
	if err != nil {
		return stored{}, err
	}
	for window := int64(firstWindow); ; window *= 8 {
		from := max(first, end-window)
		found, err := scan(ctx, c, at, valuesOf([]byte(name)), from, end)
		if err != nil {
			return stored{}, err
		}
		s, err := newest(found)
		if err != nil || s.seen || from == first {
			return s, err
		}
	}
}

// errPosition is a position record that cannot be read.
type errPosition struct{ err error }

func (e *errPosition) Error() string { return "read the position: " + e.err.Error() }
func (e *errPosition) Unwrap() error { return e.err }

// newest picks the record with the highest number: without transactions a late copy of
// an older one may lie behind it.
func newest(found scanned[[]byte]) (stored, error) {
	s := stored{open: found.open, seen: len(found.values) > 0}
	for _, text := range found.values {
		if len(text) == 0 {
			s.n, s.progress = 0, lsn.Progress{} // a tombstone: somebody has made the bridge anew
			continue
		}
		n, of, p, err := decodePosition(text)
		if err != nil {
			return stored{}, &errPosition{err}
		}
		if n >= s.n {
			s.n, s.of, s.progress = n, of, p
		}
	}
	return s, nil
}

// Latest is what the progress topic says of a bridge, whether it runs or not.
type Latest struct {
	Progress lsn.Progress // with PhaseNone for a bridge never seen
	Writes   uint64       // so far
}

// readTimeout bounds ReadLatest as a whole.
const readTimeout = 30 * time.Second

// ReadLatest reads it over connections of its own. It fences nobody. A write that has
// just returned may show a few milliseconds later.
func ReadLatest(ctx context.Context, cfg Config, name string) (Latest, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, readTimeout, fmt.Errorf("no answer within %v", readTimeout))
	defer cancel()
	c, err := connect(ctx, cfg, clientID(name)+"-status")
	if err != nil {
		return Latest{}, err
	}
	defer c.close()
	l, err := c.layout(ctx)
	if err != nil {
		return Latest{}, operation("read the position of "+name, err)
	}
	t := l.topic(cfg.ProgressTopic)
	if t == nil || t.ErrorCode != 0 || len(t.Partitions) == 0 {
		return Latest{}, nil // no bridge was ever here
	}
	s, err := c.readProgress(ctx, cfg.ProgressTopic, name, len(t.Partitions))
	if err != nil {
		return Latest{}, operation("read the position of "+name, err)
	}
	return Latest{Progress: s.progress, Writes: s.n}, nil
}

// clientID is what the brokers' logs and quotas know us as.
func clientID(name string) string { return "walbridge-" + name }
