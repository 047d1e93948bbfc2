package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"strings"
	"time"

	"github.com/segmentio/kafka-go"
	"github.com/twmb/franz-go/pkg/kgo"

	"github.com/walbridge/walbridge/internal/kafkatest"
)

// kafkaPartitions is how many each topic has.
const kafkaPartitions = 4

// brokerJVM are the arguments of the broker's Java machine, those of Kafka's own start
// script.
func brokerJVM() []string {
	return []string{"-Xms1g", "-Xmx1g", "-server", "-XX:+UseG1GC", "-XX:MaxGCPauseMillis=20", "-XX:InitiatingHeapOccupancyPercent=35", "-XX:+ExplicitGCInvokesConcurrent"}
}

// brokerSettings are those that differ from kafkatest's.
func brokerSettings() map[string]string {
	return map[string]string{"message.max.bytes": "8388608", "log.segment.delete.delay.ms": "1000"}
}

// cluster is the one broker of the measurements with Kafka.
type cluster struct {
	broker    *kafkatest.Broker
	client    *kafka.Client
	transport *kafka.Transport
}

func newCluster() (*cluster, error) {
	opts := []kafkatest.Option{kafkatest.JVM(brokerJVM()...)}
	for name, value := range brokerSettings() {
		opts = append(opts, kafkatest.Setting(name, value))
	}
	broker, err := kafkatest.Run(opts...)
	if err != nil {
		return nil, err
	}
	c := &cluster{broker: broker, transport: &kafka.Transport{MetadataTTL: time.Second}}
	c.client = &kafka.Client{Addr: kafka.TCP(broker.Addr()), Timeout: 30 * time.Second, Transport: c.transport}
	return c, nil
}

func (c *cluster) close() error {
	c.transport.CloseIdleConnections()
	return c.broker.Remove()
}

// makeTopic makes a topic and waits until all its partitions can be read.
func (c *cluster) makeTopic(ctx context.Context, topic string) error {
	made, err := c.client.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{{
		Topic: topic, NumPartitions: kafkaPartitions, ReplicationFactor: 1,
	}}})
	if err == nil {
		err = made.Errors[topic]
	}
	if err != nil {
		return fmt.Errorf("make the topic %s: %w", topic, err)
	}
	return poll(ctx, func() (bool, error) {
		_, err := c.ends(ctx, topic, kafka.ReadCommitted)
		return err == nil, nil // the leader is not ready for a moment
	})
}

// deleteTopic frees the disk for the next run.
func (c *cluster) deleteTopic(ctx context.Context, topic string) error {
	gone, err := c.client.DeleteTopics(ctx, &kafka.DeleteTopicsRequest{Topics: []string{topic}})
	if err == nil {
		err = gone.Errors[topic]
	}
	return err
}

// ends returns the offsets that consumers of an isolation level can reach, by partition.
func (c *cluster) ends(ctx context.Context, topic string, level kafka.IsolationLevel) (map[int32]int64, error) {
	ask := make([]kafka.OffsetRequest, kafkaPartitions)
	for p := range ask {
		ask[p] = kafka.LastOffsetOf(p)
	}
	r, err := c.client.ListOffsets(ctx, &kafka.ListOffsetsRequest{
		Topics: map[string][]kafka.OffsetRequest{topic: ask}, IsolationLevel: level,
	})
	if err != nil {
		return nil, err
	}
	ends := map[int32]int64{}
	for _, p := range r.Topics[topic] {
		err = errors.Join(err, p.Error)
		ends[int32(p.Partition)] = p.LastOffset
	}
	return ends, err
}

// consumer reads a topic from its beginning, committed records and the markers of
// transactions.
func (c *cluster) consumer(topic string) (*kgo.Client, error) {
	return kgo.NewClient(kgo.SeedBrokers(c.broker.Addr()), kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()),
		kgo.FetchIsolationLevel(kgo.ReadCommitted()), kgo.KeepControlRecords())
}

// count reads a topic to its end and returns the number of its records and the mean
// size of their values.
func (c *cluster) count(ctx context.Context, topic string) (records int64, size float64, err error) {
	ends, err := c.ended(ctx, topic)
	if err != nil {
		return 0, 0, err
	}
	consumer, err := c.consumer(topic)
	if err != nil {
		return 0, 0, err
	}
	defer consumer.Close()
	reached := map[int32]int64{}
	for !reachedAll(reached, ends) {
		fetches := consumer.PollFetches(ctx)
		if err := fetches.Err(); err != nil {
			return 0, 0, err
		}
		fetches.EachRecord(func(r *kgo.Record) {
			reached[r.Partition] = r.Offset + 1
			if !r.Attrs.IsControl() {
				records++
				size += float64(len(r.Value))
			}
		})
	}
	return records, size / float64(max(records, 1)), nil
}

// ended waits until the last transaction has ended everywhere, and returns the ends.
func (c *cluster) ended(ctx context.Context, topic string) (ends map[int32]int64, err error) {
	err = poll(ctx, func() (bool, error) {
		all, err := c.ends(ctx, topic, kafka.ReadUncommitted)
		if err != nil {
			return false, err
		}
		ends, err = c.ends(ctx, topic, kafka.ReadCommitted)
		return maps.Equal(all, ends), err
	})
	return ends, err
}

func reachedAll(reached, ends map[int32]int64) bool {
	for p, end := range ends {
		if reached[p] < end {
			return false
		}
	}
	return true
}

// arrival is how a topic was filled.
type arrival struct {
	half, last time.Time
	// At the last record: processor time of the client, the walsender and the broker.
	client, sender, broker float64
}

// settled is how long nothing has to arrive for a run to be at its end.
const settled = time.Second

// endsEvery is how often the ends of a topic are asked for, which costs the broker
// something.
const endsEvery = 10 * time.Millisecond

// await watches the end of a topic until as many records, or more with the markers of
// transactions, are there and no more come. The times are those at which the end moved.
func (c *cluster) await(ctx context.Context, topic string, rows int64, m measured, client *child) (arrival, error) {
	var a arrival
	var sum int64
	err := pollAt(ctx, endsEvery, func() (bool, error) {
		ends, err := c.ends(ctx, topic, kafka.ReadCommitted)
		if err != nil {
			return false, err
		}
		total := int64(0)
		for _, end := range ends {
			total += end
		}
		if total == sum {
			return sum >= rows && time.Since(a.last) > settled, client.running()
		}
		sum, a.last = total, time.Now()
		if sum >= rows/2 && a.half.IsZero() {
			a.half = a.last
		}
		a.client, a.sender, a.broker = cpuSeconds(client.pid()), cpuSeconds(m.sender), cpuSeconds(c.broker.PID())
		return false, nil
	})
	return a, err
}

// rowID takes the id of a row out of its record's key: public.orders:[7] or {"id":7}.
func rowID(key []byte) (int, error) {
	id, err := strconv.Atoi(strings.Trim(string(key[bytes.LastIndexByte(key, ':')+1:]), "[]{}"))
	if err != nil {
		return 0, fmt.Errorf("a record has the key %q", key)
	}
	return id, nil
}
