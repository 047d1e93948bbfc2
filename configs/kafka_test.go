package configs

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/walbridge/walbridge/sink/kafka"
)

const toKafka = `
source: {dsn: "host=localhost"}
routes: [{tables: ["public.*"], changes: {}}]
`

func TestKafkaDefaults(t *testing.T) {
	l := load(t, toKafka+"sink: {kafka: {brokers: [\"localhost:9092\"], create_topics: {}}}\n")
	require.Equal(t, "kafka", l.Config.Sink.Kind())
	require.Equal(t, kafka.Config{
		Brokers: []string{"localhost:9092"}, Delivery: kafka.ExactlyOnce, Compression: "zstd", ProgressTopic: "walbridge.progress",
		CreateTopics: &kafka.CreateTopics{Partitions: 12, Max: 100}, WriteTimeout: 15 * time.Second,
	}, *l.Config.Sink.Kafka)
	require.Equal(t, 15*time.Second, l.Config.Sink.WriteTimeout)
	require.Empty(t, l.Warnings)
	l = load(t, toKafka+"sink: {kafka: {brokers: [\"localhost:9092\"]}, write_timeout: 5s}\n")
	require.Equal(t, 5*time.Second, l.Config.Sink.Kafka.WriteTimeout)
}

func TestKafkaFromTheEnvironment(t *testing.T) {
	l := load(t, toKafka, "WALBRIDGE_SINK_KAFKA_BROKERS=[k1:9092, k2:9092]", "WALBRIDGE_SINK_KAFKA_TLS={}",
		"WALBRIDGE_SINK_KAFKA_SASL_MECHANISM=SCRAM-SHA-512", "WALBRIDGE_SINK_KAFKA_SASL_USERNAME=u", "WALBRIDGE_SINK_KAFKA_SASL_PASSWORD=MARKER",
		"WALBRIDGE_SINK_KAFKA_CREATE_TOPICS_PARTITIONS=3")
	c := l.Config.Sink.Kafka
	require.Equal(t, []string{"k1:9092", "k2:9092"}, c.Brokers)
	require.NotNil(t, c.TLS)
	require.Equal(t, "MARKER", c.SASL.Password.Reveal())
	require.Equal(t, 3, c.CreateTopics.Partitions)
	require.Empty(t, l.Warnings)
}

func TestKafkaPasswordIsNotShown(t *testing.T) {
	l := load(t, toKafka+`
sink:
  kafka:
    brokers: ["localhost:9092"]
    tls: {}
    sasl: {mechanism: PLAIN, username: u, password: "${file:`+secretFile(t, "MARKER")+`}"}
    create_topics: {configs: {retention.ms: "604800000"}}
`)
	require.Equal(t, "MARKER", l.Config.Sink.Kafka.SASL.Password.Reveal())
	shown, err := l.Show()
	require.NoError(t, err)
	require.NotContains(t, string(shown), "MARKER")
	require.Contains(t, string(shown), "password: xxxxx")
	require.Contains(t, string(shown), "retention.ms: \"604800000\"")
	require.NoError(t, check(t, compiled(t), shown))
}

func TestKafkaWithoutVerificationWarns(t *testing.T) {
	for text, where := range map[string]string{
		"brokers: [\"k1:9092\"]":                                    "sink.kafka.brokers",
		"brokers: [\"k1:9092\"], tls: {insecure_skip_verify: true}": "sink.kafka.tls.insecure_skip_verify",
	} {
		l := load(t, toKafka+"sink: {kafka: {"+text+"}}\n")
		require.Len(t, l.Warnings, 1, text)
		require.Contains(t, l.Warnings[0].Where, where)
	}
}
