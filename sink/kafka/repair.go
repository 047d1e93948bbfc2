package kafka

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/sink/kafka/recordbatch"
)

// nowMs is the time of our clock in ms since 1970.
func nowMs() int64 { return time.Now().UnixMilli() }

// after decides what follows a failed attempt. A transaction that failed is never
// ended by another request and then gone on with: only taking the identity anew makes
// sure that nothing of it comes later. mended: try again, the error is dealt with.
func (w *writing) after(ctx context.Context, err error) (mended bool, _ error) {
	s := w.s
	var at *partitionError
	named := errors.As(err, &at)
	if named && is(err, kafka.UnknownTopicOrPartition) {
		s.table.forget(at.at.topic) // the next write looks for it
	}
	repair := named && is(err, kafka.MessageSizeTooLarge, kafka.RecordListTooLarge, kafka.InvalidTimestamp, kafka.InvalidRecord)
	refused := s.refusedTopic(err)
	if !repair && !doubtful(err) && !final(refused) {
		return false, err
	}
	if takeErr := s.producer.take(ctx); takeErr != nil {
		if errors.Is(takeErr, fault.ErrFenced) {
			return false, takeErr
		}
		return false, errors.Join(refused, takeErr)
	}
	if !repair {
		return false, refused
	}
	if err := w.repair(ctx, at.at, err); err != nil {
		return false, err
	}
	return true, nil
}

// repair changes the batch so that the brokers take it.
func (w *writing) repair(ctx context.Context, at partition, err error) error {
	t := w.b.byName[at.topic]
	if t == nil || !t.used {
		return w.s.refusedTopic(err) // the position record
	}
	switch {
	case is(err, kafka.InvalidTimestamp):
		if w.clamp {
			return err
		}
		w.clamp = true
		return nil
	case is(err, kafka.InvalidRecord):
		return w.refusedRecords(t, at, err)
	}
	return w.smaller(ctx, t, at)
}

// refusedRecords makes dead letters of the records that the broker has named.
func (w *writing) refusedRecords(t *topicBatch, at partition, err error) error {
	var bad []poison
	var named *partError
	if errors.As(err, &named) {
		i := 0
		for r := range named.part.segment.Records {
			for _, b := range named.part.bad {
				if int(b.BatchIndex) == i {
					bad = append(bad, w.poison(t, r, reasonRefused, fmt.Errorf("topic %s: the broker refuses the record: %s", at.topic, b.BatchIndexErrorMessage)))
				}
			}
			i++
		}
	}
	if len(bad) == 0 {
		return w.s.refusedTopic(err)
	}
	return w.bury(bad)
}

// smaller cuts a topic's records into smaller batches: its limit is lower than was
// known, or cannot be known.
func (w *writing) smaller(ctx context.Context, t *topicBatch, at partition) error {
	known := t.info.maxBytes
	if err := w.s.topics.relearn(ctx, t.name); err != nil {
		return err
	}
	info := *w.s.table.get(t.name)
	if info.maxBytes >= known {
		largest := 0
		for _, l := range t.lanes {
			for _, seg := range l.segments[:l.used] {
				largest = max(largest, len(seg.closed)-recordbatch.Prefix)
			}
		}
		info.maxBytes = max(min(known, largest)*3/4, recordbatch.HeaderSize)
	}
	w.s.log.Warn("the topic takes smaller batches than was known", "topic", t.name, "partition", at.id, "bytes", info.maxBytes)
	w.s.table.put(t.name, &info)
	return nil
}
