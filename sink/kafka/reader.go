package kafka

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
)

// Record is a record of a topic.
type Record struct {
	Topic     string
	Partition int
	Offset    int64
	Key       []byte
	Value     []byte // nil: a tombstone
	Headers   []Header
}

// Header returns the value of the first header of a name, false when there is none.
func (r *Record) Header(name string) (string, bool) {
	for _, h := range r.Headers {
		if h.Name == name {
			return h.Value, true
		}
	}
	return "", false
}

// Reader reads topics from their beginning as a consumer with read_committed does: no
// record of a transaction that has not ended, or was broken off. It keeps its place
// for itself. For one goroutine.
type Reader struct {
	c     *client
	parts map[partition]*scanner[Record]
}

// OpenReader connects. The topics are there; partitions that they get later are not
// read.
func OpenReader(ctx context.Context, cfg Config, name string, topics ...string) (*Reader, error) {
	c, err := connect(ctx, cfg, clientID(name)+"-reader")
	if err != nil {
		return nil, err
	}
	c.watch(topics...)
	r := &Reader{c: c, parts: map[partition]*scanner[Record]{}}
	l, err := c.layout(ctx)
	if err != nil {
		c.close()
		return nil, operation("look at the topics", err)
	}
	for _, topic := range topics {
		t := l.topic(topic)
		if t == nil || t.ErrorCode != 0 {
			c.close()
			return nil, fmt.Errorf("look at the topic %s: it is not there", topic)
		}
		for p := range t.Partitions {
			at := partition{topic, int32(p)}
			r.parts[at] = newScanner(recordsOf(at), 0)
		}
	}
	firsts, err := r.offsets(ctx, kafka.FirstOffsetOf)
	if err != nil {
		c.close()
		return nil, operation("ask for the beginnings of the topics", err)
	}
	for at, s := range r.parts {
		s.next = firsts[at]
	}
	return r, nil
}

// recordsOf keeps everything.
func recordsOf(at partition) take[Record] {
	return func(key []byte, r *protocol.Record) (Record, bool, error) {
		value, err := protocol.ReadAll(r.Value)
		kept := Record{Topic: at.topic, Partition: int(at.id), Offset: r.Offset, Key: key, Value: value}
		for _, h := range r.Headers {
			kept.Headers = append(kept.Headers, Header{h.Key, string(h.Value)})
		}
		return kept, true, err
	}
}

// Poll returns what has been committed since the last call, each partition's records
// in their order. It does not wait for more. After an error the next call returns what
// this one did not.
func (r *Reader) Poll(ctx context.Context) ([]Record, error) {
	ends, err := r.offsets(ctx, kafka.LastOffsetOf)
	if err != nil {
		return nil, operation("ask for the ends of the topics", err)
	}
	for at, s := range r.parts {
		if err := s.readUntil(ctx, r.c, at, ends[at]); err != nil {
			return nil, operation("read the topics", err)
		}
	}
	var all []Record
	for _, s := range r.parts {
		all = append(all, s.values...)
		s.values = nil
	}
	return all, nil
}

// offsets asks once for all partitions.
func (r *Reader) offsets(ctx context.Context, which func(partition int) kafka.OffsetRequest) (map[partition]int64, error) {
	ask := map[string][]kafka.OffsetRequest{}
	for at := range r.parts {
		ask[at.topic] = append(ask[at.topic], which(int(at.id)))
	}
	all := map[partition]int64{}
	err := r.c.patiently(ctx, func(ctx context.Context) error {
		answer, err := r.c.api.ListOffsets(ctx, &kafka.ListOffsetsRequest{IsolationLevel: kafka.ReadUncommitted, Topics: ask})
		if err != nil {
			return err
		}
		for topic, partitions := range answer.Topics {
			for _, p := range partitions {
				err = errors.Join(err, p.Error)
				all[partition{topic, int32(p.Partition)}] = max(p.FirstOffset, p.LastOffset) // the one that was asked for; the other is -1
			}
		}
		return err
	})
	return all, err
}

// Close ends the connections.
func (r *Reader) Close() { r.c.close() }

// DeleteTopics deletes topics with all their records. One that is not there is no
// error.
func DeleteTopics(ctx context.Context, cfg Config, name string, topics ...string) error {
	c, err := connect(ctx, cfg, clientID(name))
	if err != nil {
		return err
	}
	defer c.close()
	r, err := c.api.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: topics})
	if err != nil {
		return operation("delete topics", err)
	}
	var failed []string
	for topic, err := range r.Errors {
		if err != nil && !is(err, kafka.UnknownTopicOrPartition) {
			failed = append(failed, fmt.Sprintf("%s: %v", topic, err))
		}
	}
	if len(failed) == 0 {
		return nil
	}
	slices.Sort(failed)
	return fmt.Errorf("delete topics: %s", strings.Join(failed, "; "))
}
