package kafka

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol/metadata"
)

// absentFor is how long a topic that was missing counts as missing without asking.
const absentFor = 10 * time.Second

// maxAbsent bounds the names that are remembered as missing.
const maxAbsent = 10_000

// topics finds and makes topics. It is the writer's; the table is shared.
type topics struct {
	cfg    *Config
	client *client
	table  *table
	absent map[string]time.Time // missing, and until when that is believed
	made   int                  // because a row named them
}

// The reasons why a topic cannot be used. They are the reasons of dead letters.
const (
	reasonTopicMissing = "topic_missing"
	reasonTopicName    = "topic_name_invalid"
	reasonTopicLimit   = "topic_limit"
)

// lack is a topic that cannot be used.
type lack struct {
	name   string
	reason string
	err    error
}

// ensure makes sure that the topics are in the table, makes those that may be made,
// and returns the others. Those that the configuration fixes are looked for each time,
// and do not count against the limit.
func (t *topics) ensure(ctx context.Context, names []string, fixed func(string) bool) ([]lack, error) {
	var lacks []lack
	var ask []string
	for _, name := range names {
		switch until, absent := t.absent[name]; {
		case !legalTopic(name):
			lacks = append(lacks, lack{name, reasonTopicName, fmt.Errorf("%.300q is no legal name of a topic", name)})
		case absent && !fixed(name) && time.Now().Before(until):
			lacks = append(lacks, missing(name))
		case t.table.get(name) == nil:
			ask = append(ask, name)
		}
	}
	if len(ask) == 0 {
		return lacks, nil
	}
	t.client.watch(ask...)
	gone, err := t.find(ctx, ask)
	if err != nil {
		return nil, err
	}
	made, err := t.make(ctx, gone, fixed)
	if err != nil {
		return nil, err
	}
	for _, l := range made {
		t.miss(l.name)
	}
	return append(lacks, made...), nil
}

func missing(name string) lack {
	return lack{name, reasonTopicMissing, fmt.Errorf("there is no topic %q", name)}
}

// miss remembers a missing topic for a while, and does not ask for it meanwhile.
func (t *topics) miss(name string) {
	if t.absent == nil || len(t.absent) >= maxAbsent {
		t.absent = map[string]time.Time{}
	}
	t.absent[name] = time.Now().Add(absentFor)
	t.client.unwatch(name)
}

// find puts the topics that are there into the table and returns the others. It waits
// for one that has no leaders yet.
func (t *topics) find(ctx context.Context, names []string) (gone []string, err error) {
	ctx, cancel := t.client.call(ctx)
	defer cancel()
	wait := newTries(10*time.Millisecond, 200*time.Millisecond)
	for {
		l, err := t.client.layout(ctx)
		if err != nil {
			return nil, err
		}
		var found, later []string
		gone = gone[:0]
		for _, name := range names {
			switch state := l.topic(name); {
			case state == nil || kafka.Error(state.ErrorCode) == kafka.UnknownTopicOrPartition:
				gone = append(gone, name)
			case kafka.Error(state.ErrorCode) == kafka.LeaderNotAvailable || state.ErrorCode == 0 && !led(state):
				later = append(later, name)
			case state.ErrorCode != 0:
				return nil, &partitionError{partition{name, 0}, fmt.Errorf("look at the topic: %w", kafka.Error(state.ErrorCode))}
			default:
				found = append(found, name)
			}
		}
		if len(later) == 0 {
			return gone, t.learn(ctx, l, found)
		}
		t.client.renew()
		if err := wait.wait(ctx); err != nil {
			return nil, fmt.Errorf("wait for the leaders of %v: %w", later, err)
		}
	}
}

// led reports whether every partition has a leader. Partitions are numbered without
// gaps.
func led(t *metadata.ResponseTopic) bool {
	for i, p := range t.Partitions {
		if p.LeaderID < 0 || p.PartitionIndex != int32(i) {
			return false
		}
	}
	return len(t.Partitions) > 0
}

// learn asks for the settings of topics that are there.
func (t *topics) learn(ctx context.Context, l layout, names []string) error {
	if len(names) == 0 {
		return nil
	}
	infos, err := t.settings(ctx, names)
	if err != nil {
		return err
	}
	t.table.change(func(m map[string]*topicInfo) {
		for i, name := range names {
			infos[i].partitions = len(l.topic(name).Partitions)
			m[name] = infos[i]
			delete(t.absent, name)
		}
	})
	return nil
}

