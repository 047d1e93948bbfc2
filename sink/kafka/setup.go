package kafka

import (
	"context"
	"fmt"
	"slices"
	"strings"
)

// Setup makes the topics that the sink needs and that are missing: its own two, and,
// where the configuration says so, those of Streams. It returns the names of the new
// ones and fences nobody. Errors as those of Open.
func Setup(ctx context.Context, cfg Config, name string) (made []string, err error) {
	s := New(cfg, nil)
	s.name.Store(&name)
	if err := s.connect(ctx); err != nil {
		return nil, err
	}
	defer s.client.close()
	wanted := slices.DeleteFunc(append([]string{cfg.ProgressTopic, cfg.deadLetterTopic(name)}, cfg.Streams...), func(topic string) bool { return !legalTopic(topic) }) // streams names those
	s.client.watch(wanted...)
	gone, err := s.topics.find(ctx, wanted)
	if err != nil {
		return nil, operation("look at the topics", err)
	}
	made = slices.Clone(gone)
	if err := s.ownTopics(ctx); err != nil {
		return nil, s.refusedTopic(err)
	}
	return made, s.streams(ctx)
}

// Commands returns what an administrator would run instead of Setup, with the rights
// that user needs.
func Commands(cfg Config, name, user string) []string {
	letters := cfg.deadLetterTopic(name)
	c := CreateTopics{Partitions: defaultPartitions}
	if cfg.CreateTopics != nil {
		c = *cfg.CreateTopics
	}
	all := []string{
		cfg.makeTopic(cfg.ProgressTopic, progressPartitionCount, c.Replication, []string{"cleanup.policy=compact", "segment.bytes=" + progressSegment, "min.cleanable.dirty.ratio=" + progressDirty}),
		cfg.makeTopic(letters, 1, c.Replication, []string{"cleanup.policy=compact,delete", "retention.ms=-1"}),
	}
	var settings []string
	for key, value := range c.Configs {
		settings = append(settings, key+"="+value)
	}
	slices.Sort(settings)
	for _, stream := range cfg.Streams {
		all = append(all, cfg.makeTopic(stream, c.Partitions, c.Replication, settings))
	}
	return append(all, cfg.grants(name, user)...)
}

func (c Config) makeTopic(name string, partitions, replication int, settings []string) string {
	line := fmt.Sprintf("kafka-topics.sh --bootstrap-server %s --create --if-not-exists --topic %s --partitions %d", c.Brokers[0], name, partitions)
	if replication > 0 {
		line += fmt.Sprintf(" --replication-factor %d", replication)
	}
	for _, s := range settings {
		line += " --config " + s
	}
	return line
}

// grants are the rights of the bridge's user.
func (c Config) grants(name, user string) []string {
	head := fmt.Sprintf("kafka-acls.sh --bootstrap-server %s --add --allow-principal User:%s ", c.Brokers[0], user)
	topics := append([]string{c.ProgressTopic, c.deadLetterTopic(name)}, c.Streams...)
	all := []string{head + "--operation Describe --operation DescribeConfigs --operation Read --operation Write --topic " + strings.Join(topics, " --topic ")}
	if c.Delivery == ExactlyOnce {
		all = append(all, head+"--operation Describe --operation Write --transactional-id "+c.transactionalID(name)+" --transactional-id "+c.lettersTransactionalID(name))
	} else {
		all = append(all, head+"--operation IdempotentWrite --cluster")
	}
	if c.CreateTopics != nil {
		all = append(all, head+"--operation Create --cluster")
	}
	return all
}

// Own returns the topics that a bridge keeps for itself: those of positions and of dead
// letters.
func Own(cfg Config, name string) (progress, letters string) {
	return cfg.ProgressTopic, cfg.deadLetterTopic(name)
}

// OwnHeaders returns the names of the headers that a record has beside its item's own,
// in their order; those of an event among them.
func OwnHeaders(event bool) []string {
	if event {
		return []string{headerID, headerSource, headerXid, headerCommitted, "id", "type"}
	}
	return []string{headerID, headerSource, headerXid, headerCommitted, "type"}
}
