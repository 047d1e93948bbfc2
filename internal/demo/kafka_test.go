package demo

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"github.com/twmb/franz-go/pkg/kgo"
	"github.com/twmb/franz-go/pkg/kmsg"

	"github.com/walbridge/walbridge/internal/kafkatest"
	"github.com/walbridge/walbridge/internal/pgtest"
)

// franz is a client of another implementation.
func franz(t *testing.T, b *kafkatest.Broker, opts ...kgo.Opt) *kgo.Client {
	c, err := kgo.NewClient(append(opts, kgo.SeedBrokers(b.Addr()))...)
	require.NoError(t, err)
	t.Cleanup(c.Close)
	return c
}

// topicsOf are the names of a broker's topics.
func topicsOf(t *testing.T, b *kafkatest.Broker) (names []string) {
	all := kmsg.NewPtrMetadataRequest() // nil topics: all
	r, err := all.RequestWith(t.Context(), franz(t, b))
	require.NoError(t, err)
	for _, topic := range r.Topics {
		if name := *topic.Topic; !strings.HasPrefix(name, "__") { // those are Kafka's own
			names = append(names, name)
		}
	}
	return names
}

// One broker serves the tests.
func TestIntoKafka(t *testing.T) {
	t.Parallel()
	b := kafkatest.New(t)
	t.Run("short run", func(t *testing.T) { shortRunIntoKafka(t, b) })
	t.Run("repeated record", func(t *testing.T) { repeatedRecord(t, b) })
}

// A short run into the topics of a broker ends verified, with the kill in its middle,
// and leaves no topic behind.
func shortRunIntoKafka(t *testing.T, b *kafkatest.Broker) {
	t.Parallel()
	var out story
	s, err := Run(t.Context(), Config{For: 2500 * time.Millisecond, Bridge: pgtest.Binary(t), Out: &out, Brokers: []string{b.Addr()}})
	require.NoError(t, err, out.String())
	require.True(t, s.OK(), "%+v\n%s", s, out.String())
	require.Positive(t, s.Orders)
	require.Positive(t, s.Killed.back)
	var text strings.Builder
	require.NoError(t, s.Write(&text))
	require.Regexp(t, fmt.Sprintf(`records in the topics +%d\n`, s.Events+s.Records+s.Read), text.String())
	require.Contains(t, text.String(), "the position in the progress topic, lost nothing and repeated nothing")
	require.NotContains(t, out.String(), "stay: ")
	for _, name := range topicsOf(t, b) {
		require.NotContains(t, out.String(), name, "it was to be deleted")
	}
}

// What a consumer would see that it should not is found: a record that comes twice.
// One of a transaction that was broken off is none.
func repeatedRecord(t *testing.T, b *kafkatest.Broker) {
	t.Parallel()
	db := pgtest.New(t).DB(t)
	app, err := newApplication(t.Context(), db.DSN(), 1)
	require.NoError(t, err)
	t.Cleanup(app.close)
	d := &demo{cfg: Config{Out: &story{}, Brokers: []string{b.Addr()}}, app: app, bridge: &bridge{program: pgtest.Binary(t), dir: t.TempDir()}, drain: time.Minute}
	require.NoError(t, d.connect(t.Context(), db.DSN()))
	t.Cleanup(func() { require.NoError(t, d.bridge.kill()) })
	for app.orders.Load() < 5 {
		require.NoError(t, app.order(t.Context()))
	}
	require.NoError(t, within(d.drain, app.drained))
	events := d.kafka.name + ".events"
	again := firstRecord(t, b, events)
	stranger := franz(t, b, kgo.TransactionalID(d.kafka.name+"-stranger"), kgo.RecordPartitioner(kgo.ManualPartitioner()))
	for _, end := range []kgo.TransactionEndTry{kgo.TryAbort, kgo.TryCommit} {
		require.NoError(t, stranger.BeginTransaction())
		require.NoError(t, stranger.ProduceSync(t.Context(), &kgo.Record{Topic: events, Partition: again.Partition, Key: again.Key, Value: again.Value, Headers: again.Headers}).FirstErr())
		require.NoError(t, stranger.EndTransaction(t.Context(), end))
	}
	s, err := d.finish(nil)
	require.NoError(t, err)
	require.False(t, s.OK(), "%+v", s)
	require.EqualValues(t, 1, s.Duplicates, "%+v", s)
	require.EqualValues(t, 1, s.OutOfOrder, "%+v", s)
	require.Equal(t, s.Events+s.Records+s.Read+1, s.Delivered)
	require.NoError(t, within(time.Minute, d.kafka.cleanUp))
}

func firstRecord(t *testing.T, b *kafkatest.Broker, topic string) *kgo.Record {
	c := franz(t, b, kgo.ConsumeTopics(topic), kgo.ConsumeResetOffset(kgo.NewOffset().AtStart()), kgo.FetchIsolationLevel(kgo.ReadCommitted()))
	records := c.PollFetches(t.Context()).Records()
	require.NotEmpty(t, records)
	return records[0]
}