// relearn asks anew for the settings of a topic that is known, after a refusal that
// they do not explain.
func (t *topics) relearn(ctx context.Context, name string) error {
	old := t.table.get(name)
	if old == nil {
		return nil
	}
	infos, err := t.settings(ctx, []string{name})
	if err != nil {
		return err
	}
	infos[0].partitions = old.partitions
	t.table.put(name, infos[0])
	return nil
}

// settings asks for what a topic's settings are. Who may not ask gets the defaults:
// the brokers' refusals tell the rest.
func (t *topics) settings(ctx context.Context, names []string) ([]*topicInfo, error) {
	infos := make([]*topicInfo, len(names))
	req := &kafka.DescribeConfigsRequest{}
	for i, name := range names {
		infos[i] = &topicInfo{maxBytes: defaultMaxBytes, ahead: defaultAhead, behind: 1<<63 - 1}
		req.Resources = append(req.Resources, kafka.DescribeConfigRequestResource{
			ResourceType: kafka.ResourceTypeTopic, ResourceName: name,
			ConfigNames: []string{"max.message.bytes", "cleanup.policy", "message.timestamp.after.max.ms", "message.timestamp.before.max.ms"},
		})
	}
	ctx, cancel := t.client.call(ctx)
	defer cancel()
	r, err := t.client.api.DescribeConfigs(ctx, req)
	if err != nil {
		return nil, fmt.Errorf("ask for the settings of topics: %w", err)
	}
	for _, res := range r.Resources {
		if i := slices.Index(names, res.ResourceName); i >= 0 && res.Error == nil {
			infos[i].take(res.ConfigEntries)
		}
	}
	return infos, nil
}

func (i *topicInfo) take(entries []kafka.DescribeConfigResponseConfigEntry) {
	for _, e := range entries {
		n, err := strconv.ParseInt(e.ConfigValue, 10, 64)
		switch {
		case e.ConfigName == "cleanup.policy":
			i.compacted = strings.Contains(e.ConfigValue, "compact")
		case err != nil || n < 0:
		case e.ConfigName == "max.message.bytes":
			i.maxBytes = int(n)
		case e.ConfigName == "message.timestamp.after.max.ms":
			i.ahead = n
		case e.ConfigName == "message.timestamp.before.max.ms":
			i.behind = n
		}
	}
}

// make makes topics, and returns those that are not made.
func (t *topics) make(ctx context.Context, names []string, fixed func(string) bool) (lacks []lack, err error) {
	c := t.cfg.CreateTopics
	var all []kafka.TopicConfig
	for _, name := range names {
		switch {
		case c == nil:
			lacks = append(lacks, missing(name))
			continue
		case !fixed(name) && t.made >= c.Max:
			lacks = append(lacks, lack{name, reasonTopicLimit, fmt.Errorf("there is no topic %q, and create_topics.max (%d) is reached", name, c.Max)})
			continue
		case !fixed(name):
			t.made++
		}
		topic := kafka.TopicConfig{Topic: name, NumPartitions: c.Partitions, ReplicationFactor: replication(c.Replication)}
		for key, value := range c.Configs {
			topic.ConfigEntries = append(topic.ConfigEntries, kafka.ConfigEntry{ConfigName: key, ConfigValue: value})
		}
		all = append(all, topic)
	}
	return lacks, t.create(ctx, all)
}

// replication is what a broker takes: -1 is its default.
func replication(n int) int {
	if n == 0 {
		return -1
	}
	return n
}

// create makes topics and waits until they have leaders. One that somebody else has
// made meanwhile is as good.
func (t *topics) create(ctx context.Context, all []kafka.TopicConfig) error {
	if len(all) == 0 {
		return nil
	}
	ctx, cancel := t.client.call(ctx)
	defer cancel()
	r, err := t.client.api.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: all})
	if err != nil {
		return fmt.Errorf("make topics: %w", err)
	}
	var names []string
	for _, topic := range all {
		if err := r.Errors[topic.Topic]; err != nil && !is(err, kafka.TopicAlreadyExists) {
			return &partitionError{partition{topic.Topic, 0}, fmt.Errorf("make the topic: %w", err)}
		}
		names = append(names, topic.Topic)
	}
	wait := newTries(10*time.Millisecond, 200*time.Millisecond)
	for {
		t.client.renew()
		gone, err := t.find(ctx, names)
		if err != nil || len(gone) == 0 {
			return err
		}
		if err := wait.wait(ctx); err != nil {
			return fmt.Errorf("wait for the topics %v: %w", gone, err)
		}
	}
}
