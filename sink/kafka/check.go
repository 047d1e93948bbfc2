package kafka

import (
	"context"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"

	"github.com/walbridge/walbridge/internal/fault"
)

// Bridge says for whom a check is.
type Bridge struct {
	Name   string
	MaxRow int64 // bytes of the largest row that is read; 0: not known
}

// Check looks at all that has to be right before the sink can be opened, and changes
// nothing. What is wrong is in the problems; the error is for a check that could not
// be finished. Brokers before Kafka 2.3 do not tell whether records may be written:
// there a write's refusal is a halt that names the missing right.
func Check(ctx context.Context, cfg Config, of Bridge) ([]fault.Problem, error) {
	c, err := connect(ctx, cfg, clientID(of.Name)+"-doctor")
	if err != nil {
		return problems(err)
	}
	defer c.close()
	k := &checker{client: c, cfg: cfg, of: of}
	c.watch(append([]string{cfg.ProgressTopic, cfg.deadLetterTopic(of.Name)}, cfg.Streams...)...)
	if k.layout, err = c.layout(ctx); err != nil {
		k.add(fault.Problem{
			Check: "sink-connect", Where: "sink.kafka.brokers", What: err.Error(), Why: "Nothing can be delivered.",
			Fix: "see that the brokers run, and that sink.kafka.tls and sink.kafka.sasl are as they ask for",
		})
		return k.found, nil
	}
	for _, check := range []func(context.Context) error{k.versions, k.identity, k.timeout, k.ownTopics, k.streams, k.rights} {
		if err := check(ctx); err != nil {
			return k.found, fmt.Errorf("check the Kafka cluster: %w", err)
		}
	}
	return k.found, nil
}

// problems takes the problems out of a configuration error.
func problems(err error) ([]fault.Problem, error) {
	var c *fault.ConfigError
	if errors.As(err, &c) {
		return c.Problems, nil
	}
	return nil, err
}

// checker collects what the checks find.
type checker struct {
	client *client
	cfg    Config
	of     Bridge
	layout layout
	found  []fault.Problem
}

func (k *checker) add(p fault.Problem) { k.found = append(k.found, p) }

// The versions of requests that the sink needs: batches of format v2 and producers
// (Kafka 0.11), and to take an own identity anew (KIP-360, Kafka 2.5).
const (
	needProduce        = 3
	needInitProducerID = 3
)

func (k *checker) versions(ctx context.Context) error {
	call, cancel := k.client.call(ctx)
	defer cancel()
	r, err := k.client.api.ApiVersions(call, &kafka.ApiVersionsRequest{Addr: k.client.addr})
	if err == nil {
		err = r.Error
	}
	if err != nil {
		return err
	}
	most := map[int]int{}
	for _, v := range r.ApiKeys {
		most[v.ApiKey] = v.MaxVersion
	}
	if most[int(protocol.Produce)] < needProduce {
		k.add(fault.Problem{
			Check: "sink-version", Where: "sink.kafka.brokers", What: "the brokers are older than Kafka 0.11",
			Why: "They do not know the records that the bridge writes.", Fix: "use newer brokers",
		})
	}
	if v, has := most[int(protocol.InitProducerId)]; k.cfg.Delivery == ExactlyOnce && (!has || v < needInitProducerID) {
		k.add(fault.Problem{
			Check: "sink-transactions", Where: "sink.kafka.delivery", What: "the brokers have no transactions, or older ones than Kafka 2.5",
			Why: "exactly_once needs them.", Fix: "delivery: " + AtLeastOnce,
		})
	}
	return nil
}

// identity asks what taking the producer's identity would be refused for, without
// taking it: that would fence a bridge that runs.
func (k *checker) identity(ctx context.Context) error {
	call, cancel := k.client.call(ctx)
	defer cancel()
	if k.cfg.Delivery == AtLeastOnce {
		r, err := k.client.api.InitProducerID(call, &kafka.InitProducerIDRequest{ProducerID: none, ProducerEpoch: none})
		if err == nil {
			err = r.Error
		}
		return k.right(err, "the cluster", "--operation IdempotentWrite --cluster")
	}
	id := k.cfg.transactionalID(k.of.Name)
	r, err := k.client.api.FindCoordinator(call, &kafka.FindCoordinatorRequest{Key: id, KeyType: kafka.CoordinatorKeyTypeTransaction})
	if err == nil {
		err = r.Error
	}
	return k.right(err, "the transactional id "+id, "--operation Describe --operation Write --transactional-id "+id)
}

