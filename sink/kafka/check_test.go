package kafka

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kerr"
	"github.com/twmb/franz-go/pkg/kfake"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/walbridge/walbridge/internal/fault"
	"github.com/walbridge/walbridge/sink"
)

// checks are the names of what a check finds, with their places.
func checks(t *testing.T, cfg Config) string {
	found, err := Check(ctxOf(t), cfg, Bridge{Name: "shop", MaxRow: 1 << 20})
	require.NoError(t, err)
	var names []string
	for _, p := range found {
		require.NotEmpty(t, p.What)
		require.NotEmpty(t, p.Fix)
		names = append(names, p.Check+" "+p.Where)
	}
	return strings.Join(names, "\n")
}

func TestCheck(t *testing.T) {
	f := newFake(t)
	require.Empty(t, checks(t, f.cfg), "topics that will be made")
	none := f.cfg
	none.CreateTopics = nil
	require.Equal(t, "sink-topic-missing orders", checks(t, none))

	opened(t, f.cfg, "shop")
	require.Equal(t, "sink-message-size orders\nsink-min-insync orders", checks(t, f.cfg), "max.message.bytes is 64 KiB, and one of three copies is enough")

	policy := f.cfg
	policy.ProgressTopic = fakeTopic
	require.Contains(t, checks(t, policy), "sink-progress-policy orders")

	f.Fault(kfake.Fault{Keys: []kmsg.Key{kmsg.FindCoordinator}, TxnID: f.cfg.TransactionalID, Err: kerr.TransactionalIDAuthorizationFailed, Count: -1})
	require.Contains(t, checks(t, f.cfg), "sink-rights the transactional id "+f.cfg.TransactionalID)

	dead := f.cfg
	dead.Brokers = []string{"127.0.0.1:1"}
	dead.WriteTimeout = time.Second
	require.Equal(t, "sink-connect sink.kafka.brokers", checks(t, dead))

	noFile := f.cfg
	noFile.TLS = &TLS{CAFile: "/no/such/file"}
	require.Equal(t, "sink-tls sink.kafka.tls.ca_file", checks(t, noFile))
}

// Topics that the configuration names must be there, or be made.
func TestMissingTopics(t *testing.T) {
	f := newFake(t)
	f.cfg.CreateTopics = nil
	s := newTest(t, f.cfg)
	_, err := s.Open(ctxOf(t), sink.Source{Name: "shop"})
	var halt *fault.Halt
	require.ErrorAs(t, err, &halt)
	require.Equal(t, "kafka-topics-missing", halt.Rule)
	require.Contains(t, halt.What, fakeTopic)
	require.NoError(t, f.CreateTopic(fakeTopic, 4, nil))
	_, err = s.Open(ctxOf(t), sink.Source{Name: "shop"})
	require.NoError(t, err, "they were made")
}

// The defaults are valid, and what is wrong is named with its key.
func TestConfig(t *testing.T) {
	require.Empty(t, Config{Brokers: []string{"k1:9092", "[::1]:9092"}}.WithDefaults().Validate())
	bad := Config{
		Brokers: []string{"k1", "k2:0"}, Delivery: "twice", Compression: "brotli", DeadLetterTopic: "a b", ProgressTopic: "p/q",
		CreateTopics: &CreateTopics{Partitions: -1, Replication: -1, Max: -1}, TLS: &TLS{CertFile: "x"}, WriteTimeout: time.Millisecond,
		SASL: &SASL{Mechanism: "KERBEROS"},
	}
	where := map[string]bool{}
	for _, p := range bad.WithDefaults().Validate() {
		where[strings.TrimPrefix(p.Where, "sink.kafka.")] = true
		require.NotEmpty(t, p.Fix)
	}
	for _, key := range []string{
		"brokers[0]", "brokers[1]", "delivery", "compression", "dead_letter_topic", "progress_topic", "create_topics.partitions",
		"create_topics.replication", "create_topics.max", "tls", "sasl.mechanism", "sink.write_timeout",
	} {
		require.True(t, where[key], key)
	}
	for _, s := range []SASL{{}, {Mechanism: saslPlain}, {Mechanism: saslScram1}, {Mechanism: saslOAuth}, {Mechanism: saslOAuth, TokenFile: "f", TokenCommand: []string{"c"}}} {
		require.NotEmpty(t, s.validate(true), s.Mechanism)
	}
	clear := SASL{Mechanism: saslPlain, Username: "u", Password: "geheim"}
	require.Empty(t, clear.validate(true))
	require.True(t, clear.validate(false)[0].Warning, "a password in the clear")
	require.NotContains(t, clear.Password.String(), "geheim")
}

// A cancelled context ends an Open.
func TestCancelledOpen(t *testing.T) {
	f := newFake(t)
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err := newTest(t, f.cfg).Open(ctx, sink.Source{Name: "shop"})
	require.ErrorIs(t, err, context.Canceled)
}
