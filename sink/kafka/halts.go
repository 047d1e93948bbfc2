package kafka

import (
	"fmt"
	"strings"

	"github.com/segmentio/kafka-go"

	"github.com/walbridge/walbridge/internal/fault"
)

// refused turns codes that no further try cures into what an operator must know;
// other errors stay as they are.
func (s *Sink) refused(err error, topic string) error {
	switch {
	case is(err, kafka.TopicAuthorizationFailed):
		return s.noRight(err, "topic "+topic, "--operation Describe --operation Write --operation Read --topic "+topic)
	case is(err, kafka.TransactionalIDAuthorizationFailed):
		id := s.cfg.transactionalID(s.bridge())
		return s.noRight(err, "transactional id "+id, "--operation Describe --operation Write --transactional-id "+id)
	case is(err, kafka.ClusterAuthorizationFailed):
		return s.noRight(err, "cluster", "--operation IdempotentWrite --cluster")
	case is(err, kafka.InvalidTransactionTimeout):
		return &fault.Halt{
			Rule: "kafka-transaction-timeout",
			What: fmt.Sprintf("the brokers refuse a transaction of up to %s", s.transactionTimeout()),
			Why:  "nothing can be written in transactions",
			Ways: []fault.Way{{Text: fmt.Sprintf("lower sink.write_timeout: the transaction may be open for it and %s more", afterWrite)},
				{Text: "raise transaction.max.timeout.ms of the brokers"}},
			Err: err,
		}
	case is(err, kafka.InvalidRecord, kafka.UnsupportedForMessageFormat, kafka.UnsupportedCompressionType, kafka.InvalidRequiredAcks):
		return &fault.Halt{
			Rule:  "kafka-records-refused",
			What:  "the brokers refuse records of the topic " + topic,
			Why:   "what they refuse once they refuse always: going on would lose the records",
			Facts: []fault.Fact{{Name: "topic", Value: topic}},
			Ways:  []fault.Way{{Text: "look at the topic's settings (cleanup.policy, compression.type) and at the broker's log"}},
			Err:   err,
		}
	}
	return err
}

func (s *Sink) noRight(err error, what, grant string) error {
	return &fault.Halt{
		Rule: "kafka-rights", What: "the brokers do not let the bridge use the " + what,
		Why:   "nothing can be delivered without it",
		Facts: []fault.Fact{{Name: "refused", Value: what}},
		Ways: []fault.Way{{
			Text:     "grant it to the bridge's user",
			Commands: []string{"kafka-acls.sh --bootstrap-server " + s.cfg.Brokers[0] + " --add --allow-principal User:<user> " + grant},
		}},
		Err: err,
	}
}

// noTopics is the halt for topics that the configuration names and that are missing.
func (s *Sink) noTopics(names []string, err error) error {
	way := fault.Way{Text: "make them"}
	for _, n := range names {
		way.Commands = append(way.Commands, fmt.Sprintf("kafka-topics.sh --bootstrap-server %s --create --topic %s", s.cfg.Brokers[0], n))
	}
	return &fault.Halt{
		Rule: "kafka-topics-missing", What: "topics that the configuration names are missing: " + strings.Join(names, ", "),
		Why:  "their records would have nowhere to go",
		Ways: []fault.Way{way, {Text: "let the bridge make them: sink.kafka.create_topics: {partitions: 12}"}},
		Err:  err,
	}
}

// unwritable is the halt for a dead letter that even cut is too large for its topic.
func (s *Sink) unwritable(p poison) error {
	return &fault.Halt{
		Rule: "kafka-dead-letter-refused", What: "a dead letter does not fit into the topic " + p.topic.name,
		Why:   "what is wrong with its item would not be kept anywhere",
		Facts: []fault.Fact{{Name: "item", Value: p.id.String()}, {Name: "max.message.bytes", Value: fmt.Sprint(p.topic.maxBytes)}},
		Ways: []fault.Way{{
			Text:     "let the topic take larger records",
			Commands: []string{fmt.Sprintf("kafka-configs.sh --bootstrap-server %s --alter --topic %s --add-config max.message.bytes=%d", s.cfg.Brokers[0], p.topic.name, defaultMaxBytes)},
		}},
		Err: p.err,
	}
}

// hanging is the halt for records whose transaction has ended and whose marker never
// came.
func (s *Sink) hanging(topic string, partition int32, offset int64) error {
	at := fmt.Sprintf("%s/%d", topic, partition)
	return &fault.Halt{
		Rule: "kafka-hanging-transaction",
		What: fmt.Sprintf("records of this bridge in %s lie beyond its last stable offset, though no transaction of it is open", at),
		Why: "the marker that says whether they were committed is lost (KAFKA-20734, brokers 4.3.0 and 4.4.0): " +
			"written again they could show twice, and consumers with read_committed wait for them",
		Facts: []fault.Fact{{Name: "partition", Value: at}, {Name: "offset", Value: fmt.Sprint(offset)}, {Name: "producer", Value: fmt.Sprint(s.producer.id)}},
		Ways: []fault.Way{{
			Text: "look at the records; when what follows them is to be delivered again, end their transaction and start the bridge",
			Commands: []string{
				fmt.Sprintf("kafka-transactions.sh --bootstrap-server %s find-hanging --topic %s", s.cfg.Brokers[0], topic),
				fmt.Sprintf("kafka-transactions.sh --bootstrap-server %s abort --topic %s --partition %d --start-offset %d", s.cfg.Brokers[0], topic, partition, offset),
			},
		}},
	}
}

// noPosition is the halt for a position record that cannot be read.
func (s *Sink) noPosition(err error) error {
	return &fault.Halt{
		Rule: "kafka-position-unreadable", What: "the bridge's position in the topic " + s.cfg.ProgressTopic + " cannot be read",
		Why:   "without it nobody knows what was delivered",
		Facts: []fault.Fact{{Name: "topic", Value: s.cfg.ProgressTopic}, {Name: "key", Value: s.bridge()}},
		Ways: []fault.Way{
			{Text: "run the version of walbridge that wrote it, or a newer one"},
			{Text: "look at the record", Commands: []string{fmt.Sprintf("kafka-console-consumer.sh --bootstrap-server %s --topic %s --from-beginning --property print.key=true", s.cfg.Brokers[0], s.cfg.ProgressTopic)}},
		},
		Err: err,
	}
}
