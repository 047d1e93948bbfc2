package kafkatest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/sha512"
	"errors"
	"fmt"
	"testing"
	"time"

	"crypto/pbkdf2"

	"github.com/segmentio/kafka-go"
	"github.com/segmentio/kafka-go/sasl/scram"

	"github.com/walbridge/walbridge/internal/pgtest"
)

// callTimeout bounds one call to the broker.
const callTimeout = 30 * time.Second

// Client returns a client over the plain listener, whose connections are closed at
// the test's end.
func (b *Broker) Client(t testing.TB) *kafka.Client {
	transport := &kafka.Transport{MetadataTTL: time.Second}
	t.Cleanup(transport.CloseIdleConnections)
	return &kafka.Client{Addr: kafka.TCP(b.Addr()), Timeout: callTimeout, Transport: transport}
}

// Topic makes a topic with a name of its own and returns when its partitions have
// leaders. configs are names and values in turn.
func (b *Broker) Topic(t testing.TB, partitions int, configs ...string) string {
	t.Helper()
	name := "t-" + rand.Text()[:10]
	b.MakeTopic(t, name, partitions, configs...)
	return name
}

// MakeTopic is Topic with a given name.
func (b *Broker) MakeTopic(t testing.TB, name string, partitions int, configs ...string) {
	t.Helper()
	topic := kafka.TopicConfig{Topic: name, NumPartitions: partitions, ReplicationFactor: 1}
	for i := 0; i+1 < len(configs); i += 2 {
		topic.ConfigEntries = append(topic.ConfigEntries, kafka.ConfigEntry{ConfigName: configs[i], ConfigValue: configs[i+1]})
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	client := b.Client(t)
	insist(t, "make the topic "+name, func() error {
		r, err := client.CreateTopics(ctx, &kafka.CreateTopicsRequest{Topics: []kafka.TopicConfig{topic}})
		if err == nil {
			err = r.Errors[name]
		}
		if errors.Is(err, kafka.TopicAlreadyExists) {
			err = nil // by a try whose answer was lost
		}
		return err
	})
	// The broker is not yet the leader that it announced (NOT_LEADER for some ms).
	pgtest.Eventually(t, callTimeout, func() bool { return ready(ctx, client, name, partitions) == nil }, "leaders of %s", name)
}

// insist asks again while the client does not know the broker, as on a busy machine.
func insist(t testing.TB, what string, ask func() error) {
	t.Helper()
	var err error
	pgtest.Eventually(t, callTimeout, func() bool { err = ask(); return !errors.Is(err, kafka.BrokerNotAvailable) }, "%s", what)
	if err != nil {
		t.Fatal(fmt.Errorf("%s: %w", what, err))
	}
}

func ready(ctx context.Context, client *kafka.Client, topic string, partitions int) error {
	ask := make([]kafka.OffsetRequest, partitions)
	for p := range ask {
		ask[p] = kafka.LastOffsetOf(p)
	}
	r, err := client.ListOffsets(ctx, &kafka.ListOffsetsRequest{Topics: map[string][]kafka.OffsetRequest{topic: ask}})
	if err != nil {
		return err
	}
	for _, p := range r.Topics[topic] {
		err = errors.Join(err, p.Error)
	}
	return err
}

// ScramUser gives a user of the SASL listener a password. mechanism is SCRAM-SHA-256
// or SCRAM-SHA-512.
func (b *Broker) ScramUser(t testing.TB, mechanism, user, password string) {
	t.Helper()
	const iterations = 4096
	salt := []byte("salt of a test")
	kind := kafka.ScramMechanismSha256
	salted, err := pbkdf2.Key(sha256.New, password, salt, iterations, sha256.Size)
	if mechanism == "SCRAM-SHA-512" {
		kind = kafka.ScramMechanismSha512
		salted, err = pbkdf2.Key(sha512.New, password, salt, iterations, sha512.Size)
	}
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), callTimeout)
	defer cancel()
	client := b.Client(t)
	insist(t, "make the user "+user, func() error {
		r, err := client.AlterUserScramCredentials(ctx, &kafka.AlterUserScramCredentialsRequest{
			Upsertions: []kafka.UserScramCredentialsUpsertion{{Name: user, Mechanism: kind, Iterations: iterations, Salt: salt, SaltedPassword: salted}},
		})
		if err == nil && len(r.Results) == 1 {
			err = r.Results[0].Error
		}
		return err
	})
	b.awaitLogin(ctx, t, mechanism, user, password)
}

// awaitLogin waits until the broker lets a user in: it answers that it has made one
// before the listener has heard of it.
func (b *Broker) awaitLogin(ctx context.Context, t testing.TB, mechanism, user, password string) {
	t.Helper()
	algorithm := scram.SHA256
	if mechanism == "SCRAM-SHA-512" {
		algorithm = scram.SHA512
	}
	login, err := scram.Mechanism(algorithm, user, password)
	if err != nil {
		t.Fatal(err)
	}
	dialer := kafka.Dialer{SASLMechanism: login}
	pgtest.Eventually(t, callTimeout, func() bool {
		conn, err := dialer.DialContext(ctx, "tcp", b.SASLAddr())
		if err == nil {
			_ = conn.Close()
		}
		return err == nil
	}, "%s may log in", user)
}
