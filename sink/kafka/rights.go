package kafka

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"math"
	"net"
	"strconv"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/protocol"
	"github.com/segmentio/kafka-go/protocol/apiversions"
	"github.com/segmentio/kafka-go/protocol/metadata"
	"github.com/segmentio/kafka-go/protocol/saslauthenticate"
	"github.com/segmentio/kafka-go/protocol/saslhandshake"
	"github.com/segmentio/kafka-go/sasl"
)

// operations is what a user may do with a topic: bit n is the operation with code n of
// Kafka's AclOperation.
type operations int32

// unknownOperations is the answer of a broker that does not tell (before Kafka 2.3).
const unknownOperations operations = math.MinInt32

// neededOperations are those that the sink does on each of its topics.
var neededOperations = []struct {
	name string
	bit  operations
}{{"Describe", 1 << 8}, {"Read", 1 << 3}, {"Write", 1 << 4}}

// lacking returns the options of kafka-acls.sh for what is missing, empty for nothing.
func (o operations) lacking() string {
	grant := ""
	for _, need := range neededOperations {
		if o != unknownOperations && o&need.bit == 0 {
			grant += "--operation " + need.name + " "
		}
	}
	return grant
}

// allowed asks a broker what the bridge's user may do with topics. kafka-go's transport
// answers metadata from its own picture, which has no rights in it: so the question
// goes over a connection of its own.
func (c *client) allowed(ctx context.Context, topics []string) (map[string]operations, error) {
	ctx, cancel := c.call(ctx)
	defer cancel()
	conn, err := c.dial(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Close()
	m, err := conn.RoundTrip(&metadata.Request{TopicNames: topics, IncludeTopicAuthorizedOperations: true})
	if err != nil {
		return nil, fmt.Errorf("ask for the rights: %w", err)
	}
	answer := map[string]operations{}
	for _, t := range m.(*metadata.Response).Topics {
		if t.ErrorCode == 0 {
			answer[t.Name] = operations(t.TopicAuthorizedOperations)
		}
	}
	return answer, nil
}

// dial connects to the first broker that takes us, agrees on versions and logs in. The
// connection lives at most as long as ctx allows.
func (c *client) dial(ctx context.Context) (conn *protocol.Conn, err error) {
	for _, address := range c.brokers {
		if conn, err = c.dialOne(ctx, address); err == nil {
			return conn, nil
		}
	}
	return nil, fmt.Errorf("connect to a broker: %w", err)
}

func (c *client) dialOne(ctx context.Context, address string) (*protocol.Conn, error) {
	raw, err := new(net.Dialer).DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if deadline, ok := ctx.Deadline(); ok {
		err = raw.SetDeadline(deadline)
	}
	host, port, splitErr := net.SplitHostPort(address)
	if cfg := c.transport.TLS; cfg != nil {
		if cfg.ServerName == "" {
			cfg = cfg.Clone()
			cfg.ServerName = host
		}
		raw = tls.Client(raw, cfg)
	}
	conn := protocol.NewConn(raw, c.transport.ClientID)
	if err = errors.Join(err, splitErr); err == nil {
		err = agree(conn)
	}
	if err == nil && c.transport.SASL != nil {
		number, _ := strconv.Atoi(port) // checked with the configuration
		err = logIn(sasl.WithMetadata(ctx, &sasl.Metadata{Host: host, Port: number}), conn, c.transport.SASL)
	}
	if err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return conn, nil
}

// agree finds the versions that both sides know.
func agree(conn *protocol.Conn) error {
	m, err := conn.RoundTrip(&apiversions.Request{})
	if err != nil {
		return err
	}
	r := m.(*apiversions.Response)
	if r.ErrorCode != 0 {
		return kafka.Error(r.ErrorCode)
	}
	versions := map[protocol.ApiKey]int16{}
	for _, k := range r.ApiKeys {
		key := protocol.ApiKey(k.ApiKey)
		versions[key] = key.SelectVersion(k.MinVersion, k.MaxVersion)
	}
	conn.SetVersions(versions)
	return nil
}

// logIn is the exchange of SASL (KIP-152).
func logIn(ctx context.Context, conn *protocol.Conn, mechanism sasl.Mechanism) error {
	m, err := conn.RoundTrip(&saslhandshake.Request{Mechanism: mechanism.Name()})
	if err != nil {
		return err
	}
	if code := m.(*saslhandshake.Response).ErrorCode; code != 0 {
		return kafka.Error(code)
	}
	exchange, message, err := mechanism.Start(ctx)
	for done := false; err == nil && !done; {
		if m, err = conn.RoundTrip(&saslauthenticate.Request{AuthBytes: message}); err != nil {
			return err
		}
		r := m.(*saslauthenticate.Response)
		if r.ErrorCode != 0 {
			return kafka.Error(r.ErrorCode)
		}
		done, message, err = exchange.Next(ctx, r.AuthBytes)
	}
	return err
}
