package kafka

import (
	"context"
	"fmt"
	"time"

	"github.com/segmentio/kafka-go"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/sink/kafka/recordbatch"
)

// partition names a partition.
type partition struct {
	topic string
	id    int32
}

// String is topic/partition.
func (p partition) String() string { return fmt.Sprintf("%s/%d", p.topic, p.id) }

// producer is our identity at the brokers. It is the writer's.
type producer struct {
	client        *client
	transactional string // the id; empty: idempotent only
	timeout       time.Duration
	id            int64 // -1: none yet, or given up
	epoch         int16
	sequences     map[partition]int32 // of the next record
}

// none is a producer id, and an epoch, that is not there: zero would be somebody's.
const none = -1

// forget gives the identity up: the next take fences whoever has it then.
func (p *producer) forget() { p.id, p.epoch = none, none }

// take gets the identity. Without one it fences every older process and aborts its
// open transaction. With one it raises the epoch of our own, which ends our open
// transaction one way or the other, shuts late requests out, and answers
// fault.ErrFenced when somebody else has taken the identity.
func (p *producer) take(ctx context.Context) error {
	id, epoch := p.id, p.epoch
	if p.transactional == "" {
		id, epoch = none, none // without transactions there is nothing to raise
	}
	ctx, cancel := p.client.call(ctx)
	defer cancel()
	wait := newTries(time.Millisecond, 100*time.Millisecond)
	for {
		err := p.init(ctx, id, epoch)
		switch {
		case err == nil:
			return nil
		case is(err, kafka.ProducerFenced, kafka.InvalidProducerEpoch):
			return fmt.Errorf("%w: %w", fault.ErrFenced, err)
		case !busy(err):
			return fmt.Errorf("take the producer's identity: %w", err)
		}
		if wait.wait(ctx) != nil {
			return fmt.Errorf("take the producer's identity: %w", err)
		}
	}
}

func (p *producer) init(ctx context.Context, id int64, epoch int16) error {
	ctx, cancel := p.client.call(ctx)
	defer cancel()
	r, err := p.client.api.InitProducerID(ctx, &kafka.InitProducerIDRequest{
		TransactionalID: p.transactional, TransactionTimeoutMs: int(p.timeout.Milliseconds()), ProducerID: int(id), ProducerEpoch: int(epoch),
	})
	if err == nil {
		err = r.Error
	}
	if err != nil {
		return err
	}
	// The id too: the coordinator may have forgotten the old one (transactional.id.expiration.ms).
	p.id, p.epoch, p.sequences = int64(r.Producer.ProducerID), int16(r.Producer.ProducerEpoch), map[partition]int32{}
	return nil
}

// stamp writes the producer into a closed batch and takes the sequences of its
// records.
func (p *producer) stamp(at partition, closed []byte, records int) {
	first := p.sequences[at]
	recordbatch.Producer{ID: p.id, Epoch: p.epoch, Sequence: first, Transactional: p.transactional != ""}.Stamp(closed)
	p.sequences[at] = recordbatch.NextSequence(first, records)
}

// add makes partitions part of the transaction, which it begins.
func (p *producer) add(ctx context.Context, all []partition) error {
	topics := map[string][]kafka.AddPartitionToTxn{}
	for _, at := range all {
		topics[at.topic] = append(topics[at.topic], kafka.AddPartitionToTxn{Partition: int(at.id)})
	}
	wait, start := newTries(time.Millisecond, 20*time.Millisecond), time.Now()
	for {
		failed, err := p.addOnce(ctx, topics)
		// A topic just made is unknown to some brokers for a while.
		made := is(err, kafka.UnknownTopicOrPartition) && time.Since(start) < p.client.unknownFor
		if !busy(err) && !made {
			return tell(failed, err)
		}
		if wait.wait(ctx) != nil {
			return tell(failed, err)
		}
	}
}

func tell(at partition, err error) error {
	if err == nil {
		return nil
	}
	return &partitionError{at, fmt.Errorf("add partitions to the transaction: %w", err)}
}

// partitionError is what a broker said about one partition.
type partitionError struct {
	at  partition
	err error
}

// Error names the partition.
func (e *partitionError) Error() string { return fmt.Sprintf("%s: %v", e.at, e.err) }

// Unwrap returns what the broker said.
func (e *partitionError) Unwrap() error { return e.err }

// addOnce returns the error that matters, and whose: a partition that is refused makes
// the others "not attempted" (55, OPERATION_NOT_ATTEMPTED).
func (p *producer) addOnce(ctx context.Context, topics map[string][]kafka.AddPartitionToTxn) (failed partition, err error) {
	ctx, cancel := p.client.call(ctx)
	defer cancel()
	r, err := p.client.api.AddPartitionsToTxn(ctx, &kafka.AddPartitionsToTxnRequest{
		TransactionalID: p.transactional, ProducerID: int(p.id), ProducerEpoch: int(p.epoch), Topics: topics,
	})
	if err != nil {
		return failed, err
	}
	const notAttempted = kafka.BrokerAuthorizationFailed // its name in kafka-go
	for topic, answers := range r.Topics {
		for _, a := range answers {
			if a.Error != nil && (err == nil || is(err, notAttempted)) {
				failed, err = partition{topic, int32(a.Partition)}, a.Error
			}
		}
	}
	return failed, err
}

// commit ends the transaction. It is asked again only while the coordinator has
// refused for sure: a copy of the request that comes late would commit what is open
// then.
func (p *producer) commit(ctx context.Context) error {
	wait := newTries(time.Millisecond, 20*time.Millisecond)
	for {
		err := p.commitOnce(ctx)
		if !busy(err) {
			return err
		}
		if wait.wait(ctx) != nil {
			return err
		}
	}
}

func (p *producer) commitOnce(ctx context.Context) error {
	ctx, cancel := p.client.call(ctx)
	defer cancel()
	r, err := p.client.api.EndTxn(ctx, &kafka.EndTxnRequest{
		TransactionalID: p.transactional, ProducerID: int(p.id), ProducerEpoch: int(p.epoch), Committed: true,
	})
	if err == nil {
		err = r.Error
	}
	if err != nil {
		return fmt.Errorf("commit the transaction: %w", err)
	}
	return nil
}