// right makes a problem of a missing right; a coordinator that is not elected yet is
// none.
func (k *checker) right(err error, what, grant string) error {
	switch {
	case err == nil || busy(err):
		return nil
	case is(err, kafka.ClusterAuthorizationFailed, kafka.TransactionalIDAuthorizationFailed, kafka.TopicAuthorizationFailed):
		k.add(fault.Problem{
			Check: "sink-rights", Where: what, What: "the bridge's user may not use it", Why: "Nothing can be delivered.",
			Fix: fmt.Sprintf("kafka-acls.sh --bootstrap-server %s --add --allow-principal User:<user> %s", k.cfg.Brokers[0], grant),
		})
		return nil
	}
	return err
}

// timeout compares the brokers' limit of a transaction with what the sink asks for.
func (k *checker) timeout(ctx context.Context) error {
	if k.cfg.Delivery != ExactlyOnce || len(k.layout.Brokers) == 0 {
		return nil
	}
	values, err := k.values(ctx, kafka.ResourceTypeBroker, strconv.Itoa(int(k.layout.Brokers[0].NodeID)), "transaction.max.timeout.ms")
	if err != nil {
		return err
	}
	want := k.cfg.WriteTimeout + afterWrite
	ms, err := strconv.ParseInt(values["transaction.max.timeout.ms"], 10, 64)
	if limit := time.Duration(ms) * time.Millisecond; err == nil && limit < want {
		k.add(fault.Problem{
			Check: "sink-transaction-timeout", Where: "sink.write_timeout", What: fmt.Sprintf("%s and %s more are above the brokers' transaction.max.timeout.ms (%s)", k.cfg.WriteTimeout, afterWrite, limit),
			Why: "They refuse such a transaction.", Fix: fmt.Sprintf("write_timeout: %s", max(limit-afterWrite, time.Second)),
		})
	}
	return nil
}

// rights looks at what the user may do with the topics that are there. One that it may
// not even see was named before.
func (k *checker) rights(ctx context.Context) error {
	var names []string
	for _, name := range append([]string{k.cfg.ProgressTopic, k.cfg.deadLetterTopic(k.of.Name)}, k.cfg.Streams...) {
		if t := k.layout.topic(name); t != nil && t.ErrorCode == 0 {
			names = append(names, name)
		}
	}
	if len(names) == 0 {
		return nil
	}
	allowed, err := k.client.allowed(ctx, names)
	if err != nil {
		return err
	}
	for _, name := range names {
		o, told := allowed[name]
		if grant := o.lacking(); told && grant != "" {
			if err := k.right(kafka.TopicAuthorizationFailed, "the topic "+name, grant+"--topic "+name); err != nil {
				return err
			}
		}
	}
	return nil
}

// values asks for settings; who may not ask gets none.
func (k *checker) values(ctx context.Context, kind kafka.ResourceType, name string, keys ...string) (map[string]string, error) {
	call, cancel := k.client.call(ctx)
	defer cancel()
	r, err := k.client.api.DescribeConfigs(call, &kafka.DescribeConfigsRequest{
		Resources: []kafka.DescribeConfigRequestResource{{ResourceType: kind, ResourceName: name, ConfigNames: keys}},
	})
	if err != nil {
		return nil, fmt.Errorf("ask for settings: %w", err)
	}
	values := map[string]string{}
	for _, res := range r.Resources {
		for _, e := range res.ConfigEntries {
			values[e.ConfigName] = e.ConfigValue
		}
	}
	return values, nil
}

// ownTopics looks at the two topics that the bridge keeps for itself.
func (k *checker) ownTopics(ctx context.Context) error {
	for _, name := range []string{k.cfg.ProgressTopic, k.cfg.deadLetterTopic(k.of.Name)} {
		there, err := k.there(ctx, name, 1)
		if err != nil {
			return err
		}
		if !there {
			continue
		}
		values, err := k.values(ctx, kafka.ResourceTypeTopic, name, "cleanup.policy", "retention.ms")
		if err != nil {
			return err
		}
		policy, known := values["cleanup.policy"]
		if name == k.cfg.ProgressTopic && known && policy != "compact" {
			k.add(fault.Problem{
				Check: "sink-progress-policy", Where: name, What: "cleanup.policy is " + policy, Why: "An old position is deleted, and the bridge begins anew.",
				Fix: fmt.Sprintf("kafka-configs.sh --bootstrap-server %s --alter --topic %s --add-config cleanup.policy=compact", k.cfg.Brokers[0], name),
			})
		}
		if name != k.cfg.ProgressTopic && strings.Contains(policy, "delete") && values["retention.ms"] != "-1" {
			k.add(fault.Problem{
				Check: "sink-letters-retention", Warning: true, Where: name, What: "retention.ms is " + values["retention.ms"],
				Why: "Dead letters that are older are gone, also those that nobody has looked at.",
				Fix: fmt.Sprintf("kafka-configs.sh --bootstrap-server %s --alter --topic %s --add-config retention.ms=-1", k.cfg.Brokers[0], name),
			})
		}
	}
	return nil
}

