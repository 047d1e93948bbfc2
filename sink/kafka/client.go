package kafka

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"time"

	"github.com/cenkalti/backoff/v5"
	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/metadata"

	"github.com/walbridge/walbridge/internal/pause"
)

// metadataTTL is how old the transport's picture of the cluster may become: a moved
// leader is noticed by then when no write has noticed it before. It is also how long
// the transport waits for metadata.
const metadataTTL = 3 * time.Second

// renewAfter is the age at which the connections of a client that logs in are made
// anew, between two writes: brokers end those whose login is too old
// (connections.max.reauth.ms, and the life of tokens), and kafka-go does not log in
// again on them (KIP-368).
const renewAfter = 4 * time.Minute

// client talks to a cluster. It is for one goroutine at a time, but for roundTrip.
type client struct {
	transport *kafka.Transport
	addr      net.Addr
	brokers   []string // of the configuration
	api       *kafka.Client
	timeout   time.Duration // of one call
	logsIn    bool
	since     time.Time // when the connections were last made anew
	// unknownFor is how long a topic that was there may be unknown to its broker.
	unknownFor time.Duration
}

// connect makes a client; nothing is dialled yet.
func connect(ctx context.Context, cfg Config, id string) (*client, error) {
	tls, err := cfg.TLS.config()
	if err != nil {
		return nil, err
	}
	mechanism, err := cfg.mechanism(ctx)
	if err != nil {
		return nil, err
	}
	t := &kafka.Transport{
		ClientID: id, MetadataTTL: metadataTTL, TLS: tls, SASL: mechanism,
		MetadataTopics: []string{cfg.ProgressTopic}, // none would be all of the cluster, each time
	}
	addr := kafka.TCP(cfg.Brokers...)
	return &client{
		transport: t, addr: addr, brokers: cfg.Brokers, timeout: cfg.WriteTimeout, logsIn: mechanism != nil, since: time.Now(), unknownFor: unknownFor,
		api: &kafka.Client{Addr: addr, Timeout: cfg.WriteTimeout, Transport: t},
	}, nil
}

// close ends the connections: idle ones now, others when their request has ended.
func (c *client) close() { c.transport.CloseIdleConnections() }

// renew forgets connections and metadata: after an error of either, and now and then
// where logins grow old.
func (c *client) renew() {
	c.transport.CloseIdleConnections()
	c.since = time.Now()
}

func (c *client) renewOld() {
	if c.logsIn && time.Since(c.since) > renewAfter {
		c.renew()
	}
}

// watch adds topics to those that metadata is asked for.
func (c *client) watch(names ...string) {
	added := false
	for _, name := range names {
		if !slices.Contains(c.transport.MetadataTopics, name) {
			c.transport.MetadataTopics = append(slices.Clip(c.transport.MetadataTopics), name)
			added = true
		}
	}
	if added {
		c.renew()
	}
}

// unwatch drops topics that are not there.
func (c *client) unwatch(name string) {
	c.transport.MetadataTopics = slices.DeleteFunc(slices.Clone(c.transport.MetadataTopics), func(n string) bool { return n == name })
}

// call bounds one call: a context without a deadline could hang for ever on a broker
// that is silent.
func (c *client) call(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeoutCause(ctx, c.timeout, fmt.Errorf("no answer within %v", c.timeout))
}

// roundTrip is a call below the level of kafka.Client.
func (c *client) roundTrip(ctx context.Context, req protocol.Message) (protocol.Message, error) {
	ctx, cancel := c.call(ctx)
	defer cancel()
	r, err := c.transport.RoundTrip(ctx, c.addr, req)
	if err != nil && ctx.Err() != nil {
		return nil, errors.Join(err, context.Cause(ctx))
	}
	return r, err
}

// patiently asks again while a partition's leader is not known or not yet ready: just
// made, or moved, it is not for a while.
func (c *client) patiently(ctx context.Context, ask func(context.Context) error) error {
	ctx, cancel := c.call(ctx)
	defer cancel()
	wait := newTries(5*time.Millisecond, 200*time.Millisecond)
	for {
		err := ask(ctx)
		if !moved(err) || wait.wait(ctx) != nil {
			return err
		}
		c.renew()
	}
}

// layout is a picture of the cluster. It is shared and must not be changed.
type layout struct{ *metadata.Response }

// layout returns the picture, at most metadataTTL old; after renew a new one.
func (c *client) layout(ctx context.Context) (layout, error) {
	r, err := c.roundTrip(ctx, &metadata.Request{})
	if err != nil {
		return layout{}, fmt.Errorf("ask for metadata: %w", err)
	}
	return layout{r.(*metadata.Response)}, nil
}

// topic finds a topic, nil when it is not known.
func (l layout) topic(name string) *metadata.ResponseTopic {
	i, found := slices.BinarySearchFunc(l.Topics, name, func(t metadata.ResponseTopic, name string) int {
		switch {
		case t.Name < name:
			return -1
		case t.Name > name:
			return 1
		}
		return 0
	})
	if !found {
		return nil
	}
	return &l.Topics[i]
}

// leader returns the leader of a partition and its epoch, -1 when there is none.
func (l layout) leader(topic string, partition int32) (id, epoch int32) {
	t := l.topic(topic)
	if t == nil || int(partition) >= len(t.Partitions) {
		return -1, -1
	}
	p := &t.Partitions[partition] // sorted, and without gaps
	if p.PartitionIndex != partition {
		return -1, -1
	}
	return p.LeaderID, p.LeaderEpoch
}

// gone reports whether the cluster does not know a partition: its topic was deleted.
func (l layout) gone(at partition) bool {
	t := l.topic(at.topic)
	return t == nil || kafka.Error(t.ErrorCode) == kafka.UnknownTopicOrPartition || t.ErrorCode == 0 && int(at.id) >= len(t.Partitions)
}

// tries waits between two tries, longer each time.
type tries struct{ backoff *backoff.ExponentialBackOff }

func newTries(first, most time.Duration) *tries {
	b := backoff.NewExponentialBackOff()
	b.InitialInterval, b.MaxInterval, b.Multiplier = first, most, 2
	return &tries{b}
}

// wait returns after the time, or with an error when ctx has ended.
func (t *tries) wait(ctx context.Context) error { return pause.For(ctx, t.backoff.NextBackOff()) }
