package kafka

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/fetch"
)

// fetchBytes bounds one answer of a fetch.
const fetchBytes = 8 << 20

// fetchWait is how long a broker may wait for more before it answers a fetch, in ms:
// what is asked for is there.
const fetchWait = 100

// fetch reads a partition from an offset on, whatever was committed of it.
func (c *client) fetch(ctx context.Context, at partition, from int64) (p *fetch.ResponsePartition, err error) {
	err = c.patiently(ctx, func(ctx context.Context) error {
		p, err = c.fetchOnce(ctx, at, from)
		return err
	})
	return p, err
}

func (c *client) fetchOnce(ctx context.Context, at partition, from int64) (*fetch.ResponsePartition, error) {
	m, err := c.roundTrip(ctx, &fetch.Request{
		ReplicaID: -1, MaxWaitTime: fetchWait, MinBytes: 1, MaxBytes: fetchBytes, IsolationLevel: int8(kafka.ReadUncommitted), SessionEpoch: -1,
		Topics: []fetch.RequestTopic{{Topic: at.topic, Partitions: []fetch.RequestPartition{{
			Partition: at.id, CurrentLeaderEpoch: -1, FetchOffset: from, LogStartOffset: -1, PartitionMaxBytes: fetchBytes,
		}}}},
	})
	if err != nil {
		return nil, fmt.Errorf("read %s: %w", at, err)
	}
	r := m.(*fetch.Response)
	if r.ErrorCode != 0 {
		return nil, fmt.Errorf("read %s: %w", at, kafka.Error(r.ErrorCode))
	}
	if len(r.Topics) != 1 || len(r.Topics[0].Partitions) != 1 {
		return nil, fmt.Errorf("read %s: the answer is for something else", at)
	}
	p := &r.Topics[0].Partitions[0]
	if p.ErrorCode != 0 {
		return nil, fmt.Errorf("read %s: %w", at, kafka.Error(p.ErrorCode))
	}
	return p, nil
}

// listOffsets returns the first offset of a partition and its end, -1 for one that was
// not asked for. The end is the last stable offset at the level ReadCommitted.
func (c *client) listOffsets(ctx context.Context, at partition, level kafka.IsolationLevel, ask ...kafka.OffsetRequest) (first, last int64, err error) {
	err = c.patiently(ctx, func(ctx context.Context) error {
		first, last, err = c.listOffsetsOnce(ctx, at, level, ask...)
		return err
	})
	return first, last, err
}

func (c *client) listOffsetsOnce(ctx context.Context, at partition, level kafka.IsolationLevel, ask ...kafka.OffsetRequest) (first, last int64, err error) {
	r, err := c.api.ListOffsets(ctx, &kafka.ListOffsetsRequest{IsolationLevel: level, Topics: map[string][]kafka.OffsetRequest{at.topic: ask}})
	if err == nil && len(r.Topics[at.topic]) != 1 {
		err = errors.New("the answer is for something else")
	}
	if err == nil {
		err = r.Topics[at.topic][0].Error
	}
	if err != nil {
		return 0, 0, fmt.Errorf("ask for the offsets of %s: %w", at, err)
	}
	o := r.Topics[at.topic][0]
	return o.FirstOffset, o.LastOffset, nil
}

// scanned is what a part of a partition holds of what was looked for.
type scanned[T any] struct {
	values []T // of committed records, in their order
	// open is the first offset of such a record whose transaction has not ended, -1 when
	// there is none.
	open int64
	end  int64 // the offset behind the last one read
}

// take says what is kept of a record, false for nothing. The record ends with the call.
type take[T any] func(key []byte, r *protocol.Record) (T, bool, error)

// valuesOf keeps the values of a key.
func valuesOf(key []byte) take[[]byte] {
	return func(of []byte, r *protocol.Record) ([]byte, bool, error) {
		if !bytes.Equal(of, key) {
			return nil, false, nil
		}
		value, err := protocol.ReadAll(r.Value)
		return value, true, err
	}
}

// nothing keeps nothing.
func nothing([]byte, *protocol.Record) (struct{}, bool, error) { return struct{}{}, false, nil }

// scan reads a partition from one offset up to another. It is a read_committed filter
// of its own, over all that is there: what lies beyond the stable offset because of
// somebody else's open transaction counts too.
func scan[T any](ctx context.Context, c *client, at partition, take take[T], from, until int64) (scanned[T], error) {
	s := newScanner(take, from)
	if err := s.readUntil(ctx, c, at, until); err != nil {
		return scanned[T]{}, err
	}
	return s.result(), nil
}