// there reports whether a topic is there. One that is missing and that the brokers
// would not let us make is a problem.
func (k *checker) there(ctx context.Context, name string, partitions int) (bool, error) {
	if !legalTopic(name) {
		k.add(fault.Problem{Check: "sink-topic-name", Where: name, What: "is no legal name of a topic", Why: "Its records have nowhere to go.", Fix: "stream: a name of a-z, A-Z, 0-9, '.', '_' and '-'"})
		return false, nil
	}
	t := k.layout.topic(name)
	if t != nil && t.ErrorCode == 0 {
		return true, nil
	}
	if t != nil && kafka.Error(t.ErrorCode) == kafka.TopicAuthorizationFailed {
		return false, k.right(kafka.TopicAuthorizationFailed, "the topic "+name, "--operation Describe --operation Write --operation Read --topic "+name)
	}
	copies := none
	if c := k.cfg.CreateTopics; c != nil {
		copies = replication(c.Replication)
	}
	call, cancel := k.client.call(ctx)
	defer cancel()
	r, err := k.client.api.CreateTopics(call, &kafka.CreateTopicsRequest{
		ValidateOnly: true, Topics: []kafka.TopicConfig{{Topic: name, NumPartitions: partitions, ReplicationFactor: copies}},
	})
	if err != nil {
		return false, fmt.Errorf("ask whether a topic can be made: %w", err)
	}
	if err := r.Errors[name]; err != nil && !is(err, kafka.TopicAlreadyExists) {
		k.add(fault.Problem{
			Check: "sink-topic-missing", Where: name, What: "the topic is missing, and cannot be made: " + err.Error(), Why: "Its records have nowhere to go.",
			Fix: fmt.Sprintf("kafka-topics.sh --bootstrap-server %s --create --topic %s", k.cfg.Brokers[0], name),
		})
	}
	return false, nil
}

// streams looks at the topics that the configuration names.
func (k *checker) streams(ctx context.Context) error {
	for _, name := range k.cfg.Streams {
		c := k.cfg.CreateTopics
		if t := k.layout.topic(name); c == nil && legalTopic(name) && (t == nil || kafka.Error(t.ErrorCode) == kafka.UnknownTopicOrPartition) {
			k.add(fault.Problem{
				Check: "sink-topic-missing", Where: name, What: "the topic is missing", Why: "Its records have nowhere to go.",
				Fix: fmt.Sprintf("kafka-topics.sh --bootstrap-server %s --create --topic %s, or sink.kafka.create_topics: {}", k.cfg.Brokers[0], name),
			})
			continue
		}
		partitions := 1
		if c != nil {
			partitions = c.Partitions
		}
		there, err := k.there(ctx, name, partitions)
		if err != nil {
			return err
		}
		if there {
			if err := k.stream(ctx, name); err != nil {
				return err
			}
		}
	}
	return nil
}

// stream warns of settings that lose records, or that refuse some.
func (k *checker) stream(ctx context.Context, name string) error {
	values, err := k.values(ctx, kafka.ResourceTypeTopic, name, "max.message.bytes", "min.insync.replicas", "unclean.leader.election.enable")
	if err != nil {
		return err
	}
	warn := func(check, what, why, setting string) {
		k.add(fault.Problem{
			Check: check, Warning: true, Where: name, What: what, Why: why,
			Fix: fmt.Sprintf("kafka-configs.sh --bootstrap-server %s --alter --topic %s --add-config %s", k.cfg.Brokers[0], name, setting),
		})
	}
	if n, err := strconv.ParseInt(values["max.message.bytes"], 10, 64); err == nil && k.of.MaxRow > n {
		warn("sink-message-size", fmt.Sprintf("max.message.bytes is %d, memory.max_row %d", n, k.of.MaxRow), "Larger records become dead letters, unless compression makes them fit.",
			fmt.Sprintf("max.message.bytes=%d", k.of.MaxRow))
	}
	copies := len(k.layout.topic(name).Partitions[0].ReplicaNodes)
	if values["min.insync.replicas"] == "1" && copies > 1 {
		warn("sink-min-insync", fmt.Sprintf("min.insync.replicas is 1, of %d copies", copies), "A record counts as stored when one broker has it, and is lost with that broker.", "min.insync.replicas=2")
	}
	if values["unclean.leader.election.enable"] == "true" {
		warn("sink-unclean-election", "unclean.leader.election.enable is true", "A broker that lacks confirmed records may become the leader, and they are gone.", "unclean.leader.election.enable=false")
	}
	return nil
}
