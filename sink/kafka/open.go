package kafka

import (
	"context"
	"errors"
	"fmt"

	"github.com/segmentio/kafka-go"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/internal/lsn"
	"github.com/walbridge/walbridge/sink"
	"github.com/walbridge/walbridge/sink/kafka/recordbatch"
)

// Open takes the bridge's identity, which ends every transaction of it one way or the
// other, and returns the position that is stored then. With delivery at_least_once
// nobody is fenced.
//
// Errors: fault.ErrFenced, once, when another process has taken the identity since
// this one did; *fault.ConfigError; *fault.Halt; transient.
func (s *Sink) Open(ctx context.Context, src sink.Source) (lsn.Progress, error) {
	s.opened, s.fenced = false, false
	if s.bridge() != src.Name {
		s.producer.forget()
		s.committed = nil
	}
	s.src = src
	s.name.Store(&src.Name)
	p, err := s.open(ctx)
	if err != nil {
		if errors.Is(err, fault.ErrFenced) {
			s.producer.forget()
			s.committed = nil
		}
		if s.client != nil {
			s.client.renew()
		}
		return lsn.Progress{}, operation("open the Kafka sink", err)
	}
	s.opened, s.n, s.last = true, p.n, p.progress
	s.tellConsumers()
	return p.progress, nil
}

func (s *Sink) open(ctx context.Context) (stored, error) {
	if err := s.connect(ctx); err != nil {
		return stored{}, err
	}
	if err := s.ownTopics(ctx); err != nil {
		return stored{}, s.refusedTopic(err)
	}
	if err := s.producer.take(ctx); err != nil {
		return stored{}, s.refused(err, "")
	}
	p, err := s.settled(ctx)
	var unreadable *errPosition
	if errors.As(err, &unreadable) {
		return stored{}, s.noPosition(unreadable.err)
	}
	if err != nil {
		return stored{}, s.refused(err, s.cfg.ProgressTopic)
	}
	if err := s.checkMarkers(ctx); err != nil {
		return stored{}, s.refusedTopic(err)
	}
	return p, s.streams(ctx)
}

// connect makes the client, at the first Open and after Close; connections are made
// anew at every one.
func (s *Sink) connect(ctx context.Context) error {
	if err := s.makeCompressor(); err != nil {
		return err
	}
	if s.client == nil {
		c, err := connect(ctx, s.cfg, clientID(s.bridge()))
		if err != nil {
			return err
		}
		s.client = c
		s.topics = &topics{cfg: &s.cfg, client: c, table: &s.table}
		s.table.change(func(m map[string]*topicInfo) { clear(m) })
	}
	s.producer.client, s.producer.timeout = s.client, s.transactionTimeout()
	s.producer.transactional = ""
	if s.cfg.Delivery == ExactlyOnce {
		s.producer.transactional = s.cfg.transactionalID(s.bridge())
	}
	s.client.renew()
	return nil
}

func (s *Sink) makeCompressor() (err error) {
	if s.compressor == nil {
		s.compressor, err = recordbatch.NewCompressor(s.cfg.Compression)
	}
	return err
}

// refusedTopic is refused with the topic that the error names.
func (s *Sink) refusedTopic(err error) error {
	var at *partitionError
	if errors.As(err, &at) {
		return s.refused(err, at.at.topic)
	}
	return s.refused(err, "")
}

// The progress topic: compacted in small pieces, so that reading it stays cheap. Its
// active segment is never compacted. Bridges spread over its partitions, since an open
// transaction of one holds back those who read another's behind it.
const (
	progressPartitionCount = 16
	progressSegment        = "16777216"
	progressDirty          = "0.1"
)

// ownTopics makes the two topics that the bridge keeps for itself, when they are
// missing. The dead letters have one partition, so that they are in order, and stay
// until somebody deletes them.
func (s *Sink) ownTopics(ctx context.Context) error {
	letters := s.cfg.deadLetterTopic(s.bridge())
	s.client.watch(s.cfg.ProgressTopic, letters)
	gone, err := s.topics.find(ctx, []string{s.cfg.ProgressTopic, letters})
	if err != nil {
		return err
	}
	copies := none
	if c := s.cfg.CreateTopics; c != nil {
		copies = replication(c.Replication)
	}
	var all []kafka.TopicConfig
	for _, name := range gone {
		topic := kafka.TopicConfig{Topic: name, NumPartitions: 1, ReplicationFactor: copies, ConfigEntries: []kafka.ConfigEntry{
			{ConfigName: "cleanup.policy", ConfigValue: "compact,delete"},
			{ConfigName: "retention.ms", ConfigValue: "-1"},
		}}
		if name == s.cfg.ProgressTopic {
			topic.NumPartitions = progressPartitionCount
			topic.ConfigEntries = []kafka.ConfigEntry{
				{ConfigName: "cleanup.policy", ConfigValue: "compact"},
				{ConfigName: "segment.bytes", ConfigValue: progressSegment},
				{ConfigName: "min.cleanable.dirty.ratio", ConfigValue: progressDirty},
			}
		}
		all = append(all, topic)
	}
	if err := s.topics.create(ctx, all); err != nil {
		return s.ownTopicProblem(all, err)
	}
	if len(gone) > 0 {
		s.log.Info("made topics", "topics", gone)
	}
	return nil
}

// ownTopicProblem says how to make our topics by hand, when the brokers do not let us.
func (s *Sink) ownTopicProblem(all []kafka.TopicConfig, err error) error {
	if !is(err, kafka.TopicAuthorizationFailed, kafka.ClusterAuthorizationFailed, kafka.PolicyViolation, kafka.InvalidReplicationFactor, kafka.InvalidConfiguration) {
		return err
	}
	config := &fault.ConfigError{}
	for _, topic := range all {
		command := fmt.Sprintf("kafka-topics.sh --bootstrap-server %s --create --topic %s --partitions %d", s.cfg.Brokers[0], topic.Topic, topic.NumPartitions)
		for _, e := range topic.ConfigEntries {
			command += fmt.Sprintf(" --config %s=%s", e.ConfigName, e.ConfigValue)
		}
		config.Problems = append(config.Problems, fault.Problem{
			Check: "sink-own-topic", Where: topic.Topic, What: "missing, and cannot be made: " + err.Error(),
			Why: "The bridge keeps its position and its dead letters in Kafka.", Fix: command,
		})
	}
	return config
}

// streams makes sure of the topics that the configuration names.
func (s *Sink) streams(ctx context.Context) error {
	lacks, err := s.topics.ensure(ctx, s.cfg.Streams, func(string) bool { return true })
	if err != nil {
		return s.refusedTopic(err)
	}
	return s.lacking(lacks)
}

// lacking is the halt for topics that must be there.
func (s *Sink) lacking(lacks []lack) error {
	if len(lacks) == 0 {
		return nil
	}
	names := make([]string, len(lacks))
	for i, l := range lacks {
		names[i] = l.name
	}
	return s.noTopics(names, lacks[0].err)
}

// tellConsumers says once what exactly once needs on the other side: it is not the
// default of most clients.
func (s *Sink) tellConsumers() {
	if s.warned || s.cfg.Delivery != ExactlyOnce {
		return
	}
	s.warned = true
	s.log.Info("consumers see each item exactly once with isolation.level=read_committed; others drop what bears a wb-id that they have seen")
}