// marked reports whether a marker of the producer lies behind an extent. One that is
// there is the next that the producer has written.
func (c *client) marked(ctx context.Context, e extent) (bool, error) {
	_, end, err := c.listOffsets(ctx, e.partition, kafka.ReadUncommitted, kafka.LastOffsetOf(int(e.id)))
	if err != nil {
		return false, err
	}
	s := newScanner(nothing, e.last+1)
	for s.next < end {
		p, err := c.fetch(ctx, e.partition, s.next)
		if err != nil {
			return false, err
		}
		stream, _ := p.RecordSet.Records.(*protocol.RecordStream)
		if stream == nil {
			return false, nil
		}
		for _, r := range stream.Records {
			if b, is := r.(*protocol.ControlBatch); is && b.ProducerID == e.by {
				return true, nil
			}
		}
		before := s.next
		if err := s.read(stream); err != nil {
			return false, fmt.Errorf("read %s: %w", e.partition, err)
		}
		s.next = max(s.next, before+1)
	}
	return false, nil
}

// scanner follows the transactions of a partition.
type scanner[T any] struct {
	take    take[T]
	values  []T
	pending map[int64]*pendingRecords[T] // by producer
	next    int64
}

func newScanner[T any](take take[T], from int64) *scanner[T] {
	return &scanner[T]{take: take, pending: map[int64]*pendingRecords[T]{}, next: from}
}

// readUntil reads on up to an offset.
func (s *scanner[T]) readUntil(ctx context.Context, c *client, at partition, until int64) error {
	for s.next < until {
		p, err := c.fetch(ctx, at, s.next)
		if err != nil {
			return err
		}
		stream, _ := p.RecordSet.Records.(*protocol.RecordStream)
		before := s.next
		if stream != nil {
			if err := s.read(stream); err != nil {
				return fmt.Errorf("read %s: %w", at, err)
			}
		}
		if s.next == before && s.next >= p.HighWatermark {
			return nil // it became shorter: a leader that knew less
		}
		if s.next == before {
			s.next++ // a batch of which compaction has left nothing
		}
	}
	return nil
}

// pendingRecords are those of a transaction that has not ended yet.
type pendingRecords[T any] struct {
	values []T
	first  int64 // offset
}

func (s *scanner[T]) read(stream *protocol.RecordStream) error {
	for _, r := range stream.Records {
		var err error
		switch b := r.(type) {
		case *protocol.ControlBatch:
			err = s.control(b)
		case *protocol.RecordBatch:
			err = s.batch(b)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

func (s *scanner[T]) control(b *protocol.ControlBatch) error {
	s.next = max(s.next, b.BaseOffset+1)
	r, err := b.ReadControlRecord()
	if err != nil {
		if errors.Is(err, io.EOF) {
			return nil
		}
		return err
	}
	const commit = 1 // ControlRecordType of a COMMIT; 0 is ABORT
	if p := s.pending[b.ProducerID]; p != nil && r.Type == commit {
		s.values = append(s.values, p.values...)
	}
	delete(s.pending, b.ProducerID)
	return nil
}

func (s *scanner[T]) batch(b *protocol.RecordBatch) error {
	s.next = max(s.next, b.BaseOffset+1)
	for {
		r, err := b.ReadRecord()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		s.next = max(s.next, r.Offset+1)
		if err := s.record(b, r); err != nil {
			return err
		}
	}
}

func (s *scanner[T]) record(b *protocol.RecordBatch, r *protocol.Record) error {
	key, err := protocol.ReadAll(r.Key)
	if err != nil {
		return err
	}
	value, kept, err := s.take(key, r)
	if err != nil || !kept {
		return err
	}
	if !b.Attributes.Transactional() {
		s.values = append(s.values, value)
		return nil
	}
	p := s.pending[b.ProducerID]
	if p == nil {
		p = &pendingRecords[T]{first: r.Offset}
		s.pending[b.ProducerID] = p
	}
	p.values = append(p.values, value)
	return nil
}

func (s *scanner[T]) result() scanned[T] {
	r := scanned[T]{values: s.values, open: -1, end: s.next}
	for _, p := range s.pending {
		if r.open < 0 || p.first < r.open {
			r.open = p.first
		}
	}
	return r
}
